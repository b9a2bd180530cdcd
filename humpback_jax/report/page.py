"""RUN_DIR/report.html: one page that needs nothing but itself, and RUN_DIR/plots/ with every plot as SVG and PNG.

The texts of crawled pages are hostile. They reach the page as base64 or escaped by jinja2; the page's script puts them
into the document as text only; and its content policy runs the two blocks written here and nothing else, loads nothing,
and forbids every way to turn a string into markup.
"""

import dataclasses
import math
import operator
from collections.abc import Sequence
from typing import Any

from etils import epath

from humpback_jax import run_files
from humpback_jax.curation.signals import SIGNALS
from humpback_jax.display.page import clip, pack, page_environment, render_page
from humpback_jax.display.plots import Plot, inline_svg
from humpback_jax.files import PathLike, write_atomically
from humpback_jax.report.alarms import alarms
from humpback_jax.report.heldout import comparisons, last_model, reference_model
from humpback_jax.report.pairs import PairRecord, RunPairs, contributions_of, read_pairs
from humpback_jax.report.plots import draw_plots
from humpback_jax.report.run_data import RunData, read_run, result_rows
from humpback_jax.report.statistics import Agreement, round_agreements
from humpback_jax.report.why import KEPT, why_sentence
from humpback_jax.report.words import (
    PREFERENCE_WORDS,
    model_name,
    preference_value,
    reason_label,
    reason_text,
    signal_label,
    stage_reason,
    stage_words,
    twin_words,
    web_words,
)

MAX_PAIRS = 50_000
MOST_CHANGED = 20  # pairs that changed sides, listed by round and direction
CHUNK = 256  # pairs whose texts are opened together
CLIP_INSTRUCTION, CLIP_HEADER = 220, 90
TEMPLATES = "report/templates"
WORDS = (
    model_name,
    preference_value,
    reason_label,
    reason_text,
    result_rows,
    signal_label,
    stage_reason,
    stage_words,
    twin_words,
    web_words,
)


def write_report(run_dir: PathLike, max_pairs: int = MAX_PAIRS) -> epath.Path:
    """Writes RUN_DIR/report.html and RUN_DIR/plots/ of a run, complete or not; equal runs give equal bytes.

    The page, whose path is returned, shows at most `max_pairs` pairs, drawn by their ids; figures are always of all.

    Raises:
      FileNotFoundError: the folder holds no complete stage.
      ValueError: a file of the run is damaged; it is named.
    """
    run = read_run(run_dir)
    pairs = read_pairs(run, max_pairs)
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
        scripts=("data.js", "store.js", "theme.js", "list.js", "detail.js", "browser.js"),
        title=run.run_dir.resolve().name,
        run=run,
        pairs=pairs,
        plots=drawings,
        examples=_examples(run, pairs),
        alarms=alarms(run.run_dir),
        gains=comparisons(run.evaluation),
        preference_words=PREFERENCE_WORDS,
        last_model=last_model(run.heldout_nll),
        reference=reference_model(run.heldout_nll),
        signals=SIGNALS if any(row.has_signals for row in pairs.rounds.values()) else {},
        has_p_good=any(row.p_good for row in pairs.rounds.values()),
        boundary=_boundary(run, pairs),
        agreements=[_shown_agreement(each, pairs) for each in round_agreements(pairs.rounds)],
        payload=make_payload(pairs.records, run.rounds, run.rating_scale),
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


def _boundary(run: RunData, pairs: RunPairs) -> list[tuple[str, list[dict[str, Any]]]]:
    """The last pairs that the last round kept and the first that it dropped, each with its sentence `why`."""
    if not run.rounds:
        return []
    t = run.rounds[-1]
    row, settings, shown = pairs.rounds[t], run.selection_settings(t), {record.id for record in pairs.records}
    sides = []
    for heading, kept in (("The last that were kept", True), ("The first that were dropped", False)):
        near = row.nearest(kept)
        measured = [each["signals"] if each.get("p_good") is not None else None for each in near]
        explained = []
        for each, contributions in zip(near, contributions_of(measured, run.curators.get(t)), strict=True):
            rank = each["score"] if contributions is None else each["p_good"]
            why = why_sentence(each.get("reason", KEPT), rank, row.cut, contributions, settings)
            explained.append(each | {"shown": each["id"] in shown, "why": why})
        sides.append((heading, explained))
    return sides


def _shown_agreement(agreement: Agreement, pairs: RunPairs) -> dict[str, Any]:
    """An agreement with the instructions of the first pairs that changed sides."""
    records = {record.id: record for record in pairs.records}
    sides = {"now kept": agreement.came, "no longer kept": agreement.left}
    changed = {
        side: [records[name] for name in names if name in records][:MOST_CHANGED] for side, names in sides.items()
    }
    return dataclasses.asdict(agreement) | {"changed": changed}


def make_payload(records: Sequence[PairRecord], rounds: Sequence[int], scale: tuple[int, int]) -> dict[str, Any]:
    """Pairs as compressed text inside the page: one small index that filters read, and chunks opened on demand.

    It is gzip in base64, which holds no character that HTML could take for markup.

    Returns:
      index: columns of every pair.
      signals: per round, columns by name of signal, opened when somebody reads, sorts by or filters by one; none where
        no pair has signals.
      chunks: per CHUNK pairs, the rows `[instruction, text, header, source, [[rationale, parsed, probabilities, why]
        per round]]`.
    """
    measured = any(v.signals for r in records for v in r.verdicts.values())
    chunks = [pack([_texts(r, rounds) for r in records[i : i + CHUNK]]) for i in range(0, len(records), CHUNK)]
    signals = [pack(_signal_columns(records, t)) for t in rounds] if measured else []
    return {"index": pack(_index(records, rounds) | {"scale": scale}), "signals": signals, "chunks": chunks}


def _signal_columns(records: Sequence[PairRecord], t: int) -> dict[str, list[float | None]]:
    verdicts = [r.verdicts.get(t) for r in records]
    rows = [v.signals if v is not None and v.signals else (math.nan,) * len(SIGNALS) for v in verdicts]
    columns = zip(*rows, strict=True)
    return {
        name: [None if math.isnan(value) else value for value in column]
        for name, column in zip(SIGNALS, columns, strict=False)
    }


def _index(records: Sequence[PairRecord], rounds: Sequence[int]) -> dict[str, Any]:
    domains = {name: place for place, name in enumerate(sorted({r.domain for r in records}))}
    reasons = [KEPT, *sorted({r.state(t) for r in records for t in rounds or [0]} - {KEPT})]
    codes = {reason: place for place, reason in enumerate(reasons)}
    with_p_good = any(v.p_good is not None for r in records for v in r.verdicts.values())
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
        "p_good": [[_p_good(r, t) for r in records] for t in rounds] if with_p_good else [],
        "signals": [[name, signal_label(name)] for name in SIGNALS],
    }


def _rating(record: PairRecord, t: int) -> float | None:
    rating = record.verdicts[t].rating if t in record.verdicts else None
    return None if rating is None else round(rating, 3)


def _p_good(record: PairRecord, t: int) -> float | None:
    return record.verdicts[t].p_good if t in record.verdicts else None


def _texts(record: PairRecord, rounds: Sequence[int]) -> list[Any]:
    verdicts = [record.verdicts.get(t) for t in rounds]
    rated = [[v.rationale, v.parsed, [round(p, 3) for p in v.probabilities], v.why] if v else None for v in verdicts]
    return [record.instruction, record.output, record.header, record.source, rated]
