"""Pairs broken by rule: each in one respect, the same whatever the order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from humpback_jax.curation.twins import KINDS, SEED, broken_twins
from humpback_jax.data.pairs import Pair

PAIRS = [
    Pair(
        f"p{i}",
        f"Explain to me how number {i} differs from its neighbours, please.",
        f"Number {i} is special. " + f"It has {i} friends, and each of them knows the other ones well. " * 3,
        "test",
    )
    for i in range(12)
]


def by_kind(twins, kind):
    return {twin.of: twin for twin in twins if twin.kind == kind}


def test_every_pair_stands_whole_and_broken_in_every_way():
    twins = broken_twins(PAIRS)
    assert len(twins) == len(PAIRS) * (1 + len(KINDS))
    assert len({twin.id for twin in twins}) == len(twins)
    whole = by_kind(twins, SEED)
    assert all(twin.good == (twin.kind == SEED) for twin in twins)
    for pair in PAIRS:
        assert (whole[pair.id].instruction, whole[pair.id].output) == (pair.instruction, pair.output)
        other, half = by_kind(twins, "other_answer")[pair.id], by_kind(twins, "half_answer")[pair.id]
        assert other.instruction == pair.instruction
        assert other.output in {p.output for p in PAIRS if p.id != pair.id}
        assert pair.output.startswith(half.output)
        assert 0.25 < len(half.output) / len(pair.output) < 0.75
        assert pair.output in by_kind(twins, "furniture_added")[pair.id].output
        for kind in ("wrong_kind", "instruction_garbled"):
            broken = by_kind(twins, kind)[pair.id]
            assert broken.output == pair.output
            assert broken.instruction != pair.instruction


def test_a_pair_gets_the_same_twins_in_any_order():
    ahead, behind = (
        {(twin.id, twin.instruction, twin.output) for twin in broken_twins(pairs) if twin.kind != "other_answer"}
        for pairs in (PAIRS, PAIRS[::-1])
    )
    assert ahead == behind
    assert broken_twins(PAIRS) == broken_twins(PAIRS)
    assert broken_twins(PAIRS, seed=1) != broken_twins(PAIRS)


def test_short_answers_are_not_halved():
    short = [Pair("a", "Say yes to me.", "Yes.", "test"), Pair("b", "Say no to me.", "No.", "test")]
    assert not by_kind(broken_twins(short), "half_answer")


def test_one_pair_has_no_other_answer():
    with pytest.raises(ValueError, match="two or more"):
        broken_twins(PAIRS[:1])


@given(st.lists(st.tuples(st.text(max_size=60), st.text(max_size=200)), min_size=2, max_size=6))
def test_any_texts_can_be_broken_or_are_left(texts):
    twins = broken_twins([Pair(f"p{i}", *both, "test") for i, both in enumerate(texts)])
    whole = by_kind(twins, SEED)
    for twin in twins:
        assert twin.good or (twin.instruction, twin.output) != (whole[twin.of].instruction, whole[twin.of].output)
