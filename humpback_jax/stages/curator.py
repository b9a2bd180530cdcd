"""The curator's stage: seed pairs, broken twins and labelled pairs are read, and what tells them apart is learned."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from humpback_jax.curation.curator import Curator, CuratorConfig, Examples, curator_of, fit_curator, with_base_rate
from humpback_jax.curation.features import Rows
from humpback_jax.curation.labels import read_labels
from humpback_jax.curation.measures import auc
from humpback_jax.curation.twins import KINDS, SEED, broken_twins, drawn
from humpback_jax.data.mixture import PairSet
from humpback_jax.data.pairs import Pair
from humpback_jax.files import PathLike, read_json, read_jsonl, sha256_of_file, write_json, write_jsonl
from humpback_jax.prompts.prompts import Prompts
from humpback_jax.run_files import CURATOR, EXAMPLES, SCORES
from humpback_jax.runtime.console import say
from humpback_jax.runtime.processes import is_leader
from humpback_jax.stages.items import InMemory
from humpback_jax.stages.jobs import run_job
from humpback_jax.stages.model import ModelHandle
from humpback_jax.stages.rating import CurationConfig, has_rating, rated_counts, rating_items, ratings_job
from humpback_jax.stages.stage import Identity, Stage, StageResult, begin_stage, plain

LABELLED = "labelled"
_DIGITS = 4


def learn(
    directory: PathLike,
    scorer: ModelHandle,
    seeds: PairSet,
    scores: Stage,
    prompts: Prompts,
    curation: CurationConfig,
    config: CuratorConfig,
) -> Stage:
    """Reads examples with `scorer` and fits a curator for the pairs of `scores`: examples.jsonl and curator.json.

    Raises:
      ValueError: too few examples of a class, or a label file that holds no labels.
    """
    hashes = {"model": scorer.sha256, "seeds": seeds.sha256, "scores": scores.outputs["scores"]}
    identity = curator_identity(hashes, scorer.chat_format.name, prompts, curation, config)
    claim = begin_stage(directory, *identity, shared=True, replaces=True)
    if claim.finished:
        return claim.stage

    examples = curator_examples(seeds.read(), config)
    items = rating_items(InMemory(examples), scorer, prompts, curation)
    job = ratings_job(scorer, prompts, curation, claim.folder)
    read = run_job(claim.folder, job, items, curation.generation, claim.folder.name, claim.earlier)
    if not is_leader():
        return claim.finish(None)
    rows = [example | {"signals": row["signals"]} for example, row in read.joined() if has_rating(row)]
    write_jsonl(claim.folder / EXAMPLES, rows)
    candidates = [row["signals"] for _, row in read_jsonl(scores.directory / SCORES)]
    curator = fit_on_examples(rows, candidates, config)
    write_json(claim.folder / CURATOR, dataclasses.asdict(curator))
    figures = {"weights": dict(curator.weights), "auc_by_kind": cross_validated_auc(rows, candidates, config)}
    figures |= {name: read.figures[name] for name in ("reused", "new") if name in read.figures}
    say(f"{claim.folder.name}: " + ", ".join(f"{kind} {value:.2f}" for kind, value in figures["auc_by_kind"].items()))
    outputs = {name: sha256_of_file(claim.folder / name) for name in (CURATOR, EXAMPLES)}
    return claim.finish(StageResult(rated_counts(items, len(rows)), outputs, figures))


def curator_identity(
    hashes: dict[str, str], chat_format: str, prompts: Prompts, curation: CurationConfig, config: CuratorConfig
) -> Identity:
    """What decides a curator, with the hashes of `model`, `seeds` and `scores`."""
    labels = {} if config.labels is None else {"labels": sha256_of_file(config.labels)}
    settings = {
        "curator": {name: value for name, value in plain(config).items() if name != "labels"},
        "curation": curation.identity(),
        "prompts": prompts,
        "chat_format": chat_format,
    }
    return settings, hashes | labels


def read_curator(stage: Stage) -> Curator:
    """The curator of a finished stage."""
    return curator_of(read_json(stage.directory / CURATOR))


def curator_examples(seeds: Sequence[Pair], config: CuratorConfig) -> list[dict[str, Any]]:
    """Rows with `id`, `of`, `kind`, `good`, `instruction`, `output`: drawn seed pairs, their twins, labelled pairs."""
    originals = drawn(seeds, config.seed)[: config.originals]
    twins = [dataclasses.asdict(twin) | {"good": twin.good} for twin in broken_twins(originals, config.seed)]
    if config.labels is None:
        return twins
    labelled = [
        {"id": f"label#{pair.id}", "of": pair.id, "kind": LABELLED, "good": pair.good}
        | {"instruction": pair.instruction, "output": pair.output}
        for pair in read_labels(config.labels)
    ]
    return twins + labelled


def fit_on_examples(rows: Sequence[dict], candidates: Rows, config: CuratorConfig) -> Curator:
    """A curator from example rows with their `signals`, for these candidates; see `CuratorConfig`."""
    labelled = np.asarray([row["kind"] == LABELLED for row in rows], bool)
    good = np.asarray([row["good"] for row in rows], bool)
    weights = np.zeros(len(rows))
    for source, total in ((labelled, config.label_weight), (~labelled, 1.0)):
        for label in (True, False):  # each half of a source's weight, however few good pairs it has
            chosen = source & (good == label)
            weights[chosen] = total / 2 / max(1, chosen.sum())
    examples = Examples([row["signals"] for row in rows], good.tolist(), weights.tolist())
    seeds = [row["signals"] for row in rows if row["kind"] == SEED]
    curator = fit_curator(examples, candidates, seeds, config.penalty)
    if not labelled.any():
        return with_base_rate(curator, candidates, config.base_rate)
    people = [row for row in rows if row["kind"] == LABELLED]
    share = sum(row["good"] for row in people) / len(people)
    return with_base_rate(curator, [row["signals"] for row in people], share)


def cross_validated_auc(
    rows: Sequence[dict], candidates: Rows, config: CuratorConfig, folds: int = 5
) -> dict[str, float]:
    """AUC of whole against broken pairs by kind, each by a curator that has seen nothing of the same original."""
    originals = sorted({row["of"] for row in rows})
    fold_of = {name: i % folds for i, name in enumerate(originals)}
    scored: list[tuple[str, bool, float]] = []
    for fold in range(folds):
        inside = [row for row in rows if fold_of[row["of"]] != fold]
        outside = [row for row in rows if fold_of[row["of"]] == fold]
        if outside:
            values = fit_on_examples(inside, candidates, config).logits([row["signals"] for row in outside])
            scored += [(row["kind"], row["good"], value) for row, value in zip(outside, values, strict=True)]
    found = {}
    for kind in (*KINDS, LABELLED):
        chosen = [(good, value) for k, good, value in scored if k == kind or (k == SEED and kind != LABELLED)]
        value = auc(np.asarray([v for _, v in chosen]), np.asarray([g for g, _ in chosen], bool))
        if not np.isnan(value):
            found[kind] = round(value, _DIGITS)
    return found


def read_examples(stage: Stage) -> list[dict]:
    """The examples of a finished stage, with their signals."""
    return [row for _, row in read_jsonl(stage.directory / EXAMPLES)]
