"""The loop: resumed = uninterrupted bit for bit, another run's checkpoint is refused, metrics have no repeats."""

import contextlib
import dataclasses
import json
import sys
import types

import jax
import numpy as np
import pytest

from humpback_jax.data.batching import BatchConfig, plan_batches
from humpback_jax.data.examples import Example
from humpback_jax.models.config import get_config
from humpback_jax.models.llama import Llama, init_params
from humpback_jax.models.lora import LoraConfig, adapted_params
from humpback_jax.partitioning import make_mesh
from humpback_jax.runtime.stopping import Stopped
from humpback_jax.training.checkpoints import restore_checkpoint
from humpback_jax.training.config import CheckpointConfig
from humpback_jax.training.loop import RunRecord, train
from humpback_jax.training.loss import summed_loss
from humpback_jax.training.monitoring import Monitoring, ProfileSteps, parse_profile_steps
from humpback_jax.training.optimizer import OptimizerConfig
from humpback_jax.training.step import TrainSetup

pytestmark = pytest.mark.xdist_group("loop")  # one worker: the uninterrupted run is made once

TINY = get_config("tiny")
STEPS = 6


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def plan():
    rng = np.random.default_rng(0)
    draw = lambda: rng.integers(0, 320, rng.integers(2, 20)).astype(np.int32)  # noqa: E731
    return plan_batches([Example(draw(), draw(), f"e{i}") for i in range(10)], BatchConfig(4, 64), STEPS)


@dataclasses.dataclass(frozen=True)
class Data:
    """The plan's batches, up to the one that kills the run."""

    plan: object
    num_steps: int
    kill_at: int | None
    seed: int = 1  # of dropout

    def batch(self, step):
        if step == self.kill_at:
            raise Killed
        return self.plan.batch(step)


def _optimizer(learning_rate):
    """Also with a rate that no recipe may have, for a loss that is no number."""
    optimizer = OptimizerConfig(learning_rate=1.0)
    object.__setattr__(optimizer, "learning_rate", learning_rate)
    return optimizer


def trained(directory, plan, *, kill_at=None, identity=None, num_steps=STEPS, learning_rate=1e-2, lora=None,
            monitoring=None):  # fmt: skip
    model = Llama(TINY, dropout_rates=(0.1, 0.2))
    return train(
        TrainSetup(model, make_mesh(), optimizer=_optimizer(learning_rate), lora=lora),
        Data(plan, num_steps, kill_at),
        lambda shardings: jax.device_put(init_params(Llama(TINY), jax.random.key(0)), shardings),
        RunRecord(directory, identity or {"data": "abc"}, monitoring or Monitoring()),
        checkpointing=CheckpointConfig(period=2),
    )


def run(directory, plan, **options):
    return trained(directory, plan, **options).params


@pytest.fixture(scope="module")
def uninterrupted_directory(tmp_path_factory):
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def uninterrupted(plan, uninterrupted_directory):
    params = jax.device_get(run(uninterrupted_directory, plan))
    return params, rows_of(uninterrupted_directory)


def rows_of(directory):
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return [{key: row[key] for key in ("step", "loss", "grad_norm", "learning_rate")} for row in rows]


@pytest.mark.parametrize("kill_at", [1, 3, 4])
def test_resumed_run_is_bit_identical(plan, uninterrupted, uninterrupted_directory, tmp_path, kill_at):
    with pytest.raises(Killed):
        run(tmp_path, plan, kill_at=kill_at)
    params = jax.device_get(run(tmp_path, plan))
    expected, expected_rows = uninterrupted
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    assert rows_of(tmp_path) == expected_rows
    moments = [restored(directory).opt_state for directory in (tmp_path, uninterrupted_directory)]
    assert len(jax.tree.leaves(moments[0])) > 10
    jax.tree.map(np.testing.assert_array_equal, *moments)


def restored(directory):
    """The state after the last update, as it was saved."""
    abstract = TrainSetup(Llama(TINY), make_mesh()).abstract_state()
    return restore_checkpoint(directory / "checkpoints" / str(STEPS), abstract, {"data": "abc"})[0]


def test_updates_and_saves_are_watched(plan, tmp_path, monkeypatch):
    watched = []

    def spy(what, limit, advice):
        watched.append((what, limit))
        return contextlib.nullcontext()

    monkeypatch.setattr("humpback_jax.training.loop.watchdog", spy)
    monkeypatch.setattr("humpback_jax.training.checkpoints.watchdog", spy)
    run(tmp_path, plan, num_steps=3)
    saving = f"saving checkpoint 2 in {tmp_path / 'checkpoints'}"
    read_last = ("update 3", 1800)  # its metrics, after the last update was dispatched
    assert watched == [("update 1", 4 * 1800), ("update 2", 1800), (saving, 1800), ("update 3", 1800), read_last]


