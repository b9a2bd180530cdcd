"""Low-rank adapters (LoRA): every chosen weight W of shape [in, out] gets W + alpha / rank * A B, and only A, B train.

The adapter tree mirrors the parameter tree, `layers/attention/query/{a, b}` for `layers/attention/query/kernel`,
stacked over the layers: `a` [layers, in axes, rank], `b` [layers, rank, out axes]. Heads stay split, so every axis
keeps its logical name and is sharded as in the weight itself. Rotary positions need no permutation: our order of a head
is Hugging Face's.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from humpback_jax.models.llama import Llama, abstract_params, logical_specs
from humpback_jax.models.products import AdaptedKernel
from humpback_jax.ranges import OneOf, PositiveFloat, PositiveInt, Rate, check_fields

PROJECTIONS = {
    "q": ("attention", "query"),
    "k": ("attention", "key"),
    "v": ("attention", "value"),
    "o": ("attention", "out"),
    "gate": ("mlp", "gate"),
    "up": ("mlp", "up"),
    "down": ("mlp", "down"),
}


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """Which weights are adapted, and how.

    Attributes:
      rank: of the adapters.
      alpha: the product of an adapter is multiplied by alpha / rank.
      targets: names in `PROJECTIONS`.
      dropout: rate on what enters an adapter.
    """

    rank: PositiveInt = 16
    alpha: PositiveFloat = 32.0
    targets: tuple[Annotated[str, OneOf(*PROJECTIONS)], ...] = tuple(PROJECTIONS)
    dropout: Rate = 0.0

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.targets:
            raise ValueError(f"LoraConfig.targets is empty; choose from {', '.join(PROJECTIONS)}")

    @property
    def scale(self) -> float:
        """alpha / rank."""
        return self.alpha / self.rank


def adapter_tree(leaves: Mapping[str, dict]) -> dict:
    """{target: leaves} as a tree, the leaves of every target where its adapter lies."""
    layers: dict[str, dict] = {}
    for target, value in leaves.items():
        block, name = PROJECTIONS[target]
        layers.setdefault(block, {})[name] = value
    return {"layers": layers}


def at_target(tree: Mapping, target: str) -> Any:
    """The leaves of one projection: {"kernel"} of a parameter tree, {"a", "b"} of an adapter tree."""
    block, name = PROJECTIONS[target]
    return tree["layers"][block][name]


def split_axes(target: str, axes: tuple) -> tuple[tuple, tuple]:
    """(in axes, out axes) of one layer's weight: the output projection of attention contracts heads and head_dim."""
    inputs = 2 if target == "o" else 1
    return axes[:inputs], axes[inputs:]


def adapter_shapes(model: Llama, lora: LoraConfig) -> dict:
    """The adapter tree as float32 `jax.ShapeDtypeStruct` leaves."""
    params = abstract_params(model)
    shapes = {target: at_target(params, target)["kernel"].shape for target in lora.targets}
    return _adapters_of(shapes, lora.rank, lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32))


def adapter_specs(model: Llama, lora: LoraConfig) -> dict:
    """The adapter tree with a PartitionSpec over logical axis names at every leaf."""
    specs = logical_specs(model)
    names = {target: at_target(specs, target)["kernel"] for target in lora.targets}
    return _adapters_of(names, "lora_rank", PartitionSpec)


def _adapters_of(kernels: Mapping[str, tuple], rank: Any, leaf: Callable[..., Any]) -> dict:
    """The adapter tree for the axes (lengths, or names) of weights: at every leaf what `leaf` makes of its axes."""
    leaves = {}
    for target, (layers, *axes) in kernels.items():
        inputs, outputs = split_axes(target, tuple(axes))
        leaves[target] = {"a": leaf(layers, *inputs, rank), "b": leaf(layers, rank, *outputs)}
    return adapter_tree(leaves)


def init_adapters(model: Llama, lora: LoraConfig, key: jax.Array) -> dict:
    """Adapters that change nothing yet: A uniform within ±1 / sqrt(inputs), B zero, both float32."""
    shapes, leaves = adapter_shapes(model, lora), {}
    for target in lora.targets:
        a, b = at_target(shapes, target)["a"], at_target(shapes, target)["b"]
        bound = math.prod(a.shape[1:-1]) ** -0.5
        uniform = jax.random.uniform(_key_of(target, key), a.shape, a.dtype, -bound, bound)
        leaves[target] = {"a": uniform, "b": jnp.zeros(b.shape, b.dtype)}
    return adapter_tree(leaves)


def _key_of(target: str, key: jax.Array) -> jax.Array:
    return jax.random.fold_in(key, list(PROJECTIONS).index(target))


def adapted_params(params: dict, adapters: dict, lora: LoraConfig, dropout_key: jax.Array | None = None) -> dict:
    """The parameter tree with an `AdaptedKernel` in the place of every adapted weight.

    Args:
      params: of the base model, layers stacked.
      adapters: see the module.
      lora: what they are.
      dropout_key: switches the adapters' dropout on.
    """
    kernels = {}
    for target in lora.targets:
        adapter, dropout = at_target(adapters, target), None
        layers = adapter["a"].shape[0]
        if lora.dropout and dropout_key is not None:
            keys = jax.random.split(_key_of(target, dropout_key), layers)
            dropout = (keys, jnp.full((layers,), lora.dropout, jnp.float32))
        kernel = at_target(params, target)["kernel"]
        kernels[target] = AdaptedKernel(kernel, adapter["a"], adapter["b"] * lora.scale, dropout)
    return _with_kernels(params, kernels)


def merge_adapters(params: dict, adapters: dict, lora: LoraConfig) -> dict:
    """The parameter tree of a model that needs no adapters: W + alpha / rank * A B, in the dtype of W."""
    kernels = {}
    for target in lora.targets:
        adapter = at_target(adapters, target)
        kernels[target] = merged_kernel(at_target(params, target)["kernel"], adapter["a"], adapter["b"], lora.scale)
    return _with_kernels(params, kernels)


def merged_kernel(kernel: jax.Array, a: jax.Array, b: jax.Array, scale: float) -> jax.Array:
    """W + scale * A B, with or without a leading layer axis, summed in float32."""
    stacked = a.ndim + b.ndim - 2 != kernel.ndim
    contract = functools.partial(jnp.tensordot, axes=1, precision="highest")
    product = (jax.vmap(contract) if stacked else contract)(a.astype(jnp.float32), b.astype(jnp.float32))
    return (kernel.astype(jnp.float32) + scale * product).astype(kernel.dtype)


def _with_kernels(params: dict, kernels: Mapping[str, Any]) -> dict[str, Any]:
    """`params` with {target: weight} in the place of its own weights."""
    layers = dict(params["layers"])
    for target, kernel in kernels.items():
        block, name = PROJECTIONS[target]
        layers[block] = layers[block] | {name: layers[block][name] | {"kernel": kernel}}
    return params | {"layers": layers}
