"""The data-scaling fit w = α · log_b N + C (paper, section 3.4) with bootstrap intervals, and its figures (2, 3, 5, 7).

The paper gives neither the base of its logarithm nor C; ours is stated with every result. α of another base is α times
a constant: α per natural-log unit = α per decade / ln 10.
"""

import collections
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from humpback_jax.files import PathLike

BASES = {"e": math.e, "2": 2.0, "10": 10.0}
RESAMPLES = 4999
LABELS = {"win_rate": "win rate (%)", "heldout_nll": "held-out NLL (nats per token)"}
SUFFIXES = (".png", ".svg", ".pdf")
DATELESS = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}  # equal tables give equal files
CONFIDENCE = 0.95


def fit_scaling(
    sizes: Sequence[float],
    values: Sequence[float],
    base: str = "e",
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """A least-squares line through win rates, or any other metric, over the logarithm of the number of examples.

    Intervals are symmetric bootstrap-t over residuals that are first divided by sqrt(1 - leverage) (Davison and
    Hinkley, Bootstrap Methods, 6.2.3); with the few sizes of a scaling curve, percentile intervals are too short.

    Args:
      sizes: number of examples of each run, at least 1; equal sizes are repeats.
      values: the metric of each run.
      base: of the logarithm, "e", "2" or "10".
      confidence, resamples, seed: of the bootstrap.

    Returns:
      alpha: units of the metric per unit of log_b N.
      intercept: C, the metric at N = 1.
      base: b: "e", "2" or "10".
      alpha_interval, intercept_interval: bootstrap-t intervals; None for fewer than three points or two sizes.
      confidence: of the intervals.
      residual_error: standard deviation of the residuals, with n - 2 degrees of freedom.
      r_squared: share of the variance that the line explains; None where the metric does not vary.
      points: number of measurements.

    Raises:
      ValueError: an unknown base, sizes below 1, a value that is not finite, or fewer than two different sizes.
    """
    if base not in BASES:
        raise ValueError(f"unknown base {base!r} of the logarithm; choose from {', '.join(BASES)}")
    n, y = np.asarray(sizes, np.float64), np.asarray(values, np.float64)
    if n.shape != y.shape or n.ndim != 1 or (n < 1).any() or not np.isfinite(y).all():
        raise ValueError(f"expected as many finite values as sizes of at least 1, found {n.tolist()} and {y.tolist()}")
    if len(set(n.tolist())) < 2:
        raise ValueError(f"a scaling fit needs two or more sizes, found {sorted(set(n.tolist()))}")
    x, freedom = np.log(n) / math.log(BASES[base]), len(y) - 2
    line, residuals = _fit(x, y)
    squared, total = float(np.sum(residuals**2)), float(np.sum((y - y.mean()) ** 2))
    intervals = _intervals(x, y, confidence, resamples, seed) if freedom > 0 else (None, None)
    return {
        "alpha": float(line[0]),
        "intercept": float(line[1]),
        "base": base,
        "alpha_interval": intervals[0],
        "intercept_interval": intervals[1],
        "confidence": confidence,
        "residual_error": math.sqrt(squared / freedom) if freedom > 0 else None,
        "r_squared": 1.0 - squared / total if total > 0 else None,
        "points": len(y),
    }


def _fit(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least squares of y, float [..., n], over x, float [n]: ([slope, intercept] by [2, ...], residuals [..., n])."""
    line = np.polyfit(x, y.T, 1)
    return line, y - np.multiply.outer(line[0], x) - line[1][..., None]


def _intervals(x: np.ndarray, y: np.ndarray, confidence: float, resamples: int, seed: int) -> list[tuple[float, float]]:
    """Bootstrap-t intervals of slope and intercept."""
    line, residuals = _fit(x, y)
    design = np.vander(x, 2)
    inverse = np.linalg.inv(design.T @ design)
    leverage = np.einsum("ni,ij,nj->n", design, inverse, design)
    # A point of leverage 1 has no residual of its own.
    scaled = residuals / np.sqrt(np.maximum(1 - leverage, 1e-12))
    drawn = np.random.default_rng(seed).choice(scaled - scaled.mean(), (resamples, len(x)))
    estimates, again = _fit(x, design @ line + drawn)
    noise, noises = (np.sqrt(np.sum(values**2, -1) / (len(x) - 2)) for values in (residuals, again))
    intervals = []
    for value, estimate, spread in zip(line, estimates, np.sqrt(np.diag(inverse)), strict=True):
        half = 0.0
        if noise * spread >= 1e-12 * max(abs(value), 1.0):
            usable = noises > 1e-9 * noise  # a resample that repeats one residual lies on a line
            t = np.abs(estimate[usable] - value) / (noises[usable] * spread)
            half = np.quantile(t, confidence) * noise * spread
        intervals.append((float(value - half), float(value + half)))
    return intervals


def fit_figures(rows: Sequence[Mapping[str, Any]], metric: str, base: str = "e") -> dict[str, Any]:
    """A fit for every data set of a table of runs: rows with `dataset`, `size` and the metric.

    A data set with a single size has no fit, and says so.

    Raises:
      ValueError: a row lacks one of the three.
    """
    figures: dict[str, Any] = {}
    for name, points in _points(rows, metric).items():
        sizes, values = zip(*points, strict=True)
        if len(set(sizes)) < 2:
            figures[name] = {"fit": f"none: a single size ({sizes[0]})"}
        else:
            formula = {"formula": f"{metric} = alpha * log_{base}(N) + C"}
            figures[name] = formula | fit_scaling(sizes, values, base)
    return figures


def _points(rows: Sequence[Mapping[str, Any]], metric: str) -> dict[str, list[tuple[float, float]]]:
    """(size, metric) of every run by data set."""
    groups: dict[str, list[tuple[float, float]]] = collections.defaultdict(list)
    for number, row in enumerate(rows):
        if any(not isinstance(row.get(key), int | float) for key in ("size", metric)) or "dataset" not in row:
            raise ValueError(f"row {number} of the table: expected dataset, size and {metric}, found {row}")
        groups[str(row["dataset"])].append((row["size"], row[metric]))
    return groups


def plot_scaling(
    path: PathLike, rows: Sequence[Mapping[str, Any]], metric: str, fits: Mapping[str, Mapping[str, Any]]
) -> None:
    """Draws every run of a table as a dot, means over seeds joined, and the fits of `fit_figures` dashed.

    Raises:
      ValueError: a suffix that is none of SUFFIXES.
    """
    target = epath.Path(path)
    if target.suffix not in SUFFIXES:
        raise ValueError(f"--plot {path}: expected one of {', '.join(SUFFIXES)}")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for number, (name, points) in enumerate(_points(rows, metric).items()):
        color, fit = f"C{number}", fits.get(name, {})
        sizes = sorted({size for size, _ in points})
        means = [np.mean([value for s, value in points if s == size]) for size in sizes]
        axes.plot(*zip(*points, strict=True), ".", color=color, alpha=0.5)
        axes.plot(sizes, means, "-o", color=color, label=_label(name, fit))
        if "alpha" in fit:
            x = np.geomspace(sizes[0], sizes[-1], 50)
            y = fit["intercept"] + fit["alpha"] * np.log(x) / math.log(BASES[fit["base"]])
            axes.plot(x, y, "--", color=color, alpha=0.7)
    axes.set(xscale="log", xlabel="examples", ylabel=LABELS.get(metric, metric))
    axes.grid(alpha=0.3)
    axes.legend()
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as stream:
        figure.savefig(stream, format=target.suffix[1:], dpi=150, metadata=DATELESS.get(target.suffix))


def _label(name: str, fit: Mapping[str, Any]) -> str:
    if "alpha" not in fit:
        return name
    interval = fit["alpha_interval"]
    bounds = "" if interval is None else f" [{interval[0]:.2f}, {interval[1]:.2f}]"
    return f"{name}: α = {fit['alpha']:.2f}{bounds} (log base {fit['base']})"
