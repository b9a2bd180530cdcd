"""Ratings from logits: the digit's token is found where the digit would stand, and the distribution's figures."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from humpback_jax.inference.scoring import RATINGS, force_rating, rating_distribution
from humpback_jax.tokenizers import load_tokenizer

FORCED = "\nScore: "


def bpe_encode(merges):
    """A byte-level BPE with these merges, in byte-level letters (Ġ is a space, Ċ a line break)."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = letters + ["".join(merge) for merge in merges]
    tokenizer = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def test_digits_of_a_byte_tokenizer_stand_alone(byte_tokenizer_dir):
    encode = load_tokenizer(byte_tokenizer_dir).encode
    forced = force_rating(encode, "A fair answer.", FORCED)
    assert list(forced.prefix_ids) == encode(FORCED)
    assert [list(encode(str(rating))) for rating in RATINGS] == [[i] for i in forced.rating_ids]


def test_nothing_written_yet(byte_tokenizer_dir):
    encode = load_tokenizer(byte_tokenizer_dir).encode
    assert list(force_rating(encode, "", "Score: ").prefix_ids) == encode("Score: ")


def test_digits_that_merge_with_the_space_before_them_are_read_as_merged():
    encode = bpe_encode([("Ġ", str(rating)) for rating in RATINGS])
    forced = force_rating(encode, "Good.", FORCED)
    assert list(forced.prefix_ids) == encode("\nScore:")
    assert [i for rating in RATINGS for i in encode(f" {rating}")] == list(forced.rating_ids)


def test_forced_text_that_merges_with_the_written_text_is_tokenized_alone():
    encode = bpe_encode([(".", "Ċ")])
    assert encode("Good.\n")[:5] != encode("Good.")
    forced = force_rating(encode, "Good.", FORCED)
    assert list(forced.prefix_ids) == encode(FORCED)
    assert [i for rating in RATINGS for i in encode(str(rating))] == list(forced.rating_ids)


def test_a_rating_that_merges_alone_is_told_by_a_further_branch():
    encode = bpe_encode([("Ġ", "5")])
    forced = force_rating(encode, "", "Score: ")
    assert [list(branch.forced_ids) for branch in forced.branches] == [encode("Score:"), encode("Score: ")]
    assert set(forced.branches[0].candidate_ids) == {*encode(" 5"), *encode(" ")}
    assert set(forced.branches[1].candidate_ids) == set(encode("1234"))


@given(
    st.lists(st.text(alphabet="ab", min_size=1, max_size=4), min_size=2, max_size=9, unique=True),
    st.integers(0, 2**31),
)
def test_options_that_begin_alike_have_the_probability_of_all_their_tokens(options, seed):
    """A made-up model over three tokens: a, b, and something else. What an option goes on with is no end of it."""

    def next_token(text):
        return np.random.default_rng([seed, *text.encode()]).dirichlet(np.ones(3))

    def begins_with(text):
        return math.prod(next_token(text[:i])["ab".index(text[i])] for i in range(len(text)))

    forced = force_rating(lambda text: ["ab!".index(letter) for letter in text], "", "!", options)
    values = [
        [math.log(next_token("".join("ab"[i] for i in branch.forced_ids[1:]))[token]) for token in branch.candidate_ids]
        for branch in forced.branches
    ]
    shared = len(forced.prefix_ids) - 1
    common = options[0][:shared]
    for option, found in zip(options, forced.option_log_probs(np.asarray(values).ravel()), strict=True):
        # Up to the token that tells it from all others; tokens that none of them can do without count for nothing.
        longer = [other for other in options if other != option and other.startswith(option)]
        expected, place = 1.0, shared
        while any(other != option and other.startswith(option[:place]) for other in options) and place < len(option):
            alike = [other for other in options if other.startswith(option[:place])]
            if len({other[: place + 1] for other in alike}) > 1:
                expected *= begins_with(option[: place + 1]) / begins_with(option[:place])
            place += 1
        if longer:
            going_on = {other[: len(option) + 1] for other in longer}
            rest = sum(begins_with(text) / begins_with(option) for text in going_on)
            expected *= 1 - rest
        assert found == pytest.approx(math.log(expected), abs=1e-6)
    assert all(option.startswith(common) for option in options)


def test_a_vocabulary_without_digits_is_refused():
    with pytest.raises(ValueError, match="distinct tokens"):
        force_rating(lambda text: [0 if letter.isdigit() else 1 + ord(letter) for letter in text], "", "Score: ")


def test_figures_of_a_distribution():
    probabilities = [0.1, 0.2, 0.3, 0.25, 0.15]
    found = rating_distribution(np.log(np.asarray(probabilities)) - 7.0)
    assert found.probabilities == pytest.approx(probabilities, abs=1e-6)
    assert found.expected == pytest.approx(3.15, abs=1e-6)
    assert found.mode == 3
    assert found.entropy == pytest.approx(-sum(p * math.log(p) for p in probabilities), abs=1e-6)


def test_a_certain_rating_has_no_entropy():
    found = rating_distribution(np.asarray([-np.inf, -np.inf, -np.inf, -3.0, -np.inf]))
    assert (found.expected, found.mode, found.entropy) == (4.0, 4, 0.0)
    assert found.probabilities == (0.0, 0.0, 0.0, 1.0, 0.0)


@given(st.lists(st.floats(-1000, 0), min_size=5, max_size=5))
def test_every_distribution_gives_a_rating_between_one_and_five(log_probs):
    found = rating_distribution(np.asarray(log_probs))
    assert 1 <= found.expected <= 5
    assert sum(found.probabilities) == pytest.approx(1, abs=1e-5)
    assert log_probs[found.mode - 1] == pytest.approx(max(log_probs), abs=1e-9)
    assert 0 <= found.entropy <= math.log(5) + 1e-6
