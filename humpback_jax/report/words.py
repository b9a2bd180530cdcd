"""Plain words for stages and reasons: what the report says to somebody who has never seen the algorithm."""

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any

from humpback_jax.corpus.reasons import corpus_words
from humpback_jax.run_files import ARM_MODEL_STAGE, ARM_PAIRS_STAGE, PREFERRED_STAGE, SEGMENTS_STAGE, arm_of, round_of

_REASONS: dict[str, tuple[str, str]] = {
    "kept": ("Kept", "Good enough: the next model is trained on it."),
    # pairs of answers
    "no_answer": ("No answer", "no answer to the instruction is whole and rated"),
    "one_answer": ("One answer", "only one answer to the instruction is whole and rated"),
    "equal_answers": ("Equal answers", "all answers to the instruction say the same"),
    "tie": ("A tie", "all answers to the instruction are rated the same"),
    "below_margin": ("Too close", "no two answers are rated far enough apart"),
    "lengths_differ": ("Unequal lengths", "where two answers are rated far enough apart, one is much longer"),
    "held_out": ("Held out", "kept out of training, to measure what was learned"),
    "empty_answer": ("Empty answer", "the model wrote nothing"),
    # seed pairs
    "over_limit": ("Over the limit", "the run takes only the first {limit} pairs"),
    "empty_instruction": ("Empty instruction", "no instruction was written"),
    "empty_output": ("Empty answer", "the pair has no answer"),
    "failed_review": ("Failed review", "human reviewers rejected it"),
    "other_language": ("Another language", "not written in one of the wanted languages"),
    "duplicate": ("Again", "the same pair stands further up"),
    "needs_history": ("Needs what was said before", "it has earlier turns, and a pair is a first turn"),
    # candidates
    "truncated": ("Cut off", "the instruction did not end within {max_new_tokens} tokens"),
    "past_window": ("Past the window", "more tokens than the model knows positions"),
    "prompt_too_long": ("Does not fit", "the prompt is longer than the engine takes"),
    "no_rating": ("No rating", "no reply of the endpoint held a rating"),
    # selection
    "unscored": ("Not rated", "its rating prompt did not fit the engine"),
    "below_min_score": ("Score too low", "under the needed score of {min_score}"),
    "below_best_fraction": ("Not among the best", "only the best {keep_percent} of the candidates are kept"),
    "instruction_too_short": ("Instruction too short", "fewer than {min_instruction_chars} characters"),
    "instruction_too_long": ("Instruction too long", "more than {max_instruction_chars} characters"),
    "instruction_copies_output": ("Copies the text", "the instruction repeats the text instead of asking for it"),
    "not_sampled": ("Not drawn", "the run keeps a random {sample} of the good ones"),
    "below_min_p_good": ("Too unlikely to be good", "the curator's p(good) is under {min_p_good}"),
    "not_best_candidate": ("Another candidate is better", "one instruction per segment is kept, the best"),
    "not_different": ("Resembles others", "of the best pairs, those that differ most from one another are kept"),
    "domain_full": ("Its site is full", "at most {max_per_domain} pairs of one site are kept, the best of them"),
    # arms
    "not_of_this_arm": ("Not of this arm", "it takes only as many pairs as the curated set has"),
}
_TOO_MANY_TOKENS = ("Too long", "more tokens than a row (BatchConfig.row_length) or the engine takes")
_GATE = "gate_"  # how the reasons of `SelectionConfig.gates` begin; the signal's name follows


@dataclasses.dataclass(frozen=True)
class FeatureWords:
    """A feature of the curator: its name, and what it says of a pair for which it speaks, and against which it does.

    What shows a defect never speaks for a pair.
    """

    label: str
    good: str
    bad: str


FEATURE_WORDS: Mapping[str, FeatureWords] = {
    "rating": FeatureWords("Rating", "the scorer rates it high", "the scorer rates it low"),
    "fit": FeatureWords(
        "Fit", "the instruction makes this answer much likelier", "the instruction makes this answer hardly likelier"
    ),
    "grounding": FeatureWords(
        "Grounding", "the answer has the instruction's words", "the answer has few of the instruction's words"
    ),
    "prose": FeatureWords("Prose", "the answer is in whole sentences", "little of the answer is in whole sentences"),
    "brevity": FeatureWords("Brevity", "the instruction is brief", "the instruction is long"),
    "misfit": FeatureWords("Misfit", "", "the instruction asks for another answer"),
    "incomplete": FeatureWords("Incomplete", "", "the answer breaks off"),
    "garbled": FeatureWords("Garbled", "", "the instruction is garbled"),
    "furniture": FeatureWords("Furniture", "", "the answer holds menus, notices or the like"),
    "leak": FeatureWords("Leak", "", "the instruction repeats the prompt it was written from"),
    "copy": FeatureWords("Copy", "", "the instruction copies the answer"),
    "no_code": FeatureWords("No code", "", "the instruction asks for a program, and the answer has no code"),
}

_SIGNALS = {
    "rating": "Rating",
    "fit": "Fit",
    "ifd": "IFD",
    "completeness": "Completeness",
    "instruction_log_prob": "Instruction's likelihood",
    "answer_log_prob": "Answer's likelihood",
    "grounding": "Grounding",
    "prose": "Prose",
    "furniture": "Furniture",
    "closed": "Closed",
    "brevity": "Brevity",
    "copy": "Copy",
    "leak": "Leak",
    "code_missing": "Program without code",
    "instruction_chars": "Instruction's length",
    "output_chars": "Answer's length",
}

# How the twins of the curator are broken.
_TWINS = {
    "other_answer": "the answer of another pair",
    "half_answer": "half of the answer",
    "furniture_added": "menus and notices around the answer",
    "wrong_kind": "another kind of task",
    "instruction_garbled": "a garbled instruction",
    "labelled": "found bad by people",
}

