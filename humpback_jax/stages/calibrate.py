"""How well every signal and the curator tell good pairs: on broken twins by kind, ranked siblings, and people's labels.

Nothing here is trained on what it is measured on: the curator learns from twins of seed pairs, and is measured on twins
of held-out pairs, on siblings, and on labels; where it learns from labels too, those it is measured on are left out.
"""

import dataclasses
import itertools
import tempfile
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from etils import epath

from humpback_jax.curation.curator import Curator, CuratorConfig, expected_quality, sigmoid
from humpback_jax.curation.labels import LabelledPair
from humpback_jax.curation.measures import (
    BEST_SHARE,
    auc,
    calibration_error,
    precision_at,
    recall_at,
    spearman,
    with_interval,
)
from humpback_jax.curation.signals import SIGNALS
from humpback_jax.curation.twins import KINDS, SEED, broken_twins
from humpback_jax.data.open_assistant import Sibling
from humpback_jax.data.pairs import Pair
from humpback_jax.files import jsonl_line, sha256_of_bytes
from humpback_jax.inference.engine import shared_prefix
from humpback_jax.inference.requests import fitted_buckets
from humpback_jax.inference.shards import claim_directory
from humpback_jax.prompts.prompts import Prompts
from humpback_jax.runtime.processes import process_count, process_index
from humpback_jax.stages.curator import LABELLED, curator_examples, fit_on_examples
from humpback_jax.stages.items import InMemory
from humpback_jax.stages.jobs import run_job
from humpback_jax.stages.model import ModelHandle
from humpback_jax.stages.rating import CurationConfig, has_rating, rating_items, rating_prompts, ratings_job
from humpback_jax.stages.stage import plain

CURATOR, WITH_LABELS = "curator", "curator_with_labels"
FOLDS = 5
BUCKETS = 4  # of rating prompts


@dataclasses.dataclass(frozen=True)
class Signaller:
    """Gives rows their signals: the model that reads, and how.

    Attributes:
      model: the scorer.
      prompts: its rubric and tags.
      curation: mode, engine, and how much is read.
      folder: where the shards of what was read lie, to go on from; None: a temporary one.
    """

    model: ModelHandle
    prompts: Prompts
    curation: CurationConfig
    folder: str | None = None

    def read(self, name: str, rows: Sequence[dict], buckets: Sequence[int] = ()) -> list[dict]:
        """The rows with their `signals`, without those whose rating prompt is too long for the engine.

        `buckets` stand in the place of the engine's; they are no part of what decides the signals.

        Raises:
          ValueError: the folder holds what another model, rubric or other rows gave, or several processes have none.
        """
        if not rows:
            return []
        if self.folder is None and process_count() > 1:
            raise ValueError("several processes share what they read by a folder; give one with --out")
        with tempfile.TemporaryDirectory() as temporary:
            folder = epath.Path(self.folder or temporary) / name
            claim_directory(folder, self._identity(rows), process_index())
            items = rating_items(InMemory(rows), self.model, self.prompts, self.curation)
            generation = self.curation.generation
            engine = dataclasses.replace(
                generation.engine, prompt_buckets=tuple(buckets) or generation.engine.prompt_buckets
            )
            generation = dataclasses.replace(generation, engine=engine)
            curation = dataclasses.replace(self.curation, generation=generation)
            read = run_job(folder, ratings_job(self.model, self.prompts, curation, folder), items, generation, name)
            return [row | {"signals": found["signals"]} for row, found in read.joined() if has_rating(found)]

    def fitted_buckets(self, rows: Iterable[dict]) -> tuple[int, ...]:
        """A few buckets for the rating prompts of these rows: a measurement is small, and each is a program."""
        longest = self.curation.max_prompt_length
        texts = [(row["instruction"], row["output"]) for row in rows]
        prompts = [ids for ids in rating_prompts(self.model, self.prompts, texts) if len(ids) <= longest]
        shared, room = len(shared_prefix(prompts)), self.curation.generation.engine.max_prompt_length - longest
        buckets = fitted_buckets([len(ids) - shared + room for ids in prompts], BUCKETS)
        # The last one says what is accepted, the shared prefix counted.
        return (*(bucket for bucket in buckets if bucket < longest + room), longest + room)

    def _identity(self, rows: Sequence[dict]) -> dict[str, Any]:
        """What decides the signals of these rows."""
        return {
            "model": self.model.sha256,
            "rows": sha256_of_bytes("".join(map(jsonl_line, rows)).encode()),
            "prompts": plain(self.prompts),
            "curation": self.curation.identity(),
            "chat_format": self.model.chat_format.name,
        }


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What `calibrate` measures on.

    Attributes:
      seeds: pairs that the curator's twins are made of.
      heldout: pairs whose twins it is measured on.
      labelled: pairs that people have labelled.
      siblings: answers to one prompt that people have ranked.
    """

    seeds: Sequence[Pair]
    heldout: Sequence[Pair] = ()
    labelled: Sequence[LabelledPair] = ()
    siblings: Sequence[Sibling] = ()


def calibrate(signaller: Signaller, data: Calibration, config: CuratorConfig) -> dict[str, Any]:
    """Figures for every signal and the curator: `signals` on labels, `twins` by kind, `siblings`, and the `curator`."""
    twins = [
        dataclasses.asdict(twin) | {"good": twin.good}
        for twin in (broken_twins(data.heldout, config.seed) if data.heldout else ())
    ]
    rows = {
        "examples": curator_examples(data.seeds, config),
        "labelled": [dataclasses.asdict(pair) for pair in data.labelled],
        "twins": twins,
        "siblings": [dataclasses.asdict(sibling) for sibling in data.siblings],
    }
    buckets = signaller.fitted_buckets(itertools.chain(*rows.values()))
    read = {name: signaller.read(name, of_set, buckets) for name, of_set in rows.items()}
    examples, labelled = read["examples"], read["labelled"]
    # What is chosen from: the labelled pairs where there are any, else the seed pairs stand in.
    candidates = [row["signals"] for row in labelled or [row for row in examples if row["kind"] == SEED]]
    curator = fit_on_examples(examples, candidates, config)
    figures: dict[str, Any] = {"curator": {"weights": dict(curator.weights), "examples": len(examples)}}
    if labelled:
        figures["labels"] = {
            "in": len(data.labelled),
            "out": len(labelled),
            "good": sum(row["good"] for row in labelled),
            "usable": sum(bool(row["usable"]) for row in labelled),
        }
        figures["signals"] = _on_labels(labelled, examples, curator, config)
        figures["kept"] = _on_kept(labelled, with_labels(labelled, examples, config))
    if data.heldout:
        figures["twins"] = _on_twins(read["twins"], curator)
    if data.siblings:
        figures["siblings"] = _on_siblings(read["siblings"], curator)
    return figures


def _columns(rows: Sequence[dict], curator: Curator) -> dict[str, np.ndarray]:
    """Every signal, turned so that higher is better, and the curator's logit, by name: float64 [rows]."""
    columns = {
        name: np.asarray([row["signals"][name] for row in rows], np.float64) * (signal.better or 1)
        for name, signal in SIGNALS.items()
    }
    return columns | {CURATOR: curator.logits([row["signals"] for row in rows])}


