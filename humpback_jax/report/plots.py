"""The plots of a run, drawn with matplotlib, each once: as SVG, whose colours follow the page's theme, and as PNG."""

import dataclasses
import io
import itertools
import re
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from humpback_jax.report.pairs import RunPairs
from humpback_jax.report.run_data import RunData
from humpback_jax.report.statistics import RoundStatistics, SetStatistics, spearman
from humpback_jax.report.words import clip, model_name

INK, MUTED, LINE, PAPER = "#1c2127", "#5b6570", "#d8dde2", "#fefefe"
SERIES = ("#1f6f8b", "#b4570f", "#6a4c93", "#3f7d3a", "#a8324a", "#5a6f00")
KEPT_COLOR, DROPPED_COLOR = "#1f6f8a", "#c4c9cf"
THEME = {INK: "--ink", MUTED: "--muted", LINE: "--line", PAPER: "--card", KEPT_COLOR: "--kept"}
THEME |= {DROPPED_COLOR: "--dropped"} | {color: f"--c{i}" for i, color in enumerate(SERIES, start=1)}
STYLE: Any = {
    "svg.fonttype": "none",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "grid.color": LINE,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "legend.fontsize": 9,
}
RATING_EDGES = np.arange(0.875, 5.2, 0.25)
SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_FONT_SIZE = re.compile(r"([0-9.]+)px")
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclasses.dataclass(frozen=True)
class Plot:
    """A finished plot.

    Attributes:
      name: of its files, unique in a report.
      section: where the report shows it.
      title: what it shows.
      alt: the same in words with its figures, for people who do not see it.
      svg, png: as files.
    """

    name: str
    section: str
    title: str
    alt: str
    svg: str
    png: bytes


def draw_plots(run: RunData, pairs: RunPairs) -> list[Plot]:
    """Every plot that the run has figures for."""
    with matplotlib.rc_context(STYLE):
        plots = [_ratings(t, s) for t, s in pairs.rounds.items() if s.kept or s.dropped]
        forced = {t: statistics for t, statistics in pairs.rounds.items() if statistics.confidences}
        if forced:
            plots += [_digits(forced), _confidences(forced)]
        for before, after in itertools.pairwise(sorted(pairs.rounds)):
            if (old := pairs.rounds[before].ratings) and (new := pairs.rounds[after].ratings):
                plots.append(_agreement(before, after, old, new))
        if run.curves:
            plots.append(_losses(run.curves))
        if nll := run.heldout_nll:
            perplexities = {name: row["perplexity"] for name, row in nll.items()}
            plots.append(_bars("perplexity", "Held-out answers: perplexity (lower is better)", perplexities))
        if chrf := run.stages.get("evaluation", {}).get("figures", {}).get("backward_chrf"):
            plots.append(_bars("chrf", "Held-out instructions: chrF, 0–100 (higher is better)", chrf))
        sets = {name: statistics for name, statistics in pairs.sets.items() if len(statistics)}
        if sets:
            plots += [_lengths(sets, "instruction"), _lengths(sets, "output"), _openings(sets)]
    return plots


def _axes(height: float = 2.7) -> Any:
    """Axes of a figure of their own; not pyplot, which would keep it."""
    figure = Figure(figsize=(4.4, height), layout="constrained", facecolor="none")
    FigureCanvasAgg(figure)
    return figure.add_subplot()


def _finish(axes: Any, name: str, section: str, title: str, alt: str) -> Plot:
    svg, png, figure = io.StringIO(), io.BytesIO(), axes.figure
    with warnings.catch_warnings(), matplotlib.rc_context({"svg.hashsalt": name}):
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # the page's own fonts have it
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
        figure.set_layout_engine("none")  # the layout that the SVG got
        figure.savefig(png, format="png", dpi=160, facecolor=PAPER, metadata={"Software": None})
    return Plot(name, section, title, alt, svg.getvalue(), png.getvalue())


def _label(axes: Any, xlabel: str, ylabel: str, legend: str = "upper right", **limits: Any) -> None:
    axes.set(xlabel=xlabel, ylabel=ylabel, **limits)
    axes.grid(axis="y")
    axes.legend(loc=legend)


def _label_rows(axes: Any, names: Sequence[str], xlabel: str) -> None:
    """Named rows, the first at the top, instead of a vertical axis."""
    axes.set(yticks=range(len(names)), yticklabels=names, xlabel=xlabel)
    axes.invert_yaxis()
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.grid(axis="x")


