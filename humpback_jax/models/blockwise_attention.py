"""Attention of whole sequences block by block in plain JAX, for CPUs: what no query sees is never computed.

The scores of a block of queries and a block of keys exist at one time. Blocks after the queries, and blocks of packed
segments that ended before them, are skipped; so packed rows cost what their segments would cost apart.
The backward pass recomputes the weights from the log-normalizers (FlashAttention-2, Dao 2023, algorithms 1 and 2).
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from humpback_jax.models.chunked_attention import product
from humpback_jax.models.kv_cache import padded

BLOCK = 256  # queries and keys
HIDDEN = float(jnp.finfo(jnp.float32).min)

Triple = tuple[jax.Array, jax.Array, jax.Array]
Residuals = tuple[jax.Array, jax.Array, jax.Array, jax.Array | None, jax.Array, jax.Array]


def blockwise_attention(
    query: jax.Array, keys: jax.Array, values: jax.Array, segment_ids: jax.Array | None, prefix_length: int
) -> jax.Array:
    """As `chunked_attention`; each segment must be in one piece."""
    batch, length, heads, head_dim = query.shape
    kv_heads = keys.shape[1]
    rounded, key_length = (-(-n // BLOCK) * BLOCK for n in (length, keys.shape[3]))
    rows = (query * head_dim**-0.5).reshape(batch, length, kv_heads, heads // kv_heads, head_dim)
    rows = padded(rows.transpose(0, 2, 1, 3, 4), 2, rounded)
    ids = None if segment_ids is None else padded(segment_ids, 1, rounded)
    attended = _attention(rows, padded(keys, 3, key_length), padded(values, 2, key_length), ids, prefix_length)
    attended = attended[:, :, :length].transpose(0, 2, 1, 3, 4)
    return attended.reshape(batch, length, heads, head_dim).astype(query.dtype)


class _Blocks(NamedTuple):
    """Which blocks of keys the queries of a block see, and who sees whom in a pair of blocks."""

    segment_ids: jax.Array | None
    prefix_length: int
    num_key_blocks: int

    def range(self, i: jax.Array) -> tuple[jax.Array | int, jax.Array]:
        """First key block that query block i sees, and the one after the last."""
        last = jnp.minimum((i * BLOCK + BLOCK - 1 + self.prefix_length) // BLOCK + 1, self.num_key_blocks)
        if self.segment_ids is None:
            return 0, last
        first = jax.lax.dynamic_slice_in_dim(self.segment_ids, i * BLOCK, 1, axis=1)
        # Segments are in one piece: the first query's reaches back furthest.
        return jnp.min(jnp.argmax(self.segment_ids == first, axis=1)) // BLOCK, last

    def visible(self, i: jax.Array, j: jax.Array) -> jax.Array:
        """bool [batch or 1, 1, query, 1, key]."""
        queries, keys = i * BLOCK + jnp.arange(BLOCK), j * BLOCK + jnp.arange(BLOCK)
        seen = (queries[:, None] + self.prefix_length >= keys[None, :])[None]
        if self.segment_ids is not None:
            of_query, of_key = _block(self.segment_ids, 1, i), _block(self.segment_ids, 1, j)
            seen = seen & (of_query[:, :, None] == of_key[:, None, :])
        return seen[:, None, :, None]


def _block(x: jax.Array, axis: int, i: jax.Array) -> jax.Array:
    return jax.lax.dynamic_slice_in_dim(x, i * BLOCK, BLOCK, axis)


def _add_block(total: jax.Array, part: jax.Array, axis: int, i: jax.Array) -> jax.Array:
    return jax.lax.dynamic_update_slice_in_dim(total, _block(total, axis, i) + part, i * BLOCK, axis)


def _scores(rows: jax.Array, keys: jax.Array, blocks: _Blocks, i: jax.Array, j: jax.Array) -> jax.Array:
    """float32 [batch, kv_heads, query, group, key]; the lowest float where a key is not seen."""
    scores = product("bkqgd,bkds->bkqgs", rows, _block(keys, 3, j))
    return jnp.where(blocks.visible(i, j), scores, HIDDEN)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _attention(
    rows: jax.Array, keys: jax.Array, values: jax.Array, segment_ids: jax.Array | None, prefix_length: int
) -> jax.Array:
    """Scaled queries [batch, kv_heads, length, group, head_dim], lengths multiples of BLOCK, to the same in float32."""
    return _forward(rows, keys, values, segment_ids, prefix_length)[0]


def _forward(
    rows: jax.Array, keys: jax.Array, values: jax.Array, segment_ids: jax.Array | None, prefix_length: int
) -> tuple[jax.Array, Residuals]:
    batch, kv_heads, length, group, head_dim = rows.shape
    blocks = _Blocks(segment_ids, prefix_length, keys.shape[3] // BLOCK)

    def attend(i: jax.Array) -> tuple[jax.Array, jax.Array]:
        """What the queries of block i see, and their log-normalizers."""
        queries = _block(rows, 2, i)

        def add(j: jax.Array, sums: Triple) -> Triple:
            highest, total, attended = sums
            scores = _scores(queries, keys, blocks, i, j)
            new_highest = jnp.maximum(highest, jnp.max(scores, axis=-1, keepdims=True))
            weights, shrink = jnp.exp(scores - new_highest), jnp.exp(highest - new_highest)
            part = product("bkqgs,bksd->bkqgd", weights, _block(values, 2, j))
            return new_highest, total * shrink + jnp.sum(weights, axis=-1, keepdims=True), attended * shrink + part

        column = (batch, kv_heads, BLOCK, group, 1)
        zeros = jnp.zeros((*column[:-1], head_dim), jnp.float32)
        sums = jnp.full(column, HIDDEN, jnp.float32), jnp.zeros(column, jnp.float32), zeros
        highest, total, attended = jax.lax.fori_loop(*blocks.range(i), add, sums)
        return attended / total, highest + jnp.log(total)

    attended, normalizers = (_joined(x) for x in jax.lax.map(attend, jnp.arange(length // BLOCK)))
    attended = checkpoint_name(attended, "attention_out")
    normalizers = checkpoint_name(normalizers, "attention_out")
    return attended, (rows, keys, values, segment_ids, attended, normalizers)


def _joined(x: jax.Array) -> jax.Array:
    """[blocks, batch, kv_heads, BLOCK, …] as [batch, kv_heads, length, …]."""
    moved = jnp.moveaxis(x, 0, 2)
    return moved.reshape(*moved.shape[:2], -1, *moved.shape[4:])


def _backward(
    prefix_length: int, residuals: Residuals, cotangent: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, None]:
    rows, keys, values, segment_ids, attended, normalizers = residuals
    blocks = _Blocks(segment_ids, prefix_length, keys.shape[3] // BLOCK)
    shifts = jnp.sum(cotangent * attended, axis=-1, keepdims=True)

    def attend(i: jax.Array, sums: Triple) -> Triple:
        """Adds what the queries of block i contribute to all three gradients."""
        queries, cotangents = _block(rows, 2, i), _block(cotangent, 2, i)
        normalizer, shift = _block(normalizers, 2, i), _block(shifts, 2, i)

        def add(j: jax.Array, sums: Triple) -> Triple:
            row_gradient, key_gradients, value_gradients = sums
            weights = jnp.exp(_scores(queries, keys, blocks, i, j) - normalizer)
            to_weights = product("bkqgd,bksd->bkqgs", cotangents, _block(values, 2, j))
            to_scores = weights * (to_weights - shift)
            to_keys = product("bkqgd,bkqgs->bkds", queries, to_scores.astype(queries.dtype))
            to_values = product("bkqgs,bkqgd->bksd", weights, cotangents.astype(values.dtype))
            return (
                row_gradient + product("bkqgs,bkds->bkqgd", to_scores, _block(keys, 3, j)),
                _add_block(key_gradients, to_keys, 3, j),
                _add_block(value_gradients, to_values, 2, j),
            )

        row_gradient = jnp.zeros(queries.shape, jnp.float32)
        row_gradient, *others = jax.lax.fori_loop(*blocks.range(i), add, (row_gradient, *sums[1:]))
        return _add_block(sums[0], row_gradient, 2, i), others[0], others[1]

    zeros = [jnp.zeros(x.shape, jnp.float32) for x in (rows, keys, values)]
    gradients = jax.lax.fori_loop(0, rows.shape[2] // BLOCK, attend, tuple(zeros))
    row_gradients, key_gradients, value_gradients = gradients
    return (
        row_gradients.astype(rows.dtype),
        key_gradients.astype(keys.dtype),
        value_gradients.astype(values.dtype),
        None,
    )


_attention.defvjp(_forward, _backward)
