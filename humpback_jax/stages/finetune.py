"""Finetuning from base: M_yx on reversed seed pairs, M_0 on seed pairs, M_t on seed and curated pairs."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from etils import epath
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from humpback_jax.data.batching import BatchConfig, BatchPlan, plan_batches, stream_indices
from humpback_jax.data.examples import Example
from humpback_jax.data.mixture import TrainingMixture
from humpback_jax.data.readers import SEQIO, read_examples
from humpback_jax.files import PathLike, sha256_of_file, write_jsonl
from humpback_jax.models.config import LlamaConfig
from humpback_jax.models.dtypes import dtype_of
from humpback_jax.models.llama import Llama, abstract_params
from humpback_jax.models.lora import LoraConfig, merge_adapters
from humpback_jax.partitioning import LogicalAxisRules, MeshShape, make_mesh
from humpback_jax.prompts.prompts import BOTH_TAGS
from humpback_jax.ranges import check_fields
from humpback_jax.run_files import ADAPTER, CHECKPOINTS, MODEL, TRAINED_ON
from humpback_jax.runtime.distributed import agree
from humpback_jax.runtime.processes import is_leader
from humpback_jax.runtime.stopping import GO_ON, Stopped, deferred_stop, stop_requested
from humpback_jax.runtime.watchdog import watchdog
from humpback_jax.stages.model import ModelHandle
from humpback_jax.stages.stage import Identity, Stage, StageResult, begin_stage, plain
from humpback_jax.training.checkpoints import checkpoint_folder, delete_temporary, restore_params
from humpback_jax.training.config import CheckpointConfig, ComputeConfig, LoopConfig, deciding_fields
from humpback_jax.training.layout import check_layout, rows_on
from humpback_jax.training.loop import RunRecord, train
from humpback_jax.training.monitoring import Monitoring
from humpback_jax.training.optimizer import OptimizerConfig
from humpback_jax.training.step import TrainSetup
from humpback_jax.weights.adapters import WEIGHTS, write_adapter
from humpback_jax.weights.model_folder import (
    ModelCard,
    is_model_folder,
    load_model_folder,
    read_model_card,
    save_model_folder,
)


@dataclasses.dataclass(frozen=True)
class FinetuneConfig:
    """One finetuning run; the defaults are the paper's where it gives any.

    Attributes:
      batches: what an update reads.
      loop: how many updates there are.
      checkpoints: what the run starts from, and when it is saved.
      compute: dtypes, memory, dropout.
      optimizer: AdamW and its schedule.
      lora: train low-rank adapters beside the weights, which then take the memory of `compute.dtype` only; None trains
        all weights. Adapters want a higher learning rate, 1e-4 or more.
    """

    batches: BatchConfig = BatchConfig()
    loop: LoopConfig = LoopConfig()
    checkpoints: CheckpointConfig = CheckpointConfig()
    compute: ComputeConfig = ComputeConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    lora: LoraConfig | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def identity(self) -> dict[str, Any]:
        """All that decides the result, as manifests name it: by the fields' own names, whatever group they are in."""
        groups = (self.batches, self.loop, self.checkpoints, self.compute)
        fields = {name: value for group in groups for name, value in deciding_fields(group).items()}
        return plain(fields | {"optimizer": self.optimizer, "lora": self.lora})

    def steps_for(self, num_examples: int, num_tokens: float) -> tuple[int, int]:
        """(updates, batch size) for these examples; counted in tokens, as if no row had padding."""
        loop, batches = self.loop, self.batches
        if loop.num_steps is not None:
            return loop.num_steps, batches.batch_size
        if loop.step_table and batches.batch_unit == "tokens":
            raise ValueError(
                "LoopConfig.step_table counts batches in examples; drop it, or BatchConfig.batch_unit = 'tokens'"
            )
        if loop.step_table:
            row = next((row for row in loop.step_table if row[0] >= num_examples), loop.step_table[-1])
            return row[2], row[1]
        total = num_tokens if batches.batch_unit == "tokens" else num_examples
        return max(1, round(loop.epochs * total / batches.batch_size)), batches.batch_size

    def setup(self, llama: LlamaConfig, mesh: Mesh, rules: LogicalAxisRules) -> TrainSetup:
        """What is trained, how, and where it lies."""
        compute = self.compute
        model = compute.model(llama, mesh.devices.flat[0].platform)
        return TrainSetup(model, mesh, rules, self.optimizer, self.lora, compute.logits_chunk, compute.z_loss)

    def plan(self, examples: Sequence[Example], rows_per_microbatch: int | None = None) -> BatchPlan:
        """What every update on these examples reads, in microbatches of the config's rows or of these."""
        num_steps, batch_size = self.steps_for(len(examples), sum(example.num_positions for example in examples))
        batches = dataclasses.replace(self.batches, batch_size=batch_size)
        return plan_batches(examples, batches, num_steps, rows_per_microbatch)


