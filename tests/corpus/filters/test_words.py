"""Words to compare by: what a reader takes for the same is the same."""

import re

from hypothesis import given
from hypothesis import strategies as st

from humpback_jax.corpus.filters.words import PhraseIndex, ngrams, words


def test_case_width_accents_and_signs_make_no_difference() -> None:
    assert words("Who's LARRY_Page?") == ["who", "s", "larry", "page"]
    written = "Cafe\u0301 \ufb01le \uff21\uff22\uff23 10\u00adth STRASSE straße"
    assert words(written) == words("café file abc 10th strasse strasse")
    assert words("zero\u200bwidth") == ["zerowidth"]
    assert words("我爱 ラーメン") == ["我", "爱", "ラ", "ー", "メ", "ン"]
    assert words("नमस्ते") and words("—…?!") == []


@given(st.text())
def test_words_of_words_are_the_same(text: str) -> None:
    found = words(text)
    assert words(" ".join(found)) == found
    assert all(word and not re.search(r"\s", word) for word in found)


@given(st.lists(st.sampled_from("abc"), max_size=12), st.lists(st.sampled_from("abc"), min_size=1, max_size=3))
def test_a_phrase_is_found_exactly_where_its_words_stand_in_a_row(text: list[str], phrase: list[str]) -> None:
    expected = {"x"} if tuple(phrase) in ngrams(text, len(phrase)) else set()
    assert PhraseIndex({tuple(phrase): ["x"]}).find(text) == expected


def test_all_names_of_all_phrases() -> None:
    index = PhraseIndex({("a",): ["one"], ("a", "b"): ["two", "three"], ("b", "c"): ["four"]})
    assert index.find(["x", "a", "b"]) == {"one", "two", "three"}
    assert index.find_in("A! B? C") == {"one", "two", "three", "four"}
    assert PhraseIndex().find_in("anything") == set()
