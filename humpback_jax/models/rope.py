"""Rotary position embeddings: the frequencies of every kind of scaling, sines and cosines, and the rotation itself.

Hugging Face's convention: the rotated part of a head is split in halves, not interleaved.
"""

import functools
import math

import jax
import jax.numpy as jnp

from humpback_jax.models.config import RopeScaling

Rope = tuple[jax.Array, jax.Array]  # sin and cos, float32 [batch, length, rotary_dim / 2]


def rope_frequencies(
    head_dim: int, theta: float, scaling: RopeScaling | None, lengths: jax.Array | None = None
) -> jax.Array:
    """Rotary frequencies in radians per token, float32.

    Args:
      head_dim: entries of a head that are rotated.
      theta: rotary base.
      scaling: None for none.
      lengths: int32 [...], tokens of sequences; of `dynamic` and `longrope`, which are otherwise as in short ones.

    Returns:
      [head_dim / 2], or with lengths [..., head_dim / 2].
    """
    exponents = jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim
    if scaling is not None and scaling.kind == "dynamic" and lengths is not None:
        return 1.0 / (_grown_base(theta, scaling, lengths, head_dim)[..., None] ** exponents)
    frequencies = 1.0 / (theta**exponents)
    if scaling is None or scaling.kind == "dynamic":
        return frequencies
    if scaling.kind == "linear":
        return frequencies / scaling.factor
    if scaling.kind == "yarn":
        kept = _yarn_kept(head_dim, theta, scaling)
        return frequencies * kept + frequencies / scaling.factor * (1.0 - kept)
    if scaling.kind == "longrope":
        short, long = (jnp.asarray(table, jnp.float32) for table in (scaling.short_factor, scaling.long_factor))
        if lengths is not None:
            short = jnp.where(lengths[..., None] > scaling.original_max_position_embeddings, long, short)
        return 1.0 / (short * theta**exponents)
    wavelengths = 2 * math.pi / frequencies
    turns = scaling.original_max_position_embeddings / wavelengths
    keep = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    keep = jnp.clip(keep, 0.0, 1.0)
    return frequencies * keep + frequencies / scaling.factor * (1.0 - keep)


def _grown_base(theta: float, scaling: RopeScaling, lengths: jax.Array, head_dim: int) -> jax.Array:
    """Base of `dynamic` scaling for sequences of these lengths ("NTK-aware", after bloc97 and emozilla)."""
    original = scaling.original_max_position_embeddings
    longer = scaling.factor * jnp.maximum(lengths, original).astype(jnp.float32) / original - (scaling.factor - 1)
    return theta * longer ** (head_dim / (head_dim - 2))


def _yarn_kept(head_dim: int, theta: float, scaling: RopeScaling) -> jax.Array:
    """Share of every frequency that `yarn` keeps as it is, float32 [head_dim / 2] (Peng et al. 2023, section 3.2)."""

    def place(turns: float) -> float:
        return (
            head_dim
            * math.log(scaling.original_max_position_embeddings / (turns * 2 * math.pi))
            / (2 * math.log(theta))
        )

    low, high = place(scaling.beta_fast), place(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    high = high + 0.001 if low == high else high
    return 1.0 - jnp.clip((jnp.arange(head_dim // 2, dtype=jnp.float32) - low) / (high - low), 0.0, 1.0)


def sines_and_cosines(angles: jax.Array, scaling: RopeScaling | None) -> Rope:
    """Of angles float32 [batch, length, rotary_dim / 2], as strong as the scaling wants them."""
    sines, cosines = jnp.sin(angles), jnp.cos(angles)
    factor = 1.0 if scaling is None else scaling.attention_factor
    return (sines, cosines) if factor == 1.0 else (sines * factor, cosines * factor)


def unrotated(positions: jax.Array, rotary_dim: int) -> Rope:
    """Sines and cosines that leave queries and keys as they are."""
    shape = (*positions.shape, rotary_dim // 2)
    return jnp.zeros(shape, jnp.float32), jnp.ones(shape, jnp.float32)


def sequence_lengths(positions: jax.Array, segment_ids: jax.Array | None) -> jax.Array:
    """How long the sequence of each position is: int32 [batch, length] of packed rows, else [batch, 1]."""
    if segment_ids is None:
        return jnp.max(positions, axis=1, keepdims=True) + 1
    longest = functools.partial(jax.ops.segment_max, num_segments=positions.shape[1] + 1)
    return jax.vmap(lambda row, ids: longest(row, ids)[ids])(positions, segment_ids) + 1


def rotate(x: jax.Array, sin: jax.Array, cos: jax.Array) -> jax.Array:
    """Rotates the start of every head, as much of it as there are sines.

    Args:
      x: [batch, length, heads, head_dim].
      sin, cos: float32 [batch, length, rotary_dim / 2].
    """
    rotary_dim = 2 * sin.shape[-1]
    if rotary_dim < x.shape[-1]:
        return jnp.concatenate([rotate(x[..., :rotary_dim], sin, cos), x[..., rotary_dim:]], axis=-1)
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    sin, cos = sin[:, :, None], cos[:, :, None]
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)
