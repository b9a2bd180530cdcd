"""Loss and gradients of real seed pairs on meshes of 8 devices, as relative differences to one device.

Arguments: the folder of test data, the mesh shapes as JSON lists of sizes in the order of MESH_AXES, and `splash` for
the kernel of TPUs, interpreted, in place of XLA's attention (one device always runs XLA's).
Prints one JSON object: shape -> {"loss": difference, "gradients": the largest over all parameters, "kernels": number of
kernel calls in the program}.
"""

import dataclasses
import functools
import json
import math
import pathlib
import sys

import jax
import numpy as np
from seed_rows import CONFIG, microbatches, seed_examples

from humpback_jax.models import llama
from humpback_jax.models.llama import Llama, abstract_params, init_params, logical_specs
from humpback_jax.partitioning import (
    LogicalAxisRules,
    MeshShape,
    batch_sharding,
    make_mesh,
    put_global,
    shardings,
    use_mesh,
)
from humpback_jax.training.layout import check_layout
from humpback_jax.training.loss import summed_loss
from humpback_jax.training.step import BATCH_AXES, accumulate_gradients

MODEL, KEY = Llama(CONFIG, remat_policy="full"), jax.random.key(0)


def loss_and_gradients(sizes, params, features, model=MODEL):
    """Summed loss, float, gradients, numpy, and the number of kernel calls, on a mesh of these sizes."""
    mesh, rules = make_mesh(MeshShape(*sizes), jax.devices()[: math.prod(sizes)]), LogicalAxisRules()
    _, rows, length = features["decoder_segment_ids"].shape
    check_layout(CONFIG, mesh, rules, rows, length)
    placed = shardings(mesh, rules, logical_specs(MODEL), abstract_params(MODEL))

    def run(params, batch):
        loss = lambda p, b, _: summed_loss(model, p, b, None, 100)  # noqa: E731
        return accumulate_gradients(loss, params, batch, np.int32(batch["decoder_segment_ids"].shape[0]), KEY)

    with use_mesh(mesh, rules):
        batch = {name: put_global(x, batch_sharding(mesh, rules, BATCH_AXES)) for name, x in features.items()}
        traced = jax.jit(run, out_shardings=(placed, None, None)).trace(jax.device_put(params, placed), batch)
        gradients, loss, _ = traced.lower().compile()(jax.device_put(params, placed), batch)
        return float(loss), jax.device_get(gradients), str(traced.jaxpr).count("pallas_call[")


def difference(found, expected):
    """Largest difference of two arrays, relative to the largest entry."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def main(shared, shapes, kernel=None):
    params = jax.device_get(init_params(MODEL, KEY))
    features = microbatches(seed_examples(pathlib.Path(shared)), rows=8)
    expected_loss, expected, _ = loss_and_gradients((1, 1, 1, 1), params, features)
    model = MODEL
    if kernel == "splash":
        llama.prefill_attention = functools.partial(llama.prefill_attention, interpret=True)
        model = dataclasses.replace(MODEL, platform="tpu")
    differences = {}
    for sizes in json.loads(shapes):
        loss, gradients, kernels = loss_and_gradients(sizes, params, features, model)
        largest = max(jax.tree.leaves(jax.tree.map(difference, gradients, expected)))
        found = {"loss": abs(loss / expected_loss - 1), "gradients": largest, "kernels": kernels}
        differences[" x ".join(map(str, sizes))] = found
        print(sizes, found, file=sys.stderr, flush=True)
    print(json.dumps(differences))


if __name__ == "__main__":
    main(*sys.argv[1:])
