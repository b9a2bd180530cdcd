"""Grouped-query attention over keys laid out as the cache is, and the masks that decide who sees whom."""

import jax
import jax.numpy as jnp

from humpback_jax.models.products import einsum


def segment_mask(positions: jax.Array, segment_ids: jax.Array) -> jax.Array:
    """Causal mask inside each packed segment.

    Args:
      positions: int32 [batch, length], restarting at 0 in every segment.
      segment_ids: int32 [batch, length]; 0 is padding.

    Returns:
      bool [batch, query, key]; padding sees padding only, so that its softmax stays finite.
    """
    same_segment = segment_ids[:, :, None] == segment_ids[:, None, :]
    return same_segment & (positions[:, :, None] >= positions[:, None, :])


def cache_mask(positions: jax.Array, cache_length: int) -> jax.Array:
    """Who sees which cache slot: bool [batch, query, cache_length], true where slot <= query position."""
    return jnp.arange(cache_length)[None, None, :] <= positions[:, :, None]


def attention(query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array) -> jax.Array:
    """Softmax attention, softmax in float32.

    Args:
      query: [batch, query, heads, head_dim].
      key: [batch, kv_heads, key, head_dim]; heads is a multiple of kv_heads.
      value: as key.
      mask: bool [batch, query, key].

    Returns:
      [batch, query, heads, head_dim] in the dtype of `query`.
    """
    batch, length, heads, head_dim = query.shape
    kv_heads, group = key.shape[1], heads // key.shape[1]
    # The query heads that share a key head become rows of one matrix product per (batch, key head).
    rows = (query * head_dim**-0.5).reshape(batch, length, kv_heads, group, head_dim).transpose(0, 2, 3, 1, 4)
    rows = rows.reshape(batch, kv_heads, group * length, head_dim)
    scores = einsum("bkrd,bksd->bkrs", rows, key, jnp.float32)
    scores = scores.reshape(batch, kv_heads, group, length, -1)
    scores = jnp.where(mask[:, None, None], scores, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(query.dtype).reshape(batch, kv_heads, group * length, -1)
    attended = einsum("bkrs,bksd->bkrd", weights, value, query.dtype).reshape(batch, kv_heads, group, length, head_dim)
    return attended.transpose(0, 3, 1, 2, 4).reshape(batch, length, heads, head_dim)