def finetune(
    directory: PathLike,
    base: ModelHandle,
    mixture: TrainingMixture,
    config: FinetuneConfig,
    mesh_shape: MeshShape,
    rules: LogicalAxisRules,
    monitoring: Monitoring = Monitoring(),  # noqa: B008 (immutable)
    reader: str = SEQIO,
    answer_tags: Sequence[str] = BOTH_TAGS,
) -> Stage:
    """Finetunes `base` on the union of the mixture's sets; the product is DIRECTORY/model.

    Where `jax.distributed` is on, all processes train together. The mesh, its rules, the `reader` of the data (see
    `read_examples`) and operational settings are no part of the stage's identity: a run may go on elsewhere. With LoRA
    the model has its adapters merged, and DIRECTORY/adapter holds them as a PEFT folder. The model folder keeps what
    training decided, with `answer_tags`, those of instructions that the model is asked.
    """
    settings, inputs = model_identity(base.sha256, mixture, config)
    claim = begin_stage(directory, settings, inputs, shared=jax.process_count() > 1, replaces=True)
    if claim.finished:
        return claim.stage
    folder, mesh = claim.folder, make_mesh(mesh_shape)
    rows = rows_on(mesh, rules, config.batches.rows_per_microbatch)
    check_layout(base.card.config, mesh, rules, rows, config.batches.row_length)
    window = base.card.config.max_position_embeddings
    read = read_examples(mixture, config.batches.row_length, reader, window)
    plan = config.plan(read.examples, rows)
    figures: dict[str, Any] = {"num_steps": plan.num_steps, "packing_fill": round(plan.fill, 4)}
    figures |= {"num_devices": jax.device_count(), "data_reader": read.reader, "sets": read.sets}
    if not is_model_folder(folder / MODEL):
        setup = config.setup(base.card.config, mesh, rules)
        # As the recipe has them: a checkpoint may be gone on from on another number of devices.
        batches = dataclasses.replace(plan.config, rows_per_microbatch=config.batches.rows_per_microbatch)
        record = RunRecord(folder, data_identity(base.sha256, mixture) | plain(batches), monitoring)
        model_card = dataclasses.replace(
            base.card,
            source=f"{base.card.source}, finetuned as {folder.name}",
            chat_format=base.chat_format.name,
            tags=inference_tags(mixture, answer_tags),
            training={"stage": folder.name, "base": base.card.source, "base_name": base.card.config.name}
            | {"counts": read.counts, "num_steps": plan.num_steps, "batch_size": plan.config.batch_size}
            | settings,
        )
        if is_leader():
            write_jsonl(folder / TRAINED_ON, updates_of_examples(plan))
        figures |= train_and_save(base, plan, config, setup, record, model_card)
    if is_leader():  # the model folder now holds the result; checkpoints are three times its size
        delete_temporary(folder / CHECKPOINTS, config.checkpoints.period)
    if not is_leader():
        return claim.finish(None)
    outputs = {"model": read_model_card(folder / MODEL).params_sha256 or str(folder / MODEL)}
    if config.lora is not None:
        outputs["adapter"] = sha256_of_file(folder / ADAPTER / WEIGHTS)
    return claim.finish(StageResult(read.counts, outputs, figures))


def updates_of_examples(plan: BatchPlan) -> Iterator[dict[str, Any]]:
    """{"id", "updates"} of every example in the order of the data: the updates that read it, counted from 1."""
    number = len(plan.examples)
    places: list[list[int]] = [[] for _ in range(number)]
    for step, (start, end) in enumerate(itertools.pairwise(plan.starts), start=1):
        for index in stream_indices(range(start, end), number, plan.seed):
            places[index].append(step)
    for example, updates in zip(plan.examples, places, strict=True):
        yield {"id": example.id, "updates": updates}


def data_identity(base: str, mixture: TrainingMixture) -> dict[str, Any]:
    """What decides the order and the ids of the examples, with the hash of the base model; of the texts those read."""
    texts: dict[str, str] = {}
    for pair_set in mixture.sets:
        texts |= mixture.prompts.tag_texts(pair_set.tags)
        if pair_set.direction == "backward":
            texts["backward_template"] = mixture.prompts.backward_template
    return {
        "base": base,
        **mixture.hashes(),
        "chat_format": mixture.chat_format.name,
        "tags": {s.name: [s.direction, *s.tags] for s in mixture.sets},
        "prompts": texts,
    }


