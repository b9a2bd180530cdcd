"""Real seed pairs: packed = unpacked, accumulated = whole, and every mesh of 8 devices = one, kernels included."""

import itertools
import json
import math
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from humpback_jax.models.llama import Llama, init_params
from humpback_jax.training.loss import summed_loss
from humpback_jax.training.step import accumulate_gradients

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from seed_rows import CONFIG, microbatches, seed_examples

TOLERANCE = 1e-5  # relative, float32
ALL_SHAPES = [sizes for sizes in itertools.product((1, 2, 4, 8), repeat=4) if math.prod(sizes) == 8]


def run_meshes(shared_data, shapes, *kernel):
    environment = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    program = pathlib.Path(__file__).with_name("mesh_program.py")
    done = subprocess.run(
        [sys.executable, program, shared_data, json.dumps(shapes), *kernel],
        env=os.environ | environment, capture_output=True, text=True, timeout=1500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # The compiler says so where it moves a whole activation to every device for want of a better way.
    assert "Involuntary full rematerialization" not in done.stderr, done.stderr
    differences = json.loads(done.stdout.splitlines()[-1])
    assert len(differences) == len(shapes)
    for shape, found in differences.items():
        assert found["loss"] <= TOLERANCE and found["gradients"] <= TOLERANCE, (shape, found)
    return differences


def test_a_mixed_mesh_equals_one_device(shared_data):
    run_meshes(shared_data, [(2, 2, 1, 2)])


@pytest.mark.slow
@pytest.mark.timeout(1600)
def test_every_mesh_of_8_devices_equals_one_device(shared_data):
    assert len(ALL_SHAPES) == 20
    run_meshes(shared_data, ALL_SHAPES)


@pytest.mark.slow
@pytest.mark.timeout(1600)
def test_the_kernel_of_tpus_on_meshes_equals_xla_on_one_device(shared_data):
    """Rows over data and fsdp, heads over tensor; where a row is split over devices, XLA attends."""
    shapes = [(8, 1, 1, 1), (2, 2, 1, 2), (1, 1, 1, 8), (1, 4, 1, 2), (1, 2, 2, 2)]
    differences = run_meshes(shared_data, shapes, "splash")
    kernels = {shape: found["kernels"] for shape, found in differences.items()}
    # Forwards, forwards again for the gradients, and one kernel each for those of queries and of keys.
    assert kernels == {" x ".join(map(str, shape)): 0 if shape[2] > 1 else 4 for shape in shapes}


@pytest.fixture(scope="module")
def sums(shared_data):
    """features -> (loss, weights, gradients), summed over the microbatches."""
    model = Llama(CONFIG)
    params = init_params(model, jax.random.key(0))
    loss = lambda p, batch, _: summed_loss(model, p, batch, None, 64)  # noqa: E731
    run = jax.jit(lambda batch, count: accumulate_gradients(loss, params, batch, count, jax.random.key(0)))

    def compute(features):
        gradients, loss_sum, weights = run(features, np.int32(len(features["decoder_segment_ids"])))
        return float(loss_sum), float(weights), jax.device_get(gradients)

    return compute


@pytest.mark.parametrize(
    ("rows", "packing"),
    [(4, True), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((1, True), (8, False)))],
)
def test_packing_and_accumulation_change_nothing(shared_data, sums, rows, packing):
    """Against all rows at once, packed."""
    examples = seed_examples(shared_data)
    whole = microbatches(examples, rows=12)
    assert len(whole["decoder_segment_ids"]) == 1 and whole["decoder_segment_ids"].max() > 1
    expected_loss, expected_weights, expected = sums(whole)
    loss, weights, gradients = sums(microbatches(examples, rows, packing))
    assert weights == expected_weights == sum(len(example.answer_ids) for example in examples)
    assert loss == pytest.approx(expected_loss, rel=TOLERANCE)
    for found, other in zip(jax.tree.leaves(gradients), jax.tree.leaves(expected), strict=True):
        assert np.abs(found - other).max() <= TOLERANCE * np.abs(other).max()
