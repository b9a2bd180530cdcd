"""The plots of a run, drawn with matplotlib, each once: as SVG, whose colours follow the page's theme, and as PNG."""

import contextlib
import dataclasses
import io
import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from humpback_jax.report.pairs import RunPairs
from humpback_jax.report.run_data import RunData
from humpback_jax.report.statistics import RoundStatistics, SetStatistics, quantiles, spearman

INK, MUTED, LINE, PAPER = "#1c2127", "#5b6570", "#d8dde2", "#fefefe"
SERIES = ("#1f6f8b", "#b4570f", "#6a4c93", "#3f7d3a", "#a8324a", "#5a6f00")
KEPT_COLOR, DROPPED_COLOR = "#1f6f8a", "#c4c9cf"
THEME = {INK: "--ink", MUTED: "--muted", LINE: "--line", PAPER: "--card", KEPT_COLOR: "--kept"}
THEME |= {DROPPED_COLOR: "--dropped"} | {color: f"--c{i}" for i, color in enumerate(SERIES, start=1)}
SMALL = (4.4, 2.7)


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
    plots = [_scores(t, statistics) for t, statistics in pairs.rounds.items() if statistics.kept or statistics.dropped]
    forced = {t: statistics for t, statistics in pairs.rounds.items() if statistics.confidences}
    if forced:
        plots += [_digits(forced), _confidences(forced)]
    ordered = sorted(pairs.scores)
    for before, after in itertools.pairwise(ordered):
        if pairs.scores[before] and pairs.scores[after]:
            plots.append(_agreement(before, after, pairs.scores[before], pairs.scores[after]))
    if run.curves:
        plots.append(_losses(run.curves))
    figures = run.stages.get("evaluation", {}).get("figures", {})
    if nll := figures.get("nll_per_token"):
        perplexities = {name: row["perplexity"] for name, row in nll.items()}
        plots.append(_bars("perplexity", "Held-out answers: perplexity (lower is better)", perplexities))
    if chrf := figures.get("backward_chrf"):
        plots.append(_bars("chrf", "Held-out instructions: chrF, 0–100 (higher is better)", chrf))
    sets = {name: statistics for name, statistics in pairs.sets.items() if len(statistics)}
    if sets:
        plots += [_lengths(sets, "instruction"), _lengths(sets, "output"), _openings(sets)]
    return plots


