"""RUN_DIR/report.html: one page that needs nothing but itself, and RUN_DIR/plots/ with every plot as SVG and PNG.

The texts of crawled pages are hostile. They reach the page as base64 or escaped by jinja2; the page's script puts them
into the document as text only; and its content policy runs the two blocks written here and nothing else, loads nothing,
and forbids every way to turn a string into markup.
"""

import base64
import dataclasses
import functools
import hashlib
from collections.abc import Mapping
from typing import Any

import jinja2
from etils import epath

from humpback_jax.files import PathLike, write_atomically
from humpback_jax.report.pairs import KEPT, RunPairs, read_pairs
from humpback_jax.report.payload import clip, make_payload
from humpback_jax.report.plots import THEME, Plot, draw_plots, model_name
from humpback_jax.report.run_data import RunData, read_run, result_rows
from humpback_jax.report.svg import inline_svg
from humpback_jax.report.words import reason_label, reason_text, stage_words

REPORT, PLOTS = "report.html", "plots"
MAX_PAIRS = 50_000


@dataclasses.dataclass(frozen=True)
class WrittenReport:
    """Where the report lies, and how many of the run's pairs it shows."""

    path: epath.Path
    plots: list[epath.Path]
    pairs: int
    total_pairs: int


def write_report(run_dir: PathLike, max_pairs: int = MAX_PAIRS) -> WrittenReport:
    """Writes RUN_DIR/report.html and RUN_DIR/plots/; equal runs give equal bytes.

    Args:
      run_dir: a run, complete or not.
      max_pairs: the page shows so many pairs at most, drawn by their ids; figures are always of all.

    Raises:
      FileNotFoundError: the folder holds no complete stage.
      ValueError: a file of the run is damaged; it is named.
    """
    run = read_run(run_dir)
    pairs = read_pairs(run.run_dir, run.rounds, max_pairs)
    plots = draw_plots(run, pairs)
    paths = []
    for plot in plots:
        for suffix, data in (("svg", plot.svg), ("png", plot.png)):
            paths.append(run.run_dir / PLOTS / f"{plot.name}.{suffix}")
            write_atomically(paths[-1], data)
    path = run.run_dir / REPORT
    write_atomically(path, render_report(run, pairs, plots).encode("utf-8", errors="replace"))
    return WrittenReport(path, paths, len(pairs.records), pairs.total)


def render_report(run: RunData, pairs: RunPairs, plots: list[Plot]) -> str:
    """The page as text."""
    by_section: dict[str, list[dict[str, Any]]] = {}
    for plot in plots:
        drawing = inline_svg(plot.svg, THEME, plot.alt)
        by_section.setdefault(plot.section, []).append({"name": plot.name, "title": plot.title, "svg": drawing})
    return render_page(
        "report.html.j2",
        styles=("base.css", "report.css"),
        scripts=("data.js", "theme.js", "list.js", "detail.js", "browser.js"),
        title=run.run_dir.resolve().name,
        summary=_summary(run),
        stages=[_stage_view(name, manifest) for name, manifest in run.stages.items()],
        plots=by_section,
        examples=_examples(run, pairs),
        rounds=_round_rows(run, pairs),
        trained=_trained_rows(run),
        sets=[(name, statistics.summary()) for name, statistics in pairs.sets.items()],
        evaluation=_evaluation_rows(run),
        predictions=run.predictions,
        results={name: result_rows(value) for name, value in run.results.items()},
        config=run.config,
        payload=make_payload(pairs.records, run.rounds),
        shown=len(pairs.records),
        total=pairs.total,
    )


