"""Symmetric int8: the arithmetic that quantized weights and the quantized cache share."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


class QuantizedKernel(NamedTuple):
    """A weight in int8, in place of the float array in the parameter tree.

    Attributes:
      values: int8, of the shape of the weight.
      scales: float32, of the shape of the axes that are not contracted: one scale per output channel. The weight is
        `values * scales`, the scales broadcast along the contracted axes.
    """

    values: jax.Array
    scales: jax.Array


def to_int8(x: jax.Array, axes: int | tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """int8 values of the shape of `x`, and float32 scales without `axes`, along which entries share a scale.

    The largest entry becomes ±127, so every entry is off by at most half its scale; zeros stay zeros, and what is not
    finite makes its scale not finite.
    """
    x = x.astype(jnp.float32)
    scales = jnp.maximum(jnp.max(jnp.abs(x), axis=axes), 1e-8) / 127.0
    return jnp.round(x / jnp.expand_dims(scales, axes)).astype(jnp.int8), scales


def embedding_rows(table: jax.Array | QuantizedKernel, index: jax.Array, dtype: DTypeLike) -> jax.Array:
    """Rows `index` of an embedding table [vocab, emb_dim], in `dtype`; a quantized table has one scale per row."""
    if isinstance(table, QuantizedKernel):
        return (table.values[index] * table.scales[index][..., None]).astype(dtype)
    return table[index].astype(dtype)


def kept_as_stored(values: jax.Array, beside: jax.Array) -> jax.Array:
    """`values` that are about to be cast for a product with `beside`.

    The compiler casts once, before a loop, what no step changes: all int8 weights and the whole cache would be held in
    float as well, all float32 weights in bfloat16 as well. Bound to `beside`, which every step changes, they are cast
    where they are used.
    """
    return jax.lax.optimization_barrier((values, jax.lax.stop_gradient(beside)))[0]