_ARMS = {"random": "random pairs", "longest": "longest pairs", "rewritten": "rewritten texts"}


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
    "sampled": ("Answers to prefer", "M_{t} answers every instruction several times.", "answers"),
    "sampled_scores": ("Rating these answers", "M_{t} rates every answer.", "answers"),
    "preferences": ("Pairing answers", "The best answer to an instruction against the worst.", "instructions"),
    "preferred": ("Learning preferences", "M_{t} learns to prefer the better answers.", "pairs of answers"),
    "scores": ("Round {t}: grade every candidate", "M_{before} gives each pair a score by the rubric.", "pairs"),
    "curated": ("Round {t}: keep the best", "Pairs with a high grade and a sound instruction stay.", "pairs"),
    "curator": (
        "Round {t}: learn what a good pair is",
        "M_{before} reads seed pairs and twins of them that were broken; the curator learns what tells them apart.",
        "examples",
    ),
    "m": (
        "Round {t}: train M_{t}",
        "From the base model again, on seed pairs and the kept web pairs together, each with its own tag.",
        "training pairs",
    ),
}


# Of an arm: {t} is the last round, {arm} what it takes.
_ARM_STAGES = {
    ARM_PAIRS_STAGE: ("Round {t}, to compare: {arm}", "As many pairs as were kept, chosen otherwise.", "pairs"),
    ARM_MODEL_STAGE: (
        "Round {t}, to compare: train on {arm}",
        "As M_{t}, with these pairs in the place of the kept ones.",
        "training pairs",
    ),
}


def reason_label(reason: str) -> str:
    """Two or three words: `Too short`; an unknown reason's own name without underscores."""
    if reason.startswith(_GATE):
        return f"Fails on {signal_label(reason.removeprefix(_GATE)).lower()}"
    return _REASONS[reason][0] if reason in _REASONS else corpus_words("segment", reason)[0]


def reason_text(reason: str, settings: Mapping[str, Any] | None = None) -> str:
    """Why, in one clause, with the run's own limits where `settings` (of the stage's manifest) has them, else `…`."""
    if reason.startswith(_GATE):
        return _gate_text(reason.removeprefix(_GATE), settings or {})
    if reason not in _REASONS:
        return corpus_words("segment", reason, flatten(settings or {}))[1]
    limits = collections.defaultdict(lambda: "…", flatten(settings or {}))
    if isinstance(limits.get("keep_fraction"), float):
        limits["keep_percent"] = f"{100 * limits['keep_fraction']:g} %"
    return _REASONS[reason][1].format_map(limits)


def _gate_text(signal: str, settings: Mapping[str, Any]) -> str:
    """The run's own conditions on a signal."""
    gates = [gate for gate in flatten(settings).get("gates", ()) if gate.split(">")[0].split("<")[0].strip() == signal]
    return f"every kept pair must have {' and '.join(gates) or '…'}"


def signal_label(name: str) -> str:
    """A word or two; an unknown signal's own name without underscores."""
    return _SIGNALS.get(name) or name.replace("_", " ").capitalize()


def feature_label(name: str) -> str:
    """A word: what a feature of the curator looks at."""
    return FEATURE_WORDS[name].label if name in FEATURE_WORDS else signal_label(name)


def twin_words(kind: str) -> str:
    """What is wrong with a broken twin of this kind."""
    return _TWINS.get(kind, kind.replace("_", " "))


def arm_words(arm: str) -> str:
    """What an arm trains on: `random pairs`."""
    return _ARMS.get(arm, f"{arm.replace('_', ' ')} pairs")


def stage_reason(stage: str, reason: str, settings: Mapping[str, Any] | None = None) -> tuple[str, str]:
    """(label, why) of a reason that a stage counts: the same name may mean another thing in another stage."""
    if stage == SEGMENTS_STAGE:
        return web_words("segment", reason, settings)
    if reason == "too_long":  # of pairs, not of a section of a page
        return _TOO_MANY_TOKENS
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
    for template, (title, purpose, unit) in _ARM_STAGES.items():
        if of_arm := arm_of(name, template):
            t, arm = of_arm
            return (title.format(t=t, arm=arm_words(arm)), purpose.format(t=t), unit)
    prefix = name.rstrip("0123456789")
    if prefix == name or prefix not in _ROUND_STAGES:
        return (name.replace("_", " ").capitalize(), "", "items")
    t = int(name.removeprefix(prefix))
    title, purpose, unit = _ROUND_STAGES[prefix]
    return (title.format(t=t), purpose.format(before=t - 1, t=t), unit)


def model_name(name: str) -> str:
    """`M_0` for m0, `M_yx` for m_yx, `M_2, random pairs` for m2_random, and `base` as it is."""
    if of_arm := arm_of(name, ARM_MODEL_STAGE):
        return f"M_{of_arm[0]}, {arm_words(of_arm[1])}"
    if (t := round_of(name, PREFERRED_STAGE)) is not None:
        return f"M_{t} with preferences"
    number = name.removeprefix("m")
    return "M_" + number.removeprefix("_") if number.isdigit() or name == "m_yx" else name


# What is measured of pairs of answers before and after preference learning.
PREFERENCE_WORDS = {
    "reward_accuracy": "the chosen answer has the higher reward",
    "likelihood_accuracy": "the chosen answer is likelier per token",
    "reward_margin": "mean margin of rewards",
    "nll_chosen": "NLL per token of chosen answers",
    "nll_rejected": "NLL per token of rejected answers",
}


def preference_value(value: Any) -> str:
    """A number, or a share with its interval."""
    if isinstance(value, dict):
        return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
    return f"{value:.4f}"
