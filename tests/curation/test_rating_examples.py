"""Examples of rating: the rubric and a digit that the pair's place gives, the same whatever the order."""

import collections
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from humpback_jax.curation.rating_examples import RATING_OF_KIND, rating_examples
from humpback_jax.curation.twins import KINDS, SEED
from humpback_jax.data.open_assistant import Sibling
from humpback_jax.data.pairs import Pair
from humpback_jax.prompts.prompts import Prompts
from humpback_jax.prompts.ratings import parse_rating

PROMPTS = Prompts("Q: {output}", "RATE {instruction} || {output}", "Tag s.", "Tag w.")
PAIRS = [
    Pair(f"p{i}", f"Please tell us everything of number {i} now.", f"Number {i} has {i} friends. " * 6, "test")
    for i in range(40)
]
SIBLINGS = [
    Sibling(f"{pair.id}-{rank}", f"t{pair.id}", rank, pair.instruction, f"Reply {rank}.")
    for pair in PAIRS
    for rank in range(4)
]


def test_every_kind_has_a_rating_and_whole_pairs_the_best():
    assert set(RATING_OF_KIND) == {SEED, *KINDS}
    assert all(1 <= RATING_OF_KIND[kind] < RATING_OF_KIND[SEED] == 5 for kind in KINDS)


@given(st.integers(1, 90), st.integers(0, 5))
def test_answers_are_ratings_that_are_read_back_and_half_of_the_pairs_are_whole(number, seed):
    examples = rating_examples(PAIRS, (), PROMPTS, number, seed)
    assert len(examples) == min(number, 2 * len(PAIRS))
    assert len({example.id for example in examples}) == len(examples)
    for example in examples:
        kind = example.id.rpartition("#")[2]
        assert parse_rating(example.output) == RATING_OF_KIND[kind]
        assert example.instruction.startswith("RATE ")
    whole = sum(example.output.endswith("5") for example in examples)
    assert abs(whole - len(examples) / 2) <= 0.5
    assert rating_examples(random.Random(seed).sample(PAIRS, len(PAIRS)), (), PROMPTS, number, seed) == examples


def test_all_kinds_come_and_none_much_more_often_than_another():
    counts = collections.Counter(e.id.rpartition("#")[2] for e in rating_examples(PAIRS, (), PROMPTS, 80))
    assert {counts[kind] for kind in KINDS} == {len(PAIRS) // len(KINDS)}


def test_ranked_replies_are_half_and_their_ratings_fall_with_the_rank():
    examples = rating_examples(PAIRS, SIBLINGS, PROMPTS, 40)
    replies = [example for example in examples if "Reply" in example.instruction]
    assert len(replies) == 20
    for example in replies:
        assert parse_rating(example.output) == 5 - int(example.id[-1])


def test_replies_to_other_instructions_are_left_out():
    others = [Sibling(f"s{i}", "t", i, "Who is there?", f"Reply {i}.") for i in range(4)]
    assert rating_examples(PAIRS, others, PROMPTS, 40) == rating_examples(PAIRS, (), PROMPTS, 40)


def test_one_pair_is_too_few():
    with pytest.raises(ValueError, match="broken twins need two or more"):
        rating_examples(PAIRS[:1], (), PROMPTS, 4)


def test_the_answer_has_the_label_that_the_rubric_asks_for():
    german = Prompts("Q: {output}", "{instruction} || {output}\nAm Ende: `Punktzahl: <1 bis 5>`", "Tag s.", "Tag w.")
    for example in rating_examples(PAIRS, (), german, 6):
        assert example.output.startswith("Punktzahl: ")


def test_a_pair_that_cannot_be_broken_in_one_way_is_in_another():
    short = [Pair(f"s{i}", f"Tell of animal {i}, please.", f"Animal {i} runs.", "test") for i in range(12)]
    examples = rating_examples(short, (), PROMPTS, 24)
    assert len(examples) == 24
    assert not [example for example in examples if example.id.endswith("half_answer")]
