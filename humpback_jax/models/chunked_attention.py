"""Causal attention in chunks of queries, in plain JAX, for CPUs: keys after a chunk are left out of its products.

Chunks are unrolled, so that compilers see ordinary products of fixed shapes.
"""

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

CHUNK = 128  # queries
HIDDEN = -1e30  # added to the score of a key that is not seen


def chunked_attention(
    query: jax.Array, keys: jax.Array, values: jax.Array, segment_ids: jax.Array | None, prefix_length: int
) -> jax.Array:
    """Causal softmax attention, softmax in float32.

    Args:
      query: [batch, length, heads, head_dim].
      keys: [batch, kv_heads, head_dim, prefix_length + length]; every query sees the prefix.
      values: [batch, kv_heads, prefix_length + length, head_dim].
      segment_ids: int32 [batch, length] of packed rows; only without a prefix.
      prefix_length: keys before the first query.

    Returns:
      [batch, length, heads, head_dim] in the dtype of `query`.
    """
    batch, length, heads, head_dim = query.shape
    kv_heads = keys.shape[1]
    group = heads // kv_heads
    rows = (query * head_dim**-0.5).reshape(batch, length, kv_heads, group, head_dim).swapaxes(1, 2)
    chunks = []
    for start in range(0, length, CHUNK):
        stop = min(start + CHUNK, length)
        seen = prefix_length + stop
        queries = rows[:, :, start:stop].reshape(batch, kv_heads, -1, head_dim)
        hidden = jnp.where(_visible(segment_ids, start, stop, prefix_length), 0.0, HIDDEN)
        bias = jnp.repeat(hidden, group, axis=1)[:, None]  # as many rows as there are queries of a key head
        scores = product("bkrd,bkds->bkrs", queries, keys[..., :seen]) + bias
        weights = jnp.exp(scores - jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True)))
        attended = product("bkrs,bksd->bkrd", weights, values[:, :, :seen])
        chunks.append(attended / jnp.sum(weights, axis=-1, keepdims=True))
    attended = jnp.concatenate(chunks, axis=2).reshape(batch, kv_heads, length, group, head_dim)
    return checkpoint_name(attended.swapaxes(1, 2).reshape(query.shape).astype(query.dtype), "attention_out")


def _visible(segment_ids: jax.Array | None, start: int, stop: int, prefix_length: int) -> jax.Array:
    """bool [batch or 1, query, key] of the queries from `start` to `stop` and all keys up to them."""
    queries, keys = jnp.arange(start, stop), jnp.arange(prefix_length + stop)
    visible = (queries[:, None] + prefix_length >= keys[None, :])[None]
    if segment_ids is None:
        return visible
    return visible & (segment_ids[:, start:stop, None] == segment_ids[:, None, :stop])


def product(equation: str, a: jax.Array, b: jax.Array) -> jax.Array:
    """float32, the operands in the dtype of `b`."""
    return jnp.einsum(equation, a.astype(b.dtype), b, preferred_element_type=jnp.float32)
