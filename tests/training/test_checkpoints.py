"""Checkpoints: which are kept, what resume and init_from read, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from humpback_jax.training import checkpoints as module
from humpback_jax.training.checkpoints import (
    Checkpoints,
    checkpoint_folder,
    delete_temporary,
    restore_checkpoint,
    restore_params,
)
from humpback_jax.training.config import CheckpointConfig
from humpback_jax.training.step import TrainState, init_train_state

META = {"data": "abc"}
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam(mu_dtype=jnp.float32))


class Clock:
    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds


def state_of(dtype=jnp.float32, step=0, width=4):
    params = {"layer": {"kernel": jnp.arange(1, 4 * width + 1, dtype=jnp.float32).reshape(4, width) / 3}}
    state = init_train_state(jax.tree.map(lambda x: (x + step).astype(dtype), params), OPTIMIZER)
    return jax.device_put(state._replace(step=jnp.int32(step)), sharding())


def sharding():
    return NamedSharding(Mesh(np.array(jax.devices()[:1]), ("data",)), PartitionSpec())


def abstract(state):
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state)


def steps_in(directory):
    return sorted(int(path.name) for path in directory.iterdir())


def saved(directory, *steps, dtype=jnp.float32, period=1):
    with Checkpoints(directory, CheckpointConfig(minutes=None, period=period)) as checkpoints:
        for step in steps:
            checkpoints.save(state_of(dtype, step), step, META)
    return directory / str(steps[-1])


def test_temporary_ones_come_by_the_clock_and_only_the_newest_stays(tmp_path):
    clock = Clock()
    with Checkpoints(tmp_path, CheckpointConfig(minutes=2), clock) as checkpoints:
        assert not checkpoints.temporary_due()
        for step, seconds, due in ((1, 119, False), (2, 120, True), (3, 239, False), (4, 241, True)):
            clock.seconds = seconds
            assert checkpoints.temporary_due() is due
            assert not checkpoints.permanent_due(step)
            if due:
                checkpoints.save(state_of(step=step), step, META)
    assert steps_in(tmp_path) == [4]


def test_permanent_ones_come_by_the_step_and_stay(tmp_path):
    clock = Clock()
    with Checkpoints(tmp_path, CheckpointConfig(minutes=1, period=4), clock) as checkpoints:
        for step in range(1, 12):
            clock.seconds += 30
            if checkpoints.permanent_due(step) or checkpoints.temporary_due():
                checkpoints.save(state_of(step=step), step, META)
    assert steps_in(tmp_path) == [4, 8, 10]  # 2 and 6 were temporary, and 10 is the newest
    delete_temporary(tmp_path, 4)
    assert steps_in(tmp_path) == [4, 8]
    delete_temporary(tmp_path, None)
    assert not tmp_path.exists()


def test_a_process_that_does_not_lead_has_no_clock(tmp_path, monkeypatch):
    clock = Clock()
    with Checkpoints(tmp_path, CheckpointConfig(minutes=1), clock) as checkpoints:
        clock.seconds = 100
        assert checkpoints.temporary_due()
        monkeypatch.setattr(module, "is_leader", lambda: False)
        assert not checkpoints.temporary_due()


@pytest.mark.parametrize("field", ["minutes", "period", "save_limit_minutes"])
def test_a_period_must_be_positive(field):
    with pytest.raises(ValueError, match=rf"{field} takes a .* or None, found 0"):
        CheckpointConfig(**{field: 0})


def test_a_save_in_the_background_is_whole_when_the_block_ends(tmp_path, monkeypatch):
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    state = state_of(step=3)
    with Checkpoints(tmp_path, CheckpointConfig(period=3)) as checkpoints:
        checkpoints.save(state, 3, META)
    restored, step = restore_checkpoint(tmp_path / "3", abstract(state), META)
    assert step == 3
    jax.tree.map(np.testing.assert_array_equal, restored, state)


def test_a_save_that_hangs_is_named(tmp_path, monkeypatch):
    watched = []
    real = module.watchdog

    def spy(what, limit, advice):
        watched.append((what, limit, advice))
        return real(what, limit, advice)

    monkeypatch.setattr(module, "watchdog", spy)
    path = saved(tmp_path, 12)
    with Checkpoints(tmp_path, CheckpointConfig(save_limit_minutes=2)) as checkpoints:
        checkpoints.restore(abstract(state_of()), META)
    (saving, limit, advice), (restoring, shorter, _) = watched
    assert (saving, limit) == (f"saving checkpoint 12 in {tmp_path}", 1800)
    assert (restoring, shorter) == (f"restoring checkpoint {path}", 120)
    assert "raise save_limit_minutes" in advice


def test_everything_comes_back(tmp_path):
    path = saved(tmp_path, 2, 5)
    with Checkpoints(tmp_path, CheckpointConfig()) as checkpoints:
        restored, step = checkpoints.restore(abstract(state_of()), META)
    assert step == 5
    jax.tree.map(np.testing.assert_array_equal, restored, state_of(step=5))
    earlier, step = restore_checkpoint(path.parent / "2", abstract(state_of()), META)
    assert (step, int(earlier.step)) == (2, 2)


@pytest.mark.parametrize("stored, wanted", [("bfloat16", "float32"), ("float32", "bfloat16")])
def test_another_dtype_is_converted_only_when_asked_for(tmp_path, stored, wanted):
    path = saved(tmp_path, 5, dtype=stored)
    target = abstract(state_of(wanted))
    with pytest.raises(
        ValueError, match=f"layer/kernel was saved as {stored}, this run holds {wanted}; set cast_on_resume"
    ):
        restore_checkpoint(path, target, META)
    restored, _ = restore_checkpoint(path, target, META, cast=True)
    expected = state_of(stored, 5).params["layer"]["kernel"].astype(wanted)
    np.testing.assert_array_equal(restored.params["layer"]["kernel"], expected)
    assert restored.opt_state[1].mu["layer"]["kernel"].dtype == jnp.float32
    np.testing.assert_array_equal(restore_params(path, target.params)["layer"]["kernel"], expected)


@pytest.mark.parametrize(
    "target, message",
    [
        (state_of(width=5), r"layer/kernel has shape \(4, 4\), this run's has \(4, 5\)"),
        (TrainState(0, {"other": jnp.zeros(())}, ()), "do not have the same tensors: layer/kernel is only in one"),
    ],
    ids=["shape", "name"],
)
def test_other_tensors_are_refused_by_name(tmp_path, target, message):
    path = saved(tmp_path, 5)
    with pytest.raises(ValueError, match=message):
        restore_checkpoint(path, target, META)
    with pytest.raises(ValueError, match=message):
        restore_params(path, target.params)


def test_another_run_is_refused_but_its_weights_may_be_taken(tmp_path):
    path = saved(tmp_path, 5)
    with pytest.raises(ValueError, match=r"belongs to another run: data differ.*init_from takes only its weights"):
        restore_checkpoint(path, abstract(state_of()), {"data": "other"})
    params = restore_params(path, abstract(state_of()).params)
    jax.tree.map(np.testing.assert_array_equal, params, state_of(step=5).params)


def test_a_folder_of_checkpoints_means_its_newest(tmp_path):
    path = saved(tmp_path, 2, 10, 9)
    assert checkpoint_folder(tmp_path).name == "10"
    assert checkpoint_folder(path) == path
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        checkpoint_folder(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="holds no checkpoint"):
        checkpoint_folder(path / "params")