def _ratings(t: int, statistics: RoundStatistics) -> Plot:
    kept, dropped = np.asarray(statistics.kept), np.asarray(statistics.dropped)
    axes = _axes()
    colors, labels = [KEPT_COLOR, DROPPED_COLOR], ["kept", "dropped"]
    axes.hist([kept, dropped], RATING_EDGES, stacked=True, color=colors, label=labels, rwidth=0.9)
    _label(axes, "score", "pairs", xticks=range(1, 6), xlim=(0.8, 5.2))
    axes.yaxis.get_major_locator().set_params(integer=True)
    both = np.concatenate([kept, dropped])
    alt = (
        f"Histogram of {len(both)} scores from 1 to 5: {len(kept)} kept with scores "
        f"{_range(kept)}, {len(dropped)} dropped with scores {_range(dropped)}; mean {both.mean():.2f}."
    )
    return _finish(axes, f"scores_round{t}", "scores", f"Round {t}: scores given by M_{t - 1}", alt)


def _range(values: np.ndarray) -> str:
    return f"{values.min():.2f} to {values.max():.2f}" if len(values) else "none"


def _digits(rounds: Mapping[int, RoundStatistics]) -> Plot:
    axes, width, parts = _axes(), 0.8 / len(rounds), []
    for place, (t, statistics) in enumerate(rounds.items()):
        x = np.arange(1, 6) + (place - (len(rounds) - 1) / 2) * width
        axes.bar(x, statistics.digit_means, width * 0.92, color=_color(place), label=f"round {t}")
        parts.append(f"round {t}: {', '.join(f'{p:.2f}' for p in statistics.digit_means)}")
    _label(axes, "score", "mean probability", xticks=range(1, 6))
    title = "What the scorer would say: mean probability of each score"
    return _finish(axes, "digit_probabilities", "scorer", title, f"For 1 to 5, {'; '.join(parts)}.")


def _confidences(rounds: Mapping[int, RoundStatistics]) -> Plot:
    axes, parts = _axes(), []
    for place, (t, statistics) in enumerate(rounds.items()):
        weights = np.full(len(statistics.confidences), 100 / len(statistics.confidences))
        style = dict(histtype="step", linewidth=2, color=_color(place), label=f"round {t}")
        axes.hist(statistics.confidences, np.linspace(0.2, 1, 17), weights=weights, **style)
        parts.append(f"round {t}: median {np.median(statistics.confidences):.2f}")
    _label(axes, "probability of the likeliest score", "% of pairs", xlim=(0.18, 1.02))
    title = "How sure the scorer is (0.2 is a guess)"
    return _finish(axes, "confidence", "scorer", title, f"Confidence, {'; '.join(parts)}.")


