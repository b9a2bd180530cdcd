"""The plots of a run, drawn with matplotlib, each once: as SVG, whose colours follow the page's theme, and as PNG."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.patches import Rectangle

from humpback_jax.display.plots import (
    DROPPED_COLOR,
    INK,
    KEPT_COLOR,
    MUTED,
    PAPER,
    STYLE,
    Plot,
    finish_plot,
    label_axes,
    label_rows,
    new_axes,
    plain_text,
    series_color,
)
from humpback_jax.report.pairs import RunPairs
from humpback_jax.report.run_data import RunData
from humpback_jax.report.statistics import RoundStatistics, SetStatistics, spearman
from humpback_jax.report.words import feature_label, model_name

RATING_BINS = 16  # from the lowest rating to the highest, a whole one around each
AGAINST_COLOR = series_color(1)
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def draw_plots(run: RunData, pairs: RunPairs) -> list[Plot]:
    """Every plot that the run has figures for."""
    with matplotlib.rc_context(STYLE):
        scale = run.rating_scale
        plots = [_ratings(t, s, scale) for t, s in pairs.rounds.items() if s.kept or s.dropped]
        forced = {t: statistics for t, statistics in pairs.rounds.items() if statistics.confidences}
        if forced:
            plots += [_digits(forced, scale), _confidences(forced)]
        for before, after in itertools.pairwise(sorted(pairs.rounds)):
            if (old := pairs.rounds[before].ratings) and (new := pairs.rounds[after].ratings):
                plots.append(_agreement(before, after, old, new, scale))
        plots += [_weights(t, curator.weights) for t, curator in run.curators.items() if curator.weights]
        if run.curves:
            plots.append(_losses(run.curves))
        if nll := run.heldout_nll:
            perplexities = {name: row["perplexity"] for name, row in nll.items()}
            plots.append(_bars("perplexity", "Held-out answers: perplexity (lower is better)", perplexities))
        if chrf := run.evaluation.get("backward_chrf"):
            plots.append(_bars("chrf", "Held-out instructions: chrF, 0–100 (higher is better)", chrf))
        sets = {name: statistics for name, statistics in pairs.sets.items() if len(statistics)}
        if sets:
            plots += [_lengths(sets, "instruction"), _lengths(sets, "output"), _openings(sets)]
    return plots


def _rating_axis(scale: tuple[int, int]) -> tuple[np.ndarray, range, tuple[float, float]]:
    """Edges of bins, ticks and limits of an axis of ratings that go from one end of the scale to the other."""
    low, high = scale
    half, margin = (high - low) / RATING_BINS / 2, (high - low) / 20
    edges = np.linspace(low - half, high + half, RATING_BINS + 2)
    return edges, range(low, high + 1, -(-(high - low) // 10)), (low - margin, high + margin)


def _ratings(t: int, statistics: RoundStatistics, scale: tuple[int, int]) -> Plot:
    kept, dropped = np.asarray(statistics.kept), np.asarray(statistics.dropped)
    axes = new_axes()
    colors, labels = [KEPT_COLOR, DROPPED_COLOR], ["kept", "dropped"]
    edges, ticks, limits = _rating_axis(scale)
    axes.hist([kept, dropped], edges, stacked=True, color=colors, label=labels, rwidth=0.9)
    label_axes(axes, "score", "pairs", xticks=ticks, xlim=limits)
    axes.yaxis.get_major_locator().set_params(integer=True)
    both = np.concatenate([kept, dropped])
    alt = (
        f"Histogram of {len(both)} scores from {scale[0]} to {scale[1]}: {len(kept)} kept with scores "
        f"{_range(kept)}, {len(dropped)} dropped with scores {_range(dropped)}; mean {both.mean():.2f}."
    )
    return finish_plot(axes, f"scores_round{t}", "scores", f"Round {t}: scores given by M_{t - 1}", alt)


def _range(values: np.ndarray) -> str:
    return f"{values.min():.2f} to {values.max():.2f}" if len(values) else "none"


def _digits(rounds: Mapping[int, RoundStatistics], scale: tuple[int, int]) -> Plot:
    axes, width, parts = new_axes(), 0.8 / len(rounds), []
    for place, (t, statistics) in enumerate(rounds.items()):
        x = scale[0] + np.arange(len(statistics.digit_means)) + (place - (len(rounds) - 1) / 2) * width
        axes.bar(x, statistics.digit_means, width * 0.92, color=series_color(place), label=f"round {t}")
        parts.append(f"round {t}: {', '.join(f'{p:.2f}' for p in statistics.digit_means)}")
    label_axes(axes, "score", "mean probability", xticks=_rating_axis(scale)[1])
    title = "What the scorer would say: mean probability of each score"
    return finish_plot(
        axes, "digit_probabilities", "scorer", title, f"For {scale[0]} to {scale[1]}, {'; '.join(parts)}."
    )


def _confidences(rounds: Mapping[int, RoundStatistics]) -> Plot:
    axes, parts = new_axes(), []
    for place, (t, statistics) in enumerate(rounds.items()):
        weights = np.full(len(statistics.confidences), 100 / len(statistics.confidences))
        style = dict(histtype="step", linewidth=2, color=series_color(place), label=f"round {t}")
        axes.hist(statistics.confidences, np.linspace(0.2, 1, 17), weights=weights, **style)
        parts.append(f"round {t}: median {np.median(statistics.confidences):.2f}")
    label_axes(axes, "probability of the likeliest score", "% of pairs", xlim=(0.18, 1.02))
    title = "How sure the scorer is (0.2 is a guess)"
    return finish_plot(axes, "confidence", "scorer", title, f"Confidence, {'; '.join(parts)}.")


def _agreement(
    before: int, after: int, old: Mapping[str, float], new: Mapping[str, float], scale: tuple[int, int]
) -> Plot:
    both = [(old[name], new[name]) for name in old if name in new]
    x, y = np.asarray(both, float).reshape(-1, 2).T
    axes = new_axes()
    edges, ticks, limits = _rating_axis(scale)
    width = edges[1] - edges[0]
    counts, _, _ = np.histogram2d(x, y, [edges, edges])
    shade = np.sqrt(counts / max(1, counts.max()))
    for i, j in zip(*np.nonzero(counts), strict=True):
        size = 0.92 * width * (0.35 + 0.65 * shade[i, j])
        corner = (edges[i] + (width - size) / 2, edges[j] + (width - size) / 2)
        axes.add_patch(Rectangle(corner, size, size, facecolor=KEPT_COLOR, edgecolor="none"))
    axes.plot(scale, scale, color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
    axes.set(xlabel=f"score in round {before}", ylabel=f"score in round {after}", xlim=limits, ylim=limits)
    axes.set(xticks=ticks, yticks=ticks)
    axes.grid()
    rho = spearman(list(x), list(y))
    correlation = "not defined" if rho is None else f"{rho:.2f}"
    change = np.mean(y - x) if len(both) else 0
    alt = f"{len(both)} pairs; rank correlation {correlation}; mean change {change:+.2f}."
    title = f"Do rounds {before} and {after} agree? Rank correlation {correlation}"
    return finish_plot(axes, f"agreement_{before}_{after}", "scorer", title, alt)


def _weights(t: int, weights: Mapping[str, float]) -> Plot:
    """Weights of a curator, the largest first; to the right what speaks for a pair."""
    ordered = sorted(weights.items(), key=lambda item: -abs(item[1]))
    values = [value for _, value in ordered]
    axes = new_axes(0.95 + 0.3 * len(ordered))
    colors = [KEPT_COLOR if value >= 0 else AGAINST_COLOR for value in values]
    bars = axes.barh(range(len(values)), values, height=0.66, color=colors)
    axes.bar_label(bars, fmt="%+.2f", padding=4, color=INK)
    axes.axvline(0, color=MUTED, linewidth=1)
    label_rows(axes, [plain_text(feature_label(name)) for name, _ in ordered], "weight, in logits")
    farthest = 1.3 * max(map(abs, values)) or 1
    axes.set(xlim=(-farthest if min(values) < 0 else 0, farthest if max(values) > 0 else 0))
    alt = ", ".join(f"{feature_label(name)} {value:+.2f}" for name, value in ordered)
    return finish_plot(axes, f"curator{t}_weights", "curator", f"Round {t}: what the curator goes by", f"{alt}.")


def _losses(curves: Mapping[str, Sequence[Mapping[str, float]]]) -> Plot:
    axes, parts = new_axes(), []
    for place, (name, rows) in enumerate(curves.items()):
        steps, losses = [row["step"] for row in rows], [row["loss"] for row in rows]
        style: Any = dict(linewidth=1.8, marker="o" if len(rows) <= 30 else None, markersize=4)
        axes.plot(steps, losses, color=series_color(place), label=model_name(name), **style)
        parts.append(f"{model_name(name)} from {losses[0]:.3f} to {losses[-1]:.3f} in {steps[-1]} updates")
    label_axes(axes, "update", "loss (nats per token)", legend="best")
    axes.xaxis.get_major_locator().set_params(integer=True)
    return finish_plot(axes, "loss", "training", "Training loss", f"{'; '.join(parts)}.")


def _bars(name: str, title: str, values: Mapping[str, float]) -> Plot:
    axes = new_axes(0.75 + 0.42 * len(values))
    names = [model_name(key) for key in values]
    colors = [DROPPED_COLOR if key == "base" else KEPT_COLOR for key in values]
    bars = axes.barh(names, list(values.values()), height=0.62, color=colors)
    axes.bar_label(bars, fmt="%.2f", padding=4, color=INK)
    axes.set(xlim=(0, 1.18 * max(values.values(), default=1) or 1), xticks=[])
    axes.invert_yaxis()
    axes.spines[["bottom", "left"]].set_visible(False)
    axes.tick_params(length=0, labelcolor=INK)
    alt = ", ".join(f"{model_name(key)} {value:.2f}" for key, value in values.items())
    return finish_plot(axes, name, "evaluation", title, f"{alt}.")


def _lengths(sets: Mapping[str, SetStatistics], part: str) -> Plot:
    axes, parts = new_axes(0.95 + 0.42 * len(sets)), []
    for place, (name, statistics) in enumerate(sets.items()):
        lengths = statistics.instruction_lengths if part == "instruction" else statistics.output_lengths
        low, first, middle, third, high = np.quantile(lengths, QUANTILES)
        axes.plot([low, high], [place, place], color=DROPPED_COLOR, linewidth=3, solid_capstyle="round")
        axes.plot([first, third], [place, place], color=KEPT_COLOR, linewidth=8, solid_capstyle="round")
        axes.plot([middle], [place], "o", color=PAPER, markersize=5)
        parts.append(f"{name}: median {middle:.0f}, middle half {first:.0f} to {third:.0f}")
    label_rows(axes, list(sets), "characters")
    axes.set(xlim=(0, None), ylim=(len(sets) - 0.5, -0.5))
    titles = {"instruction": "Length of instructions", "output": "Length of answers"}
    return finish_plot(axes, f"{part}_lengths", "lengths", titles[part], f"{'; '.join(parts)}.")


def _openings(sets: Mapping[str, SetStatistics], most: int = 8) -> Plot:
    """Most common first two words of the last set, and how common they are in the first."""
    shown = list(dict.fromkeys([next(iter(sets)), list(sets)[-1]]))
    last = sets[shown[-1]]
    common = [opening for opening, _ in last.openings.most_common(most)]
    axes = new_axes(0.95 + 0.4 * len(common))
    for place, name in enumerate(shown):
        shares = [100 * sets[name].openings[opening] / len(sets[name]) for opening in common]
        y = np.arange(len(common)) + (place - (len(shown) - 1) / 2) * 0.38
        axes.barh(y, shares, 0.34, color=KEPT_COLOR if name == shown[-1] else DROPPED_COLOR, label=name)
    label_rows(axes, [plain_text(opening) for opening in common], "% of instructions")
    axes.legend(loc="lower right")
    parts = [f"“{opening}” {100 * last.openings[opening] / len(last):.0f} %" for opening in common]
    return finish_plot(axes, "openings", "lengths", "How instructions begin", f"In {shown[-1]}: {', '.join(parts)}.")
