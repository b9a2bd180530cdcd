"""Matrix products that accumulate in float32, forwards and backwards, whatever the compute dtype.

Left to itself, differentiating a bfloat16 product with a float32 result multiplies float32 cotangents by bfloat16
operands, which loses the fast bfloat16 units of TPUs, GPUs and CPUs alike. Here all three products of a weight
(output, input gradient, weight gradient) take operands in the compute dtype, and a weight's gradient has its dtype.
"""

import functools

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 3))
def einsum(equation: str, x: jax.Array, y: jax.Array, dtype: DTypeLike) -> jax.Array:
    """einsum of two operands; `y` is cast to the dtype of `x`, and the float32 result to `dtype`.

    Args:
      equation: `"bte,ehd->bthd"`; no ellipsis, and every index stands in at least two of the three terms.
      x: activations, in the compute dtype.
      y: a weight in its stored dtype, or activations.
      dtype: of the result.
    """
    return _product(equation, x, y).astype(dtype)


def _product(equation: str, x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.einsum(equation, x, y.astype(x.dtype), preferred_element_type=jnp.float32)


def _forward(
    equation: str, x: jax.Array, y: jax.Array, dtype: DTypeLike
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _product(equation, x, y).astype(dtype), (x, y)


def _backward(
    equation: str, dtype: DTypeLike, operands: tuple[jax.Array, jax.Array], cotangent: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, y = operands
    terms, result = equation.split("->")
    x_axes, y_axes = terms.split(",")
    cotangent = cotangent.astype(x.dtype)
    x_gradient = _product(f"{result},{y_axes}->{x_axes}", cotangent, y).astype(x.dtype)
    y_gradient = _product(f"{x_axes},{result}->{y_axes}", x, cotangent).astype(y.dtype)
    return x_gradient, y_gradient


einsum.defvjp(_forward, _backward)
