"""The training loop: from initial parameters or the newest checkpoint to trained parameters."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from typing import Any, Protocol

import jax
import numpy as np
from etils import epath

from humpback_jax.files import PathLike
from humpback_jax.partitioning import batch_sharding, put_global, use_mesh
from humpback_jax.run_files import CHECKPOINTS
from humpback_jax.runtime.distributed import agree, peer_failures
from humpback_jax.runtime.processes import is_leader
from humpback_jax.runtime.progress import progress_bar
from humpback_jax.runtime.stopping import GO_ON, Stopped, deferred_stop, stop_requested
from humpback_jax.runtime.watchdog import watchdog
from humpback_jax.training.checkpoints import Checkpoints
from humpback_jax.training.config import CheckpointConfig, LoopConfig
from humpback_jax.training.monitoring import MetricsWriter, Monitoring, Profiler, Reports, Update
from humpback_jax.training.step import BATCH_AXES, LoadParams, TrainSetup, TrainState, make_train_step
from humpback_jax.training.throughput import Throughput, workload


class HostBatch(Protocol):
    """The examples of one update, packed: decoder_* features, each numpy [microbatches, rows, length]."""

    @property
    def arrays(self) -> dict[str, np.ndarray]: ...

    @property
    def num_microbatches(self) -> int: ...

    @property
    def example_ids(self) -> tuple[str, ...]: ...


class TrainingData(Protocol):
    """The batches of update 0, 1, …, num_steps - 1; each is a function of its number and of `seed` alone."""

    @property
    def num_steps(self) -> int: ...

    @property
    def seed(self) -> int: ...

    def batch(self, step: int) -> HostBatch: ...


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """Where a run leaves its traces.

    Attributes:
      directory: holds `checkpoints/`, `metrics.jsonl` and `tensorboard/`; its name stands beside the progress bar.
      identity: JSON values that name this run; a checkpoint with other values is refused.
      monitoring: traces and further places for the metrics.
    """

    directory: PathLike
    identity: dict[str, Any]
    monitoring: Monitoring = Monitoring()


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a run made.

    Attributes:
      params: the parameters, or the adapters of LoRA.
      figures: the rates and step-time percentiles of `Throughput.summary`.
    """

    params: dict
    figures: dict[str, float]


def train(
    setup: TrainSetup,
    data: TrainingData,
    load_params: LoadParams,
    record: RunRecord,
    loop: LoopConfig = LoopConfig(),  # noqa: B008 (immutable)
    checkpointing: CheckpointConfig = CheckpointConfig(),  # noqa: B008 (immutable)
) -> Trained:
    """Trains for `data.num_steps` updates, from the newest checkpoint of the run where there is one.

    Args:
      setup: what is trained, how, and where it lies.
      data: the batches; its seed is also that of dropout and of new adapters.
      load_params: called with the parameter shardings when there is no checkpoint to go on from; with LoRA always, for
        the frozen weights.
      record: where the run leaves its traces.
      loop: only its time limit counts; how many updates there are, the data says.
      checkpointing: when the state is saved, and what other run to go on from.

    Raises:
      FloatingPointError: the loss is not finite; the message names the step and its examples.
      ConnectionError: another process died.
      Stopped: SIGTERM came; the state is saved.
    """
    folder, leads = epath.Path(record.directory), is_leader()
    with (
        use_mesh(setup.mesh, setup.rules),
        deferred_stop(),
        Checkpoints(folder / CHECKPOINTS, checkpointing) as checkpoints,
    ):
        state, first_step = _first_state(setup, data.seed, load_params, checkpoints, record.identity)
        writer = MetricsWriter(folder, first_step, record.monitoring.wandb_project) if leads else None
        with (
            progress_bar(f"train {folder.name}", data.num_steps, "steps", done=first_step, show=leads) as bar,
            Profiler(folder, record.monitoring.profile_steps) as profiler,
        ):
            frozen = setup.lora is not None
            reports = Reports(writer, bar, Throughput(setup.model.config, setup.mesh.devices, frozen))
            for step in range(first_step, data.num_steps):
                profiler.start_if_first(step + 1)
                with _guarded(step, loop, first=step == first_step):
                    state = _update(setup, data, state, step, reports)
                    profiler.stop_if_last(step + 1, reports.flush)
                    stop, save = _signals(checkpoints, step + 1, data.num_steps, reports)
                _save_or_stop(checkpoints, state, step + 1, record.identity, stop=stop, save=save)
            with _guarded(data.num_steps - 1, loop, first=False):
                figures = reports.close()
    return Trained(state.params, figures)


def _first_state(
    setup: TrainSetup, seed: int, load_params: LoadParams, checkpoints: Checkpoints, identity: dict[str, Any]
) -> tuple[TrainState, int]:
    """(state, number of updates it has seen): as a checkpoint has it, or before the first update."""
    state, step = checkpoints.restore(setup.abstract_state(), identity) or (setup.initial_state(load_params, seed), 0)
    if setup.lora is not None:
        state = state._replace(frozen=load_params(setup.state_shardings().frozen))
    return state, step


def _update(setup: TrainSetup, data: TrainingData, state: TrainState, step: int, reports: Reports) -> TrainState:
    """Starts update number `step` (from 0); meanwhile `reports` reads the metrics of the one before."""
    started, batch = time.monotonic(), data.batch(step)
    sharding = batch_sharding(setup.mesh, setup.rules, BATCH_AXES)
    arrays = {name: put_global(array, sharding) for name, array in batch.arrays.items()}
    learning_rate, key = setup.optimizer.learning_rate_at(step, data.num_steps), jax.random.key(data.seed)
    state, metrics = make_train_step(setup)(
        state, arrays, np.int32(batch.num_microbatches), np.float32(learning_rate), key
    )
    work = workload(batch.arrays, batch.num_microbatches, len(batch.example_ids))
    reports.add(Update(step + 1, metrics, learning_rate, work, batch.example_ids, started))
    return state


@contextlib.contextmanager
def _guarded(step: int, loop: LoopConfig, *, first: bool) -> Iterator[None]:
    """Update `step` (from 0) under its time limit, and with a word about other processes where it fails."""
    what = f"update {step + 1}"
    advice = (
        "a device or another process hangs: look at the logs of all processes, then run the same command again; where "
        "it is only slow, raise step_limit_minutes"
    )
    with watchdog(what, loop.step_limit_seconds(first=first), advice), peer_failures(what):
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
