"""Constraints that are written reach the compiler, and no large parameter is whole on every device under fsdp."""

import contextlib

import flax.linen as nn
import jax
import pytest
from jax.sharding import AbstractMesh

from humpback_jax.data.packing import FEATURES
from humpback_jax.models import layers
from humpback_jax.models.config import get_config
from humpback_jax.models.llama import Llama, abstract_params
from humpback_jax.partitioning import MESH_AXES, LogicalAxisRules, constrain, make_mesh, use_mesh
from humpback_jax.training.loss import summed_loss
from humpback_jax.training.step import TrainSetup

MODEL = Llama(get_config("tiny"))
# What the forward pass declares: per call, and per layer (once under the scan over layers).
DECLARED = {
    "mask": 1,
    "embedding table": 1,
    "embedded tokens": 1,
    "norm": 1,
    "hidden of a chunk": 1,
    "logits": 1,
}
DECLARED_PER_LAYER = {
    "norms": 2,
    "inputs of both branches": 2,
    "query, key, value": 3,
    "attended": 1,
    "mlp": 1,
    "residual stream": 2,
}


def constraints(context, model=MODEL):
    """Number of sharding constraints in the lowered loss of a microbatch."""
    batch = {name: jax.ShapeDtypeStruct((2, 16), dtype) for name, dtype in FEATURES.items()}
    params = abstract_params(model)
    with context:
        # A function of its own for every call: nothing is answered from an earlier trace.
        lowered = jax.jit(lambda params, batch: summed_loss(model, params, batch, None, 8)).lower(params, batch)
    return lowered.as_text().count("sdy.sharding_constraint")


def expected(layers=1):
    return sum(DECLARED.values()) + layers * sum(DECLARED_PER_LAYER.values())


def test_every_constraint_that_is_declared_is_lowered():
    assert constraints(use_mesh(make_mesh(), LogicalAxisRules())) == expected()


def test_the_count_sees_a_constraint_that_is_gone(monkeypatch):
    without_mlp = lambda x, *names: x if names[-1] == "activation_mlp" else constrain(x, *names)  # noqa: E731
    monkeypatch.setattr(layers, "constrain", without_mlp)
    assert constraints(use_mesh(make_mesh(), LogicalAxisRules())) == expected() - 1


def test_the_count_sees_rules_without_effect():
    """Without `jax.set_mesh` flax drops every constraint in silence; without rules there are none."""
    assert constraints(nn.logical_axis_rules(LogicalAxisRules().as_pairs())) == 0
    assert constraints(contextlib.nullcontext()) == 0


def placed_state(name, rules, **sizes):
    """(shardings, shapes) of the training state of a published size on a mesh that needs no devices."""
    mesh = AbstractMesh(tuple(sizes.get(axis, 1) for axis in MESH_AXES), MESH_AXES)
    setup = TrainSetup(Llama(get_config(name)), mesh, rules)
    return setup.state_shardings(), setup.abstract_state()


def replicated_leaves(placed, shapes, axis, min_bytes=2**20):
    """Paths of the leaves above `min_bytes` that are not split over mesh axis `axis`, if it has a size above 1."""
    found = []
    for (path, sharding), leaf in zip(jax.tree.leaves_with_path(placed), jax.tree.leaves(shapes), strict=True):
        used = [name for entry in sharding.spec for name in ((entry,) if isinstance(entry, str) else entry or ())]
        if leaf.size * leaf.dtype.itemsize > min_bytes and sharding.mesh.shape[axis] > 1 and axis not in used:
            found.append(jax.tree_util.keystr(path, simple=True, separator="/"))
    return found


@pytest.mark.parametrize("name", ["smollm2_135m", "llama_7b", "llama2_70b"])
@pytest.mark.parametrize("sizes", [{"fsdp": 8}, {"data": 2, "fsdp": 4, "sequence": 2}])
def test_no_parameter_or_moment_above_a_megabyte_is_replicated_under_fsdp(name, sizes):
    placed, shapes = placed_state(name, LogicalAxisRules(), **sizes)
    assert replicated_leaves(placed, shapes, "fsdp") == []


def test_the_check_of_replication_sees_a_broken_rule():
    placed, shapes = placed_state("smollm2_135m", LogicalAxisRules(embed=()), fsdp=8)
    found = replicated_leaves(placed, shapes, "fsdp")
    assert (
        "params/token_embedder/embedding" in found and len(found) == 3 * 8
    )  # seven kernels and an embedding, with both moments


def test_small_leaves_and_meshes_without_fsdp_are_left_alone():
    assert replicated_leaves(*placed_state("tiny", LogicalAxisRules(embed=()), fsdp=8), "fsdp") == []
    assert replicated_leaves(*placed_state("smollm2_135m", LogicalAxisRules(embed=()), data=8), "fsdp") == []
