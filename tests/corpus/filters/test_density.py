"""Symbols, links, lists: figures on either side of their lines."""

from hypothesis import given
from hypothesis import strategies as st

from humpback_jax.corpus.filters.density import list_share, over, share, symbol_density


def test_symbols() -> None:
    assert symbol_density("Plain text, with (usual) punctuation; numbers: 1.5 — “fine”…") == 0
    assert symbol_density("नमस्ते दुनिया। สวัสดี 你好，世界！") == 0
    assert symbol_density("{}[]<>|=") == 1
    assert symbol_density("ab{}") == 0.5
    assert symbol_density("") == 0
    assert 0.02 < symbol_density("for (int i = 0; i < n; i++) { sum += values[i] * 2; }") < 0.35


@given(st.text())
def test_figures_are_fractions(text: str) -> None:
    assert 0 <= symbol_density(text) <= 1
    assert 0 <= list_share([("item", text), ("paragraph", text[:3])]) <= 1


def test_a_list_of_names_is_bare_and_one_of_sentences_is_not() -> None:
    names = [("item", f"- Name {i}, city {i}") for i in range(9)]
    steps = [("item", f"{i}. Put the pan on the stove and wait for {i} minutes.") for i in range(9)]
    assert list_share(names) == 1
    assert list_share(steps) == 0
    assert list_share([("item", "- 水を入れて三分待ちます。")]) == 0
    assert list_share([("paragraph", "x" * 30), ("item", "y" * 10)]) == 0.25
    assert list_share([]) == 0


def test_thresholds_that_are_off() -> None:
    assert over(0.5, 0.4) and not over(0.4, 0.4) and not over(1.0, None)
    assert share(3, 0) == 0 and share(5, 4) == 1
