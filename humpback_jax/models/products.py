"""Matrix products that accumulate in float32, forwards and backwards, whatever the compute dtype.

Left to itself, differentiating a bfloat16 product with a float32 result multiplies float32 cotangents by bfloat16
operands, which loses the fast bfloat16 units of TPUs, GPUs and CPUs alike. Here all three products of a weight
(output, input gradient, weight gradient) take operands in the compute dtype, and a weight's gradient has its dtype.

A quantized weight (symmetric int8, as the quantized cache is) is multiplied as it lies, its int8 values cast to the
compute dtype (which holds them exactly); its scales are applied to the result. It has no gradient.

An adapted weight adds a low-rank product beside its own (LoRA); the sum of the two weights never exists.
"""

import functools
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


class AdaptedKernel(NamedTuple):
    """A weight and its low-rank adapter, in place of the float array in the parameter tree.

    Attributes:
      kernel: the weight, [contracted axes, kept axes].
      a: [contracted axes, rank].
      b: [rank, kept axes], times alpha / rank.
      dropout: (PRNG key, rate) of what enters `a`, or None.
    """

    kernel: jax.Array | QuantizedKernel
    a: jax.Array
    b: jax.Array
    dropout: tuple[jax.Array, jax.Array] | None = None


def einsum(
    equation: str,
    x: jax.Array,
    y: jax.Array | QuantizedKernel | AdaptedKernel,
    dtype: DTypeLike,
    gradient_dtype: DTypeLike | None = None,
) -> jax.Array:
    """einsum of two operands; `y` is cast to the dtype of `x`, and the float32 result to `dtype`.

    Args:
      equation: `"bte,ehn->bthn"`; no ellipsis, and every index stands in at least two of the three terms. The result
        ends in the axes that a quantized weight keeps, in their order.
      x: activations, in the compute dtype.
      y: a weight in its stored dtype, or activations.
      dtype: of the result.
      gradient_dtype: in which the gradient of `y` leaves its product, to be summed over devices; it is then cast to the
        dtype of `y`, which is the default. bfloat16 halves what devices exchange.
    """
    if isinstance(y, AdaptedKernel):
        return einsum(equation, x, y.kernel, dtype) + _low_rank(equation, x, y, dtype)
    if isinstance(y, QuantizedKernel):
        return (_product(equation, x, y.values) * y.scales).astype(dtype)
    return _float_einsum(equation, x, y, dtype, gradient_dtype)


def _low_rank(equation: str, x: jax.Array, adapted: AdaptedKernel, dtype: DTypeLike) -> jax.Array:
    """The adapter's share of the product; the letter r stands for the rank."""
    terms, result = equation.split("->")
    x_axes, y_axes = terms.split(",")
    contracted = "".join(axis for axis in y_axes if axis in x_axes)
    kept, batch = y_axes[len(contracted) :], "".join(axis for axis in x_axes if axis not in contracted)
    if adapted.dropout is not None:
        key, rate = adapted.dropout
        x = jnp.where(jax.random.uniform(key, x.shape) >= rate, x / (1.0 - rate).astype(x.dtype), 0)
    low = _float_einsum(f"{x_axes},{contracted}r->{batch}r", x, adapted.a, x.dtype, None)
    return _float_einsum(f"{batch}r,r{kept}->{result}", low, adapted.b, dtype, None)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 3, 4))
def _float_einsum(
    equation: str, x: jax.Array, y: jax.Array, dtype: DTypeLike, gradient_dtype: DTypeLike | None
) -> jax.Array:
    return _product(equation, x, y).astype(dtype)


def _product(equation: str, x: jax.Array, y: jax.Array, dtype: DTypeLike = jnp.float32) -> jax.Array:
    if y.dtype != x.dtype:
        y = kept_as_stored(y, x).astype(x.dtype)
    return jnp.einsum(equation, x, y, preferred_element_type=dtype)


def _forward(
    equation: str, x: jax.Array, y: jax.Array, dtype: DTypeLike, gradient_dtype: DTypeLike | None
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _product(equation, x, y).astype(dtype), (x, y)


def _backward(
    equation: str,
    dtype: DTypeLike,
    gradient_dtype: DTypeLike | None,
    operands: tuple[jax.Array, jax.Array],
    cotangent: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    x, y = operands
    terms, result = equation.split("->")
    x_axes, y_axes = terms.split(",")
    cotangent = cotangent.astype(x.dtype)
    x_gradient = _product(f"{result},{y_axes}->{x_axes}", cotangent, y).astype(x.dtype)
    # The sum over devices is taken in the dtype of the product, and only then is it cast.
    y_gradient = _product(f"{x_axes},{result}->{y_axes}", x, cotangent, gradient_dtype or jnp.float32).astype(y.dtype)
    return x_gradient, y_gradient


_float_einsum.defvjp(_forward, _backward)


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
