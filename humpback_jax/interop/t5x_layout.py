"""How our logical axes are called in t5x, and what t5x's mesh axes `replica`, `data` and `model` shard of ours."""

import jax
from jax.sharding import PartitionSpec

from humpback_jax.models.llama import Llama, logical_specs
from humpback_jax.partitioning import LogicalAxisRules

# Parameters: the names that t5x's standard rules know, and ours where they know none.
NAMES = {"head_dim": "kv", "norm": "embed"}
# Rules that are added behind t5x's own; the first rule of a name counts, so a gin file can set others.
PARAMETER_RULES = (("kv_heads", "model"),)

_MESH_AXES = {"data": ("replica", "data"), "fsdp": (), "sequence": (), "tensor": ("model",)}
# Activations lie as under our own rules: `tensor` is t5x's `model`, and batches are split over all other axes.
ACTIVATION_RULES: tuple[tuple[str, tuple[str, ...]], ...] = tuple(
    (name, tuple(mapped for axis in axes for mapped in _MESH_AXES[axis]))
    for name, axes in LogicalAxisRules().as_pairs()
)


def parameter_axes(model: Llama) -> dict:
    """The parameter tree with a tuple of t5x axis names at every leaf."""
    is_spec = lambda x: isinstance(x, PartitionSpec)  # noqa: E731
    rename = lambda spec: tuple(NAMES.get(name, name) for name in spec)  # noqa: E731
    return jax.tree.map(rename, logical_specs(model), is_leaf=is_spec)