def render_page(
    template: str, styles: tuple[str, ...], scripts: tuple[str, ...], connect: str = "'none'", **values: Any
) -> str:
    """A page with its style and script inside, and a policy that names them by their hashes."""
    environment = _environment()
    style = "\n".join(_source(name) for name in styles)
    script = '"use strict";\n{\n' + "\n".join(_source(name) for name in scripts) + "\n}\n"
    policy = "; ".join(
        [
            "default-src 'none'",
            f"script-src '{_hash(script)}'",
            f"style-src '{_hash(style)}'",
            "img-src data:",
            f"connect-src {connect}",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ]
    )
    return environment.get_template(template).render(style=style, script=script, policy=policy, **values)


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("humpback_jax", "report/templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "percent": _percent, "seconds": _seconds}
    return environment


def _source(name: str) -> str:
    """A style or script of the package; whole, never a value filled in, so that its hash is known."""
    environment = _environment()
    assert environment.loader is not None
    text = environment.loader.get_source(environment, name)[0]
    if "</s" in text.lower():
        raise AssertionError(f"{name} holds a closing tag, which would end its block in the page")
    return text


def _hash(text: str) -> str:
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


def _stage_view(name: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A stage in plain words, with the parts of its bar in percent."""
    title, purpose, unit = stage_words(name)
    counts, settings = manifest["counts"], manifest.get("settings", {})
    figures = manifest["figures"]
    reasons = [
        {
            "name": reason,
            "label": reason_label(reason),
            "text": reason_text(reason, settings),
            "number": number,
            "listed": name == "augmented" or name.startswith("curated"),
        }
        for reason, number in sorted(counts["rejected"].items(), key=lambda item: -item[1])
    ]
    pages = figures.get("pages") if name == "segments" else None
    return {
        "name": name,
        "title": title,
        "purpose": purpose,
        "unit": unit,
        "in": counts["in"],
        "out": counts["out"],
        "share": 100 * counts["out"] / counts["in"] if counts["in"] else 0.0,
        "reasons": reasons,
        "pages": pages,
        "seconds": manifest["seconds"],
        "updates": figures.get("num_steps"),
        "trains": "num_steps" in figures,
        "rates": "histogram" in figures,
        "figures": result_rows(figures),
        "inputs": manifest.get("inputs", {}),
        "outputs": manifest["outputs"],
        "round": name.removeprefix("curated") if name.startswith("curated") else "",
    }


def _summary(run: RunData) -> dict[str, Any]:
    """The few numbers at the top; absent stages leave None."""
    stages = run.stages
    count = lambda name, key: stages[name]["counts"][key] if name in stages else None  # noqa: E731
    last = run.rounds[-1] if run.rounds else None
    nll = stages.get("evaluation", {}).get("figures", {}).get("nll_per_token", {})
    final = list(nll)[-1] if len(nll) > 1 else None
    return {
        "pages": stages.get("segments", {}).get("figures", {}).get("pages"),
        "seeds": stages.get("seeds", {}).get("figures", {}).get("seed", {}).get("kept"),
        "segments": count("segments", "out"),
        "candidates": count("augmented", "out") if "augmented" in stages else count(f"curated{last}", "in"),
        "kept": count(f"curated{last}", "out"),
        "last_round": last,
        "model": model_name(final) if final else None,
        "before": nll["base"]["perplexity"] if final and "base" in nll else None,
        "after": nll[final]["perplexity"] if final else None,
        "seconds": sum(stage["seconds"] for stage in stages.values()),
    }


def _examples(run: RunData, pairs: RunPairs) -> list[dict[str, Any]]:
    """The best pair that the last round kept, and the worst that it rated and dropped."""
    if not run.rounds:
        return []
    last = run.rounds[-1]
    rated = [record for record in pairs.records if last in record.grades and record.grades[last].score is not None]
    score = lambda record: record.grades[last].score  # noqa: E731
    kept = [record for record in rated if record.grades[last].state == KEPT]
    dropped = [record for record in rated if record.grades[last].state != KEPT]
    chosen = [("Best of the kept", max(kept, key=score))] if kept else []
    chosen += [("Lowest of the dropped", min(dropped, key=score))] if dropped else []
    return [
        {
            "title": title,
            "id": record.id,
            "kept": record.grades[last].state == KEPT,
            "outcome": reason_label(record.grades[last].state),
            "domain": record.domain,
            "header": clip(record.header, 80),
            "output": clip(record.output, 320),
            "instruction": clip(record.instruction, 320),
            "grades": [(t, grade.score, reason_label(grade.state)) for t, grade in sorted(record.grades.items())],
        }
        for title, record in chosen
    ]


def _trained_rows(run: RunData) -> list[dict[str, Any]]:
    return [
        {
            "model": model_name(name),
            "pairs": run.stages[name]["counts"]["out"],
            "updates": rows[-1]["step"],
            "first": rows[0]["loss"],
            "last": rows[-1]["loss"],
        }
        for name, rows in run.curves.items()
    ]


def _round_rows(run: RunData, pairs: RunPairs) -> list[dict[str, Any]]:
    rows = []
    for t, statistics in pairs.rounds.items():
        scores = statistics.kept + statistics.dropped
        rows.append(
            {
                "round": t,
                "rated": statistics.rated or len(scores),
                "parsed": statistics.parsed,
                "forced": statistics.rated - statistics.parsed,
                "mean": sum(scores) / len(scores) if scores else None,
                "kept": run.stages[f"curated{t}"]["counts"]["out"],
                "cut": min(statistics.kept, default=None),
                "length_correlation": statistics.length_correlation,
                "spread": sum(statistics.spreads) / len(statistics.spreads) if statistics.spreads else None,
            }
        )
    return rows


def _evaluation_rows(run: RunData) -> list[dict[str, Any]]:
    """Held-out likelihood by model, with the change of perplexity from the base model in percent."""
    nll = run.stages.get("evaluation", {}).get("figures", {}).get("nll_per_token", {})
    base = nll.get("base", {}).get("perplexity")
    return [
        {"model": model_name(name), "change": 100 * (row["perplexity"] / base - 1) if base and name != "base" else None}
        | row
        for name, row in nll.items()
    ]
