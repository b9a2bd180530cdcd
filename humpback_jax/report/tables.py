"""The report of a run as tables: what each stage took in, kept and dropped, the scores, and the held-out figures."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from etils import epath
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from humpback_jax.display.page import clip
from humpback_jax.files import PathLike, read_jsonl
from humpback_jax.report.alarms import alarms
from humpback_jax.report.heldout import comparisons, reference_model
from humpback_jax.report.run_data import figures_by_round, read_manifests
from humpback_jax.report.words import PREFERENCE_WORDS, feature_label, preference_value, twin_words
from humpback_jax.run_files import (
    CURATED,
    CURATED_STAGE,
    CURATOR_STAGE,
    DROPPED,
    EVALUATION_STAGE,
    PREFERRED_STAGE,
    SCORES_STAGE,
    round_of,
)


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
    for text in alarms(run_dir):
        console.print(f"! {text}", style="bold red", markup=False, highlight=False)
    console.print(_stages_table(figures))
    if any("histogram" in stage["figures"] for stage in figures.values()):
        console.print(_scores_table(figures))
    _print_curators(console, figures)
    for t, measured in figures_by_round(figures, PREFERRED_STAGE, "after").items():
        console.print(_preference_table(t, figures[PREFERRED_STAGE.format(t=t)]["figures"], measured))
    if EVALUATION_STAGE in figures:
        evaluation = figures[EVALUATION_STAGE]["figures"]
        console.print(_forward_table(evaluation["nll_per_token"]))
        for gain in comparisons(evaluation):
            console.print(gain.sentence + (f" ({gain.verdict})" if gain.verdict else ""), markup=False, highlight=False)
        console.print(_backward_table(evaluation["backward_chrf"]))
    rounds = [name for name in figures if round_of(name, CURATED_STAGE) is not None]
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
    histograms = [stage["figures"]["histogram"] for stage in figures.values() if "histogram" in stage["figures"]]
    ratings = list(dict.fromkeys(itertools.chain(*histograms)))
    title = f"Scores ({ratings[0]}-{ratings[-1]})"
    table = _table(title, "round", "written", "forced", "unscored", "mean", *ratings)
    for name, stage in figures.items():
        scores = stage["figures"]
        if "histogram" in scores:
            columns = [scores["parsed"], scores["forced"], scores["unscored"], f"{scores['mean_score']:.2f}"]
            table.add_row(name, *map(str, columns), *(str(scores["histogram"].get(r, 0)) for r in ratings))
    table.caption = "written: the rationale ended with a score; forced: read from the digits' probabilities"
    return table


def _print_curators(console: Console, figures: dict[str, Any]) -> None:
    """What each round's curator goes by, how well it tells broken twins, and signals that tell nothing."""
    weights = figures_by_round(figures, CURATOR_STAGE, "weights")
    if weights:
        title = "What the curator goes by (weights in logits)"
        console.print(_by_round_table(title, "feature", weights, feature_label, "{:+.3f}"))
    aucs = figures_by_round(figures, CURATOR_STAGE, "auc_by_kind")
    if aucs:
        title = "Does the curator tell broken pairs? (cross-validated AUC; 0.5 is a guess, 1 is always)"
        console.print(_by_round_table(title, "broken pairs", aucs, twin_words, "{:.3f}"))
    for t, expected in figures_by_round(figures, CURATED_STAGE, "expected").items():
        shown = ", ".join(f"{name} {v['value']:.2f} [{v['low']:.2f}, {v['high']:.2f}]" for name, v in expected.items())
        console.print(f"Round {t}: of the kept pairs the curator expects {shown}", markup=False, highlight=False)
    for t, names in figures_by_round(figures, SCORES_STAGE, "constant_signals").items():
        console.print(f"[red]Round {t}: {', '.join(names)} is the same for every pair; it tells nothing apart.[/red]")


def _by_round_table(
    title: str, first: str, rounds: Mapping[int, Mapping[str, float]], words: Callable[[str], str], number: str
) -> Table:
    """Named numbers, a column per round."""
    table = _table(title, first, *(f"round {t}" for t in rounds))
    for name in dict.fromkeys(name for row in rounds.values() for name in row):
        table.add_row(words(name), *(number.format(row[name]) if name in row else "-" for row in rounds.values()))
    return table


def _preference_table(t: int, figures: dict[str, Any], after: dict[str, Any]) -> Table:
    """What M_t has learned from pairs of its own answers, on those that were held out."""
    title = f"Preference learning after round {t}: {figures['heldout']} pairs of answers that were held out"
    table = _table(title, "", "before", "after")
    for name, words in PREFERENCE_WORDS.items():
        table.add_row(words, *(preference_value(measured[name]) for measured in (figures["before"], after)))
    lengths = figures["lengths"]
    table.caption = (
        f"KL to the reference {figures['kl_per_token']:.5f} nats per answer token; tokens of answers that were trained "
        f"on: chosen {lengths['chosen']:.0f}, rejected {lengths['rejected']:.0f}"
    )
    return table


def _forward_table(nll: dict[str, Any]) -> Table:
    title = "Held-out answers: how surprised is the model? (lower is better)"
    reference = reference_model(nll)
    table = _table(title, "model", "NLL per token", "perplexity", f"change from {reference or '-'}", "pairs")
    for name, row in nll.items():
        change = ""
        if reference is not None and name != reference:
            change = f"{100 * (row['nll'] / nll[reference]['nll'] - 1):+.1f} %"
        table.add_row(name, f"{row['nll']:.4f}", f"{row['perplexity']:.2f}", change, str(row["pairs"]))
    return table


def _backward_table(chrf: dict[str, float]) -> Table:
    table = _table("Held-out instructions: how close is the guess? (chrF, higher is better)", "model", "chrF")
    for name, value in chrf.items():
        table.add_row(name, f"{value:.2f}")
    return table


def _pairs_table(title: str, path: epath.Path, limit: int) -> Table:
    rows = [row for _, row in read_jsonl(path)]
    by_curator = any(row.get("p_good") is not None for row in rows)
    rows.sort(key=lambda row: -((row["p_good"] if by_curator else row["score"]) or 0))
    texts = ["instruction", "text", *(["reason"] if any("reason" in row for row in rows) else [])]
    table = _table(title, *(["p(good)"] if by_curator else []), "score", *texts, left=texts)
    for row in rows[:limit]:
        score = "-" if row["score"] is None else f"{row['score']:.2f}"
        cells = [escape(clip(row["instruction"], 160)), escape(clip(row["output"], 200)), row.get("reason", "")]
        p_good = "-" if row.get("p_good") is None else f"{row['p_good']:.3f}"
        table.add_row(*([p_good] if by_curator else []), score, *cells[: len(texts)])
    table.caption = f"{min(limit, len(rows))} of {len(rows)}; all of them: {path}"
    return table
