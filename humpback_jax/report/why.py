"""Why a pair was kept or dropped, in a sentence."""

from collections.abc import Mapping
from typing import Any

from humpback_jax.report.words import FEATURE_WORDS, reason_text, signal_label

KEPT = "kept"
# Reasons that compare pairs by what ranks them; every other reason is of the pair alone, or of chance.
RANK_REASONS = ("below_best_fraction", "below_min_p_good", "below_min_score")
MOST = 2  # features that are named on a side
LEAST = 0.05  # in logits; what adds less is not worth a word


def why_sentence(
    state: str,
    rank: float | None,
    cut: float | None,
    contributions: Mapping[str, float] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> str:
    """Why a pair was kept or dropped: `Dropped: its p(good) of 0.21 is below 0.48, the lowest kept. …`.

    Args:
      state: "kept", or the reason why it was dropped; "" gives "".
      rank: what ranked it: p(good) where there are `contributions`, else its score; None where it was not rated.
      cut: the lowest that its round kept; None where nothing was.
      contributions: what each feature of the curator adds to the logit, by name; None without a curator.
      settings: of the selection, for the limits in the reasons.
    """
    if not state:
        return ""
    name, digits = ("score", 2) if contributions is None else ("p(good)", 3)
    value = "" if rank is None else f"its {name} of {rank:.{digits}f}"
    bound = "" if cut is None else f"{cut:.{digits}f}, the lowest kept"
    if state == KEPT:
        text = f"Kept: {value} is at or above {bound}."
    elif state not in RANK_REASONS or rank is None or cut is None:
        why = reason_text(state, settings) or signal_label(state).lower()
        text = f"Dropped: {why}." + (f" Its {name} is {rank:.{digits}f}." if rank is not None else "")
    elif rank < cut:
        text = f"Dropped: {value} is below {bound}."
    else:
        # Ties at the cut, and cuts of other lengths.
        text = f"Dropped: {value} reaches {bound}, but others of its kind came first."
    return " ".join([text, *_balance(contributions or {}, state == KEPT)])


def _balance(contributions: Mapping[str, float], kept: bool) -> list[str]:
    """What speaks for a pair and what against it: first, and with one feature more, the side that won."""
    ordered = sorted(contributions.items(), key=lambda item: -abs(item[1]))
    known = [(FEATURE_WORDS[name], value) for name, value in ordered if name in FEATURE_WORDS]
    good = [words.good for words, value in known if value >= LEAST and words.good]
    bad = [words.bad for words, value in known if value <= -LEAST]
    sides = [("For it:", good[: MOST if kept else MOST - 1]), ("Against it:", bad[: MOST - 1 if kept else MOST])]
    return [f"{side} {' and '.join(words)}." for side, words in (sides if kept else reversed(sides)) if words]
