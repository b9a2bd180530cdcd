"""Filters that dropped nothing, or all that came to them: what somebody would want to be told of a whole build."""

from collections.abc import Mapping

from humpback_jax.corpus.config import SEED_LANGUAGES, CorpusConfig

# The reasons of a candidate in the order in which they are looked for, with the setting that switches them off.
FILTERS: tuple[tuple[str, str], ...] = (
    ("truncated", ""),
    ("navigation_header", "navigation_phrases"),
    ("empty_header", ""),
    ("uppercase_header", ""),
    ("too_short", "min_chars"),
    ("too_long", "max_chars"),
    ("link_density", "max_link_density"),
    ("symbol_density", "max_symbol_density"),
    ("only_lists", "max_list_share"),
    ("other_language", "languages"),
    ("uncertain_language", "min_language_probability"),
    ("repetitive", "jaccard_threshold"),
    ("blocked_phrase", "blocked_phrases"),
    ("contaminated", "decontaminate"),
    ("low_answer_likeness", "min_answer_likeness"),
    ("nested", "nested"),
)
# These come from pages, not from settings: it says nothing that there is none.
_OFTEN_NONE = frozenset(("truncated", "empty_header", "uppercase_header", "uncertain_language"))


def filter_notes(
    config: CorpusConfig, candidates: int, rejected: Mapping[str, int], seed_languages: tuple[str, ...] = ()
) -> list[str]:
    """One line for every filter that rejected all that came to it, and one for those that are on and rejected nothing.

    Args:
      config: the settings of the build.
      candidates: all candidates of the build.
      rejected: candidates by reason.
      seed_languages: of the seed answers, where seeds are known.
    """
    notes = []
    wanted = config.wanted_languages(seed_languages)
    if SEED_LANGUAGES in config.languages and not wanted:
        notes.append("languages: no seeds are known here, so segments of all languages are kept; name some to choose")
    left, idle = candidates, []
    for reason, setting in FILTERS:
        number = rejected.get(reason, 0)
        if number and number == left:
            notes.append(f"{reason}: all {left} candidates that came to it were rejected; look at {_of(setting)}")
        is_on = _is_on(config, setting) and (setting not in ("languages", "min_language_probability") or bool(wanted))
        if left and not number and is_on and reason not in _OFTEN_NONE:
            idle.append(reason)
        left -= number
    if idle:
        notes.append(f"filters that are on and rejected none of {candidates} candidates: {', '.join(idle)}")
    return notes


def _of(setting: str) -> str:
    return f"CorpusConfig.{setting}" if setting else "the pages"


def _is_on(config: CorpusConfig, setting: str) -> bool:
    value = getattr(config, setting) if setting else True
    return value not in (None, ()) and not (setting == "nested" and value == "all")
