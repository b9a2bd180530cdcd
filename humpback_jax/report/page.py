"""RUN_DIR/report.html: one page that needs nothing but itself, and RUN_DIR/plots/ with every plot as SVG and PNG.

The texts of crawled pages are hostile. They reach the page as base64 or escaped by jinja2; the page's script puts them
into the document as text only; and its content policy runs the two blocks written here and nothing else, loads nothing,
and forbids every way to turn a string into markup.
"""

import operator
from collections.abc import Sequence
from typing import Any

from etils import epath

from humpback_jax import run_files
from humpback_jax.display.page import clip, pack, page_environment, render_page
from humpback_jax.display.plots import Plot, inline_svg
from humpback_jax.files import PathLike, write_atomically
from humpback_jax.report.pairs import KEPT, PairRecord, RunPairs, read_pairs
from humpback_jax.report.plots import draw_plots
from humpback_jax.report.run_data import RunData, read_run, result_rows
from humpback_jax.report.words import (
    model_name,
    reason_label,
    reason_text,
    stage_reason,
    stage_words,
    web_words,
)

MAX_PAIRS = 50_000
CHUNK = 256  # pairs whose texts are opened together
CLIP_INSTRUCTION, CLIP_HEADER = 220, 90
TEMPLATES = "report/templates"
WORDS = (model_name, reason_label, reason_text, result_rows, stage_reason, stage_words, web_words)


def write_report(run_dir: PathLike, max_pairs: int = MAX_PAIRS) -> epath.Path:
    """Writes RUN_DIR/report.html and RUN_DIR/plots/ of a run, complete or not; equal runs give equal bytes.

    The page, whose path is returned, shows at most `max_pairs` pairs, drawn by their ids; figures are always of all.

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
    return path


def render_report(run: RunData, pairs: RunPairs, plots: list[Plot]) -> str:
    drawings: dict[str, list[tuple[str, str]]] = {}
    for plot in plots:
        drawings.setdefault(plot.section, []).append((plot.title, inline_svg(plot)))
    return render_report_page(
        "report.html.j2",
        styles=("report.css",),
        scripts=("data.js", "theme.js", "list.js", "detail.js", "browser.js"),
        title=run.run_dir.resolve().name,
        run=run,
        pairs=pairs,
        plots=drawings,
        examples=_examples(run, pairs),
        payload=make_payload(pairs.records, run.rounds),
    )


def render_report_page(
    template: str, styles: tuple[str, ...], scripts: tuple[str, ...], posts: bool = False, **values: Any
) -> str:
    """A page of this room's templates; see `render_page`."""
    environment = page_environment(TEMPLATES, WORDS)
    return render_page(environment, template, ("base.css", *styles), scripts, posts, **values)


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


def make_payload(records: Sequence[PairRecord], rounds: Sequence[int]) -> dict[str, Any]:
    """Pairs as compressed text inside the page: one small index that filters read, and chunks opened on demand.

    It is gzip in base64, which holds no character that HTML could take for markup.

    Returns:
      index: columns of every pair.
      chunks: per CHUNK pairs, the rows `[instruction, text, header, source, [[rationale, parsed, probabilities] per
        round]]`.
    """
    chunks = [pack([_texts(r, rounds) for r in records[i : i + CHUNK]]) for i in range(0, len(records), CHUNK)]
    return {"index": pack(_index(records, rounds)), "chunks": chunks}


def _index(records: Sequence[PairRecord], rounds: Sequence[int]) -> dict[str, Any]:
    domains = {name: place for place, name in enumerate(sorted({r.domain for r in records}))}
    reasons = [KEPT, *sorted({r.state(t) for r in records for t in rounds or [0]} - {KEPT})]
    codes = {reason: place for place, reason in enumerate(reasons)}
    return {
        "chunk": CHUNK,
        "rounds": list(rounds),
        "domains": list(domains),
        "reasons": [[reason, reason_label(reason) if reason else "Not selected yet"] for reason in reasons],
        "id": [r.id for r in records],
        "instruction": [clip(r.instruction, CLIP_INSTRUCTION) for r in records],
        "header": [clip(r.header, CLIP_HEADER) for r in records],
        "domain": [domains[r.domain] for r in records],
        "length": [len(r.output) for r in records],
        "flawed": [int(r.rejected is not None) for r in records],
        "state": [[codes[r.state(t)] for r in records] for t in rounds or [0]],
        "score": [[_rating(r, t) for r in records] for t in rounds],
    }


def _rating(record: PairRecord, t: int) -> float | None:
    rating = record.verdicts[t].rating if t in record.verdicts else None
    return None if rating is None else round(rating, 3)


def _texts(record: PairRecord, rounds: Sequence[int]) -> list[Any]:
    verdicts = [record.verdicts.get(t) for t in rounds]
    rated = [[v.rationale, v.parsed, [round(p, 3) for p in v.probabilities]] if v else None for v in verdicts]
    return [record.instruction, record.output, record.header, record.source, rated]