def _on_labels(
    rows: Sequence[dict], examples: Sequence[dict], curator: Curator, config: CuratorConfig
) -> dict[str, dict[str, Any]]:
    good = np.asarray([row["good"] for row in rows], bool)
    columns = _columns(rows, curator)
    cross_validated = with_labels(rows, examples, config)
    columns[WITH_LABELS] = cross_validated
    figures = {}
    for name, values in columns.items():
        figures[name] = {
            "auc_good": with_interval(auc, values, good),
            "precision_at_20": with_interval(precision_at(BEST_SHARE), values, good),
            "recall_at_20": with_interval(recall_at(BEST_SHARE), values, good),
            "spearman": with_interval(spearman, values, good),
        }
        if all(row["usable"] is not None for row in rows):
            usable = np.asarray([row["usable"] for row in rows], bool)
            figures[name]["auc_usable"] = with_interval(auc, values, usable)
    for name in (CURATOR, WITH_LABELS):
        probabilities = sigmoid(columns[name])
        figures[name]["calibration_error"] = with_interval(calibration_error, probabilities, good)
    return figures


def _on_kept(rows: Sequence[dict], logits: np.ndarray) -> dict[str, Any]:
    """What the curator with labels promises of the best fifth, and what the labels say of it."""
    good, probabilities = np.asarray([row["good"] for row in rows], bool), sigmoid(logits)
    kept = np.zeros(len(rows), bool)
    kept[np.argsort(-logits, kind="stable")[: max(1, round(BEST_SHARE * len(rows)))]] = True
    labelled = {"precision": float(good[kept].mean()), "recall": float(good[kept].sum() / max(1, good.sum()))}
    return {"expected": expected_quality(probabilities, kept), "labelled": labelled}


def with_labels(rows: Sequence[dict], examples: Sequence[dict], config: CuratorConfig) -> np.ndarray:
    """Logits of labelled rows by curators that have seen the labels of other rows: five folds, float64 [rows]."""
    named = [row | {"kind": LABELLED, "of": row["id"]} for row in rows]
    order = np.random.default_rng(config.seed).permutation(len(rows))
    logits = np.zeros(len(rows))
    for fold in range(FOLDS):
        outside = order[fold::FOLDS]
        inside = [named[i] for i in np.setdiff1d(order, outside)]
        fitted = fit_on_examples([*examples, *inside], [row["signals"] for row in rows], config)
        logits[outside] = fitted.logits([rows[i]["signals"] for i in outside])
    return logits


def _on_twins(rows: Sequence[dict], curator: Curator) -> dict[str, dict[str, Any]]:
    """By kind: how often every signal puts whole pairs before broken ones, and how many there are of these."""
    columns, kinds = _columns(rows, curator), np.asarray([row["kind"] for row in rows])
    figures: dict[str, dict[str, Any]] = {}
    for kind in KINDS:
        chosen = (kinds == SEED) | (kinds == kind)
        whole = kinds[chosen] == SEED
        numbers: dict[str, Any] = {"broken": int((kinds == kind).sum()), "whole": int((kinds == SEED).sum())}
        figures[kind] = numbers | {name: with_interval(auc, values[chosen], whole) for name, values in columns.items()}
    return figures


def _on_siblings(rows: Sequence[dict], curator: Curator) -> dict[str, Any]:
    """Share of pairs of siblings that every signal orders as people did, ties counting half."""
    columns, groups = _columns(rows, curator), np.asarray([row["of"] for row in rows])
    ranks = np.asarray([row["rank"] for row in rows])
    better, worse = np.nonzero((groups[:, None] == groups[None, :]) & (ranks[:, None] < ranks[None, :]))
    figures: dict[str, Any] = {"pairs": len(better)}
    for name, values in columns.items():
        right = (values[better] > values[worse]) + 0.5 * (values[better] == values[worse])
        figures[name] = with_interval(_mean, right, np.ones(len(right)))
    return figures


def _mean(values: np.ndarray, _: np.ndarray) -> float:
    return float(values.mean())