def _agreement(before: int, after: int, old: Mapping[str, float], new: Mapping[str, float]) -> Plot:
    both = [(old[name], new[name]) for name in old if name in new]
    x, y = np.asarray(both, float).reshape(-1, 2).T
    axes = _axes()
    counts, _, _ = np.histogram2d(x, y, [RATING_EDGES, RATING_EDGES])
    shade = np.sqrt(counts / max(1, counts.max()))
    for i, j in zip(*np.nonzero(counts), strict=True):
        size = 0.23 * (0.35 + 0.65 * shade[i, j])
        corner = (RATING_EDGES[i] + 0.125 - size / 2, RATING_EDGES[j] + 0.125 - size / 2)
        axes.add_patch(Rectangle(corner, size, size, facecolor=KEPT_COLOR, edgecolor="none"))
    axes.plot([1, 5], [1, 5], color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
    axes.set(xlabel=f"score in round {before}", ylabel=f"score in round {after}", xlim=(0.8, 5.2), ylim=(0.8, 5.2))
    axes.set(xticks=range(1, 6), yticks=range(1, 6))
    axes.grid()
    rho = spearman(list(x), list(y))
    correlation = "not defined" if rho is None else f"{rho:.2f}"
    change = np.mean(y - x) if len(both) else 0
    alt = f"{len(both)} pairs; rank correlation {correlation}; mean change {change:+.2f}."
    title = f"Do rounds {before} and {after} agree? Rank correlation {correlation}"
    return _finish(axes, f"agreement_{before}_{after}", "scorer", title, alt)


def _losses(curves: Mapping[str, Sequence[Mapping[str, float]]]) -> Plot:
    axes, parts = _axes(), []
    for place, (name, rows) in enumerate(curves.items()):
        steps, losses = [row["step"] for row in rows], [row["loss"] for row in rows]
        style: Any = dict(linewidth=1.8, marker="o" if len(rows) <= 30 else None, markersize=4)
        axes.plot(steps, losses, color=_color(place), label=model_name(name), **style)
        parts.append(f"{model_name(name)} from {losses[0]:.3f} to {losses[-1]:.3f} in {steps[-1]} updates")
    _label(axes, "update", "loss (nats per token)", legend="best")
    axes.xaxis.get_major_locator().set_params(integer=True)
    return _finish(axes, "loss", "training", "Training loss", f"{'; '.join(parts)}.")


def _bars(name: str, title: str, values: Mapping[str, float]) -> Plot:
    axes = _axes(0.75 + 0.42 * len(values))
    names = [model_name(key) for key in values]
    colors = [DROPPED_COLOR if key == "base" else KEPT_COLOR for key in values]
    bars = axes.barh(names, list(values.values()), height=0.62, color=colors)
    axes.bar_label(bars, fmt="%.2f", padding=4, color=INK)
    axes.set(xlim=(0, 1.18 * max(values.values(), default=1) or 1), xticks=[])
    axes.invert_yaxis()
    axes.spines[["bottom", "left"]].set_visible(False)
    axes.tick_params(length=0, labelcolor=INK)
    alt = ", ".join(f"{model_name(key)} {value:.2f}" for key, value in values.items())
    return _finish(axes, name, "evaluation", title, f"{alt}.")


def _lengths(sets: Mapping[str, SetStatistics], part: str) -> Plot:
    axes, parts = _axes(0.95 + 0.42 * len(sets)), []
    for place, (name, statistics) in enumerate(sets.items()):
        lengths = statistics.instruction_lengths if part == "instruction" else statistics.output_lengths
        low, first, middle, third, high = np.quantile(lengths, QUANTILES)
        axes.plot([low, high], [place, place], color=DROPPED_COLOR, linewidth=3, solid_capstyle="round")
        axes.plot([first, third], [place, place], color=KEPT_COLOR, linewidth=8, solid_capstyle="round")
        axes.plot([middle], [place], "o", color=PAPER, markersize=5)
        parts.append(f"{name}: median {middle:.0f}, middle half {first:.0f} to {third:.0f}")
    _label_rows(axes, list(sets), "characters")
    axes.set(xlim=(0, None), ylim=(len(sets) - 0.5, -0.5))
    titles = {"instruction": "Length of instructions", "output": "Length of answers"}
    return _finish(axes, f"{part}_lengths", "lengths", titles[part], f"{'; '.join(parts)}.")


def _openings(sets: Mapping[str, SetStatistics], most: int = 8) -> Plot:
    """Most common first two words of the last set, and how common they are in the first."""
    shown = list(dict.fromkeys([next(iter(sets)), list(sets)[-1]]))
    last = sets[shown[-1]]
    common = [opening for opening, _ in last.openings.most_common(most)]
    axes = _axes(0.95 + 0.4 * len(common))
    for place, name in enumerate(shown):
        shares = [100 * sets[name].openings[opening] / len(sets[name]) for opening in common]
        y = np.arange(len(common)) + (place - (len(shown) - 1) / 2) * 0.38
        axes.barh(y, shares, 0.34, color=KEPT_COLOR if name == shown[-1] else DROPPED_COLOR, label=name)
    _label_rows(axes, [_plain(opening) for opening in common], "% of instructions")
    axes.legend(loc="lower right")
    parts = [f"“{opening}” {100 * last.openings[opening] / len(last):.0f} %" for opening in common]
    return _finish(axes, "openings", "lengths", "How instructions begin", f"In {shown[-1]}: {', '.join(parts)}.")


def _plain(text: str) -> str:
    """Text that matplotlib does not read as mathematics, clipped."""
    return "".join(c if c.isprintable() else "�" for c in clip(text, 22)).replace("$", r"\$") or "(empty)"


def _color(place: int) -> str:
    return SERIES[place % len(SERIES)]


def inline_svg(plot: Plot) -> str:
    """The drawing as a part of a page with a strict content policy: no style, no colours of its own, no script.

    It has presentation attributes instead of styles, and each colour is replaced by its CSS variable.
    """
    root = ElementTree.fromstring(plot.svg)
    for parent in root.iter():
        for child in [c for c in parent if c.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style")]:
            parent.remove(child)
    used = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", plot.svg))
    for element in root.iter():
        _restyle(element)
        if element.get("id") not in used:
            element.attrib.pop("id", None)
    width, height = (float(root.get(side, "0pt").removesuffix("pt")) for side in ("width", "height"))
    root.attrib.update({"width": f"{width / 0.72:.0f}", "height": f"{height / 0.72:.0f}"})
    root.attrib |= {"role": "img", "aria-label": plot.alt}
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    return ElementTree.tostring(root, encoding="unicode")


def _restyle(element: ElementTree.Element) -> None:
    declarations = [part.partition(":") for part in element.attrib.pop("style", "").split(";") if part.strip()]
    for name, _, value in declarations:
        name, value = name.strip(), value.strip()
        if name == "font":
            size = _FONT_SIZE.search(value)
            name, value = "font-size", size.group(1) if size else "10"
        element.set(name, value)
    for name in ("fill", "stroke"):
        value = element.get(name, "")
        if value.lower() in THEME:
            element.set(name, f"var({THEME[value.lower()]})")
    if element.tag == f"{{{SVG}}}text" and "fill" not in element.attrib:
        element.set("fill", "var(--ink)")
