"""A filter that dropped nothing, or all that came to it, is named."""

from humpback_jax.corpus.config import CorpusConfig
from humpback_jax.corpus.filters.effect import FILTERS, filter_notes


def test_all_of_what_came_is_told_and_where_to_look() -> None:
    notes = filter_notes(CorpusConfig(), 50, {"too_short": 30, "other_language": 20}, ("en",))
    assert notes[0] == "other_language: all 20 candidates that came to it were rejected; look at CorpusConfig.languages"
    assert not any("repetitive" in note for note in notes[:1])


def test_filters_that_did_nothing_share_a_line() -> None:
    config = CorpusConfig(blocked_phrases=("x",), max_symbol_density=None, nested="all")
    (line,) = filter_notes(config, 50, {"too_short": 5, "too_long": 5, "link_density": 3, "repetitive": 2}, ("en",))
    assert line.startswith("filters that are on and rejected none of 50 candidates: ")
    assert line.partition(": ")[2].split(", ") == [
        "navigation_header",
        "only_lists",
        "other_language",
        "blocked_phrase",
    ]


def test_no_seeds_no_language_filter() -> None:
    notes = filter_notes(CorpusConfig(), 50, {}, ())
    assert "no seeds are known" in notes[0] and "other_language" not in notes[1]
    assert not any("no seeds" in note for note in filter_notes(CorpusConfig(languages=("de",)), 50, {}, ()))


def test_nothing_to_tell_of_no_candidates() -> None:
    assert filter_notes(CorpusConfig(languages=()), 0, {}, ()) == []


def test_every_filter_has_a_setting_that_exists() -> None:
    assert all(not setting or hasattr(CorpusConfig(), setting) for _, setting in FILTERS)
