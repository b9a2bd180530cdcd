"""Loss and gradients of real seed pairs on meshes of 8 devices, as relative differences to one device.

Arguments: the folder of test data, and the mesh shapes as JSON lists of sizes in the order of MESH_AXES.
Prints one JSON object: shape -> {"loss": difference, "gradients": the largest over all parameters}.
"""

import json
import math
import pathlib
import sys

import jax
import numpy as np
from seed_rows import CONFIG, microbatches, seed_examples

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

MODEL = Llama(CONFIG, remat_policy="full")


def loss_and_gradients(sizes, params, features):
    """Summed loss, float, and gradients, numpy, on a mesh of these sizes."""
    mesh, rules = make_mesh(MeshShape(*sizes), jax.devices()[: math.prod(sizes)]), LogicalAxisRules()
    _, rows, length = features["decoder_segment_ids"].shape
    check_layout(CONFIG, mesh, rules, rows, length)
    placed = shardings(mesh, rules, logical_specs(MODEL), abstract_params(MODEL))

    def run(params, batch):
        loss = lambda p, b, _: summed_loss(MODEL, p, b, None, 100)  # noqa: E731
        return accumulate_gradients(loss, params, batch, np.int32(batch["decoder_segment_ids"].shape[0]), KEY)

    with use_mesh(mesh, rules):
        batch = {name: put_global(x, batch_sharding(mesh, rules, BATCH_AXES)) for name, x in features.items()}
        gradients, loss, _ = jax.jit(run, out_shardings=(placed, None, None))(jax.device_put(params, placed), batch)
        return float(loss), jax.device_get(gradients)


def difference(found, expected):
    """Largest difference of two arrays, relative to the largest entry."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())


if __name__ == "__main__":
    KEY = jax.random.key(0)
    params = jax.device_get(init_params(MODEL, KEY))
    features = microbatches(seed_examples(pathlib.Path(sys.argv[1])), rows=8)
    expected_loss, expected = loss_and_gradients((1, 1, 1, 1), params, features)
    differences = {}
    for sizes in json.loads(sys.argv[2]):
        loss, gradients = loss_and_gradients(sizes, params, features)
        largest = max(jax.tree.leaves(jax.tree.map(difference, gradients, expected)))
        differences[str(sizes)] = {"loss": abs(loss / expected_loss - 1), "gradients": largest}
        print(sizes, differences[str(sizes)], file=sys.stderr, flush=True)
    print(json.dumps(differences))
