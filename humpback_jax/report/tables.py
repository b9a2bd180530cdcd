"""The report of a run as tables: what each stage took in, kept and dropped, the scores, and the held-out figures."""

from collections.abc import Sequence
from typing import Any

from etils import epath
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from humpback_jax.display.page import clip
from humpback_jax.files import PathLike, read_jsonl
from humpback_jax.report.run_data import read_manifests
from humpback_jax.run_files import CURATED, DROPPED


def run_figures(run_dir: PathLike) -> dict[str, Any]:
    """Counts, figures and seconds of every complete stage, in the order of the algorithm.

    Raises:
      FileNotFoundError: the folder holds no complete stage.
    """
    keep = ("counts", "figures", "seconds", "outputs")
    return {name: {key: manifest[key] for key in keep} for name, manifest in read_manifests(run_dir).items()}


def print_report(run_dir: PathLike, figures: dict[str, Any], examples: int = 3) -> None:
    """Prints the tables, and some kept and dropped pairs of the last round."""
    console = Console()
    console.print(_stages_table(figures))
    if any("histogram" in stage["figures"] for stage in figures.values()):
        console.print(_scores_table(figures))
    if "evaluation" in figures:
        console.print(_forward_table(figures["evaluation"]["figures"]["nll_per_token"]))
        console.print(_backward_table(figures["evaluation"]["figures"]["backward_chrf"]))
    rounds = [name for name in figures if name.startswith("curated")]
    if rounds:
        folder = epath.Path(run_dir) / rounds[-1]
        console.print(_pairs_table(f"Kept in {rounds[-1]}", folder / CURATED, examples))
        console.print(_pairs_table(f"Dropped in {rounds[-1]}", folder / DROPPED, examples))


def _table(title: str, *columns: str, left: Sequence[str] = ()) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", min_width=len(title))
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 or column in left else "right")
    return table


def _stages_table(figures: dict[str, Any]) -> Table:
    table = _table("Stages", "stage", "in", "out", "rejected", "seconds", left=["rejected"])
    for name, stage in figures.items():
        counts = stage["counts"]
        rejected = ", ".join(f"{number} {reason}" for reason, number in counts["rejected"].items())
        table.add_row(name, str(counts["in"]), str(counts["out"]), rejected, f"{stage['seconds']:.0f}")
    return table


def _scores_table(figures: dict[str, Any]) -> Table:
    table = _table("Scores (1-5)", "round", "written", "forced", "unscored", "mean", "1", "2", "3", "4", "5")
    for name, stage in figures.items():
        scores = stage["figures"]
        if "histogram" in scores:
            columns = [scores["parsed"], scores["forced"], scores["unscored"], f"{scores['mean_score']:.2f}"]
            table.add_row(name, *map(str, columns), *(str(scores["histogram"][str(r)]) for r in range(1, 6)))
    table.caption = "written: the rationale ended with a score; forced: read from the digits' probabilities"
    return table


def _forward_table(nll: dict[str, Any]) -> Table:
    title = "Held-out answers: how surprised is the model? (lower is better)"
    table = _table(title, "model", "NLL per token", "perplexity", "change from base", "pairs")
    for name, row in nll.items():
        change = f"{100 * (row['nll'] / nll['base']['nll'] - 1):+.1f} %" if name != "base" else ""
        table.add_row(name, f"{row['nll']:.4f}", f"{row['perplexity']:.2f}", change, str(row["pairs"]))
    return table


def _backward_table(chrf: dict[str, float]) -> Table:
    table = _table("Held-out instructions: how close is the guess? (chrF, higher is better)", "model", "chrF")
    for name, value in chrf.items():
        table.add_row(name, f"{value:.2f}")
    return table


def _pairs_table(title: str, path: epath.Path, limit: int) -> Table:
    rows = [row for _, row in read_jsonl(path)]
    rows.sort(key=lambda row: -(row["score"] or 0))
    texts = ["instruction", "text", *(["reason"] if any("reason" in row for row in rows) else [])]
    table = _table(title, "score", *texts, left=texts)
    for row in rows[:limit]:
        score = "-" if row["score"] is None else f"{row['score']:.2f}"
        cells = [escape(clip(row["instruction"], 160)), escape(clip(row["output"], 200)), row.get("reason", "")]
        table.add_row(score, *cells[: len(texts)])
    table.caption = f"{min(limit, len(rows))} of {len(rows)}; all of them: {path}"
    return table
