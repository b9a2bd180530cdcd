"""Each filter with a case on either side of its line."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from humpback_jax.corpus.filters.paper import (
    header_reason,
    is_repetitive,
    length_reason,
    sentences,
    word_ngrams,
)

VARIED = " ".join(f"Sentence number {i} says that thing{i} belongs to owner{i * 7} alone." for i in range(12))


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("", "empty_header"),
        (" ¶ — ", "empty_header"),
        ("ABOUT US", "uppercase_header"),
        ("FAQ 2", "uppercase_header"),
        ("2024", None),
        ("How to bake bread", None),
        ("新闻", None),
        ("Advertisement", "navigation_header"),
        ("Our  Forum", "navigation_header"),
        ("Forums", "navigation_header"),
        ("Quick Links:", "navigation_header"),
        ("Get our free newsletter!", "navigation_header"),
        ("Performance of platforms", None),
        ("Search", "navigation_header"),
        ("Binary search trees", None),
    ],
)
def test_header(header: str, reason: str | None) -> None:
    assert header_reason(header) == reason


def test_length_bounds_are_inclusive() -> None:
    assert [length_reason("x" * n, 600, 3000) for n in (599, 600, 3000, 3001)] == ["too_short", None, None, "too_long"]


def test_sentences_and_ngrams() -> None:
    assert sentences("One two. Three!  Four\nfive?\n\nSix") == ["One two.", "Three!", "Four", "five?", "Six"]
    assert word_ngrams("The cat, the CAT", 2) == {("the", "cat"), ("cat", "the")}
    assert word_ngrams("too short", 3) == frozenset()
    assert word_ngrams("three words here", 2, min_words=4) == frozenset()


def test_repetition_either_side_of_the_threshold() -> None:
    # 8 words are 6 trigrams; a new last word keeps 5 of them, so the Jaccard similarity is 5 / 7.
    text = "One two three four five six seven eight. One two three four five six seven nine."
    assert is_repetitive(text, 3, 5 / 7 - 1e-9, 6)
    assert not is_repetitive(text, 3, 5 / 7 + 1e-9, 6)
    assert not is_repetitive(text, 3, 0.5, 9)
    assert not is_repetitive(VARIED, 3, 0.8, 6)
    assert is_repetitive(VARIED + " " + VARIED[:60], 3, 0.8, 6)


def test_repeated_short_lines_of_code_are_not_repetition() -> None:
    assert not is_repetitive("def f(x):\n    return x\n\ndef f(x):\n    return x", 3, 0.8, 6)


def test_cost_is_bounded_on_many_sentences() -> None:
    """With the square of their number this would take hours: no clock is needed to see that it does not."""
    assert not is_repetitive("".join(f"a b c d e f{i} g h i j{i}. " for i in range(50_000)), 2, 0.99, 6)


def test_repetition_among_many_sentences_that_share_pieces() -> None:
    """Each shares half of its n-grams with some other, and only the last two are alike."""
    shared = ["one two three four five", "six seven eight nine ten", "red green blue black white"]
    texts = [f"{a} {i}x {i}y {i}z {b}." for i, (a, b) in enumerate((a, b) for a in shared for b in shared)]
    assert not is_repetitive(" ".join(texts), 3, 0.8, 6)
    assert is_repetitive(" ".join([*texts, texts[4]]), 3, 0.8, 6)
    assert is_repetitive(" ".join(texts), 3, 0.2, 6)


@given(
    st.lists(st.lists(st.sampled_from(["sun", "Sea", "moon", "été", "x_1"]), max_size=12).map(" ".join), max_size=6),
    st.sampled_from([0.2, 0.5, 0.8, 1.0]),
    st.integers(1, 7),
)
def test_repetition_is_what_a_comparison_of_all_pairs_finds(texts: list[str], threshold: float, least: int) -> None:
    text = ". ".join(texts)
    sets = [grams for sentence in sentences(text) if (grams := word_ngrams(sentence, 3, least))]
    alike = any(len(a & b) >= threshold * len(a | b) for a, b in itertools.combinations(sets, 2))
    assert is_repetitive(text, 3, threshold, least) == alike
