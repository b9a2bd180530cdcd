"""The training loop: from initial parameters or the newest checkpoint to trained parameters."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import Mesh

from humpback_jax.distributed import agree, peer_failures
from humpback_jax.files import PathLike
from humpback_jax.models.llama import Llama
from humpback_jax.partitioning import LogicalAxisRules, batch_sharding, put_global, use_mesh
from humpback_jax.progress import progress_bar
from humpback_jax.stopping import GO_ON, Stopped, deferred_stop, stop_requested
from humpback_jax.training.checkpoints import CheckpointConfig, Checkpoints
from humpback_jax.training.metrics import MetricsWriter
from humpback_jax.training.optimizer import OptimizerConfig, make_optimizer
from humpback_jax.training.state import TrainState, abstract_state, init_train_state, state_shardings
from humpback_jax.training.step import BATCH_AXES, TrainStep, make_train_step
from humpback_jax.watchdog import watchdog

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
    """

    num_steps: int
    seed: int = 0
    logits_chunk: int = 256
    z_loss: float = 0.0
    checkpoints: CheckpointConfig = CheckpointConfig()
    step_limit_minutes: float | None = 30.0
    resume: str | None = None
    cast_on_resume: bool = False

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
) -> dict:
    """Trains for `config.num_steps` updates and returns the parameters.

    Args:
      model: the decoder, with its dropout rates and remat policy.
      initial_params: called with the parameter shardings when there is no checkpoint to resume from.
      batch_of_step: the batch of update 0, 1, 2, …; a function of its argument alone.
      config: see `LoopConfig`.
      optimizer_config: see `OptimizerConfig`.
      mesh: device mesh.
      rules: logical axis rules.
      directory: holds `checkpoints/`, `metrics.jsonl` and `tensorboard/`.
      run_identity: JSON values that name this run; a checkpoint with other values is refused.
      description: shown beside the progress bar.

    Raises:
      FloatingPointError: the loss is not finite; the message names the step and its examples.
      ConnectionError: another process died.
      Stopped: SIGTERM came; the state is saved.
    """
    with (
        use_mesh(mesh, rules),
        deferred_stop(),
        Checkpoints(f"{directory}/checkpoints", config.checkpoints) as checkpoints,
    ):
        state, first_step = _first_state(
            model, initial_params, checkpoints, config, optimizer_config, mesh, rules, run_identity
        )
        step_function = make_train_step(model, optimizer_config, mesh, rules, config.logits_chunk, config.z_loss)
        run = _Run(step_function, batch_of_step, config, optimizer_config, mesh, rules)
        writer = MetricsWriter(directory, first_step) if jax.process_index() == 0 else None
        with progress_bar(
            description, config.num_steps, "steps", done=first_step, show=jax.process_index() == 0
        ) as bar:
            for step in range(first_step, config.num_steps):
                with _guarded(step, config, first=step == first_step):
                    state, metrics = run.update(state, step)
                if writer is not None:
                    writer.write(step + 1, metrics)
                bar.advance(loss=metrics["loss"], tokens_per_second=round(metrics["tokens_per_second"]))
                _save_or_stop(checkpoints, state, step + 1, config.num_steps, run_identity)
        if writer is not None:
            writer.close()
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
    """(state, number of updates it has seen): of the newest checkpoint, of `config.resume`, or before the first."""
    optimizer = make_optimizer(optimizer_config)
    states = state_shardings(model, optimizer, mesh, rules)
    abstract, cast = abstract_state(model, optimizer, states), config.cast_on_resume
    if (restored := checkpoints.restore_latest(abstract, run_identity, cast)) is not None:
        return restored
    if config.resume is not None:
        return checkpoints.restore(config.resume, abstract, run_identity, cast)
    initialize = jax.jit(lambda p: init_train_state(p, optimizer), out_shardings=states, donate_argnums=0)
    return initialize(initial_params(states.params)), 0


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


def _save_or_stop(checkpoints: Checkpoints, state: TrainState, step: int, num_steps: int, meta: dict[str, Any]) -> None:
    """Saves where it is time to, and ends the run where a process was told to stop, all processes at the same step."""
    checkpoints.check()
    with peer_failures(f"the processes' agreement after update {step}"):
        stop, temporary = agree(stop_requested(), checkpoints.temporary_due())
    finished = step == num_steps  # the caller keeps the last state
    if checkpoints.permanent_due(step) or ((stop or temporary) and not finished):
        with peer_failures(f"saving checkpoint {step}"):
            checkpoints.save(state, step, meta)
    if stop and not finished:
        raise Stopped(f"stopped by SIGTERM after update {step}; {GO_ON}")


@dataclasses.dataclass(frozen=True)
class _Run:
    """What stays the same from update to update."""

    step_function: TrainStep
    batch_of_step: Callable[[int], HostBatch]
    config: LoopConfig
    optimizer_config: OptimizerConfig
    mesh: Mesh
    rules: LogicalAxisRules

    def update(self, state: TrainState, step: int) -> tuple[TrainState, dict[str, float]]:
        """Update number `step` (from 0) and its metrics."""
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
        values = {name: float(value) for name, value in metrics.items()}
        if not math.isfinite(values["loss"]) or not math.isfinite(values["grad_norm"]):
            raise FloatingPointError(
                f"update {step + 1}: loss {values['loss']}, gradient norm {values['grad_norm']}, on examples "
                f"{', '.join(batch.example_ids)}; lower the learning rate, or look at these examples"
            )
        seconds = time.monotonic() - started
        tokens = int((batch.arrays["decoder_segment_ids"] > 0).sum())
        return state, {
            **values,
            "learning_rate": learning_rate,
            "tokens_per_second": tokens / seconds,
            "examples_per_second": len(batch.example_ids) / seconds,
        }
