"""Checkpoints of a training run: checkpoint N is the state after N updates, and nothing half-written is ever read."""

from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from etils import epath

from humpback_jax.files import PathLike
from humpback_jax.training.state import TrainState


class Checkpoints:
    """Saves and restores `TrainState` under a directory; use as a context manager, so that writes finish."""

    def __init__(self, directory: PathLike, period: int) -> None:
        """`period` is the number of updates between checkpoints; the newest one is kept."""
        policies = ocp.checkpoint_managers
        options = ocp.CheckpointManagerOptions(
            save_decision_policy=policies.FixedIntervalPolicy(period),
            preservation_policy=policies.LatestN(1),
            cleanup_tmp_directories=True,
            # On CPU a save in the background takes its time and memory from the next step and gains nothing.
            enable_async_checkpointing=jax.default_backend() != "cpu",
        )
        self._manager = ocp.CheckpointManager(
            epath.Path(directory).resolve(), options=options, item_names=("params", "opt_state", "meta")
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def due(self, step: int) -> bool:
        """Whether `save_if_due` would save."""
        return self._manager.should_save(step)

    def save_if_due(self, state: TrainState, step: int, meta: dict[str, Any]) -> bool:
        """Starts an asynchronous save when `step` is a multiple of the period."""
        if not self._manager.should_save(step):
            return False
        items = ocp.args.Composite(
            params=ocp.args.StandardSave(state.params),
            opt_state=ocp.args.StandardSave(state.opt_state),
            meta=ocp.args.JsonSave(meta),
        )
        return self._manager.save(step, args=items)

    def restore_latest(self, abstract: TrainState, meta: dict[str, Any]) -> tuple[TrainState, int] | None:
        """(state, number of updates it has seen), or None when there is no checkpoint.

        Args:
          abstract: shapes, dtypes and shardings to restore into.
          meta: what this run would write; a checkpoint of another run raises ValueError naming the difference.
        """
        step = self._manager.latest_step()
        if step is None:
            return None
        saved = self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]
        if saved != meta:
            different = sorted(key for key in saved.keys() | meta.keys() if saved.get(key) != meta.get(key))
            raise ValueError(
                f"checkpoint {step} in {self._manager.directory} belongs to another run: {', '.join(different)} "
                "differ; use another run directory, or delete this one to start again"
            )
        items = ocp.args.Composite(
            params=ocp.args.StandardRestore(abstract.params), opt_state=ocp.args.StandardRestore(abstract.opt_state)
        )
        restored = self._manager.restore(step, args=items)
        state = TrainState(jnp.asarray(step, jnp.int32), restored["params"], restored["opt_state"])
        return state, step
