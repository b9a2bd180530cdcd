"""Win rates from pairwise annotations, counted as AlpacaEval counts them.

A preference is 1 where the baseline wins, 2 where the model wins, 1.5 (in old files 0) for a draw, or anything between
from a weighted annotator. Null, missing and other numbers are no preference: they are left out of the total. Source:
`alpaca_eval.metrics` (tatsu-lab/alpaca_eval at cd543a1), `BaseScoringRule.describe_head2head`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from humpback_jax.evaluation.records import read_records
from humpback_jax.files import PathLike

DRAW, OLD_DRAW = 1.5, 0.0


def preferences(annotations: Sequence[Mapping[str, Any]], where: PathLike = "annotations") -> np.ndarray:
    """float64 [n]: the preference of every annotation as it was written, NaN where there is none.

    Raises:
      ValueError: no annotation has the key `preference`, or one has something there that is not a number.
    """
    if not any("preference" in annotation for annotation in annotations):
        raise ValueError(f"{where}: no annotation has a 'preference'; give the annotations.json of a judge")
    return np.asarray([_number(a.get("preference"), i, where) for i, a in enumerate(annotations)], np.float64)


def _number(value: Any, record: int, where: PathLike) -> float:
    if value is None:
        return math.nan
    try:
        if isinstance(value, bool):
            raise ValueError("a truth value")
        return float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{where}: record {record} has the preference {value!r}; expected a number from 1 (the baseline wins) to "
            "2 (the model wins), or null"
        ) from error


def win_rate(values: np.ndarray) -> dict[str, Any]:
    """Counts preferences, float [n], as `preferences` returns them.

    Returns:
      win_rate: mean of preference - 1, in percent.
      standard_error: of that mean, in percent; None for a single annotation.
      discrete_win_rate: the same after every preference is rounded to a win, a loss or a draw, in percent.
      n_wins, n_wins_base, n_draws: preferences above, below and at 1.5.
      n_total, n_dropped: annotations with a preference, and without one.

    Raises:
      ValueError: none of them is a preference.
    """
    kept = _valid(np.where(values == OLD_DRAW, DRAW, values))
    if not kept.size:
        raise ValueError(f"none of {values.size} annotations has a preference from 1 to 2, so there is no win rate")
    rounded = np.round(np.where(values == DRAW, OLD_DRAW, values))
    discrete = _valid(np.where(rounded == OLD_DRAW, DRAW, rounded))
    error = float(np.std(kept, ddof=1)) / math.sqrt(kept.size) * 100 if kept.size > 1 else None
    return {
        "win_rate": float(np.mean(kept - 1) * 100),
        "standard_error": error,
        "discrete_win_rate": float(np.mean(discrete - 1) * 100),
        "n_wins": int(np.sum(kept > DRAW)),
        "n_wins_base": int(np.sum(kept < DRAW)),
        "n_draws": int(np.sum(kept == DRAW)),
        "n_total": int(kept.size),
        "n_dropped": int(values.size - kept.size),
    }


def _valid(values: np.ndarray) -> np.ndarray:
    return values[(values >= 1) & (values <= 2)]


def annotation_figures(path: PathLike) -> dict[str, Any]:
    """Everything that an annotation file says by itself: who was compared, win rate, lengths in characters.

    `length_controlled_winrate` is there only where the alpaca_eval package has left its `glm_preference` in every row.
    """
    rows = read_records(path)
    names = {"model": "generator_2", "baseline": "generator_1", "annotator": "annotator"}
    figures: dict[str, Any] = {name: _common(rows, column) for name, column in names.items()}
    figures |= win_rate(preferences(rows, path)) | mean_lengths(rows)
    controlled = [row.get("glm_preference") for row in rows]
    if all(isinstance(value, float | int) and math.isfinite(value) for value in controlled):
        figures["length_controlled_winrate"] = float(np.mean(np.asarray(controlled, np.float64)) * 100)
    return figures


def mean_lengths(annotations: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Whole characters of the model's outputs and of the baseline's, as AlpacaEval counts them."""
    figures = {}
    for name, column in (("avg_length", "output_2"), ("avg_length_base", "output_1")):
        lengths = [len(row[column]) for row in annotations if isinstance(row.get(column), str)]
        if lengths:
            figures[name] = int(sum(lengths) / len(lengths))
    return figures


def _common(rows: Sequence[Mapping[str, Any]], column: str) -> str | None:
    """The value that all rows share, or all values; None where the column is missing."""
    return ", ".join(dict.fromkeys(str(row[column]) for row in rows if row.get(column) is not None)) or None
