"""How signals become the features of the curator: numbers of one scale, of which more is better.

Two kinds. What ranks sound pairs is compared with the other candidates: their mean is 0, their spread 1. What shows a
defect is compared with seed pairs, which have none: up to what a tenth of them show it says nothing, and below that it
counts against the pair.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

STANDARD, SHORTFALL, COUNT = "standard", "shortfall", "count"
_FARTHEST = 2.5  # spreads; what lies farther says no more than that it is far
_FARTHEST_SHORTFALL = 3.0
_TENTH, _WORST = 10, 1  # percentiles of seed pairs
Rows = Sequence[Mapping[str, float]]


@dataclasses.dataclass(frozen=True)
class Feature:
    """How a signal enters the curator.

    Attributes:
      signal: its name.
      kind: `standard`, compared with the candidates; `shortfall`, compared with seed pairs; `count`, of defects.
      prior: the weight it has before anything is learned.
      low, high: bounds beyond which more of the signal means nothing.
      unit: of a count, what weighs one.
    """

    signal: str
    kind: str
    prior: float
    low: float = -np.inf
    high: float = np.inf
    unit: float = 1.0


# Equal weights on standardised signals are hard to beat from few examples (Dawes, 1979). What a twin teaches of one
# defect carries over to web pages; how much fit matters beside grounding does not, so the penalty pulls to these.
FEATURES: Mapping[str, Feature] = {
    "rating": Feature("rating", STANDARD, 0.5),
    # A short answer of a word or two has an extreme fit.
    "fit": Feature("fit", STANDARD, 0.5, -0.5, 1.5),
    "grounding": Feature("grounding", STANDARD, 0.5),
    "prose": Feature("prose", STANDARD, 0.5),
    "brevity": Feature("brevity", STANDARD, 0.35),
    "misfit": Feature("fit", SHORTFALL, 0.75, -0.5, 1.5),
    "incomplete": Feature("completeness", SHORTFALL, 1.5),
    "garbled": Feature("instruction_log_prob", SHORTFALL, 1.0),
    "furniture": Feature("furniture", COUNT, 0.5, 0, 4, unit=2.0),
    "leak": Feature("leak", COUNT, 1.0, 0, 0.75, unit=0.25),
    "copy": Feature("copy", COUNT, 1.0, 0, 1.0, unit=0.5),
    "no_code": Feature("code_missing", COUNT, 1.0, 0, 1.0, unit=0.5),
}


@dataclasses.dataclass(frozen=True)
class Scale:
    """Where a feature is 0 and what is 1: (value - zero) / one, in the signal's own unit."""

    zero: float
    one: float


def scales_of(candidates: Rows, seeds: Rows) -> dict[str, Scale]:
    """The scale of every feature, by name.

    Args:
      candidates: signals of the pairs that are chosen from.
      seeds: signals of whole seed pairs.
    """
    scales = {}
    for name, feature in FEATURES.items():
        if feature.kind == STANDARD:
            values = _bounded(candidates, feature)
            scales[name] = Scale(float(values.mean()), max(float(values.std()), 1e-6))
        elif feature.kind == SHORTFALL:
            tenth, worst = np.percentile(_bounded(seeds, feature), [_TENTH, _WORST])
            scales[name] = Scale(float(tenth), max(float(tenth - worst), 1e-6))
        else:
            scales[name] = Scale(0.0, feature.unit)
    return scales


def feature_matrix(rows: Rows, scales: Mapping[str, Scale]) -> np.ndarray:
    """Features of rows of signals, float64 [rows, features], more being better in each.

    Raises:
      KeyError: a row lacks a signal.
      ValueError: a signal is not a number; the row's number is named.
    """
    return np.stack([_column(rows, FEATURES[name], scale) for name, scale in scales.items()], axis=1)


def _column(rows: Rows, feature: Feature, scale: Scale) -> np.ndarray:
    values = (_bounded(rows, feature) - scale.zero) / scale.one
    if feature.kind == STANDARD:
        return np.clip(values, -_FARTHEST, _FARTHEST)
    return np.clip(values, -_FARTHEST_SHORTFALL, 0.0) if feature.kind == SHORTFALL else -values


def _bounded(rows: Rows, feature: Feature) -> np.ndarray:
    values = np.asarray([row[feature.signal] for row in rows], np.float64)
    if not np.isfinite(values).all():
        number = int(np.flatnonzero(~np.isfinite(values))[0])
        raise ValueError(f"signal {feature.signal!r} of row {number} is {values[number]}; rate the pairs again")
    return np.clip(values, feature.low, feature.high)
