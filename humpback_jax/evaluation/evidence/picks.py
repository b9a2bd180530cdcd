"""What M_0 and M_1 pick: precision and recall on pairs that people have labelled, shares of A, and lengths."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from humpback_jax import run_files
from humpback_jax.align import Alignment
from humpback_jax.curation.labels import read_labels
from humpback_jax.curation.measures import BEST_SHARE, precision_at, recall_at
from humpback_jax.evaluation.evidence.findings import RESAMPLES, figures_of
from humpback_jax.files import read_jsonl
from humpback_jax.stages.calibrate import Signaller
from humpback_jax.stages.curator import read_curator
from humpback_jax.stages.stage import finished_stage

MIN_SCORE = 4.5  # of the paper's A_5


def label_finding(alignment: Alignment, path: str, folder: str) -> dict[str, Any]:
    """The finding that M_1's picks beat M_0's: precision and recall of the best fifth, by rating and by curator.

    The curators have not seen the labels. Values are M_0's minus M_1's, so that below zero is as claimed.
    """
    labelled = [dataclasses.asdict(pair) for pair in read_labels(path)]
    columns = [_columns(alignment, t, labelled, folder) for t in (0, 1)]
    shared = sorted(set(columns[0]) & set(columns[1]))
    good = np.asarray([row["good"] for row in labelled if row["id"] in shared], bool)
    order = [row["id"] for row in labelled if row["id"] in shared]
    drawn = np.random.default_rng(0).integers(0, len(good), (RESAMPLES, len(good)))
    contrasts, scores = [], {}
    for column in ("rating", "curator"):
        first, second = (np.asarray([each[name][column] for name in order]) for each in columns)
        for name, measure in (("precision", precision_at(BEST_SHARE)), ("recall", recall_at(BEST_SHARE))):
            values = np.asarray([measure(first[i], good[i]) - measure(second[i], good[i]) for i in drawn])
            value = measure(first, good) - measure(second, good)
            scores[f"{name} by {column}"] = [round(measure(each, good), 3) for each in (first, second)]
            words = f"{name} of the best fifth by {column}, M_0 minus M_1"
            contrasts.append({"words": words, "unit": "share"} | figures_of(value, values[~np.isnan(values)]))
    return {
        "name": "picks",
        "claim": "M_1 picks pairs with higher precision and recall than M_0",
        "source": "paper, table 6",
        "contrasts": contrasts,
        "labelled": {"pairs": len(good), "good": int(good.sum()), "by": scores},
    }


def _columns(alignment: Alignment, t: int, rows: Sequence[dict], folder: str) -> dict[str, dict[str, float]]:
    """Rating by M_t and logit of the curator that learned from it, by the id of a labelled pair."""
    curation = dataclasses.replace(alignment.recipe.curation, signals=True)
    signaller = Signaller(alignment.model(t), alignment.prompts, curation, folder)
    read = signaller.read(f"labelled_by_m{t}", rows)
    stage = finished_stage(alignment.run_dir / run_files.CURATOR_STAGE.format(t=t + 1), "humpback align")
    logits = read_curator(stage).logits([row["signals"] for row in read])
    return {
        row["id"]: {"rating": row["signals"]["rating"], "curator": float(logit)}
        for row, logit in zip(read, logits, strict=True)
    }


def shares(alignment: Alignment) -> list[dict[str, Any]]:
    """By round: pairs of A, the shares that are rated, in A_5 and kept, the mean score, mean lengths in characters."""
    rows = []
    for t in alignment.recipe.new_rounds:
        stage = finished_stage(alignment.run_dir / run_files.CURATED_STAGE.format(t=t), "humpback align")
        kept = [row for _, row in read_jsonl(stage.directory / run_files.CURATED)]
        dropped = [row for _, row in read_jsonl(stage.directory / run_files.DROPPED)]
        scores = [row["score"] for row in (*kept, *dropped)]
        rated = [score for score in scores if score is not None]
        rows.append(
            {
                "round": t,
                "pairs": len(scores),
                "rated": len(rated) / len(scores),
                "a5": sum(score >= MIN_SCORE for score in rated) / len(scores),
                "mean_score": float(np.mean(rated)),
                "kept": len(kept) / len(scores),
                "kept_chars": _mean_length(kept),
                "dropped_chars": _mean_length(dropped),
            }
        )
    return rows


def _mean_length(rows: Sequence[Mapping[str, Any]]) -> float:
    return float(np.mean([len(row["output"]) for row in rows])) if rows else 0.0
