"""Paired comparisons of runs on the same items: unpaired, differences of a few points at n = 250 are noise."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from humpback_jax.evaluation.judging.winrate import preferences, read_annotations
from humpback_jax.files import PathLike

RESAMPLES = 9999
CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class PairedDifference:
    """Second run minus first, in percentage points.

    Attributes:
      first, second: means in percent over the shared items.
      difference: second - first.
      interval: bootstrap interval of the difference (BCa), None where every item is equal.
      p_value: of a two-sided sign-flip permutation test of no difference.
      paired_error: standard error of the difference over items.
      unpaired_error: what it would be if the items were not the same.
      better, worse, equal: items on which the second run is better, worse, or equal.
      items: shared items.
      unmatched: items that only one of the runs has a value for; they are left out.
    """

    first: float
    second: float
    difference: float
    interval: tuple[float, float] | None
    p_value: float
    paired_error: float | None
    unpaired_error: float | None
    better: int
    worse: int
    equal: int
    items: int
    unmatched: int


def compare(first: Mapping[str, float], second: Mapping[str, float], seed: int = 0) -> PairedDifference:
    """Compares values in [0, 1] by item.

    Raises:
      ValueError: fewer than two shared items.
    """
    from scipy import stats

    shared = [name for name in first if name in second]
    if len(shared) < 2:
        raise ValueError(f"the two runs share {len(shared)} items; give two results of the same items")
    a, b = (np.asarray([values[name] for name in shared], np.float64) * 100 for values in (first, second))
    d = b - a
    interval, p_value = None, 1.0
    if np.ptp(d) > 0:
        rng = np.random.default_rng(seed)
        found = stats.bootstrap((d,), np.mean, n_resamples=RESAMPLES, confidence_level=CONFIDENCE, rng=rng, batch=512)
        interval = (float(found.confidence_interval.low), float(found.confidence_interval.high))
    elif d[0] != 0:
        interval = (float(d[0]), float(d[0]))
    if (d != 0).any():
        rng = np.random.default_rng(seed)
        test = stats.permutation_test(
            (d,), np.mean, permutation_type="samples", n_resamples=RESAMPLES, vectorized=True, rng=rng, batch=512
        )
        p_value = float(test.pvalue)
    n = len(d)
    return PairedDifference(
        first=float(a.mean()),
        second=float(b.mean()),
        difference=float(d.mean()),
        interval=interval,
        p_value=p_value,
        paired_error=float(d.std(ddof=1) / math.sqrt(n)),
        unpaired_error=float(math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / n)),
        better=int((d > 0).sum()),
        worse=int((d < 0).sum()),
        equal=int((d == 0).sum()),
        items=n,
        unmatched=len(first) + len(second) - 2 * n,
    )


def item_values(path: PathLike) -> dict[str, float]:
    """Values in [0, 1] by item: of an annotation file the preference - 1, of benchmark results right or wrong.

    Raises:
      ValueError: the file is neither.
    """
    rows = read_annotations(path)
    if rows and "correct" in rows[0]:
        return {str(row["id"]): float(row["correct"]) for row in rows}
    values = preferences(rows, path)
    values = np.where(values == 0, 1.5, values)
    keys = _unique([str(row.get("instruction", i)) for i, row in enumerate(rows)])
    return {key: value - 1 for key, value in zip(keys, values.tolist(), strict=True) if 1 <= value <= 2}


def _unique(keys: Sequence[str]) -> list[str]:
    """Keys with their number of occurrence, so that a repeated instruction is several items."""
    seen: dict[str, int] = {}
    unique = []
    for key in keys:
        seen[key] = seen.get(key, 0) + 1
        unique.append(f"{key}\n#{seen[key]}")
    return unique


def compare_all(paths: Sequence[PathLike]) -> dict[str, Any]:
    """Every later file against the first; with several comparisons also Holm-adjusted p-values."""
    first = item_values(paths[0])
    found = {str(path): compare(first, item_values(path)) for path in paths[1:]}
    adjusted = holm([each.p_value for each in found.values()])
    return {
        path: dataclasses.asdict(each) | ({"p_value_holm": p} if len(found) > 1 else {})
        for (path, each), p in zip(found.items(), adjusted, strict=True)
    }


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment of p-values."""
    order = np.argsort(p_values)
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
