"""Causal attention of whole sequences in plain JAX, for CPUs, by chunks of queries or by blocks of queries and keys.

By chunks, which are unrolled, so that compilers see ordinary products of fixed shapes: keys after a chunk are left out
of its products.

By blocks, for packed rows: the scores of a block of queries and a block of keys exist at one time. Blocks after the
queries, and blocks of packed segments that ended before them, are skipped; so packed rows cost what their segments
would cost apart. The backward pass recomputes the weights from the log-normalizers (FlashAttention-2, Dao 2023,
algorithms 1 and 2).
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from humpback_jax.models.attention import grouped, ungrouped
from humpback_jax.models.kv_cache import padded
from humpback_jax.models.score_rule import LLAMA_RULE, ScoreRule

CHUNK = 128  # queries
CHUNK_HIDDEN = -1e30  # added to the score of a key that is not seen
BLOCK = 256  # queries and keys
BLOCK_HIDDEN = float(jnp.finfo(jnp.float32).min)  # the score of a key that is not seen

Triple = tuple[jax.Array, jax.Array, jax.Array]
Residuals = tuple[jax.Array, jax.Array, jax.Array, jax.Array | None, jax.Array, jax.Array]


def chunked_attention(
    query: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    segment_ids: jax.Array | None,
    prefix_length: int,
    rule: ScoreRule = LLAMA_RULE,
) -> jax.Array:
    """Causal softmax attention, softmax in float32.

    Args:
      query: [batch, length, heads, head_dim].
      keys: [batch, kv_heads, head_dim, prefix_length + length]; every query sees the prefix.
      values: [batch, kv_heads, prefix_length + length, head_dim].
      segment_ids: int32 [batch, length] of packed rows; only without a prefix.
      prefix_length: keys before the first query.
      rule: of the scores.

    Returns:
      [batch, length, heads, head_dim] in the dtype of `query`.
    """
    rows = grouped(rule.scaled(query), keys.shape[1])
    batch, kv_heads, length, group, head_dim = rows.shape
    chunks = []
    for start in range(0, length, CHUNK):
        stop = min(start + CHUNK, length)
        seen = prefix_length + stop
        first = 0 if rule.window is None else max(0, prefix_length + start + 1 - rule.window)
        queries = rows[:, :, start:stop].reshape(batch, kv_heads, -1, head_dim)
        visible = _causal(jnp.arange(start, stop), jnp.arange(first, seen), prefix_length, rule.window)
        if segment_ids is not None:
            visible = visible & (segment_ids[:, start:stop, None] == segment_ids[:, None, first:stop])
        hidden = jnp.where(visible, 0.0, CHUNK_HIDDEN)
        bias = jnp.repeat(hidden, group, axis=1)[:, None]  # as many rows as there are queries of a key head
        scores = rule.capped(_product("bkrd,bkds->bkrs", queries, keys[..., first:seen])) + bias
        weights = jnp.exp(scores - jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True)))
        attended = _product("bkrs,bksd->bkrd", weights, values[:, :, first:seen])
        chunks.append(attended / jnp.sum(weights, axis=-1, keepdims=True))
    attended = jnp.concatenate(chunks, axis=2).reshape(rows.shape)
    return checkpoint_name(ungrouped(attended).astype(query.dtype), "attention_out")


def blockwise_attention(
    query: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    segment_ids: jax.Array | None,
    prefix_length: int,
    rule: ScoreRule = LLAMA_RULE,
) -> jax.Array:
    """As `chunked_attention`, without soft caps; each segment must be in one piece."""
    rounded, key_length = (-(-n // BLOCK) * BLOCK for n in (query.shape[1], keys.shape[3]))
    rows = padded(grouped(rule.scaled(query), keys.shape[1]), 2, rounded)
    ids = None if segment_ids is None else padded(segment_ids, 1, rounded)
    keys, values = padded(keys, 3, key_length), padded(values, 2, key_length)
    attended = _attention(rows, keys, values, ids, prefix_length, rule.window)
    return ungrouped(attended[:, :, : query.shape[1]]).astype(query.dtype)


def _causal(queries: jax.Array, keys: jax.Array, prefix_length: int, window: int | None) -> jax.Array:
    """bool [1, query, key] for queries and keys at these positions."""
    seen = queries[:, None] + prefix_length >= keys[None, :]
    if window is not None:
        seen = seen & (queries[:, None] + prefix_length - keys[None, :] < window)
    return seen[None]


def _product(equation: str, a: jax.Array, b: jax.Array) -> jax.Array:
    """float32, the operands in the dtype of `b`."""
    return jnp.einsum(equation, a.astype(b.dtype), b, preferred_element_type=jnp.float32)


class _Blocks(NamedTuple):
    """Which blocks of keys the queries of a block see, and who sees whom in a pair of blocks."""

    segment_ids: jax.Array | None
    prefix_length: int
    num_key_blocks: int
    window: int | None

    def range(self, i: jax.Array) -> tuple[jax.Array | int, jax.Array]:
        """First key block that query block i sees, and the one after the last."""
        last = jnp.minimum((i * BLOCK + BLOCK - 1 + self.prefix_length) // BLOCK + 1, self.num_key_blocks)
        # The first query reaches back furthest.
        near = 0 if self.window is None else jnp.maximum(0, i * BLOCK + self.prefix_length + 1 - self.window) // BLOCK
        if self.segment_ids is None:
            return near, last
        first = jax.lax.dynamic_slice_in_dim(self.segment_ids, i * BLOCK, 1, axis=1)
        # Segments are in one piece.
        start = jnp.min(jnp.argmax(self.segment_ids == first, axis=1)) // BLOCK
        return start if self.window is None else jnp.maximum(start, near), last

    def visible(self, i: jax.Array, j: jax.Array) -> jax.Array:
        """bool [batch or 1, 1, query, 1, key]."""
        queries, keys = i * BLOCK + jnp.arange(BLOCK), j * BLOCK + jnp.arange(BLOCK)
        seen = _causal(queries, keys, self.prefix_length, self.window)
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
    scores = _product("bkqgd,bkds->bkqgs", rows, _block(keys, 3, j))
    return jnp.where(blocks.visible(i, j), scores, BLOCK_HIDDEN)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _attention(
    rows: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    segment_ids: jax.Array | None,
    prefix_length: int,
    window: int | None,
) -> jax.Array:
    """Scaled queries [batch, kv_heads, length, group, head_dim], lengths multiples of BLOCK, to the same in float32."""
    return _forward(rows, keys, values, segment_ids, prefix_length, window)[0]


def _forward(
    rows: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    segment_ids: jax.Array | None,
    prefix_length: int,
    window: int | None,
) -> tuple[jax.Array, Residuals]:
    batch, kv_heads, length, group, head_dim = rows.shape
    blocks = _Blocks(segment_ids, prefix_length, keys.shape[3] // BLOCK, window)

    def attend(i: jax.Array) -> tuple[jax.Array, jax.Array]:
        """What the queries of block i see, and their log-normalizers."""
        queries = _block(rows, 2, i)

        def add(j: jax.Array, sums: Triple) -> Triple:
            highest, total, attended = sums
            scores = _scores(queries, keys, blocks, i, j)
            new_highest = jnp.maximum(highest, jnp.max(scores, axis=-1, keepdims=True))
            weights, shrink = jnp.exp(scores - new_highest), jnp.exp(highest - new_highest)
            part = _product("bkqgs,bksd->bkqgd", weights, _block(values, 2, j))
            return new_highest, total * shrink + jnp.sum(weights, axis=-1, keepdims=True), attended * shrink + part

        column = (batch, kv_heads, BLOCK, group, 1)
        zeros = jnp.zeros((*column[:-1], head_dim), jnp.float32)
        sums = jnp.full(column, BLOCK_HIDDEN, jnp.float32), jnp.zeros(column, jnp.float32), zeros
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
    prefix_length: int, window: int | None, residuals: Residuals, cotangent: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, None]:
    rows, keys, values, segment_ids, attended, normalizers = residuals
    blocks = _Blocks(segment_ids, prefix_length, keys.shape[3] // BLOCK, window)
    shifts = jnp.sum(cotangent * attended, axis=-1, keepdims=True)

    def attend(i: jax.Array, sums: Triple) -> Triple:
        """Adds what the queries of block i contribute to all three gradients."""
        queries, cotangents = _block(rows, 2, i), _block(cotangent, 2, i)
        normalizer, shift = _block(normalizers, 2, i), _block(shifts, 2, i)

        def add(j: jax.Array, sums: Triple) -> Triple:
            row_gradient, key_gradients, value_gradients = sums
            weights = jnp.exp(_scores(queries, keys, blocks, i, j) - normalizer)
            to_weights = _product("bkqgd,bksd->bkqgs", cotangents, _block(values, 2, j))
            to_scores = weights * (to_weights - shift)
            to_keys = _product("bkqgd,bkqgs->bkds", queries, to_scores.astype(queries.dtype))
            to_values = _product("bkqgs,bkqgd->bksd", weights, cotangents.astype(values.dtype))
            return (
                row_gradient + _product("bkqgs,bkds->bkqgd", to_scores, _block(keys, 3, j)),
                _add_block(key_gradients, to_keys, 3, j),
                _add_block(value_gradients, to_values, 2, j),
            )

        row_gradient = jnp.zeros(queries.shape, jnp.float32)
        row_gradient, *others = jax.lax.fori_loop(*blocks.range(i), add, (row_gradient, *sums[1:]))
        return _add_block(sums[0], row_gradient, 2, i), others[0], others[1]

    zeros = [jnp.zeros(x.shape, jnp.float32) for x in (rows, keys, values)]
    gradients = jax.lax.fori_loop(0, rows.shape[2] // BLOCK, attend, tuple(zeros))
    of_rows, of_keys, of_values = (x.astype(like.dtype) for x, like in zip(gradients, residuals[:3], strict=True))
    return of_rows, of_keys, of_values, None


_attention.defvjp(_forward, _backward)
