"""Finetuning from base: M_yx on reversed seed pairs, M_0 on seed pairs, M_t on seed and curated pairs."""

import dataclasses
import shutil
from collections.abc import Sequence
from typing import Any

from etils import epath

from humpback_jax.data.batching import BatchPlan, plan_batches
from humpback_jax.data.examples import Example, supervised_examples
from humpback_jax.data.pairs import Pair
from humpback_jax.files import PathLike
from humpback_jax.models.llama import Llama
from humpback_jax.partitioning import LogicalAxisRules, MeshShape, make_mesh
from humpback_jax.prompts import Prompts
from humpback_jax.stages.model import ModelHandle, dtype_of
from humpback_jax.stages.stage import Stage, StageResult, run_stage
from humpback_jax.training.layout import check_layout
from humpback_jax.training.loop import LoopConfig, dropout_rates, train
from humpback_jax.training.optimizer import OptimizerConfig
from humpback_jax.weights.model_folder import is_model_folder, read_model_card, save_model_folder


@dataclasses.dataclass(frozen=True)
class FinetuneConfig:
    """One finetuning run; the defaults are the paper's where it gives any.

    Attributes:
      num_steps: updates; None lets `epochs` decide.
      epochs: passes over the examples when `num_steps` is None; the paper's 500 steps of 32 on 3,200 seeds are 5.
      batch_size: per update, in the unit of `batch_unit`.
      batch_unit: `examples`, as in the paper, or `tokens`, padding included: a multiple of row_length x
        rows_per_microbatch, of which examples fill nearly all.
      row_length: positions per packed row; a longer example is rejected and counted.
      rows_per_microbatch: rows whose activations exist at one time; a multiple of the mesh's data x fsdp.
      packing: several examples per row; off, one example per row.
      dropout: residual dropout rate.
      dropout_schedule: `constant`, or `linear` with depth (LIMA).
      seed: of the data order and of dropout.
      dtype: of activations and matrix products.
      param_dtype: of the weights, `float32`, or `bfloat16` where memory is short; the moments are float32 either way.
      remat_policy: a name in `humpback_jax.models.llama.REMAT_POLICIES`.
      checkpoint_period: updates between checkpoints.
      logits_chunk: positions per row whose logits exist at one time.
      z_loss: weight of the squared log-normalizer of the logits, added to the loss of every token.
      optimizer: AdamW and its schedule.
    """

    num_steps: int | None = None
    epochs: float = 5.0
    batch_size: int = 32
    batch_unit: str = "examples"
    row_length: int = 2048
    rows_per_microbatch: int = 1
    packing: bool = True
    dropout: float = 0.1
    dropout_schedule: str = "constant"
    seed: int = 0
    dtype: str = "bfloat16"
    param_dtype: str = "float32"
    remat_policy: str = "full"
    checkpoint_period: int = 100
    logits_chunk: int = 256
    z_loss: float = 0.0
    optimizer: OptimizerConfig = OptimizerConfig()

    def steps_for(self, examples: Sequence[Example]) -> int:
        """Updates for these examples; counted in tokens, as if no row had padding."""
        if self.num_steps is not None:
            return self.num_steps
        total = sum(e.num_positions for e in examples) if self.batch_unit == "tokens" else len(examples)
        return max(1, round(self.epochs * total / self.batch_size))


@dataclasses.dataclass(frozen=True)
class TrainingSet:
    """Pairs of one kind: where they come from and how they are tagged.

    Attributes:
      name: for the manifest.
      pairs: the pairs.
      sha256: of the file they were read from.
      direction: "forward", or "backward" for M_yx.
      tags: source tags after the instruction: "seed", "web" or both (paper, section 2.4).
    """

    name: str
    pairs: Sequence[Pair]
    sha256: str
    direction: str = "forward"
    tags: tuple[str, ...] = ()


