"""Finetuning from base: M_yx on reversed seed pairs, M_0 on seed pairs, M_t on seed and curated pairs."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
from etils import epath
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from humpback_jax.data.batching import BatchPlan, plan_batches
from humpback_jax.data.examples import Example
from humpback_jax.data.mixture import SEQIO, TrainingMixture, read_examples
from humpback_jax.files import PathLike, sha256_of_file
from humpback_jax.models.config import LlamaConfig
from humpback_jax.models.dtypes import dtype_of
from humpback_jax.models.llama import Llama, abstract_params, logical_specs
from humpback_jax.models.lora import LoraConfig, merge_adapters
from humpback_jax.partitioning import LogicalAxisRules, MeshShape, make_mesh, shardings
from humpback_jax.runtime.distributed import agree
from humpback_jax.runtime.processes import is_leader
from humpback_jax.runtime.stopping import GO_ON, Stopped, deferred_stop, stop_requested
from humpback_jax.runtime.watchdog import watchdog
from humpback_jax.stages.model import ModelHandle
from humpback_jax.stages.stage import Stage, StageResult, plain, run_stage
from humpback_jax.training.checkpoints import (
    CheckpointConfig,
    checkpoint_folder,
    delete_temporary,
    restore_params,
)
from humpback_jax.training.layout import check_layout
from humpback_jax.training.loop import LoopConfig, dropout_rates, train
from humpback_jax.training.metrics import Monitoring
from humpback_jax.training.optimizer import OptimizerConfig
from humpback_jax.weights.adapters import ADAPTER, WEIGHTS, write_adapter
from humpback_jax.weights.model_folder import is_model_folder, load_model_folder, read_model_card, save_model_folder

# Fields of FinetuneConfig that do not change what a run computes: they may change when it is started again.
OPERATIONAL = ("checkpoint_minutes", "checkpoint_period", "step_limit_minutes", "save_limit_minutes", "cast_on_resume")
# Fields that decide which data an update reads: they must agree where a run goes on from the checkpoint of another.
DATA_ORDER = ("batch_size", "batch_unit", "row_length", "rows_per_microbatch", "packing", "seed")


@dataclasses.dataclass(frozen=True)
class FinetuneConfig:
    """One finetuning run; the defaults are the paper's where it gives any.

    Attributes:
      num_steps: updates; None lets `step_table` or `epochs` decide.
      step_table: rows of (examples, batch size, updates), ascending, when `num_steps` is None: the first row with room
        for the examples counts, or the last one, and its batch size in the place of `batch_size` (paper, Table 18).
      epochs: passes over the examples when there is neither; the paper's 500 steps of 32 on 3,200 seeds are 5.
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
      gradient_dtype: of the weights' gradients as devices sum them, `float32`, or `bfloat16`, which halves what they
        exchange and the memory for it; clipping and the moments are float32 either way.
      remat_policy: a name in `humpback_jax.models.llama.REMAT_POLICIES`.
      logits_chunk: positions per row whose logits exist at one time.
      z_loss: weight of the squared log-normalizer of the logits, added to the loss of every token.
      optimizer: AdamW and its schedule.
      checkpoint_minutes: between temporary checkpoints, of which the newest is kept until the model is written.
      checkpoint_period: updates between permanent checkpoints, which stay; None makes none.
      step_limit_minutes, save_limit_minutes: an update or a save that takes longer ends the process; None: no limit.
      init_from: weights to start from instead of the base model's, and nothing else: a model folder, or a checkpoint.
      resume: a checkpoint of another run on the same data, to go on from with weights, moments and step. A run goes
        on from its own newest checkpoint without being told to.
      cast_on_resume: convert a checkpoint that was saved in another dtype instead of refusing it.
      lora: train low-rank adapters beside the weights, which then take the memory of `dtype` only; None trains all
        weights. Adapters want a higher learning rate, 1e-4 or more.
    """

    num_steps: int | None = None
    step_table: tuple[tuple[int, int, int], ...] | None = None
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
    gradient_dtype: str = "float32"
    remat_policy: str = "full"
    logits_chunk: int = 256
    z_loss: float = 0.0
    optimizer: OptimizerConfig = OptimizerConfig()
    checkpoint_minutes: float | None = 10.0
    checkpoint_period: int | None = None
    step_limit_minutes: float | None = 30.0
    save_limit_minutes: float | None = 30.0
    init_from: str | None = None
    resume: str | None = None
    cast_on_resume: bool = False
    lora: LoraConfig | None = None

    def __post_init__(self) -> None:
        if self.init_from is not None and self.resume is not None:
            raise ValueError("init_from (weights only) and resume (everything) exclude each other; give one of them")

    def steps_for(self, examples: Sequence[Example]) -> tuple[int, int]:
        """(updates, batch size) for these examples; counted in tokens, as if no row had padding."""
        if self.num_steps is not None:
            return self.num_steps, self.batch_size
        if self.step_table and self.batch_unit == "tokens":
            raise ValueError("FinetuneConfig: step_table counts batches in examples; drop it, or batch_unit = 'tokens'")
        if self.step_table:
            row = next((row for row in self.step_table if row[0] >= len(examples)), self.step_table[-1])
            return row[2], row[1]
        total = sum(e.num_positions for e in examples) if self.batch_unit == "tokens" else len(examples)
        return max(1, round(self.epochs * total / self.batch_size)), self.batch_size

    def model(self, llama: LlamaConfig, platform: str) -> Llama:
        """The decoder that is trained."""
        return Llama(
            llama,
            dtype=dtype_of(self.dtype),
            param_dtype=dtype_of(self.param_dtype),
            remat_policy=self.remat_policy,
            dropout_rates=dropout_rates(self.dropout, llama.num_layers, self.dropout_schedule),
            platform=platform,
            gradient_dtype=dtype_of(self.gradient_dtype),
        )


def finetune(
    directory: PathLike,
    base: ModelHandle,
    mixture: TrainingMixture,
    config: FinetuneConfig,
    mesh_shape: MeshShape,
    rules: LogicalAxisRules,
    monitoring: Monitoring = Monitoring(),  # noqa: B008 (immutable)
    reader: str = SEQIO,
) -> Stage:
    """Finetunes `base` on the union of the mixture's sets; the product is DIRECTORY/model.

    Where `jax.distributed` is on, all processes train together. The mesh, its rules, the `reader` of the data (see
    `read_examples`) and what `OPERATIONAL` names are no part of the stage's identity: a run may go on elsewhere. With
    LoRA the model has its adapters merged, and DIRECTORY/adapter holds them as a PEFT folder.
    """
    data = {
        "chat_format": mixture.chat_format.name,
        "tags": {s.name: [s.direction, *s.tags] for s in mixture.sets},
        "prompts": plain(mixture.prompts),
    }
    inputs = {"base": base.sha256} | mixture.hashes()
    fields = {name: value for name, value in plain(config).items() if name not in OPERATIONAL}

    def body(folder: epath.Path) -> StageResult | None:
        check_layout(base.card.config, make_mesh(mesh_shape), rules, config.rows_per_microbatch, config.row_length)
        read = read_examples(mixture, config.row_length, reader)
        num_steps, batch_size = config.steps_for(read.examples)
        plan = plan_batches(
            read.examples,
            batch_size,
            config.row_length,
            config.rows_per_microbatch,
            config.seed,
            num_steps,
            config.packing,
            config.batch_unit,
        )
        order = {name: fields[name] for name in DATA_ORDER} | {"batch_size": batch_size}
        identity = inputs | data | order
        figures: dict[str, Any] = {"num_steps": num_steps, "packing_fill": round(plan.fill, 4)}
        figures |= {"num_devices": jax.device_count(), "data_reader": read.reader}
        if not is_model_folder(folder / "model"):
            _train_and_save(folder, base, plan, config, make_mesh(mesh_shape), rules, identity, monitoring, figures)
        if jax.process_index() == 0:  # the model folder now holds the result; checkpoints are three times its size
            delete_temporary(folder / "checkpoints", config.checkpoint_period)
        if not is_leader():
            return None
        outputs = {"model": read_model_card(folder / "model").params_sha256 or str(folder / "model")}
        if config.lora is not None:
            outputs["adapter"] = sha256_of_file(folder / ADAPTER / WEIGHTS)
        return StageResult(read.counts, outputs, figures)

    start = _source_of_weights(config.init_from) | ({"resume": str(config.resume)} if config.resume else {})
    return run_stage(directory, {"finetune": fields} | data, inputs | start, body, shared=jax.process_count() > 1)


def _source_of_weights(init_from: str | None) -> dict[str, str]:
    """What names the weights of `init_from` among the inputs: their hash, or the one checkpoint they come from."""
    if init_from is None:
        return {}
    if is_model_folder(init_from):
        return {"init_from": read_model_card(init_from).params_sha256 or init_from}
    return {"init_from": str(checkpoint_folder(init_from))}


def _train_and_save(
    folder: epath.Path,
    base: ModelHandle,
    plan: BatchPlan,
    config: FinetuneConfig,
    mesh: Mesh,
    rules: LogicalAxisRules,
    run_identity: dict[str, Any],
    monitoring: Monitoring,
    figures: dict[str, Any],
) -> None:
    """Trains and writes FOLDER/model, and with LoRA FOLDER/adapter before it; `figures` receives the speed.

    SIGTERM waits for a whole checkpoint or model.
    """
    model = config.model(base.card.config, mesh.devices.flat[0].platform)
    # Frozen weights enter every product in the compute dtype, so that is all that LoRA keeps of them.
    dtype = config.param_dtype if config.lora is None else config.dtype
    with deferred_stop():
        trained = train(
            model,
            _initial_params(model, base, config.init_from, dtype),
            plan.batch,
            _loop_config(config, plan.num_steps),
            config.optimizer,
            mesh,
            rules,
            folder,
            run_identity=run_identity,
            description=f"train {folder.name}",
            monitoring=monitoring,
            figures=figures,
        )
        limit = None if config.save_limit_minutes is None else 60 * config.save_limit_minutes
        with watchdog(f"saving {folder / 'model'}", limit, "look at the disk, then run the same command again"):
            if config.lora is not None:
                trained = _adapters_saved_and_merged(folder, base, model, trained, config, mesh, rules)
            save_model_folder(
                folder / "model",
                model.config,
                trained,
                base.path / "tokenizer",
                source=f"{base.card.source}, finetuned as {folder.name}",
                chat_format=base.chat_format.name,
                overwrite=True,
            )
        if agree(stop_requested())[0]:
            raise Stopped(f"stopped by SIGTERM after {folder.name} was trained; {GO_ON}")


def _loop_config(config: FinetuneConfig, num_steps: int) -> LoopConfig:
    return LoopConfig(
        num_steps,
        seed=config.seed,
        logits_chunk=config.logits_chunk,
        z_loss=config.z_loss,
        checkpoints=CheckpointConfig(config.checkpoint_minutes, config.checkpoint_period, config.save_limit_minutes),
        step_limit_minutes=config.step_limit_minutes,
        resume=config.resume,
        cast_on_resume=config.cast_on_resume,
        lora=config.lora,
    )


def _initial_params(model: Llama, base: ModelHandle, init_from: str | None, dtype: str) -> Callable[[dict], dict]:
    """Loads the weights before the first update: of the base model, or of a model folder or checkpoint."""
    if init_from is None:
        return lambda shardings: base.load_params(shardings, dtype)
    if is_model_folder(init_from):
        if read_model_card(init_from).config != base.card.config:
            raise ValueError(f"init_from {init_from} has another architecture than the base model {base.path}")
        return lambda shardings: load_model_folder(init_from, shardings, dtype_of(dtype)).params

    def from_checkpoint(shardings: dict) -> dict:
        place = lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, dtype_of(dtype), sharding=sharding)  # noqa: E731
        return restore_params(init_from, jax.tree.map(place, abstract_params(model), shardings))

    return from_checkpoint


def _adapters_saved_and_merged(
    folder: epath.Path,
    base: ModelHandle,
    model: Llama,
    adapters: dict,
    config: FinetuneConfig,
    mesh: Mesh,
    rules: LogicalAxisRules,
) -> dict:
    """Writes FOLDER/adapter; returns the first weights in `param_dtype` with the adapters added, sharded as trained."""
    lora = config.lora
    assert lora is not None
    # Small enough for every process to hold all of it.
    adapters = jax.jit(lambda tree: tree, out_shardings=NamedSharding(mesh, PartitionSpec()))(adapters)
    if jax.process_index() == 0:
        write_adapter(folder / ADAPTER, model.config, lora, jax.device_get(adapters), base=model.config.name)
    placed = shardings(mesh, rules, logical_specs(model), abstract_params(model))
    merge = jax.jit(lambda params, own: merge_adapters(params, own, lora), out_shardings=placed, donate_argnums=0)
    return merge(_initial_params(model, base, config.init_from, config.param_dtype)(placed), adapters)
