"""`humpback train` killed, terminated, or left by its peer: it ends as it should, and goes on to the same weights."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from waiting import wait_until

from humpback_jax.weights.model_folder import load_model_folder, read_model_card

KILLS, UPDATES = 20, 400
GIN = """
include 'defaults.gin'
Recipe.base = {base!r}
Recipe.chat_format = 'chatml'
SeedConfig.path = {seeds!r}
SegmentsConfig.inputs = ('not read',)
LoopConfig.num_steps = {updates}
BatchConfig.batch_size = 8
BatchConfig.row_length = 128
BatchConfig.rows_per_microbatch = 4
ComputeConfig.dropout = 0.1
ComputeConfig.dtype = 'float32'
ComputeConfig.remat_policy = 'none'
CheckpointConfig.minutes = 0.003
ComputeConfig.logits_chunk = 64
OptimizerConfig.learning_rate = 1e-3
OptimizerConfig.final_learning_rate = 9e-4
"""


@pytest.fixture(scope="module")
def train(tmp_path_factory, tiny_model_dir):
    """Starts `humpback train --model m0`: (run directory, options) to a process that logs beside it."""
    folder = tmp_path_factory.mktemp("job")
    rows = [{"instruction": f"Say {'e' * (i % 7)} {i}.", "output": f"{'e' * (i % 13)} {i}!"} for i in range(24)]
    (folder / "seeds.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "job.gin").write_text(
        GIN.format(updates=UPDATES, base=str(tiny_model_dir), seeds=str(folder / "seeds.jsonl"))
    )
    command = [sys.executable, "-m", "humpback_jax", "train", f"--gin_file={folder / 'job.gin'}", "--model=m0"]

    def start(run_dir, *options):
        with run_dir.with_suffix(".log").open("ab") as log:
            return subprocess.Popen(
                [*command, f"--run_dir={run_dir}", *options],
                stdout=log,
                stderr=log,
                env=os.environ | {"JAX_PLATFORMS": "cpu"},
            )

    return start


@pytest.fixture(scope="module")
def whole(train, tmp_path_factory):
    """The run directory of a training that nobody disturbed."""
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    assert train(run_dir).wait() == 0, log_of(run_dir)
    assert not (run_dir / "m0" / "checkpoints").exists()
    return run_dir


def log_of(run_dir):
    return run_dir.with_suffix(".log").read_text()


def updates(run_dir):
    """How many updates the metrics tell of."""
    path = run_dir / "m0" / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def wait_for_updates(run_dir, count, *processes):
    wait_until(
        lambda: updates(run_dir) >= count,
        lambda: log_of(run_dir)[-3000:],
        unless=lambda: any(process.poll() is not None for process in processes),
    )


def metrics(run_dir):
    rows = [json.loads(line) for line in (run_dir / "m0" / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row["loss"], row["grad_norm"]) for row in rows]


def params_of(run_dir):
    return jax.device_get(load_model_folder(run_dir / "m0" / "model").params)


def assert_same_bits(run_dir, expected):
    assert read_model_card(run_dir / "m0" / "model") == read_model_card(expected / "m0" / "model")
    jax.tree.map(np.testing.assert_array_equal, params_of(run_dir), params_of(expected))
    assert metrics(run_dir) == metrics(expected)


def kill_somewhere(train, run_dir, draw):
    """Kills a training at a random moment, of its start or of its updates; returns the updates it had then made."""
    before, process = updates(run_dir), train(run_dir)
    last = before + UPDATES // KILLS  # however fast the machine is, no training comes to its end
    if draw.random() < 0.7:
        while updates(run_dir) <= before and process.poll() is None:
            time.sleep(0.02)
            before = min(before, updates(run_dir))  # rows after the checkpoint are taken back
        limit = time.monotonic() + draw.uniform(0, 3.0)
    else:
        limit = time.monotonic() + draw.uniform(0, 12.0)
    while process.poll() is None and time.monotonic() < limit and updates(run_dir) < last:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, log_of(run_dir)[-3000:]
    return updates(run_dir)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_training_killed_twenty_times_ends_with_the_same_bits(train, whole, tmp_path):
    run_dir, draw = tmp_path / "killed", random.Random(0)
    moments = [kill_somewhere(train, run_dir, draw) for _ in range(KILLS)]
    print("updates made when killed:", moments)
    assert 0 < moments[-1] < UPDATES
    assert len(set(moments)) > KILLS // 2
    assert train(run_dir).wait() == 0, log_of(run_dir)[-3000:]
    assert_same_bits(run_dir, whole)


@pytest.mark.slow
def test_sigterm_saves_and_the_same_command_goes_on(train, whole, tmp_path):
    run_dir = tmp_path / "terminated"
    process = train(run_dir)
    wait_for_updates(run_dir, 20, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 0, log_of(run_dir)[-3000:]
    line = log_of(run_dir).splitlines()[-1]
    stopped = re.fullmatch(r"humpback: stopped by SIGTERM after update (\d+); run the same command to go on", line)
    assert stopped, line
    assert [path.name for path in (run_dir / "m0" / "checkpoints").iterdir()] == [stopped[1]]
    assert updates(run_dir) == int(stopped[1]) >= 20
    assert train(run_dir).wait() == 0, log_of(run_dir)[-3000:]
    assert_same_bits(run_dir, whole)


def pair(train, run_dir, port):
    """Two processes that train together."""
    options = [f"--coordinator=localhost:{port}", "--process_count=2"]
    return [train(run_dir, *options, f"--process_index={index}") for index in range(2)]


@pytest.mark.slow
def test_sigterm_to_one_of_two_stops_both_at_one_step_and_one_goes_on_alone(train, whole, tmp_path, free_port):
    run_dir = tmp_path / "pair"
    processes = pair(train, run_dir, free_port())
    wait_for_updates(run_dir, 5, *processes)
    processes[1].send_signal(signal.SIGTERM)
    assert [process.wait() for process in processes] == [0, 0], log_of(run_dir)[-3000:]
    assert all(f"process {index} of 2: connected" in log_of(run_dir) for index in range(2))
    stopped = re.findall(r"stopped by SIGTERM after update (\d+)", log_of(run_dir))
    assert len(stopped) == 2
    assert stopped[0] == stopped[1]
    assert [path.name for path in (run_dir / "m0" / "checkpoints").iterdir()] == stopped[:1]
    assert train(run_dir).wait() == 0, log_of(run_dir)[-3000:]
    steps, losses, _ = np.array(metrics(run_dir)).T
    assert steps.tolist() == list(range(1, UPDATES + 1))
    np.testing.assert_allclose(losses[:20], np.array(metrics(whole)).T[1][:20], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_when_one_of_two_is_killed_the_other_ends_with_the_cause(train, tmp_path, free_port, victim):
    run_dir = tmp_path / "pair"
    processes = pair(train, run_dir, free_port())
    wait_for_updates(run_dir, 5, *processes)
    processes[victim].send_signal(signal.SIGKILL)
    status = processes[1 - victim].wait()
    assert status not in (0, -signal.SIGKILL)
    ours = r"\d+ failed in process \d of 2, most likely because another process died"
    cause = f"(update|checkpoint|agreement after update) {ours}|JAX distributed service detected fatal errors"
    found = re.search(cause, log_of(run_dir))
    assert found, log_of(run_dir)[-3000:]
    print(found.group())
    processes[victim].wait()


@pytest.mark.slow
def test_an_update_that_takes_too_long_ends_the_command_loudly(train, tmp_path):
    run_dir = tmp_path / "slow"
    process = train(run_dir, "--gin.LoopConfig.step_limit_minutes=0.0001")
    assert process.wait() == 1
    assert re.search(
        r"humpback: error: update 1 has taken more than 0\.024 s; .*raise step_limit_minutes", log_of(run_dir)
    )
