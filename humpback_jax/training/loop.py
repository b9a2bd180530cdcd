"""The training loop: from initial parameters or the newest checkpoint to trained parameters."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import Mesh

from humpback_jax.files import PathLike
from humpback_jax.models.llama import Llama
from humpback_jax.models.lora import LoraConfig, init_adapters
from humpback_jax.partitioning import LogicalAxisRules, batch_sharding, put_global, use_mesh
from humpback_jax.progress import progress_bar
from humpback_jax.training.checkpoints import Checkpoints
from humpback_jax.training.metrics import MetricsWriter, Monitoring
from humpback_jax.training.optimizer import OptimizerConfig, make_optimizer
from humpback_jax.training.profiling import Profiler
from humpback_jax.training.reports import Reports
from humpback_jax.training.state import TrainState, abstract_state, init_train_state, state_shardings
from humpback_jax.training.step import BATCH_AXES, TrainStep, make_train_step
from humpback_jax.training.throughput import Throughput, workload


class HostBatch(Protocol):
    """The examples of one update, packed: decoder_* features, each numpy [microbatches, rows, length]."""

    @property
    def arrays(self) -> dict[str, np.ndarray]: ...

    @property
    def num_microbatches(self) -> int: ...

    @property
    def example_ids(self) -> tuple[str, ...]: ...


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """How long to train and how often to save.

    Attributes:
      num_steps: updates.
      checkpoint_period: updates between checkpoints.
      seed: of dropout.
      logits_chunk: positions per row whose logits exist at one time.
      z_loss: weight of the squared log-normalizer of the logits.
      lora: train these adapters beside frozen weights; None trains the weights.
    """

    num_steps: int
    checkpoint_period: int = 500
    seed: int = 0
    logits_chunk: int = 256
    z_loss: float = 0.0
    lora: LoraConfig | None = None


def dropout_rates(rate: float, num_layers: int, schedule: str) -> tuple[float, ...] | None:
    """Residual dropout per layer: `constant`, or `linear` from 0 at the first layer to `rate` at the last (LIMA)."""
    if schedule not in ("constant", "linear"):
        raise ValueError(f"unknown dropout schedule {schedule!r}; choose constant or linear")
    if rate == 0.0:
        return None
    if schedule == "constant":
        return (rate,) * num_layers
    return tuple(rate * layer / max(num_layers - 1, 1) for layer in range(num_layers))


def train(
    model: Llama,
    initial_params: Callable[[Any], dict],
    batch_of_step: Callable[[int], HostBatch],
    config: LoopConfig,
    optimizer_config: OptimizerConfig,
    mesh: Mesh,
    rules: LogicalAxisRules,
    directory: PathLike,
    run_identity: dict[str, Any],
    description: str,
    monitoring: Monitoring = Monitoring(),  # noqa: B008 (immutable)
    figures: dict[str, Any] | None = None,
) -> dict:
    """Trains for `config.num_steps` updates and returns what was trained: the parameters, or the adapters of LoRA.

    Args:
      model: the decoder, with its dropout rates and remat policy.
      initial_params: called with the parameter shardings when there is no checkpoint to resume from; with LoRA always,
        for the frozen weights.
      batch_of_step: the batch of update 0, 1, 2, …; a function of its argument alone.
      config, optimizer_config: see `LoopConfig` and `OptimizerConfig`.
      mesh, rules: device mesh and logical axis rules.
      directory: holds `checkpoints/`, `metrics.jsonl` and `tensorboard/`.
      run_identity: JSON values that name this run; a checkpoint with other values is refused.
      description: shown beside the progress bar.
      monitoring: traces and further places for the metrics.
      figures: receives the rates and step-time percentiles of `Throughput.summary`.

    Raises:
      FloatingPointError: the loss is not finite; the message names the step and its examples.
    """
    leads = jax.process_index() == 0
    with use_mesh(mesh, rules), Checkpoints(f"{directory}/checkpoints", config.checkpoint_period) as checkpoints:
        state, first_step = _first_state(
            model, initial_params, checkpoints, config, optimizer_config, mesh, rules, run_identity
        )
        step_function = make_train_step(
            model, optimizer_config, mesh, rules, config.logits_chunk, config.z_loss, config.lora
        )
        run = _Run(step_function, batch_of_step, config, optimizer_config, mesh, rules)
        writer = MetricsWriter(directory, first_step, monitoring.wandb_project) if leads else None
        with (
            progress_bar(description, config.num_steps, "steps", done=first_step, show=leads) as bar,
            Profiler(directory, monitoring.profile_steps) as profiler,
        ):
            reports = Reports(writer, bar, Throughput(model.config, mesh.devices, frozen=config.lora is not None))
            for step in range(first_step, config.num_steps):
                profiler.start_if_first(step + 1)
                state = run.update(state, step, reports)
                profiler.stop_if_last(step + 1, reports.flush)
                if step + 1 < config.num_steps and checkpoints.due(step + 1):  # the caller keeps the last state
                    reports.flush()  # no state is saved whose loss was not looked at
                    checkpoints.save_if_due(state, step + 1, run_identity)
            summary = reports.close()
    if figures is not None:
        figures.update(summary)
    return state.params


def _first_state(
    model: Llama,
    initial_params: Callable[[Any], dict],
    checkpoints: Checkpoints,
    config: LoopConfig,
    optimizer_config: OptimizerConfig,
    mesh: Mesh,
    rules: LogicalAxisRules,
    run_identity: dict[str, Any],
) -> tuple[TrainState, int]:
    """(state, number of updates it has seen): of the newest checkpoint, or before the first update."""
    optimizer, lora = make_optimizer(optimizer_config), config.lora
    states = state_shardings(model, optimizer, mesh, rules, lora)
    restored = checkpoints.restore_latest(abstract_state(model, optimizer, states, lora), run_identity)
    if restored is None:
        if lora is None:
            trained = initial_params(states.params)
        else:
            adapters = lambda: init_adapters(model, lora, jax.random.key(config.seed))  # noqa: E731
            trained = jax.jit(adapters, out_shardings=states.params)()
        initialize = lambda p: init_train_state(p, optimizer)  # noqa: E731
        trained_states = states._replace(frozen=())
        restored = jax.jit(initialize, out_shardings=trained_states, donate_argnums=0)(trained), 0
    state, step = restored
    return (state if lora is None else state._replace(frozen=initial_params(states.frozen))), step


@dataclasses.dataclass(frozen=True)
class _Run:
    """What stays the same from update to update."""

    step_function: TrainStep
    batch_of_step: Callable[[int], HostBatch]
    config: LoopConfig
    optimizer_config: OptimizerConfig
    mesh: Mesh
    rules: LogicalAxisRules

    def update(self, state: TrainState, step: int, reports: Reports) -> TrainState:
        """Starts update number `step` (from 0); meanwhile `reports` reads the metrics of the one before."""
        started = time.monotonic()
        batch = self.batch_of_step(step)
        sharding = batch_sharding(self.mesh, self.rules, BATCH_AXES)
        arrays = {name: put_global(array, sharding) for name, array in batch.arrays.items()}
        learning_rate = self.optimizer_config.learning_rate_at(step, self.config.num_steps)
        state, metrics = self.step_function(
            state,
            arrays,
            np.int32(batch.num_microbatches),
            np.float32(learning_rate),
            jax.random.key(self.config.seed),
        )
        work = workload(batch.arrays, batch.num_microbatches, len(batch.example_ids))
        reports.add(step + 1, metrics, learning_rate, work, batch.example_ids, started)
        return state
