"""What must be known before any figure of a run is believed: alarms, for the top of the page and of the terminal."""

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath

from humpback_jax import run_files
from humpback_jax.files import PathLike, read_jsonl
from humpback_jax.report.heldout import last_model
from humpback_jax.report.run_data import read_manifests
from humpback_jax.report.statistics import spearman
from humpback_jax.run_files import round_of

LEAST_RATINGS = 8  # of fewer, nothing can be said
NORMAL_95 = 1.96

Manifests = Mapping[str, Mapping[str, Any]]


def alarms(run_dir: PathLike) -> list[str]:
    """One sentence for each thing that makes a run's result doubtful; [] for most runs.

    Raises:
      FileNotFoundError: the folder holds no complete stage.
    """
    stages = read_manifests(run_dir)
    ratings = dict(_ratings(epath.Path(run_dir), stages))
    found = [*_of_pairs(stages), *_of_training(stages), *_of_ratings(stages, ratings)]
    return [*found, *_of_rounds(ratings), *_of_heldout(stages)]


def _ratings(run_dir: epath.Path, stages: Manifests) -> Iterator[tuple[int, dict[str, float]]]:
    """By round, the rating of every pair by its id."""
    for name in stages:
        path = run_dir / name / run_files.SCORES
        if (t := round_of(name, run_files.SCORES_STAGE)) is not None and path.exists():
            yield t, {row["id"]: row["score"] for _, row in read_jsonl(path)}


def _of_pairs(stages: Manifests) -> Iterator[str]:
    figures = stages.get(run_files.SEEDS_STAGE, {}).get("figures", {})
    if leaked := figures.get("heldout_in_seeds"):
        yield (
            f"{leaked} of {figures['heldout']['kept']} held-out pairs are seed pairs too: models were trained on them, "
            "and the evaluation is too good. Give other held-out pairs."
        )


def _of_training(stages: Manifests) -> Iterator[str]:
    """Pairs that training left out: a share of a set that is named, whatever its size."""
    for name, stage in stages.items():
        for kind, counts in stage.get("figures", {}).get("sets", {}).items():
            lost = counts["in"] - counts["out"]
            if lost:
                reasons = ", ".join(f"{number} {reason}" for reason, number in counts["rejected"].items())
                yield (
                    f"{name} was trained without {lost} of its {counts['in']} {kind} pairs "
                    f"({100 * lost / counts['in']:.0f} %: {reasons})."
                )


def _of_ratings(stages: Manifests, ratings: Mapping[int, Mapping[str, float]]) -> Iterator[str]:
    for t, values in ratings.items():
        stage = stages[run_files.SCORES_STAGE.format(t=t)]
        figures, mode = stage["figures"], stage.get("settings", {}).get("curation", {}).get("mode")
        if mode != "expected" and figures.get("forced") and not figures.get("parsed"):
            yield (
                f"Round {t}: none of {figures['forced']} ratings was written by the model, all were forced. Raise "
                "EngineConfig.max_new_tokens of `curate`, or set CurationConfig.mode = 'expected'."
            )
        if "rater" in figures:
            yield (
                f"Round {t}: {figures['rater']} rated the pairs, in the place of M_{t - 1}: {figures['note']}. What is "
                "gained is partly that rater's."
            )
        if len(values) >= LEAST_RATINGS and min(values.values()) == max(values.values()):
            yield (
                f"Round {t}: all {len(values)} pairs have the rating {next(iter(values.values())):g}; what was kept is "
                "chance. The scorer does not tell pairs apart."
            )


def _of_rounds(ratings: Mapping[int, Mapping[str, float]]) -> Iterator[str]:
    """Two rounds whose ranks have nothing to do with each other: Fisher's z interval of the correlation holds 0."""
    rounds = sorted(ratings)
    for before, after in itertools.pairwise(rounds):
        shared = [name for name in ratings[before] if name in ratings[after]]
        if len(shared) < LEAST_RATINGS:
            continue
        old, new = ([ratings[t][name] for name in shared] for t in (before, after))
        correlation = spearman(old, new)
        if correlation is not None and correlation < math.tanh(NORMAL_95 / math.sqrt(len(shared) - 3)):
            yield (
                f"Rounds {before} and {after} do not agree on {len(shared)} pairs (rank correlation "
                f"{correlation:.2f}, no better than chance): at least one of them rates at random."
            )


def _of_heldout(stages: Manifests) -> Iterator[str]:
    nll = stages.get(run_files.EVALUATION_STAGE, {}).get("figures", {}).get("nll_per_token", {})
    model = last_model(nll)
    for reference in ("base", run_files.MODEL_STAGE.format(t=0)):
        if model not in (None, reference) and reference in nll and nll[model]["nll"] > nll[reference]["nll"]:
            before, after = nll[reference]["perplexity"], nll[model]["perplexity"]
            yield f"The perplexity of held-out answers rose from {before:.2f} ({reference}) to {after:.2f} ({model})."
