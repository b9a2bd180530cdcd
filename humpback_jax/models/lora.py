"""Low-rank adapters (LoRA): every chosen weight W of shape [in, out] gets W + alpha / rank * A B, and only A, B train.

The adapter tree mirrors the parameter tree, `layers/attention/query/{a, b}` for `layers/attention/query/kernel`,
stacked over the layers: `a` [layers, in axes, rank], `b` [layers, rank, out axes]. Heads stay split, so every axis
keeps its logical name and is sharded as in the weight itself. Rotary positions need no permutation: our order of a head
is Hugging Face's.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from humpback_jax.models.llama import Llama, abstract_params, logical_specs
from humpback_jax.models.products import AdaptedKernel

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

    rank: int = 16
    alpha: float = 32.0
    targets: tuple[str, ...] = tuple(PROJECTIONS)
    dropout: float = 0.0

    def __post_init__(self) -> None:
        unknown = [target for target in self.targets if target not in PROJECTIONS]
        if unknown or not self.targets:
            wrong = f"unknown target {unknown[0]!r}" if unknown else "no target"
            raise ValueError(f"LoraConfig: {wrong}; choose from {', '.join(PROJECTIONS)}")
        if self.rank < 1 or not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"{self}: rank must be at least 1 and dropout in [0, 1)")

    @property
    def scale(self) -> float:
        """alpha / rank."""
        return self.alpha / self.rank


def map_adapters(lora: LoraConfig, make: Callable[[str, str, str], dict]) -> dict:
    """A tree with `make(target, block, name)` where the adapter of each target lies."""
    layers: dict[str, dict] = {}
    for target in lora.targets:
        block, name = PROJECTIONS[target]
        layers.setdefault(block, {})[name] = make(target, block, name)
    return {"layers": layers}


def split_axes(target: str, axes: tuple) -> tuple[tuple, tuple]:
    """(in axes, out axes) of one layer's weight: the output projection of attention contracts heads and head_dim."""
    inputs = 2 if target == "o" else 1
    return axes[:inputs], axes[inputs:]


def adapter_shapes(model: Llama, lora: LoraConfig) -> dict:
    """The adapter tree as float32 `jax.ShapeDtypeStruct` leaves."""
    params = abstract_params(model)["layers"]

    def one(target: str, block: str, name: str) -> dict:
        layers, *shape = params[block][name]["kernel"].shape
        inputs, outputs = split_axes(target, tuple(shape))
        struct = lambda *axes: jax.ShapeDtypeStruct((layers, *axes), jnp.float32)  # noqa: E731
        return {"a": struct(*inputs, lora.rank), "b": struct(lora.rank, *outputs)}

    return map_adapters(lora, one)


def adapter_specs(model: Llama, lora: LoraConfig) -> dict:
    """The adapter tree with a PartitionSpec over logical axis names at every leaf."""
    specs = logical_specs(model)["layers"]

    def one(target: str, block: str, name: str) -> dict:
        layers, *names = specs[block][name]["kernel"]
        inputs, outputs = split_axes(target, tuple(names))
        return {
            "a": PartitionSpec(layers, *inputs, "lora_rank"),
            "b": PartitionSpec(layers, "lora_rank", *outputs),
        }

    return map_adapters(lora, one)


def init_adapters(model: Llama, lora: LoraConfig, key: jax.Array) -> dict:
    """Adapters that change nothing yet: A uniform within ±1 / sqrt(inputs), B zero, both float32."""
    shapes = adapter_shapes(model, lora)

    def one(target: str, block: str, name: str) -> dict:
        a, b = shapes["layers"][block][name]["a"], shapes["layers"][block][name]["b"]
        bound = math.prod(a.shape[1:-1]) ** -0.5
        own_key = jax.random.fold_in(key, list(PROJECTIONS).index(target))
        return {"a": jax.random.uniform(own_key, a.shape, a.dtype, -bound, bound), "b": jnp.zeros(b.shape, b.dtype)}

    return map_adapters(lora, one)


def adapted_params(params: dict, adapters: dict, lora: LoraConfig, dropout_key: jax.Array | None = None) -> dict:
    """The parameter tree with an `AdaptedKernel` in the place of every adapted weight.

    Args:
      params: of the base model, layers stacked.
      adapters: see the module.
      lora: what they are.
      dropout_key: switches the adapters' dropout on.
    """

    def one(target: str, block: str, name: str) -> dict:
        own, dropout = adapters["layers"][block][name], None
        layers = own["a"].shape[0]
        if lora.dropout and dropout_key is not None:
            own_key = jax.random.fold_in(dropout_key, list(PROJECTIONS).index(target))
            dropout = (jax.random.split(own_key, layers), jnp.full((layers,), lora.dropout, jnp.float32))
        kernel = params["layers"][block][name]["kernel"]
        return {"kernel": AdaptedKernel(kernel, own["a"], own["b"] * lora.scale, dropout)}

    return _with_kernels(params, map_adapters(lora, one))


def merge_adapters(params: dict, adapters: dict, lora: LoraConfig) -> dict:
    """The parameter tree of a model that needs no adapters: W + alpha / rank * A B, in the dtype of W."""

    def one(target: str, block: str, name: str) -> dict:
        own, kernel = adapters["layers"][block][name], params["layers"][block][name]["kernel"]
        return {"kernel": merged_kernel(kernel, own["a"], own["b"], lora.scale)}

    return _with_kernels(params, map_adapters(lora, one))


def merged_kernel(kernel: jax.Array, a: jax.Array, b: jax.Array, scale: float) -> jax.Array:
    """W + scale * A B, with or without a leading layer axis, summed in float32."""
    stacked = a.ndim + b.ndim - 2 != kernel.ndim
    contract = lambda a, b: jnp.tensordot(a, b, 1, precision="highest")  # noqa: E731
    product = (jax.vmap(contract) if stacked else contract)(a.astype(jnp.float32), b.astype(jnp.float32))
    return (kernel.astype(jnp.float32) + scale * product).astype(kernel.dtype)


def num_adapter_params(model: Llama, lora: LoraConfig) -> int:
    """Number of weights that train."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(adapter_shapes(model, lora)))


def _with_kernels(params: dict, kernels: dict) -> dict[str, Any]:
    """`params` with the weights of `kernels` in the place of its own."""
    layers = dict(params["layers"])
    for block, projections in kernels["layers"].items():
        layers[block] = layers[block] | projections
    return params | {"layers": layers}
