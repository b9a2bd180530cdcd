"""Paired comparisons of runs on the same items: unpaired, differences of a few points at n = 250 are noise."""

import collections
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from humpback_jax.evaluation.judging.win_rate import DRAW, OLD_DRAW, preferences
from humpback_jax.evaluation.records import read_records
from humpback_jax.files import PathLike

RESAMPLES = 9999
CONFIDENCE = 0.95


def compare(first: Mapping[str, float], second: Mapping[str, float], seed: int = 0) -> dict[str, Any]:
    """Compares values in [0, 1] by item: second run minus first, in percentage points.

    Returns:
      first, second: means in percent over the shared items.
      difference: second - first.
      interval: bootstrap interval of the difference (BCa), None where every item is equal.
      p_value: of a two-sided sign-flip permutation test of no difference.
      paired_error: standard error of the difference over items.
      unpaired_error: what it would be if the items were not the same.
      better, worse, equal: items on which the second run is better, worse, or equal.
      items: shared items.
      unmatched: items that only one of the runs has a value for; they are left out.

    Raises:
      ValueError: fewer than two shared items.
    """
    shared = [name for name in first if name in second]
    if len(shared) < 2:
        raise ValueError(f"the two runs share {len(shared)} items; give two results of the same items")
    a, b = (np.asarray([values[name] for name in shared], np.float64) * 100 for values in (first, second))
    d, n = b - a, len(shared)
    interval = (float(d[0]), float(d[0])) if d[0] != 0 else None  # where all differ by the same
    if np.ptp(d) > 0:
        settings: Any = dict(n_resamples=RESAMPLES, rng=np.random.default_rng(seed), batch=512)
        bounds = stats.bootstrap((d,), np.mean, confidence_level=CONFIDENCE, **settings).confidence_interval
        interval = (float(bounds.low), float(bounds.high))
    p_value = 1.0
    if d.any():
        settings = dict(n_resamples=RESAMPLES, rng=np.random.default_rng(seed), batch=512)
        test = stats.permutation_test((d,), np.mean, permutation_type="samples", vectorized=True, **settings)
        p_value = float(test.pvalue)
    return {
        "first": float(a.mean()),
        "second": float(b.mean()),
        "difference": float(d.mean()),
        "interval": interval,
        "p_value": p_value,
        "paired_error": float(stats.sem(d)),
        "unpaired_error": float(math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / n)),
        "better": int((d > 0).sum()),
        "worse": int((d < 0).sum()),
        "equal": int((d == 0).sum()),
        "items": n,
        "unmatched": len(first) + len(second) - 2 * n,
    }


def item_values(path: PathLike) -> dict[str, float]:
    """Values in [0, 1] by item: of an annotation file the preference - 1, of benchmark results right or wrong.

    Raises:
      ValueError: the file is neither.
    """
    rows = read_records(path)
    if rows and "correct" in rows[0]:
        return {str(row["id"]): float(row["correct"]) for row in rows}
    values = preferences(rows, path)
    values = np.where(values == OLD_DRAW, DRAW, values) - 1
    seen: collections.Counter[str] = collections.Counter()
    items = {}
    for number, (row, value) in enumerate(zip(rows, values.tolist(), strict=True)):
        name = str(row.get("instruction", number))
        seen[name] += 1  # a repeated instruction is several items
        if 0 <= value <= 1:
            items[f"{name}\n#{seen[name]}"] = value
    return items


def compare_all(paths: Sequence[PathLike]) -> dict[str, Any]:
    """Every later file against the first; with several comparisons also Holm-adjusted p-values."""
    first = item_values(paths[0])
    differences = {str(path): compare(first, item_values(path)) for path in paths[1:]}
    adjusted = holm([each["p_value"] for each in differences.values()])
    return {
        path: each | ({"p_value_holm": p} if len(differences) > 1 else {})
        for (path, each), p in zip(differences.items(), adjusted, strict=True)
    }


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment of p-values."""
    order = np.argsort(p_values)
    steps = np.minimum(1.0, np.arange(len(order), 0, -1) * np.asarray(p_values, np.float64)[order])
    adjusted = np.empty(len(order))
    adjusted[order] = np.maximum.accumulate(steps)
    return adjusted.tolist()