def finetune(
    directory: PathLike,
    base: ModelHandle,
    training_sets: Sequence[TrainingSet],
    prompts: Prompts,
    config: FinetuneConfig,
    mesh_shape: MeshShape,
    rules: LogicalAxisRules,
) -> Stage:
    """Finetunes `base` on the union of the training sets; the product is DIRECTORY/model."""
    settings = {
        "finetune": config,
        "mesh": mesh_shape,
        "rules": rules,
        "chat_format": base.chat_format.name,
        "tags": {s.name: [s.direction, *s.tags] for s in training_sets},
        "prompts": prompts,
    }
    inputs = {"base": base.sha256} | {s.name: s.sha256 for s in training_sets}

    def body(folder: epath.Path) -> StageResult:
        check_layout(base.card.config, make_mesh(mesh_shape), rules, config.rows_per_microbatch, config.row_length)
        examples, counts = _examples(training_sets, base, prompts, config.row_length)
        num_steps = config.steps_for(examples)
        plan = plan_batches(
            examples,
            config.batch_size,
            config.row_length,
            config.rows_per_microbatch,
            config.seed,
            num_steps,
            config.packing,
            config.batch_unit,
        )
        card_sha256 = _train_and_save(folder, base, plan, config, mesh_shape, rules, inputs)
        figures = {"num_steps": num_steps, "packing_fill": round(plan.fill, 4)}
        return StageResult(counts, {"model": card_sha256}, figures)

    return run_stage(directory, settings, inputs, body)


def _examples(
    training_sets: Sequence[TrainingSet], base: ModelHandle, prompts: Prompts, row_length: int
) -> tuple[list[Example], dict[str, Any]]:
    """The examples of all sets, ids prefixed by their set's name, and the summed counts."""
    examples: list[Example] = []
    read = 0
    rejected: dict[str, int] = {}
    for training_set in training_sets:
        some, counts = supervised_examples(
            training_set.pairs,
            base.tokenizer,
            base.chat_format,
            training_set.direction,
            prompts,
            training_set.tags,
            row_length,
        )
        examples += [dataclasses.replace(example, id=f"{training_set.name}/{example.id}") for example in some]
        read += counts["read"]
        for reason, number in counts["rejected"].items():
            rejected[reason] = rejected.get(reason, 0) + number
    if not examples:
        raise ValueError(
            f"no training example is left of {read} pairs (rejected: {rejected}); raise FinetuneConfig.row_length "
            f"above {row_length}, or give other pairs"
        )
    return examples, {"in": read, "out": len(examples), "rejected": rejected}


def _train_and_save(
    folder: epath.Path,
    base: ModelHandle,
    plan: BatchPlan,
    config: FinetuneConfig,
    mesh_shape: MeshShape,
    rules: LogicalAxisRules,
    inputs: dict[str, str],
) -> str:
    """Trains unless DIRECTORY/model is there; returns the hash of its weights."""
    if is_model_folder(folder / "model"):
        return read_model_card(folder / "model").params_sha256 or str(folder / "model")
    llama, mesh = base.card.config, make_mesh(mesh_shape)
    model = Llama(
        llama,
        dtype=dtype_of(config.dtype),
        param_dtype=dtype_of(config.param_dtype),
        remat_policy=config.remat_policy,
        dropout_rates=dropout_rates(config.dropout, llama.num_layers, config.dropout_schedule),
        platform=mesh.devices.flat[0].platform,
    )
    params = train(
        model,
        lambda shardings: base.load_params(shardings, config.param_dtype),
        plan.batch,
        LoopConfig(plan.num_steps, config.checkpoint_period, config.seed, config.logits_chunk, config.z_loss),
        config.optimizer,
        mesh,
        rules,
        folder,
        run_identity=inputs,
        description=f"train {folder.name}",
    )
    card = save_model_folder(
        folder / "model",
        llama,
        params,
        base.path / "tokenizer",
        source=f"{base.card.source}, finetuned as {folder.name}",
        chat_template=base.chat_format.name,
        overwrite=True,
    )
    # The model folder now holds the result; checkpoints are three times its size.
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return card.params_sha256 or str(folder / "model")