def model_identity(base: str, mixture: TrainingMixture, config: FinetuneConfig) -> Identity:
    """What decides a model, with the hash of the base model."""
    data = data_identity(base, mixture)
    settings = {"finetune": config.identity()} | {name: data[name] for name in ("chat_format", "tags", "prompts")}
    return settings, {"base": base} | mixture.hashes() | start_of_training(config.checkpoints)


def inference_tags(mixture: TrainingMixture, answer_tags: Sequence[str]) -> str:
    """What is appended to a user turn when the model is asked; nothing for a model that writes instructions."""
    if any(pair_set.direction == "backward" for pair_set in mixture.sets):
        return ""
    return mixture.prompts.tagged("", answer_tags).strip()


def start_of_training(config: CheckpointConfig) -> dict[str, str]:
    """What names the start of a run among its inputs: weights by their hash, a checkpoint by its path."""
    if config.resume:
        return {"resume": str(config.resume)}
    if config.init_from is None:
        return {}
    if is_model_folder(config.init_from):
        return {"init_from": read_model_card(config.init_from).params_sha256 or config.init_from}
    return {"init_from": str(checkpoint_folder(config.init_from))}


def train_and_save(
    base: ModelHandle,
    plan: BatchPlan,
    config: FinetuneConfig,
    setup: TrainSetup,
    record: RunRecord,
    card: ModelCard,
) -> dict[str, float]:
    """Trains and writes the model with its card, and with LoRA its adapters before it; returns the speed.

    SIGTERM waits for a whole checkpoint or model.
    """
    folder = epath.Path(record.directory)
    # Frozen weights enter every product in the compute dtype, so that is all that LoRA keeps of them.
    dtype = config.compute.param_dtype if config.lora is None else config.compute.dtype
    load = functools.partial(initial_params, base, config.checkpoints.init_from)
    with deferred_stop():
        trained = train(setup, plan, functools.partial(load, dtype), record, config.loop, config.checkpoints)
        advice = "look at the disk, then run the same command again"
        with watchdog(f"saving {folder / MODEL}", config.checkpoints.save_limit_seconds, advice):
            params = trained.params
            if config.lora is not None:
                params = _save_and_merge(folder, setup, params, functools.partial(load, config.compute.param_dtype))
            save_model_folder(
                folder / MODEL,
                base.card.config,
                params,
                base.path / "tokenizer",
                source=card.source,
                chat_format=card.chat_format,
                tags=card.tags,
                training=card.training,
                overwrite=True,
            )
        if agree(stop_requested())[0]:
            raise Stopped(f"stopped by SIGTERM after {folder.name} was trained; {GO_ON}")
    return trained.figures


def initial_params(base: ModelHandle, init_from: str | None, dtype: str, shardings: dict) -> dict:
    """The weights before the first update: of the base model, or of a model folder or checkpoint."""
    if init_from is None:
        return base.load_params(shardings, dtype)
    if is_model_folder(init_from):
        if read_model_card(init_from).config != base.card.config:
            raise ValueError(f"init_from {init_from} has another architecture than the base model {base.path}")
        return load_model_folder(init_from, shardings, dtype_of(dtype)).params
    place = functools.partial(jax.ShapeDtypeStruct, dtype=dtype_of(dtype))
    shapes = abstract_params(Llama(base.card.config))
    return restore_params(
        init_from, jax.tree.map(lambda leaf, sharding: place(leaf.shape, sharding=sharding), shapes, shardings)
    )


def _save_and_merge(folder: epath.Path, setup: TrainSetup, adapters: dict, load: Callable[[dict], dict]) -> dict:
    """Writes FOLDER/adapter; returns the first weights in `param_dtype` with the adapters added, sharded as trained."""
    config, lora, placed = setup.model.config, setup.lora, setup.state_shardings().frozen
    assert lora is not None
    # Small enough for every process to hold all of it.
    everywhere = NamedSharding(setup.mesh, PartitionSpec())
    adapters = jax.jit(lambda tree: tree, out_shardings=everywhere)(adapters)
    if is_leader():
        write_adapter(folder / ADAPTER, config, lora, jax.device_get(adapters), base=config.name)
    merge = jax.jit(merge_adapters, static_argnums=2, out_shardings=placed, donate_argnums=0)
    return merge(load(placed), adapters, lora)
