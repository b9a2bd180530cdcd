"""Checkpoints of a training run: checkpoint N is the state after N updates, and nothing half-written is ever read.

Temporary ones come by the clock, and only the newest is kept; permanent ones come by the step and stay. The step is
also the position in the data, because the order of the data is a function of it.
"""

import contextlib
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from humpback_jax.files import PathLike
from humpback_jax.partitioning import put_global
from humpback_jax.runtime.processes import is_leader
from humpback_jax.runtime.saving import saving
from humpback_jax.runtime.watchdog import watchdog
from humpback_jax.training.config import CheckpointConfig
from humpback_jax.training.step import TrainState

ITEMS = ("params", "opt_state", "meta")


class Checkpoints:
    """Saves and restores `TrainState` under a directory; use as a context manager, so that writes finish."""

    def __init__(
        self, directory: PathLike, config: CheckpointConfig, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`clock` gives the seconds that temporary checkpoints are timed by."""
        policies = ocp.checkpoint_managers
        kept: list[Any] = [policies.LatestN(1)]
        if config.period is not None:
            kept.append(policies.EveryNSteps(config.period))
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policies.AnyPreservationPolicy(kept),
            cleanup_tmp_directories=True,
            # On CPU a save in the background takes its time and memory from the next step and gains nothing.
            enable_async_checkpointing=jax.default_backend() != "cpu",
        )
        self._config, self._clock = config, clock
        self._saved_at = clock()
        self._save_watch = contextlib.ExitStack()
        self._manager = ocp.CheckpointManager(epath.Path(directory).resolve(), options=options, item_names=ITEMS)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        with self._save_watch, saving(self._manager.directory):
            self._manager.close()

    def temporary_due(self) -> bool:
        """Whether it is time for a temporary checkpoint; false outside of process 0, whose clock counts for all."""
        if self._config.minutes is None or not is_leader():
            return False
        return self._clock() - self._saved_at >= 60 * self._config.minutes

    def permanent_due(self, step: int) -> bool:
        """Whether the state after `step` updates is to be kept."""
        return self._config.period is not None and step % self._config.period == 0

    def save(self, state: TrainState, step: int, meta: dict[str, Any]) -> None:
        """Starts to save the state after `step` updates, in the background off CPU; all processes call it together."""
        self.check()
        self._save_watch.close()
        self._save_watch.enter_context(self._watch(f"saving checkpoint {step} in {self._manager.directory}"))
        items = ocp.args.Composite(
            params=ocp.args.StandardSave(state.params),
            opt_state=ocp.args.StandardSave(state.opt_state),
            meta=ocp.args.JsonSave(meta),
        )
        with saving(self._manager.directory):
            self._manager.save(step, args=items, force=True)
        self._saved_at = self._clock()
        self.check()

    def check(self) -> None:
        """Raises the error of a save in the background; a save that has ended is no longer watched."""
        with saving(self._manager.directory):
            self._manager.check_for_errors()
        if not self._manager.is_saving_in_progress():
            self._save_watch.close()

    def restore(self, abstract: TrainState, meta: dict[str, Any]) -> tuple[TrainState, int] | None:
        """`restore_checkpoint` of the newest one, else of the run to go on from; None where there is neither."""
        newest = self._manager.latest_step()
        path = self._config.resume if newest is None else self._manager.directory / str(newest)
        if path is None:
            return None
        with self._watch(f"restoring checkpoint {path}"):
            return restore_checkpoint(path, abstract, meta, self._config.cast_on_resume)

    def _watch(self, what: str) -> contextlib.AbstractContextManager[None]:
        advice = (
            "look whether the disk or the bucket is full or out of reach and whether all processes live, then run the "
            "same command again; where it is only slow, raise save_limit_minutes"
        )
        return watchdog(what, self._config.save_limit_seconds, advice)


def restore_checkpoint(
    path: PathLike, abstract: TrainState, meta: dict[str, Any], cast: bool = False
) -> tuple[TrainState, int]:
    """Everything a run goes on from: (state, number of updates it has seen).

    The mesh and the number of processes may differ from those that saved it.

    Args:
      path: of one checkpoint, named by its number of updates.
      abstract: shapes, dtypes and shardings to restore into.
      meta: what this run would write; a checkpoint of another run raises ValueError naming the difference.
      cast: convert tensors that were saved in another dtype; otherwise they raise ValueError.
    """
    folder = checkpoint_folder(path)
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        saved = checkpointer.restore(folder, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]
        saved = {name: _as_named(value, meta.get(name)) for name, value in saved.items()}
        if saved != meta:
            different = sorted(key for key in saved.keys() | meta.keys() if saved.get(key) != meta.get(key))
            raise ValueError(
                f"checkpoint {folder} belongs to another run: {', '.join(different)} differ; use another run "
                "directory, or delete this one to start again (init_from takes only its weights)"
            )
        for item, tree in (("params", abstract.params), ("opt_state", abstract.opt_state)):
            _check_leaves(folder / item, tree, cast)
        items = ocp.args.Composite(
            params=ocp.args.StandardRestore(abstract.params), opt_state=ocp.args.StandardRestore(abstract.opt_state)
        )
        restored = checkpointer.restore(folder, args=items)
    step = int(folder.name)
    count = put_global(np.asarray(step, np.int32), abstract.step.sharding)
    return TrainState(count, restored["params"], restored["opt_state"]), step


def _as_named(saved: Any, wanted: Any) -> Any:
    """Of texts by name those that the run names: earlier versions wrote down more than was read."""
    if isinstance(saved, dict) and isinstance(wanted, dict):
        return {name: value for name, value in saved.items() if name in wanted}
    return saved


def restore_params(path: PathLike, abstract_params: dict) -> dict:
    """The weights of a checkpoint and nothing else, converted to the dtypes of `abstract_params`."""
    folder = checkpoint_folder(path) / "params"
    _check_leaves(folder, abstract_params, cast=True)
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(folder, abstract_params)


def checkpoint_folder(path: PathLike) -> epath.Path:
    """The folder of one checkpoint: `path` itself, or the newest one inside; FileNotFoundError where there is none."""
    folder = epath.Path(path).resolve()
    if not folder.is_dir():
        raise FileNotFoundError(f"no checkpoint at {path}; name RUN_DIR/STAGE/checkpoints, or one of the folders in it")
    if folder.name.isdigit() and (folder / "params").is_dir():
        return folder
    steps = [int(child.name) for child in folder.iterdir() if child.name.isdigit()]
    if not steps:
        raise FileNotFoundError(f"{path} holds no checkpoint (a folder named by its number of updates)")
    return folder / str(max(steps))


def delete_temporary(directory: PathLike, period: int | None) -> None:
    """Deletes what a finished run no longer needs: all checkpoints but the permanent ones, if it was to make any."""
    folder = epath.Path(directory)
    if period is None and folder.exists():
        folder.rmtree()
        return
    for child in folder.glob("*"):
        if child.name.isdigit() and int(child.name) % (period or 1):
            child.rmtree()


def _check_leaves(folder: epath.Path, abstract: Any, cast: bool) -> None:
    """ValueError names the first tensor that is missing, of another shape, or (without `cast`) of another dtype."""
    stored = ocp.tree.to_flat_dict(ocp.StandardCheckpointHandler().metadata(folder).tree, sep="/")
    wanted = ocp.tree.to_flat_dict(abstract, sep="/")
    if missing := sorted(stored.keys() ^ wanted.keys()):
        raise ValueError(f"{folder} and this run do not have the same tensors: {missing[0]} is only in one of them")
    for name, leaf in wanted.items():
        shape, dtype = tuple(stored[name].shape), stored[name].dtype
        if shape != tuple(leaf.shape):
            raise ValueError(f"{folder}: {name} has shape {shape}, this run's has {tuple(leaf.shape)}")
        if not cast and dtype != leaf.dtype:
            raise ValueError(
                f"{folder}: {name} was saved as {dtype}, this run holds {leaf.dtype}; set cast_on_resume = True "
                "to convert it, or go on in the dtype it was saved in"
            )