@contextlib.contextmanager
def _figure(name: str, size: tuple[float, float]) -> Iterator[tuple[Any, Any, Callable[..., Plot]]]:
    """(figure, axes, finish): `finish(section, title, alt)` makes the plot. Not pyplot: no state outside the block."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
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
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=size, layout="constrained", facecolor="none")
        FigureCanvasAgg(figure)

        def finish(section: str, title: str, alt: str) -> Plot:
            svg, png = io.StringIO(), io.BytesIO()
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Glyph .* missing from font")  # the page's own fonts have it
                figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
                figure.set_layout_engine("none")  # the layout that the SVG got
                figure.savefig(png, format="png", dpi=160, facecolor=PAPER, metadata={"Software": None})
            return Plot(name, section, title, alt, svg.getvalue(), png.getvalue())

        yield figure, figure.add_subplot(), finish


def _scores(t: int, statistics: RoundStatistics) -> Plot:
    kept, dropped = np.asarray(statistics.kept), np.asarray(statistics.dropped)
    edges = np.arange(0.875, 5.2, 0.25)
    with _figure(f"scores_round{t}", SMALL) as (_, axes, finish):
        axes.hist(
            [kept, dropped],
            edges,
            stacked=True,
            color=[KEPT_COLOR, DROPPED_COLOR],
            label=["kept", "dropped"],
            rwidth=0.9,
        )
        axes.set(xlabel="score", ylabel="pairs", xticks=range(1, 6), xlim=(0.8, 5.2))
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.grid(axis="y")
        axes.legend(loc="upper right")
        both = np.concatenate([kept, dropped])
        alt = (
            f"Histogram of {len(both)} scores from 1 to 5: {len(kept)} kept with scores "
            f"{_range(kept)}, {len(dropped)} dropped with scores {_range(dropped)}; mean {both.mean():.2f}."
        )
        return finish("scores", f"Round {t}: scores given by M_{t - 1}", alt)


def _range(values: np.ndarray) -> str:
    return f"{values.min():.2f} to {values.max():.2f}" if len(values) else "none"


def _digits(rounds: Mapping[int, RoundStatistics]) -> Plot:
    with _figure("digit_probabilities", SMALL) as (_, axes, finish):
        width = 0.8 / len(rounds)
        parts = []
        for place, (t, statistics) in enumerate(rounds.items()):
            x = np.arange(1, 6) + (place - (len(rounds) - 1) / 2) * width
            axes.bar(x, statistics.digit_means, width * 0.92, color=_color(place), label=f"round {t}")
            parts.append(f"round {t}: {', '.join(f'{p:.2f}' for p in statistics.digit_means)}")
        axes.set(xlabel="score", ylabel="mean probability", xticks=range(1, 6))
        axes.grid(axis="y")
        axes.legend(loc="upper right")
        return finish(
            "scorer", "What the scorer would say: mean probability of each score", f"For 1 to 5, {'; '.join(parts)}."
        )


def _confidences(rounds: Mapping[int, RoundStatistics]) -> Plot:
    with _figure("confidence", SMALL) as (_, axes, finish):
        parts = []
        for place, (t, statistics) in enumerate(rounds.items()):
            weights = np.full(len(statistics.confidences), 100 / len(statistics.confidences))
            style = dict(histtype="step", linewidth=2, color=_color(place), label=f"round {t}")
            axes.hist(statistics.confidences, np.linspace(0.2, 1, 17), weights=weights, **style)
            parts.append(f"round {t}: median {np.median(statistics.confidences):.2f}")
        axes.set(xlabel="probability of the likeliest score", ylabel="% of pairs", xlim=(0.18, 1.02))
        axes.grid(axis="y")
        axes.legend(loc="upper right")
        return finish("scorer", "How sure the scorer is (0.2 is a guess)", f"Confidence, {'; '.join(parts)}.")


def _agreement(before: int, after: int, old: Mapping[str, float], new: Mapping[str, float]) -> Plot:
    both = [(old[name], new[name]) for name in old if name in new]
    x, y = np.asarray(both, float).reshape(-1, 2).T
    with _figure(f"agreement_{before}_{after}", SMALL) as (_, axes, finish):
        edges = np.arange(0.875, 5.2, 0.25)
        counts, _, _ = np.histogram2d(x, y, [edges, edges])
        shade = np.sqrt(counts / max(1, counts.max()))
        for i, j in zip(*np.nonzero(counts), strict=True):
            size = 0.23 * (0.35 + 0.65 * shade[i, j])
            axes.add_patch(_square(edges[i] + 0.125, edges[j] + 0.125, size))
        axes.plot([1, 5], [1, 5], color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
        axes.set(xlabel=f"score in round {before}", ylabel=f"score in round {after}", xlim=(0.8, 5.2), ylim=(0.8, 5.2))
        axes.set(xticks=range(1, 6), yticks=range(1, 6))
        axes.grid()
        rho = spearman(list(x), list(y))
        said = "not defined" if rho is None else f"{rho:.2f}"
        alt = f"{len(both)} pairs; rank correlation {said}; mean change {np.mean(y - x) if len(both) else 0:+.2f}."
        return finish("scorer", f"Do rounds {before} and {after} agree? Rank correlation {said}", alt)


def _square(x: float, y: float, size: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x - size / 2, y - size / 2), size, size, facecolor=KEPT_COLOR, edgecolor="none")


def _losses(curves: Mapping[str, Sequence[Mapping[str, float]]]) -> Plot:
    with _figure("loss", SMALL) as (_, axes, finish):
        parts = []
        for place, (name, rows) in enumerate(curves.items()):
            steps, losses = [row["step"] for row in rows], [row["loss"] for row in rows]
            marker = "o" if len(rows) <= 30 else None
            axes.plot(
                steps, losses, color=_color(place), linewidth=1.8, marker=marker, markersize=4, label=model_name(name)
            )
            parts.append(f"{model_name(name)} from {losses[0]:.3f} to {losses[-1]:.3f} in {steps[-1]} updates")
        axes.set(xlabel="update", ylabel="loss (nats per token)")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(axis="y")
        axes.legend(loc="best")
        return finish("training", "Training loss", f"{'; '.join(parts)}.")


def model_name(name: str) -> str:
    """`M_0` for m0, `M_yx` for m_yx, and `base` as it is."""
    number = name.removeprefix("m")
    return "M_" + number.removeprefix("_") if number.isdigit() or name == "m_yx" else name


def _bars(name: str, title: str, values: Mapping[str, float]) -> Plot:
    with _figure(name, (4.4, 0.75 + 0.42 * len(values))) as (_, axes, finish):
        names = [model_name(key) for key in values]
        colors = [DROPPED_COLOR if key == "base" else KEPT_COLOR for key in values]
        bars = axes.barh(names, list(values.values()), height=0.62, color=colors)
        axes.bar_label(bars, fmt="%.2f", padding=4, color=INK)
        axes.set(xlim=(0, 1.18 * max(values.values(), default=1) or 1), xticks=[])
        axes.invert_yaxis()
        axes.spines[["bottom", "left"]].set_visible(False)
        axes.tick_params(length=0, labelcolor=INK)
        alt = ", ".join(f"{model_name(key)} {value:.2f}" for key, value in values.items())
        return finish("evaluation", title, f"{alt}.")


def _lengths(sets: Mapping[str, SetStatistics], part: str) -> Plot:
    titles = {"instruction": "Length of instructions", "output": "Length of answers"}
    with _figure(f"{part}_lengths", (4.4, 0.95 + 0.42 * len(sets))) as (_, axes, finish):
        parts = []
        for place, (name, statistics) in enumerate(sets.items()):
            lengths = statistics.instruction_lengths if part == "instruction" else statistics.output_lengths
            low, first, middle, third, high = quantiles(lengths)
            axes.plot([low, high], [place, place], color=DROPPED_COLOR, linewidth=3, solid_capstyle="round")
            axes.plot([first, third], [place, place], color=KEPT_COLOR, linewidth=8, solid_capstyle="round")
            axes.plot([middle], [place], "o", color=PAPER, markersize=5)
            parts.append(f"{name}: median {middle:.0f}, middle half {first:.0f} to {third:.0f}")
        axes.set(yticks=range(len(sets)), yticklabels=list(sets), xlabel="characters", xlim=(0, None))
        axes.invert_yaxis()
        axes.set_ylim(len(sets) - 0.5, -0.5)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.grid(axis="x")
        return finish("lengths", titles[part], f"{'; '.join(parts)}.")


def _openings(sets: Mapping[str, SetStatistics], most: int = 8) -> Plot:
    """Most common first two words of the last set, and how common they are in the first."""
    first, last = next(iter(sets)), list(sets)[-1]
    common = [opening for opening, _ in sets[last].openings.most_common(most)]
    with _figure("openings", (4.4, 0.95 + 0.4 * len(common))) as (_, axes, finish):
        shown = [first, last] if first != last else [last]
        for place, name in enumerate(shown):
            shares = [100 * sets[name].openings[opening] / len(sets[name]) for opening in common]
            y = np.arange(len(common)) + (place - (len(shown) - 1) / 2) * 0.38
            color = KEPT_COLOR if name == last else DROPPED_COLOR
            axes.barh(y, shares, 0.34, color=color, label=name)
        labels = [_plain(opening) for opening in common]
        axes.set(yticks=range(len(common)), yticklabels=labels, xlabel="% of instructions")
        axes.invert_yaxis()
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.grid(axis="x")
        axes.legend(loc="lower right")
        parts = [f"“{opening}” {100 * sets[last].openings[opening] / len(sets[last]):.0f} %" for opening in common]
        return finish("lengths", "How instructions begin", f"In {last}: {', '.join(parts)}.")


def _plain(text: str, length: int = 22) -> str:
    """Text that matplotlib does not read as mathematics, clipped."""
    clipped = text if len(text) <= length else text[: length - 1] + "…"
    return "".join(c if c.isprintable() else "�" for c in clipped).replace("$", r"\$") or "(empty)"


def _color(place: int) -> str:
    return SERIES[place % len(SERIES)]
