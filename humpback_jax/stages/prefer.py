"""Preference learning: a model is trained on pairs of answers, of which one is better (DPO, IPO, SimPO).

The log-probabilities of the reference are computed once, before the first update, and lie in the stage's folder. Pairs
that are held out are measured before and after: rewards, likelihoods, lengths, and how far the model has gone from its
reference.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from humpback_jax.data.batching import BatchConfig, BatchPlan
from humpback_jax.data.examples import ExamplePair
from humpback_jax.data.packing import fill_rows, pack
from humpback_jax.data.preferences import Preference, PreferencesReport, encode_preferences, hold_out
from humpback_jax.files import PathLike, read_jsonl, sha256_of_file, write_jsonl
from humpback_jax.models.llama import abstract_params, logical_specs
from humpback_jax.partitioning import LogicalAxisRules, MeshShape, make_mesh, shardings
from humpback_jax.prompts.prompts import Prompts
from humpback_jax.ranges import Share, check_fields
from humpback_jax.run_files import ADAPTER, CHECKPOINTS, HELDOUT_PREFERENCES, MODEL, REFERENCE, TRAINED_ON
from humpback_jax.runtime.console import say
from humpback_jax.runtime.distributed import agree
from humpback_jax.runtime.processes import is_leader
from humpback_jax.stages.finetune import (
    FinetuneConfig,
    initial_params,
    start_of_training,
    train_and_save,
    updates_of_examples,
)
from humpback_jax.stages.model import ModelHandle, open_model
from humpback_jax.stages.sampled_pairs import SampledPairsConfig
from humpback_jax.stages.stage import Identity, Stage, StageResult, begin_stage, plain
from humpback_jax.training.checkpoints import delete_temporary
from humpback_jax.training.config import ComputeConfig, LoopConfig
from humpback_jax.training.layout import check_layout, rows_on
from humpback_jax.training.loop import RunRecord
from humpback_jax.training.monitoring import Monitoring
from humpback_jax.training.optimizer import OptimizerConfig
from humpback_jax.training.pair_scores import diverging, score_pairs
from humpback_jax.training.preference import PreferenceLoss
from humpback_jax.training.step import TrainSetup
from humpback_jax.weights.adapters import WEIGHTS
from humpback_jax.weights.model_folder import is_model_folder, read_model_card

RESAMPLES, CONFIDENCE = 1000, 0.95
_DIGITS = 4
_TRAINING = FinetuneConfig(
    batches=BatchConfig(batch_size=16),
    loop=LoopConfig(epochs=1.0),
    compute=ComputeConfig(dropout=0.0),
    optimizer=OptimizerConfig(learning_rate=1e-6, final_learning_rate=1e-7, weight_decay=0.0),
)


@dataclasses.dataclass(frozen=True)
class PreferenceConfig:
    """Preference learning; numbers that are set are those of Self-Rewarding Language Models (Yuan et al., 2024).

    Attributes:
      loss: DPO, IPO or SimPO.
      training: batches, in pairs, whose two answers share a row; how long, from what, and how the loss is computed.
      heldout: share of the prompts whose pairs are kept out, to be measured before and after.
      sampling: where the pairs come from when they are the model's own answers; of no use for pairs that people made.
    """

    loss: PreferenceLoss = PreferenceLoss()
    training: FinetuneConfig = _TRAINING
    heldout: Share = 0.1
    sampling: SampledPairsConfig = SampledPairsConfig()

    def __post_init__(self) -> None:
        check_fields(self)


def prefer(
    directory: PathLike,
    base: ModelHandle,
    pairs: PreferencesReport,
    prompts: Prompts,
    config: PreferenceConfig,
    mesh_shape: MeshShape,
    rules: LogicalAxisRules,
    monitoring: Monitoring = Monitoring(),  # noqa: B008 (immutable)
    tags: Sequence[str] = (),
    reference: ModelHandle | None = None,
    replaces: bool = True,
) -> Stage:
    """Trains `base` on pairs of answers; the product is DIRECTORY/model.

    Args:
      directory: of the stage.
      base: what training starts from.
      pairs: two answers to a prompt, the better first.
      prompts, tags: every prompt has these tags.
      config: the loss, the training, and what is held out.
      mesh_shape, rules, monitoring: as of a finetuning.
      reference: the model that rewards are relative to; None: `base`.
      replaces: see `begin_stage`.

    Raises:
      ValueError: the reference has another vocabulary, no pair fits, or nothing is left beside what is held out.
    """
    if reference is not None:
        check_reference(base, reference, pairs.pairs)
    against = None if reference is None else reference.sha256
    identity = preferred_identity(base.sha256, base.chat_format.name, pairs.sha256, prompts, config, tags, against)
    claim = begin_stage(directory, *identity, shared=jax.process_count() > 1, replaces=replaces)
    if claim.finished:
        return claim.stage
    work = _Work(claim.folder, base, prompts, config, mesh_shape, rules, tuple(tags), reference or base)
    trained_on, held = hold_out(pairs.pairs, config.heldout)
    training, heldout = work.encode(trained_on, "to train on"), work.encode(held, "held out") if held else None
    counts = _counts(pairs, training.counts, heldout.counts if heldout else {}, len(held))
    figures: dict[str, Any] = {
        "heldout": 0 if heldout is None else len(heldout.pairs),
        "lengths": _lengths(training.pairs),
    }
    known = work.reference_scores([*training.pairs, *(heldout.pairs if heldout else ())])
    training_pairs = [dataclasses.replace(pair, reference=known[pair.id]) for pair in training.pairs]
    plan = config.training.plan(training_pairs, work.rows)
    figures |= {"num_steps": plan.num_steps, "packing_fill": round(plan.fill, 4), "num_devices": jax.device_count()}
    if not is_model_folder(claim.folder / MODEL):
        figures |= work.train(plan, identity, counts, monitoring)
    if heldout is not None:
        figures |= work.measure(held, heldout.pairs, known)
    if not is_leader():
        return claim.finish(None)
    delete_temporary(claim.folder / CHECKPOINTS, config.training.checkpoints.period)
    outputs = {"model": read_model_card(claim.folder / MODEL).params_sha256 or str(claim.folder / MODEL)}
    if config.training.lora is not None:
        outputs["adapter"] = sha256_of_file(claim.folder / ADAPTER / WEIGHTS)
    return claim.finish(StageResult(counts, outputs, figures))


def preferred_identity(
    base: str,
    chat_format: str,
    pairs: str,
    prompts: Prompts,
    config: PreferenceConfig,
    tags: Sequence[str],
    reference: str | None = None,
) -> Identity:
    """What decides the model, with the hashes of that before it, of the pairs and of a reference that is another."""
    settings = {
        "loss": plain(config.loss),
        "finetune": config.training.identity(),
        "heldout": config.heldout,
        "chat_format": chat_format,
        "tags": list(tags),
        "prompts": prompts.tag_texts(tags),
    }
    inputs = {"base": base, "pairs": pairs} | ({} if reference is None else {"reference": reference})
    return settings, inputs | start_of_training(config.training.checkpoints)


def check_reference(base: ModelHandle, reference: ModelHandle, pairs: Sequence[Preference]) -> None:
    """ValueError where the reference reads other token ids than the model that is trained."""
    ours, theirs = base.card.config.vocab_size, reference.card.config.vocab_size
    differs = f"the vocabulary has {theirs} tokens, that of {base.path} {ours}" if ours != theirs else None
    for pair in pairs if differs is None else ():
        texts = (pair.turns[-1], pair.chosen, pair.rejected)
        if any(base.tokenizer.encode(text) != reference.tokenizer.encode(text) for text in texts):
            differs = f"pair {pair.id!r} becomes other tokens than for {base.path}"
            break
    if differs:
        raise ValueError(f"reference {reference.path}: {differs}; take a reference with the same tokenizer")


@dataclasses.dataclass(frozen=True)
class _Work:
    """What all parts of the stage share."""

    folder: epath.Path
    base: ModelHandle
    prompts: Prompts
    config: PreferenceConfig
    mesh_shape: MeshShape
    rules: LogicalAxisRules
    tags: tuple[str, ...]
    reference: ModelHandle

    @functools.cached_property
    def setup(self) -> TrainSetup:
        """What is trained, and how, after a look whether it divides over the mesh."""
        mesh, training = make_mesh(self.mesh_shape), self.config.training
        rows = rows_on(mesh, self.rules, training.batches.rows_per_microbatch)
        check_layout(self.base.card.config, mesh, self.rules, rows, training.batches.row_length)
        setup = training.setup(self.base.card.config, mesh, self.rules)
        return dataclasses.replace(setup, preference=self.config.loss)

    @property
    def rows(self) -> int:
        """Rows of a microbatch on the mesh."""
        return rows_on(self.setup.mesh, self.rules, self.config.training.batches.rows_per_microbatch)

    def encode(self, pairs: Sequence[Preference], what: str) -> Any:
        """The pairs that fit; ValueError where that is none."""
        room, window = self.config.training.batches.row_length, self.base.card.config.max_position_embeddings
        base = self.base
        encoded = encode_preferences(pairs, base.tokenizer, base.chat_format, self.prompts, self.tags, room, window)
        if not encoded.pairs:
            raise ValueError(
                f"none of {len(pairs)} pairs {what} fits ({encoded.counts['rejected']}): both answers, each with its "
                f"prompt, share a row of BatchConfig.row_length = {room}, and the model knows {window} positions"
            )
        if encoded.counts["rejected"] and is_leader():
            say(f"[yellow]of {len(pairs)} pairs {what} {len(encoded.pairs)} fit: {encoded.counts['rejected']}[/yellow]")
        return encoded

    def reference_scores(self, pairs: Sequence[ExamplePair]) -> dict[str, tuple[float, float]]:
        """Log-probabilities of both answers under the reference by the pairs' ids, from the stage's file if there."""
        path = self.folder / REFERENCE
        if agree(not path.exists())[0]:
            scores = self.scores(self.placed(self.reference), pairs)[..., 0]
            if is_leader():
                rows = zip(pairs, scores.tolist(), strict=True)
                write_jsonl(path, ({"id": p.id, "chosen": c, "rejected": r} for p, (c, r) in rows))
            return {p.id: (float(c), float(r)) for p, (c, r) in zip(pairs, scores, strict=True)}
        return {row["id"]: (row["chosen"], row["rejected"]) for _, row in read_jsonl(path)}

    def train(
        self, plan: BatchPlan, identity: Identity, counts: dict[str, Any], monitoring: Monitoring
    ) -> dict[str, float]:
        """Writes the model, and the updates of every pair; returns the speed."""
        base, training = self.base, self.config.training
        batches = dataclasses.replace(plan.config, rows_per_microbatch=training.batches.rows_per_microbatch)
        record = RunRecord(self.folder, plain({"identity": identity, "batches": batches}), monitoring)
        facts = {"stage": self.folder.name, "base": base.card.source, "counts": counts, "num_steps": plan.num_steps}
        card = dataclasses.replace(
            base.card,
            source=f"{base.card.source}, preferences learned as {self.folder.name}",
            chat_format=base.chat_format.name,
            tags=self.prompts.tagged("", self.tags).strip(),
            training=facts | plain(identity[0]),
        )
        if is_leader():
            write_jsonl(self.folder / TRAINED_ON, updates_of_examples(plan))
        return train_and_save(base, plan, training, self.setup, record, card)

    def placed(self, model: ModelHandle) -> dict:
        """The weights of a model on the mesh, in the dtype that training holds them in."""
        training = self.config.training
        dtype = training.compute.param_dtype if training.lora is None else training.compute.dtype
        llama = self.setup.model
        where = shardings(self.setup.mesh, self.rules, logical_specs(llama), abstract_params(llama))
        start = training.checkpoints.init_from if model is self.base else None
        return initial_params(model, start, dtype, where)

    def scores(self, params: dict, pairs: Sequence[ExamplePair]) -> np.ndarray:
        """Log-probability and tokens of both answers: [pairs, 2, 2]."""
        rows = self._packed(pairs)
        return _in_order(rows, score_pairs(self.setup, params, self._features(rows, pairs)))

    def measure(
        self, held: Sequence[Preference], pairs: Sequence[ExamplePair], known: dict[str, tuple[float, float]]
    ) -> dict[str, Any]:
        """Figures of the pairs that are held out, before and after; DIRECTORY/heldout_preferences.jsonl has each."""
        reference = np.asarray([known[pair.id] for pair in pairs], np.float64)
        start = self.placed(self.base)
        before = reference if self.reference is self.base and not self.config.training.checkpoints.init_from else None
        before = self.scores(start, pairs)[..., 0] if before is None else before
        after_params, rows = self.placed(open_model(self.folder / MODEL)), self._packed(pairs)
        scored = self.scores(after_params, pairs)
        after, lengths = scored[..., 0], scored[..., 1]
        start = start if self.reference is self.base else self.placed(self.reference)
        kl = _in_order(rows, diverging(self.setup, after_params, start, self._features(rows, pairs)))
        by_id = {pair.id: pair for pair in held}
        groups = [by_id[pair.id].of for pair in pairs]
        measured = {
            name: _measured(self.config.loss, np.asarray(each, np.float64), reference, lengths, groups)
            for name, each in (("before", before), ("after", after))
        }
        if is_leader():
            rewards = self.config.loss.rewards(after, reference, lengths)
            write_jsonl(self.folder / HELDOUT_PREFERENCES, _heldout_rows(pairs, by_id, before, after, rewards, lengths))
        per_token = float(kl.sum() / lengths.sum())
        return measured | {"kl_per_token": round(per_token, 6), "heldout_lengths": _lengths(pairs)}

    def _packed(self, pairs: Sequence[ExamplePair]) -> list[list[int]]:
        return pack([pair.num_positions for pair in pairs], self.config.training.batches.row_length)

    def _features(self, rows: list[list[int]], pairs: Sequence[ExamplePair]) -> dict[str, np.ndarray]:
        length, of_batch = self.config.training.batches.row_length, self.rows
        features = fill_rows(rows, pairs, length, -(-len(rows) // of_batch) * of_batch)
        return {name: array.reshape(-1, of_batch, length) for name, array in features.items()}


def _in_order(rows: list[list[int]], values: np.ndarray) -> np.ndarray:
    """Values of places in rows [rows, places, …] in the order of the pairs."""
    found = np.zeros((sum(map(len, rows)), *values.shape[2:]), values.dtype)
    for row, indices in enumerate(rows):
        found[indices] = values[row, : len(indices)]
    return found


def _heldout_rows(
    pairs: Sequence[ExamplePair],
    by_id: dict[str, Preference],
    before: np.ndarray,
    after: np.ndarray,
    rewards: Any,
    lengths: np.ndarray,
) -> list[dict[str, Any]]:
    columns = zip(pairs, before.tolist(), after.tolist(), np.asarray(rewards).tolist(), lengths.tolist(), strict=True)
    return [
        plain(by_id[pair.id])
        | {
            "before": first,
            "after": last,
            "rewards": reward,
            "margin": round(reward[0] - reward[1], 6),
            "tokens": tokens,
        }
        for pair, first, last, reward, tokens in columns
    ]


def _measured(
    loss: PreferenceLoss, log_probs: np.ndarray, reference: np.ndarray, lengths: np.ndarray, groups: Sequence[str]
) -> dict[str, Any]:
    """Shares of pairs that are the right way round, by reward and by likelihood per token; mean rewards and margins."""
    rewards = np.asarray(loss.rewards(log_probs, reference, lengths), np.float64)
    margins, per_token = rewards[:, 0] - rewards[:, 1], log_probs / lengths
    return {
        "reward_accuracy": share_right(margins, groups),
        "likelihood_accuracy": share_right(per_token[:, 0] - per_token[:, 1], groups),
        "reward_margin": round(float(margins.mean()), 6),
        "nll_chosen": round(float(-per_token[:, 0].mean()), _DIGITS),
        "nll_rejected": round(float(-per_token[:, 1].mean()), _DIGITS),
    }


def share_right(margins: np.ndarray, groups: Sequence[str]) -> dict[str, float]:
    """Share of margins above 0, equal ones counting half, with a 95% interval: `value`, `low`, `high`.

    The interval is of the percentile bootstrap over groups, because pairs of one tree are no independent evidence.
    """
    right = (np.sign(margins) + 1) / 2
    _, of_group = np.unique(np.asarray(groups), return_inverse=True)
    sums, counts = np.bincount(of_group, right), np.bincount(of_group)
    drawn = np.random.default_rng(0).integers(0, len(sums), (RESAMPLES, len(sums)))
    shares = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(shares, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return {
        "value": round(float(right.mean()), _DIGITS),
        "low": round(float(low), _DIGITS),
        "high": round(float(high), _DIGITS),
    }


def _lengths(pairs: Sequence[ExamplePair]) -> dict[str, float]:
    """Mean tokens of chosen and rejected answers, and the share of pairs whose chosen one is longer."""
    sizes = np.asarray([(len(pair.chosen.answer_ids), len(pair.rejected.answer_ids)) for pair in pairs], np.float64)
    chosen, rejected = sizes.mean(axis=0).round(2).tolist()
    longer = float((sizes[:, 0] > sizes[:, 1]).mean())
    return {"chosen": chosen, "rejected": rejected, "chosen_is_longer": round(longer, _DIGITS)}


def _counts(pairs: PreferencesReport, *parts: Any) -> dict[str, Any]:
    """Of all rows that were read: those that are trained on are `out`, others have a reason; `held_out` is one."""
    training, heldout, number = parts
    rejected = dict(pairs.counts["rejected"])
    for counts in (training, heldout):
        for reason, count in counts.get("rejected", {}).items():
            rejected[reason] = rejected.get(reason, 0) + count
    if number:
        rejected["held_out"] = heldout["out"]
    return {"in": pairs.counts["in"], "out": training["out"], "rejected": dict(sorted(rejected.items()))}