def test_a_stop_waits_for_the_update_and_saves_it(plan, uninterrupted, tmp_path, monkeypatch):
    stops = iter([False, False, True])
    monkeypatch.setattr("humpback_jax.training.loop.stop_requested", lambda: next(stops))
    with pytest.raises(Stopped, match="stopped by SIGTERM after update 3; run the same command to go on"):
        run(tmp_path, plan)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["2", "3"]
    monkeypatch.undo()
    params = jax.device_get(run(tmp_path, plan))
    jax.tree.map(np.testing.assert_array_equal, params, uninterrupted[0])
    assert rows_of(tmp_path) == uninterrupted[1]


def test_training_lowers_the_loss_and_writes_a_row_per_update(uninterrupted):
    _, rows = uninterrupted
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert rows[-1]["loss"] < rows[0]["loss"]


def test_checkpoint_of_another_run_is_refused_by_name(plan, tmp_path):
    with pytest.raises(Killed):
        run(tmp_path, plan, kill_at=3)
    with pytest.raises(ValueError, match="belongs to another run: data differ"):
        run(tmp_path, plan, identity={"data": "other"})


def test_loss_that_is_no_number_names_step_and_examples(plan, tmp_path):
    with pytest.raises(FloatingPointError, match=r"update \d+: loss .* on examples e\d"):
        run(tmp_path, plan, learning_rate=1e30)


def test_metrics_file_cut_in_the_middle_of_a_line_is_repaired(plan, tmp_path, uninterrupted):
    with pytest.raises(Killed):
        run(tmp_path, plan, kill_at=3)
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 4, "lo')
    run(tmp_path, plan)
    assert rows_of(tmp_path) == uninterrupted[1]


def test_first_bad_update_is_named_and_never_saved(plan, tmp_path):
    """The loss is read one update late, but no checkpoint is written before it."""
    with pytest.raises(FloatingPointError, match=r"update (2|3): loss .* on examples e\d"):
        run(tmp_path, plan, learning_rate=1e30)
    assert not list((tmp_path / "checkpoints").glob("[0-9]*"))


@jax.jit
def loss_of_batch(params, batch):
    return summed_loss(Llama(TINY), params, batch, None, 64)[0]


def loss_of(params, plan):
    """Summed loss without dropout over the batches of the plan."""
    batches = [plan.batch(step).arrays for step in range(STEPS)]
    rows = [
        {name: array[i] for name, array in arrays.items()} for arrays in batches for i in range(plan.max_microbatches)
    ]
    return sum(float(loss_of_batch(params, row)) for row in rows)


@pytest.mark.slow
def test_adapters_alone_train_and_resume_bit_for_bit(plan, tmp_path):
    lora = LoraConfig(rank=2, alpha=4.0, targets=("q", "down"), dropout=0.1)
    adapters = jax.device_get(run(tmp_path / "whole", plan, lora=lora))
    assert jax.tree.map(np.shape, adapters) == {
        "layers": {
            "attention": {"query": {"a": (2, 32, 2), "b": (2, 2, 4, 8)}},
            "mlp": {"down": {"a": (2, 64, 2), "b": (2, 2, 32)}},
        }
    }
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(adapters))
    base = init_params(Llama(TINY), jax.random.key(0))
    assert loss_of(adapted_params(base, adapters, lora), plan) < loss_of(base, plan)
    with pytest.raises(Killed):
        run(tmp_path / "killed", plan, lora=lora, kill_at=3)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(run(tmp_path / "killed", plan, lora=lora)), adapters)


def test_figures_profile_and_wandb(plan, tmp_path, monkeypatch):
    logged = []
    reporter = types.SimpleNamespace(
        log=lambda values, step: logged.append((step, values)), finish=lambda: logged.append("finished")
    )
    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=lambda **settings: reporter))
    monitoring = Monitoring(ProfileSteps(2, 3), wandb_project="project")
    figures = trained(tmp_path, plan, monitoring=monitoring).figures
    traces = [path for path in (tmp_path / "profile").rglob("*") if path.is_file()]
    assert any(path.name.endswith(".xplane.pb") for path in traces)
    assert all(path.stat().st_size > 0 for path in traces)
    assert {"step_seconds_p50", "step_seconds_p90", "step_seconds_p99", "tokens_per_second"} <= figures.keys()
    assert figures["step_seconds_p50"] <= figures["step_seconds_p90"] <= figures["step_seconds_p99"]
    row = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"loss", "grad_norm", "learning_rate", "tokens_per_second", "examples_per_second"} < row.keys()
    assert 0 < row["packing_fill"] <= 1
    assert [entry[0] for entry in logged[:-1]] == list(range(1, STEPS + 1))
    assert logged[-1] == "finished"
    assert logged[0][1]["training/loss"] > 0


def test_wandb_is_asked_for_by_name_where_it_is_missing(plan, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match=r"pip install 'humpback_jax\[wandb\]'"):
        run(tmp_path, plan, monitoring=Monitoring(wandb_project="project"))


@pytest.mark.parametrize("text", ["3", "0:2", "5:4", "a:b", ":3"])
def test_profile_steps_that_make_no_sense_are_refused(text):
    assert parse_profile_steps("10:12") == ProfileSteps(10, 12)
    with pytest.raises(ValueError, match="expected A:B"):
        parse_profile_steps(text)
