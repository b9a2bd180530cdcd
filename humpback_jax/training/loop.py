"""The training loop: from initial parameters or the newest checkpoint to trained parameters."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import Mesh

from humpback_jax.files import PathLike
from humpback_jax.models.llama import Llama
from humpback_jax.models.lora import LoraConfig, init_adapters
from humpback_jax.partitioning import LogicalAxisRules, batch_sharding, put_global, use_mesh
from humpback_jax.runtime.distributed import agree, peer_failures
from humpback_jax.runtime.progress import progress_bar
from humpback_jax.runtime.stopping import GO_ON, Stopped, deferred_stop, stop_requested
from humpback_jax.runtime.watchdog import watchdog
from humpback_jax.training.checkpoints import CheckpointConfig, Checkpoints
from humpback_jax.training.metrics import MetricsWriter, Monitoring
from humpback_jax.training.optimizer import OptimizerConfig, make_optimizer
from humpback_jax.training.profiling import Profiler
from humpback_jax.training.reports import Reports
from humpback_jax.training.state import TrainState, abstract_state, init_train_state, state_shardings
from humpback_jax.training.step import BATCH_AXES, TrainStep, make_train_step
from humpback_jax.training.throughput import Throughput, workload

FIRST_UPDATE_FACTOR = 4  # the first update compiles


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
      seed: of dropout.
      logits_chunk: positions per row whose logits exist at one time.
      z_loss: weight of the squared log-normalizer of the logits.
      checkpoints: when the state is saved.
      step_limit_minutes: an update that takes longer ends the process, the first one after four times as long; None
        sets no limit.
      resume: a checkpoint of another run directory, to go on from with everything where this one has none yet.
      cast_on_resume: convert what was saved in another dtype instead of refusing it.
      lora: train these adapters beside frozen weights; None trains the weights.
    """

    num_steps: int
    seed: int = 0
    logits_chunk: int = 256
    z_loss: float = 0.0
    checkpoints: CheckpointConfig = CheckpointConfig()
    step_limit_minutes: float | None = 30.0
    resume: str | None = None
    cast_on_resume: bool = False
    lora: LoraConfig | None = None

    def step_limit_seconds(self, *, first: bool) -> float | None:
        """How long an update may take."""
        if self.step_limit_minutes is None:
            return None
        return 60 * self.step_limit_minutes * (FIRST_UPDATE_FACTOR if first else 1)


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
      ConnectionError: another process died.
      Stopped: SIGTERM came; the state is saved.
    """
    leads = jax.process_index() == 0
    with (
        use_mesh(mesh, rules),
        deferred_stop(),
        Checkpoints(f"{directory}/checkpoints", config.checkpoints) as checkpoints,
    ):
        run = _Run(model, batch_of_step, config, optimizer_config, mesh, rules)
        state, first_step = run.first_state(initial_params, checkpoints, run_identity)
        writer = MetricsWriter(directory, first_step, monitoring.wandb_project) if leads else None
        with (
            progress_bar(description, config.num_steps, "steps", done=first_step, show=leads) as bar,
            Profiler(directory, monitoring.profile_steps) as profiler,
        ):
            reports = Reports(writer, bar, Throughput(model.config, mesh.devices, frozen=config.lora is not None))
            for step in range(first_step, config.num_steps):
                profiler.start_if_first(step + 1)
                with _guarded(step, config, first=step == first_step):
                    state = run.update(state, step, reports)
                    profiler.stop_if_last(step + 1, reports.flush)
                    stop, save = _signals(checkpoints, step + 1, config.num_steps, reports)
                _save_or_stop(checkpoints, state, step + 1, run_identity, stop=stop, save=save)
            with _guarded(config.num_steps - 1, config, first=False):
                summary = reports.close()
    if figures is not None:
        figures.update(summary)
    return state.params


@contextlib.contextmanager
def _guarded(step: int, config: LoopConfig, *, first: bool) -> Iterator[None]:
    """Update `step` (from 0) under its time limit, and with a word about other processes where it fails."""
    what = f"update {step + 1}"
    advice = (
        "a device or another process hangs: look at the logs of all processes, then run the same command again; where "
        "it is only slow, raise step_limit_minutes"
    )
    with watchdog(what, config.step_limit_seconds(first=first), advice), peer_failures(what):
        yield


def _signals(checkpoints: Checkpoints, step: int, num_steps: int, reports: Reports) -> tuple[bool, bool]:
    """Whether the run is to stop after update `step`, and whether to save; the same in all processes."""
    checkpoints.check()
    stop, temporary = agree(stop_requested(), checkpoints.temporary_due())
    finished = step == num_steps  # the caller keeps the last state
    save = checkpoints.permanent_due(step) or ((stop or temporary) and not finished)
    if save:
        reports.flush()  # no state is saved whose loss was not looked at
    return stop and not finished, save


def _save_or_stop(
    checkpoints: Checkpoints, state: TrainState, step: int, meta: dict[str, Any], *, stop: bool, save: bool
) -> None:
    """Does what `_signals` says."""
    if save:
        with peer_failures(f"saving checkpoint {step}"):
            checkpoints.save(state, step, meta)
    if stop:
        raise Stopped(f"stopped by SIGTERM after update {step}; {GO_ON}")


@dataclasses.dataclass(frozen=True)
class _Run:
    """What stays the same from update to update."""

    model: Llama
    batch_of_step: Callable[[int], HostBatch]
    config: LoopConfig
    optimizer_config: OptimizerConfig
    mesh: Mesh
    rules: LogicalAxisRules

    @property
    def step_function(self) -> TrainStep:
        """The compiled update; cached by `make_train_step`."""
        config = self.config
        return make_train_step(
            self.model, self.optimizer_config, self.mesh, self.rules, config.logits_chunk, config.z_loss, config.lora
        )

    def first_state(
        self, initial_params: Callable[[Any], dict], checkpoints: Checkpoints, run_identity: dict[str, Any]
    ) -> tuple[TrainState, int]:
        """(state, number of updates it has seen): of the newest checkpoint, of `resume`, or before the first."""
        optimizer, lora = make_optimizer(self.optimizer_config), self.config.lora
        states = state_shardings(self.model, optimizer, self.mesh, self.rules, lora)
        abstract, cast = abstract_state(self.model, optimizer, states, lora), self.config.cast_on_resume
        restored = checkpoints.restore_latest(abstract, run_identity, cast)
        if restored is None and self.config.resume is not None:
            restored = checkpoints.restore(self.config.resume, abstract, run_identity, cast)
        if restored is None:
            if lora is None:
                trained = initial_params(states.params)
            else:
                adapters = lambda: init_adapters(self.model, lora, jax.random.key(self.config.seed))  # noqa: E731
                trained = jax.jit(adapters, out_shardings=states.params)()
            initialize = lambda p: init_train_state(p, optimizer)  # noqa: E731
            trained_states = states._replace(frozen=())
            restored = jax.jit(initialize, out_shardings=trained_states, donate_argnums=0)(trained), 0
        state, step = restored
        return (state if lora is None else state._replace(frozen=initial_params(states.frozen))), step

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
