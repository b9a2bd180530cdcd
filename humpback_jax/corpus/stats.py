"""What a corpus folder holds, in figures: segments by length, language and domain, and everything else by reason."""

import collections
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import matplotlib
import numpy as np
from etils import epath

from humpback_jax.corpus.reasons import corpus_words
from humpback_jax.corpus.segment_files import read_segments
from humpback_jax.display.page import page_environment, render_page
from humpback_jax.display.plots import KEPT_COLOR, STYLE, Plot, counts_plot, finish_plot, inline_svg, new_axes
from humpback_jax.files import PathLike, read_json, write_atomically
from humpback_jax.run_files import CORPUS_MANIFEST, CORPUS_REPORT

LENGTH_STEP = 100  # characters per bin
TEMPLATES = "corpus/templates"
SHOWN = 12  # bars of a plot, rows of a table
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
# What the report counts: its title, and of what its reasons are.
COUNTED = {
    "rejected_segments": ("Why sections are no segments", "segment"),
    "page_outcomes": ("What the pages came to", "outcome"),
    "rejected_records": ("Why records are no pages", "record"),
}
SEGMENT_PLOTS = {
    "languages": "Segments by language",
    "largest_domains": "The largest sites, in segments",
    "kept_as": "Why this portion of its page was kept",
}


@dataclasses.dataclass
class SegmentStatistics:
    """Counts over segments, in memory of the size of their domains.

    Attributes:
      lengths: by bins of LENGTH_STEP characters.
      languages, domains, cut_by, kept_as: by value.
      scores: sum and number of every score.
    """

    lengths: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)
    languages: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    domains: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    cut_by: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    kept_as: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    score_sums: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    scored: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

    def add(self, row: Mapping[str, Any]) -> None:
        """Counts a row of the segments' files."""
        self.lengths[len(row["text"]) // LENGTH_STEP] += 1
        self.languages[row.get("language") or "not looked at"] += 1
        self.domains[row.get("domain") or "(file)"] += 1
        self.cut_by[row.get("cut_by") or "header"] += 1
        self.kept_as[row.get("kept_as") or "whole_section"] += 1
        for name, score in (row.get("scores") or {}).items():
            self.score_sums[name] += score
            self.scored[name] += 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values: the largest domains, quantiles of the lengths, means of the scores."""
        return {
            "segments": self.lengths.total(),
            "length": length_quantiles(self.lengths),
            "length_bins": {str(bin_ * LENGTH_STEP): n for bin_, n in sorted(self.lengths.items())},
            "languages": dict(self.languages.most_common()),
            "domains": len(self.domains),
            "largest_domains": dict(self.domains.most_common(SHOWN)),
            "cut_by": dict(self.cut_by.most_common()),
            "kept_as": dict(self.kept_as.most_common()),
            "mean_scores": {name: self.score_sums[name] / n for name, n in sorted(self.scored.items())},
        }


def length_quantiles(bins: Mapping[int, int]) -> dict[str, int]:
    """Characters, to LENGTH_STEP / 2, below which 5, 25, 50, 75 and 95 % of the segments are; none of no segments."""
    ordered = sorted(bins)
    if not ordered:
        return {}
    counts = np.cumsum([bins[bin_] for bin_ in ordered])
    places = [int(np.searchsorted(counts, q * counts[-1])) for q in _QUANTILES]
    values = [ordered[place] * LENGTH_STEP + LENGTH_STEP // 2 for place in places]
    return {f"{100 * q:g} %": value for q, value in zip(_QUANTILES, values, strict=True)}


def count_segments(rows: Iterable[Mapping[str, Any]]) -> SegmentStatistics:
    """Statistics of rows that come one at a time."""
    statistics = SegmentStatistics()
    for row in rows:
        statistics.add(row)
    return statistics


def corpus_figures(folder: PathLike) -> dict[str, Any]:
    """The counts of the build, and the statistics of its segments.

    Raises:
      FileNotFoundError: the folder is no corpus that was built to its end.
      ValueError: a file of it is damaged; it is named.
    """
    path = epath.Path(folder) / CORPUS_REPORT
    if not path.exists():
        raise FileNotFoundError(f"{folder} has no {CORPUS_REPORT}; give a folder that `humpback corpus build` finished")
    return {"build": read_json(path), "segments": count_segments(read_segments(folder)).to_dict()}


def draw_figures(figures: Mapping[str, Any]) -> list[Plot]:
    """Every plot for which there are counts."""
    segments, plots = figures["segments"], []
    with matplotlib.rc_context(STYLE):
        if segments["segments"]:
            plots.append(_lengths_plot({int(start): count for start, count in segments["length_bins"].items()}))
        for name, title in SEGMENT_PLOTS.items():
            if segments[name]:
                plots.append(counts_plot(name, "segments", title, _largest(segments[name])))
        for name, (title, kind) in COUNTED.items():
            if counts := figures["build"].get(name):
                labelled = _largest({corpus_words(kind, reason)[0]: count for reason, count in counts.items()})
                plots.append(counts_plot(name, "build", title, labelled))
    return plots


def _lengths_plot(bins: Mapping[int, int]) -> Plot:
    axes = new_axes()
    axes.bar(bins.keys(), bins.values(), LENGTH_STEP * 0.9, align="edge", color=KEPT_COLOR)
    axes.set(xlabel="characters", ylabel="segments")
    axes.grid(axis="y")
    most = max(bins, key=lambda start: bins[start])
    alt = (
        f"{sum(bins.values()):,} segments of {min(bins)} to {max(bins) + LENGTH_STEP} characters, most from {most} on."
    )
    return finish_plot(axes, "lengths", "segments", "Length of segments", alt)


def _largest(counts: Mapping[str, int]) -> dict[str, int]:
    """The SHOWN largest, and the rest as one."""
    ordered = collections.Counter(counts).most_common()
    rest = sum(count for _, count in ordered[SHOWN:])
    return dict(ordered[:SHOWN]) | ({"others": rest} if rest else {})


def write_stats_page(folder: PathLike, figures: Mapping[str, Any], path: PathLike) -> None:
    """The figures of a corpus folder, and their plots, as one page."""
    manifest = epath.Path(folder) / CORPUS_MANIFEST
    settings = read_json(manifest)["config"] if manifest.exists() else {}
    plots = [(plot.title, inline_svg(plot)) for plot in draw_figures(figures)]
    environment = page_environment(TEMPLATES, (corpus_words,))
    page = render_page(
        environment,
        "stats.html.j2",
        ("base.css", "corpus.css"),
        ("corpus.js", "theme.js"),
        title=epath.Path(folder).resolve().name,
        build=figures["build"],
        segments=figures["segments"],
        counted=COUNTED,
        plots=plots,
        settings=settings,
    )
    write_atomically(path, page.encode("utf-8", errors="replace"))
