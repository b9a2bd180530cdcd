"""How well a number ranks pairs: AUC, precision, recall, rank correlation and calibration error, with intervals.

Intervals are of the percentile bootstrap over pairs: 24 good pairs of 180 are few, and the interval says so.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import stats

RESAMPLES = 1000
CONFIDENCE = 0.95
BEST_SHARE = 0.2
_BINS = 10
_DIGITS = 4

Statistic = Callable[[np.ndarray, np.ndarray], float]


def auc(scores: np.ndarray, good: np.ndarray) -> float:
    """Probability that a good pair has a higher score than a bad one, ties counting half; nan without both classes."""
    positive = int(good.sum())
    negative = len(good) - positive
    if not positive or not negative:
        return float("nan")
    ranks = stats.rankdata(scores)
    return float((ranks[good].sum() - positive * (positive + 1) / 2) / (positive * negative))


def precision_at(share: float) -> Statistic:
    """Share of good pairs among the best `share` by score; pairs at a tied cut count by how many of them fit."""

    def precision(scores: np.ndarray, good: np.ndarray) -> float:
        return _kept_good(scores, good, share) / max(1, round(share * len(scores)))

    return precision


def recall_at(share: float) -> Statistic:
    """Share of the good pairs that are among the best `share` by score; nan where there are none."""

    def recall(scores: np.ndarray, good: np.ndarray) -> float:
        return _kept_good(scores, good, share) / good.sum() if good.any() else float("nan")

    return recall


def _kept_good(scores: np.ndarray, good: np.ndarray, share: float) -> float:
    """Expected number of good pairs among the best, where ties at the cut are broken by chance."""
    number = max(1, round(share * len(scores)))
    cut = np.sort(scores)[::-1][number - 1]
    above, tied = scores > cut, scores == cut
    return float(good[above].sum() + (number - above.sum()) * good[tied].mean())


def spearman(scores: np.ndarray, values: np.ndarray) -> float:
    """Rank correlation; nan where either is constant."""
    values = np.asarray(values, np.float64)
    if np.ptp(scores) == 0 or np.ptp(values) == 0:
        return float("nan")
    return float(stats.spearmanr(scores, values).statistic)


def calibration_error(probabilities: np.ndarray, good: np.ndarray) -> float:
    """Expected calibration error over ten bins of equal numbers: mean |p - share of good| (Naeini et al., 2015)."""
    order = np.argsort(probabilities, kind="stable")
    bins = [part for part in np.array_split(order, _BINS) if len(part)]
    gaps = [len(part) * abs(float(probabilities[part].mean() - good[part].mean())) for part in bins]
    return sum(gaps) / len(order)


def with_interval(statistic: Statistic, scores: np.ndarray, good: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """`value`, `low` and `high` of a statistic over pairs, None where it is undefined; such resamples are left out."""
    values, labels = np.asarray(scores, np.float64), good
    rng = np.random.default_rng(seed)
    draws = [statistic(values[i], labels[i]) for i in rng.integers(0, len(values), (RESAMPLES, len(values)))]
    tail = 50 * (1 - CONFIDENCE)
    defined = np.asarray(draws)[~np.isnan(draws)]
    low, high = np.percentile(defined, [tail, 100 - tail]) if len(defined) else (float("nan"), float("nan"))
    found = {"value": statistic(values, labels), "low": float(low), "high": float(high)}
    return {name: None if np.isnan(number) else round(number, _DIGITS) for name, number in found.items()}
