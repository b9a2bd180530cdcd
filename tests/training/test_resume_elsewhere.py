"""4 updates + resume + 4 = 8 updates: bit for bit on the same mesh, to 1e-6 on another mesh or process count."""

import json
import os
import shutil
import subprocess
import sys

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

# Trains the tiny model and prints a hash of every update's data.
SCRIPT = """
import hashlib, json, os, sys
import numpy as np
from humpback_jax.runtime import distributed
from humpback_jax.runtime import processes

job = json.loads(sys.argv[1])
if "coordinator" in job:
    processes.set_process(job["index"], 2)
    distributed.join_processes(job["coordinator"])

import jax
from humpback_jax.data.batching import BatchConfig, plan_batches
from humpback_jax.data.examples import Example
from humpback_jax.models.config import get_config
from humpback_jax.models.llama import Llama, init_params
from humpback_jax.partitioning import MeshShape, make_mesh
from humpback_jax.training.config import CheckpointConfig
from humpback_jax.training.loop import RunRecord, train
from humpback_jax.training.optimizer import OptimizerConfig
from humpback_jax.training.step import TrainSetup

rng = np.random.default_rng(0)
draw = lambda: rng.integers(0, 320, rng.integers(2, 30)).astype(np.int32)
examples = [Example(draw(), draw(), f"e{i}") for i in range(24)]
plan = plan_batches(examples, BatchConfig(8, 64, 8), 8)
tiny = get_config("tiny")


class Data:
    num_steps, seed = job["steps"], 1  # of dropout

    def batch(self, step):
        return shown(step, plan.batch(step))


def shown(step, batch):
    data = b"".join(batch.arrays[name].tobytes() for name in sorted(batch.arrays))
    print("data", step, hashlib.sha256(data).hexdigest(), flush=True)
    return batch


train(
    TrainSetup(
        Llama(tiny, dropout_rates=(0.1, 0.2)),
        make_mesh(MeshShape(**job["mesh"])),
        optimizer=OptimizerConfig(learning_rate=1e-3, final_learning_rate=1e-3),
    ),
    Data(),
    lambda shardings: jax.jit(lambda: init_params(Llama(tiny), jax.random.key(0)), out_shardings=shardings)(),
    RunRecord(job["directory"], {"data": "abc"}),
    checkpointing=CheckpointConfig(minutes=None, period=4),
)
"""
FSDP = {"fsdp": 8}
MIXED = {"data": 2, "fsdp": 2, "tensor": 2}


def start(directory, mesh, devices, *, steps=8, **process):
    job = {"directory": str(directory), "mesh": mesh, "steps": steps} | process
    flags = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    command = [sys.executable, "-c", SCRIPT, json.dumps(job)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=os.environ | flags)


def finish(process):
    """The data of every update that the process made."""
    out, err = process.communicate(timeout=500)
    assert process.returncode == 0, err[-3000:]
    rows = [line.split() for line in out.splitlines() if line.startswith("data ")]
    return {int(step): digest for _, step, digest in rows}


def resumed(directory, source, mesh, devices):
    """Goes on in `directory` from a copy of checkpoint 4 of `source`."""
    shutil.copytree(source / "checkpoints" / "4", directory / "checkpoints" / "4")
    data = finish(start(directory, mesh, devices))
    assert sorted(data) == [4, 5, 6, 7]
    return data


def state(directory, step):
    """Every tensor of a checkpoint, by its name: weights, moments and counts."""
    tensors = {}
    for item in ("params", "opt_state"):
        folder = directory / "checkpoints" / str(step) / item
        as_numpy = jax.tree.map(
            lambda _: ocp.RestoreArgs(restore_type=np.ndarray), ocp.StandardCheckpointHandler().metadata(folder).tree
        )
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
            tree = checkpointer.restore(folder, args=ocp.args.PyTreeRestore(restore_args=as_numpy))
        tensors |= {f"{item}/{name}": np.asarray(leaf) for name, leaf in ocp.tree.to_flat_dict(tree, sep="/").items()}
    assert len([name for name in tensors if "/mu/" in name]) == len([n for n in tensors if n.startswith("params")]) > 5
    return tensors


def assert_same(found, expected, tolerance=None):
    assert found.keys() == expected.keys()
    worst = max(float(np.abs(found[name].astype(np.float64) - expected[name]).max()) for name in found)
    print(f"largest difference {worst:.3g}")
    for name, array in expected.items():
        if tolerance is None:
            np.testing.assert_array_equal(found[name], array, err_msg=name)
        else:
            np.testing.assert_allclose(found[name], array, rtol=0, atol=tolerance, err_msg=name)


@pytest.fixture(scope="module")
def eight_devices(tmp_path_factory):
    """8 updates in one go, fully sharded over 8 devices: (directory, data of every update)."""
    directory = tmp_path_factory.mktemp("whole")
    data = finish(start(directory, FSDP, 8))
    assert sorted(data) == list(range(8))
    assert len(set(data.values())) == 8
    return directory, data


@pytest.mark.slow
@pytest.mark.parametrize("mesh, tolerance", [(FSDP, None), (MIXED, 1e-6)], ids=["same", "mixed"])
def test_resume_on_eight_devices(eight_devices, tmp_path, mesh, tolerance):
    whole, data = eight_devices
    later = resumed(tmp_path, whole, mesh, 8)
    assert later == {step: data[step] for step in later}
    assert_same(state(tmp_path, 8), state(whole, 8), tolerance)


@pytest.mark.slow
def test_resume_of_two_processes_by_one(eight_devices, tmp_path, free_port):
    whole, data = eight_devices
    pair, alone = tmp_path / "pair", tmp_path / "alone"
    address = f"localhost:{free_port()}"
    both = [start(pair, {"fsdp": 4}, 2, steps=4, coordinator=address, index=index) for index in range(2)]
    first = [finish(process) for process in both]
    assert first[0] == first[1] == {step: data[step] for step in range(4)}
    assert_same(state(pair, 4), state(whole, 4), 1e-6)
    later = resumed(alone, pair, {"fsdp": 1}, 1)
    assert later == {step: data[step] for step in range(4, 8)}
    assert_same(state(alone, 8), state(whole, 8), 1e-6)
