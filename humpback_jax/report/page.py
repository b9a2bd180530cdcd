"""RUN_DIR/report.html: one page that needs nothing but itself, and RUN_DIR/plots/ with every plot as SVG and PNG.

The texts of crawled pages are hostile. They reach the page as base64 or escaped by jinja2; the page's script puts them
into the document as text only; and its content policy runs the two blocks written here and nothing else, loads nothing,
and forbids every way to turn a string into markup.
"""

import base64
import dataclasses
import functools
import hashlib
import operator
from typing import Any

import jinja2
from etils import epath

from humpback_jax import run_files
from humpback_jax.files import PathLike, write_atomically
from humpback_jax.report.pairs import KEPT, PairRecord, RunPairs, read_pairs
from humpback_jax.report.payload import make_payload
from humpback_jax.report.plots import Plot, draw_plots, inline_svg
from humpback_jax.report.run_data import RunData, read_run, result_rows
from humpback_jax.report.words import clip, model_name, reason_label, reason_text, stage_words

MAX_PAIRS = 50_000


@dataclasses.dataclass(frozen=True)
class WrittenReport:
    """Where the report lies, and how many of the run's pairs it shows."""

    path: epath.Path
    pairs: int
    total_pairs: int


def write_report(run_dir: PathLike, max_pairs: int = MAX_PAIRS) -> WrittenReport:
    """Writes RUN_DIR/report.html and RUN_DIR/plots/ of a run, complete or not; equal runs give equal bytes.

    The page shows at most `max_pairs` pairs, drawn by their ids; figures are always of all.

    Raises:
      FileNotFoundError: the folder holds no complete stage.
      ValueError: a file of the run is damaged; it is named.
    """
    run = read_run(run_dir)
    pairs = read_pairs(run.run_dir, run.rounds, max_pairs)
    plots = draw_plots(run, pairs)
    for plot in plots:
        write_atomically(run.run_dir / run_files.PLOTS / f"{plot.name}.svg", plot.svg)
        write_atomically(run.run_dir / run_files.PLOTS / f"{plot.name}.png", plot.png)
    path = run.run_dir / run_files.REPORT
    write_atomically(path, render_report(run, pairs, plots).encode("utf-8", errors="replace"))
    return WrittenReport(path, len(pairs.records), pairs.total)


def render_report(run: RunData, pairs: RunPairs, plots: list[Plot]) -> str:
    drawings: dict[str, list[tuple[str, str]]] = {}
    for plot in plots:
        drawings.setdefault(plot.section, []).append((plot.title, inline_svg(plot)))
    return render_page(
        "report.html.j2",
        styles=("base.css", "report.css"),
        scripts=("data.js", "theme.js", "list.js", "detail.js", "browser.js"),
        title=run.run_dir.resolve().name,
        run=run,
        pairs=pairs,
        plots=drawings,
        examples=_examples(run, pairs),
        payload=make_payload(pairs.records, run.rounds),
    )


def render_page(
    template: str, styles: tuple[str, ...], scripts: tuple[str, ...], posts: bool = False, **values: Any
) -> str:
    """A page with its style and script inside; one that `posts` may speak to its own server, others to none."""
    environment = _environment()
    style = "\n".join(map(_source, styles))
    script = '"use strict";\n{\n' + "\n".join(map(_source, scripts)) + "\n}\n"
    return environment.get_template(template).render(style=style, script=script, posts=posts, **values)


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("humpback_jax", "report/templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "percent": _percent, "seconds": _seconds, "clip": clip}
    environment.filters["fingerprint"] = _fingerprint
    words = (model_name, reason_label, reason_text, result_rows, stage_words)
    environment.globals |= {function.__name__: function for function in words}
    return environment


def _source(name: str) -> str:
    """A style or script of the package; whole, never a value filled in, so that its hash is known."""
    environment = _environment()
    assert environment.loader is not None
    text = environment.loader.get_source(environment, name)[0]
    if "</s" in text.lower():
        raise AssertionError(f"{name} holds a closing tag, which would end its block in the page")
    return text


def _fingerprint(text: str) -> str:
    """How a content policy names a block."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _number(value: float) -> str:
    """12,345 or 12.3."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"


def _seconds(value: float) -> str:
    """`12 s`, `3 min 20 s`, `2 h 05 min`; `under 1 s`."""
    seconds = round(value)
    if seconds < 1:
        return "under 1 s"
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes} min {seconds} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _examples(run: RunData, pairs: RunPairs) -> list[tuple[str, PairRecord]]:
    """The best pair that the last round kept, and the worst that it rated and dropped."""
    if not run.rounds:
        return []
    last = run.rounds[-1]
    rated = [(v.rating, r) for r in pairs.records if (v := r.verdicts.get(last)) is not None and v.rating is not None]
    kept = [(rating, record) for rating, record in rated if record.state(last) == KEPT]
    dropped = [(rating, record) for rating, record in rated if record.state(last) != KEPT]
    best = [("Best of the kept", max(kept, key=operator.itemgetter(0))[1])] if kept else []
    return best + ([("Lowest of the dropped", min(dropped, key=operator.itemgetter(0))[1])] if dropped else [])
