"""Scaling figures: a metric over the number of examples and its fits, PNG or SVG (paper, Figures 2, 3, 5, 7)."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from humpback_jax.evaluation.scaling.fit import BASES
from humpback_jax.files import PathLike

LABELS = {"win_rate": "win rate (%)", "heldout_nll": "held-out NLL (nats per token)"}
SUFFIXES = (".png", ".svg", ".pdf")


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
    groups: dict[str, list[Mapping[str, Any]]] = collections.defaultdict(list)
    for row in rows:
        groups[str(row["dataset"])].append(row)
    for number, (name, members) in enumerate(groups.items()):
        color = f"C{number}"
        sizes = sorted({row["size"] for row in members})
        means = [np.mean([row[metric] for row in members if row["size"] == size]) for size in sizes]
        axes.plot([row["size"] for row in members], [row[metric] for row in members], ".", color=color, alpha=0.5)
        axes.plot(sizes, means, "-o", color=color, label=_label(name, fits.get(name, {})))
        if "alpha" in fits.get(name, {}):
            _draw_fit(axes, fits[name], sizes, color)
    axes.set_xscale("log")
    axes.set_xlabel("examples")
    axes.set_ylabel(LABELS.get(metric, metric))
    axes.grid(alpha=0.3)
    axes.legend()
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as stream:
        figure.savefig(stream, format=target.suffix[1:], dpi=150, metadata=_without_date(target.suffix))


def _label(name: str, fit: Mapping[str, Any]) -> str:
    if "alpha" not in fit:
        return name
    interval = fit["alpha_interval"]
    bounds = "" if interval is None else f" [{interval[0]:.2f}, {interval[1]:.2f}]"
    return f"{name}: α = {fit['alpha']:.2f}{bounds} (log base {fit['base']})"


def _draw_fit(axes: Any, fit: Mapping[str, Any], sizes: Sequence[float], color: str) -> None:
    x = np.geomspace(min(sizes), max(sizes), 50)
    axes.plot(x, fit["intercept"] + fit["alpha"] * np.log(x) / np.log(BASES[fit["base"]]), "--", color=color, alpha=0.7)


def _without_date(suffix: str) -> dict[str, None]:
    """Equal tables give equal files."""
    return {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(suffix, {})
