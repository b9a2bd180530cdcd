"""Drawings by matplotlib, each once: as SVG, whose colours follow the page's theme, and as PNG."""

import dataclasses
import io
import re
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from humpback_jax.display.page import clip

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
SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_FONT_SIZE = re.compile(r"([0-9.]+)px")


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


def new_axes(height: float = 2.7) -> Any:
    """Axes of a figure of their own; not pyplot, which would keep it."""
    figure = Figure(figsize=(4.4, height), layout="constrained", facecolor="none")
    FigureCanvasAgg(figure)
    return figure.add_subplot()


def finish_plot(axes: Any, name: str, section: str, title: str, alt: str) -> Plot:
    svg, png, figure = io.StringIO(), io.BytesIO(), axes.figure
    with warnings.catch_warnings(), matplotlib.rc_context({"svg.hashsalt": name}):
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # the page's own fonts have it
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
        figure.set_layout_engine("none")  # the layout that the SVG got
        figure.savefig(png, format="png", dpi=160, facecolor=PAPER, metadata={"Software": None})
    return Plot(name, section, title, alt, svg.getvalue(), png.getvalue())


def label_axes(axes: Any, xlabel: str, ylabel: str, legend: str = "upper right", **limits: Any) -> None:
    axes.set(xlabel=xlabel, ylabel=ylabel, **limits)
    axes.grid(axis="y")
    axes.legend(loc=legend)


def label_rows(axes: Any, names: Sequence[str], xlabel: str) -> None:
    """Named rows, the first at the top, instead of a vertical axis."""
    axes.set(yticks=range(len(names)), yticklabels=names, xlabel=xlabel)
    axes.invert_yaxis()
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.grid(axis="x")


def counts_plot(name: str, section: str, title: str, counts: Mapping[str, int]) -> Plot:
    """Named counts as bars, in their order."""
    axes = new_axes(0.75 + 0.3 * len(counts))
    bars = axes.barh(range(len(counts)), list(counts.values()), height=0.66, color=KEPT_COLOR)
    axes.bar_label(bars, fmt="{:,.0f}", padding=4, color=INK)
    label_rows(axes, [plain_text(key) for key in counts], "")
    # Few bars are as thin as many.
    limits = dict(xlim=(0, 1.22 * max(counts.values(), default=1) or 1), ylim=(max(len(counts), 3) - 0.5, -0.5))
    axes.set(xticks=[], **limits)
    axes.spines["bottom"].set_visible(False)
    alt = ", ".join(f"{key} {count:,}" for key, count in counts.items())
    return finish_plot(axes, name, section, title, f"{alt}.")


def plain_text(text: str) -> str:
    """Text that matplotlib does not read as mathematics, clipped."""
    return "".join(c if c.isprintable() else "�" for c in clip(text, 22)).replace("$", r"\$") or "(empty)"


def series_color(place: int) -> str:
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
