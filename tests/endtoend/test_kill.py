"""`kill -9` at random moments: what comes out in the end is what an uninterrupted run gives, byte for byte."""

import dataclasses
import json
import random
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from humpback_jax.gin_utils import parse_recipe
from humpback_jax.training.config import CheckpointConfig, LoopConfig
from humpback_jax.weights.model_folder import load_model_folder

KILLS, UPDATES = 5, 80
MODELS = ("m_yx", "m0", "m1", "m2")
STAGES = ("m_yx", "augmented", "m0", "scores1", "curated1", "m1", "scores2", "curated2", "m2")
TEXTS = ("augmented/pairs.jsonl", "scores1/scores.jsonl", "curated1/curated.jsonl", "curated1/dropped.jsonl")
TEXTS += ("scores2/scores.jsonl", "curated2/curated.jsonl", "curated2/dropped.jsonl")


def start(gin_file, run_dir):
    arguments = ["align", f"--gin_file={gin_file}", f"--run_dir={run_dir}", "--json"]
    with log_of(run_dir).open("ab") as log:
        return subprocess.Popen([sys.executable, "-m", "humpback_jax", *arguments], stdout=log, stderr=log)


def log_of(run_dir):
    return run_dir.with_suffix(".log")


def moments(run_dir, draw):
    """Random moments of a finished run, in order: (stage, seconds after its start); stages weigh by their seconds."""
    seconds = {name: json.loads((run_dir / name / "manifest.json").read_text())["seconds"] for name in STAGES}
    for moment in sorted(draw.uniform(0, sum(seconds.values())) for _ in range(KILLS)):
        for stage, length in seconds.items():
            if moment < length:
                yield stage, moment
                break
            moment -= length


def kill_at(gin_file, run_dir, stage, seconds):
    """Runs the command and kills it `seconds` after it came to `stage`; False where it ended by itself before."""
    process = start(gin_file, run_dir)
    written = log_of(run_dir).stat().st_size

    def at_stage():
        works = log_of(run_dir).stat().st_size > written
        return works and (run_dir / stage / "identity.json").exists()

    while process.poll() is None and not at_stage():
        time.sleep(0.02)
    limit = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < limit and not nearly_done(run_dir):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def nearly_done(run_dir):
    """Whether the last model has had half of its updates: a machine that was busy before may be faster now."""
    metrics = run_dir / STAGES[-1] / "metrics.jsonl"
    return metrics.exists() and metrics.read_text().count("\n") >= UPDATES // 2


def finish(gin_file, run_dir):
    status = start(gin_file, run_dir).wait()
    assert status == 0, log_of(run_dir).read_text()[-2000:]


def params_of(run_dir, name):
    return jax.device_get(load_model_folder(run_dir / name / "model").params)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_run_killed_five_times_ends_like_one_that_was_not(tiny_recipe, gin_text, tmp_path):
    gin_file = tmp_path / "tiny.gin"
    # Longer training, and checkpoints every second, often enough for a kill to fall between two of them.
    training = dataclasses.replace(
        tiny_recipe.forward,
        batches=dataclasses.replace(tiny_recipe.forward.batches, packing=True),
        loop=LoopConfig(num_steps=UPDATES),
        checkpoints=CheckpointConfig(minutes=0.02),
    )
    gin_file.write_text(gin_text(dataclasses.replace(tiny_recipe, forward=training)))
    recipe = parse_recipe([str(gin_file)], [])
    assert recipe == dataclasses.replace(tiny_recipe, forward=training, backward=training, seed_model=training)
    whole, killed = tmp_path / "whole", tmp_path / "killed"

    finish(gin_file, whole)
    for stage, seconds in moments(whole, random.Random(0)):
        assert kill_at(gin_file, killed, stage, seconds), f"{stage} + {seconds:.1f} s came after the end"
    assert not (killed / "evaluation" / "manifest.json").exists()
    finish(gin_file, killed)
    assert "Nothing to do" not in log_of(killed).read_text()
    finish(gin_file, killed)
    assert f"Nothing to do: every stage of {killed} was complete" in log_of(killed).read_text()

    for name in TEXTS:
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    for name in MODELS:
        card = f"{name}/model/humpback_model.json"
        assert (killed / card).read_bytes() == (whole / card).read_bytes(), name
        jax.tree.map(np.testing.assert_array_equal, params_of(killed, name), params_of(whole, name))
    assert [path for path in killed.rglob("*.tmp") if path.is_file()] == []
