"""Plain words for stages and reasons: what the report says to somebody who has never seen the algorithm."""

import collections
from collections.abc import Mapping
from typing import Any

from humpback_jax.corpus.reasons import corpus_words
from humpback_jax.run_files import SEGMENTS_STAGE

_REASONS: dict[str, tuple[str, str]] = {
    "kept": ("Kept", "Good enough: the next model is trained on it."),
    # seed pairs
    "over_limit": ("Over the limit", "the run takes only the first {limit} pairs"),
    "empty_instruction": ("Empty instruction", "no instruction was written"),
    "empty_output": ("Empty answer", "the pair has no answer"),
    "failed_review": ("Failed review", "human reviewers rejected it"),
    "not_english": ("Not English", "written in another language"),
    # candidates
    "truncated": ("Cut off", "the instruction did not end within {max_new_tokens} tokens"),
    "prompt_too_long": ("Does not fit", "the prompt is longer than the engine takes"),
    # selection
    "unscored": ("Not rated", "its rating prompt did not fit the engine"),
    "below_min_score": ("Score too low", "under the needed score of {min_score}"),
    "below_best_fraction": ("Not among the best", "only the best {keep_percent} of the candidates are kept"),
    "instruction_too_short": ("Instruction too short", "fewer than {min_instruction_chars} characters"),
    "instruction_too_long": ("Instruction too long", "more than {max_instruction_chars} characters"),
    "instruction_copies_output": ("Copies the text", "the instruction repeats the text instead of asking for it"),
    "not_sampled": ("Not drawn", "the run keeps a random {sample} of the good ones"),
}


# (title, what the stage does, what it counts)
_STAGES = {
    "seeds": ("Read the seed pairs", "A small set of good instruction–answer pairs starts everything.", "pairs"),
    "segments": (
        "Cut web pages into segments",
        "What is content and not furniture is cut at its headers; clean sections of a fitting length, each once, stay.",
        "segments",
    ),
    "m_yx": (
        "Train the backward model M_yx",
        "It learns the seed pairs in reverse: from an answer to its instruction.",
        "training pairs",
    ),
    "augmented": (
        "Write an instruction for every segment",
        "M_yx reads a segment as if it were an answer and writes the question it answers: a candidate pair.",
        "candidate pairs",
    ),
    "m0": ("Train the first model M_0", "From an instruction to its answer, on seed pairs alone.", "training pairs"),
    "evaluation": ("Test on held-out pairs", "Pairs that no model was trained on show what training brought.", "pairs"),
}
_ROUND_STAGES = {
    "scores": ("Round {t}: grade every candidate", "M_{before} gives each pair a score from 1 to 5.", "pairs"),
    "curated": ("Round {t}: keep the best", "Pairs with a high grade and a sound instruction stay.", "pairs"),
    "m": (
        "Round {t}: train M_{t}",
        "From the base model again, on seed pairs and the kept web pairs together, each with its own tag.",
        "training pairs",
    ),
}


def reason_label(reason: str) -> str:
    """Two or three words: `Too short`; an unknown reason's own name without underscores."""
    return _REASONS[reason][0] if reason in _REASONS else corpus_words("segment", reason)[0]


def reason_text(reason: str, settings: Mapping[str, Any] | None = None) -> str:
    """Why, in one clause, with the run's own limits where `settings` (of the stage's manifest) has them, else `…`."""
    if reason not in _REASONS:
        return corpus_words("segment", reason, flatten(settings or {}))[1]
    limits = collections.defaultdict(lambda: "…", flatten(settings or {}))
    if isinstance(limits.get("keep_fraction"), float):
        limits["keep_percent"] = f"{100 * limits['keep_fraction']:g} %"
    return _REASONS[reason][1].format_map(limits)


def stage_reason(stage: str, reason: str, settings: Mapping[str, Any] | None = None) -> tuple[str, str]:
    """(label, why) of a reason that a stage counts: the same name may mean another thing in another stage."""
    if stage == SEGMENTS_STAGE:
        return web_words("segment", reason, settings)
    return reason_label(reason), reason_text(reason, settings)


def web_words(kind: str, reason: str, settings: Mapping[str, Any] | None = None) -> tuple[str, str]:
    """(label, why) of what the stage that cuts pages counts: of a "segment", a "record", or the "outcome" of a page."""
    return corpus_words(kind, reason, flatten(settings or {}))


def flatten(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Innermost names to values; of two equal names the first counts."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        inner = flatten(value) if isinstance(value, Mapping) else {key: value}
        flat = inner | flat
    return flat


def stage_words(name: str) -> tuple[str, str, str]:
    """(title, what the stage does, what it counts) of a stage."""
    if name in _STAGES:
        return _STAGES[name]
    prefix = name.rstrip("0123456789")
    if prefix == name or prefix not in _ROUND_STAGES:
        return (name.replace("_", " ").capitalize(), "", "items")
    t = int(name.removeprefix(prefix))
    title, purpose, unit = _ROUND_STAGES[prefix]
    return (title.format(t=t), purpose.format(before=t - 1), unit)


def model_name(name: str) -> str:
    """`M_0` for m0, `M_yx` for m_yx, and `base` as it is."""
    number = name.removeprefix("m")
    return "M_" + number.removeprefix("_") if number.isdigit() or name == "m_yx" else name
