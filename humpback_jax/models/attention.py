"""Grouped-query attention over one or several sources of keys, and the masks that decide who sees whom."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from humpback_jax.models.decode_kernel import Attended
from humpback_jax.models.kv_cache import Context, KeyValues
from humpback_jax.models.products import einsum, kept_as_stored
from humpback_jax.models.score_rule import LLAMA_RULE, ScoreRule


class Source(NamedTuple):
    """Keys and values, and which query sees which of them: bool [batch or 1, query or 1, key]; None for all."""

    kv: KeyValues
    mask: jax.Array | None


class Masks(NamedTuple):
    """Who sees whom, bool [batch or 1, query or 1, key], in the call's own tokens and in the cache.

    Without `segment_ids` (int32 [batch, query]) the call's own tokens are one causal sequence per row. `cache_lengths`
    (int32 [batch]) says of single queries what `cache` does: they see the first slots of their row. `key_positions`
    (int32 [batch, key]) are those of the keys of `new`, where they are others than the queries'; `prefix` is None for
    all of it. `lengths` (int32 [batch]) counts the tokens of each sequence so far, for rotary embeddings that depend on
    it; without them it ends with the last query.
    """

    new: jax.Array
    cache: jax.Array | None = None
    segment_ids: jax.Array | None = None
    cache_lengths: jax.Array | None = None
    key_positions: jax.Array | None = None
    prefix: jax.Array | None = None
    lengths: jax.Array | None = None


def reaches_back(window: int | None, masks: Masks, context: Context) -> bool:
    """Whether a window hides anything: whether more keys may stand before a query than it has room for."""
    entries = (context.prefix, context.cache)
    return window is not None and masks.new.shape[-1] + sum(kv.length for kv in entries if kv is not None) > window


def within(window: int | None, masks: Masks, positions: jax.Array, context: Context) -> Masks:
    """The masks of layers with a window, for queries at `positions` int32 [batch, query]."""
    if window is None or not reaches_back(window, masks, context):
        return masks
    new = masks.new & _near(window, positions, positions if masks.key_positions is None else masks.key_positions)
    head = 0 if context.prefix is None else context.prefix.length
    prefix = None if context.prefix is None else _near(window, positions, jnp.arange(head)[None])
    if context.cache is None:
        return masks._replace(new=new, prefix=prefix)
    cache = _near(window, positions, head + jnp.arange(context.cache.length)[None])
    cache = cache if masks.cache is None else cache & masks.cache
    return masks._replace(new=new, prefix=prefix, cache=cache, cache_lengths=None)


def _near(window: int, queries: jax.Array, keys: jax.Array) -> jax.Array:
    """bool [batch, query, key]: whether a key stands less than `window` tokens before a query."""
    return queries[:, :, None] - keys[:, None, :] < window


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


def causal_mask(length: int) -> jax.Array:
    """bool [1, length, length], true where key <= query."""
    return jnp.tril(jnp.ones((1, length, length), bool))


def scaled_rows(query: jax.Array, kv_heads: int, rule: ScoreRule = LLAMA_RULE) -> jax.Array:
    """Query [batch, length, heads, head_dim], scaled, to [batch, kv_heads, length * group, head_dim].

    The query heads that share a key head become rows of one matrix product per (batch, key head); their length comes
    first, so that rows of a sharded length stay sharded.
    """
    batch, _, _, head_dim = query.shape
    return grouped(rule.scaled(query), kv_heads).reshape(batch, kv_heads, -1, head_dim)


def grouped(x: jax.Array, kv_heads: int) -> jax.Array:
    """[batch, length, heads, head_dim] by the key head that serves each: [batch, kv_heads, length, group, head_dim]."""
    return x.reshape(*x.shape[:2], kv_heads, x.shape[2] // kv_heads, x.shape[3]).swapaxes(1, 2)


def ungrouped(x: jax.Array) -> jax.Array:
    """Inverse of `grouped`."""
    return x.swapaxes(1, 2).reshape(x.shape[0], x.shape[2], -1, x.shape[4])


def attention(
    query: jax.Array, sources: Sequence[Source], attended: Attended | None = None, rule: ScoreRule = LLAMA_RULE
) -> jax.Array:
    """Softmax attention over all sources at once, softmax in float32.

    A source's products run in the dtype it is stored in; int8 sources run in the dtype of `query`, their scales applied
    to scores and weights.

    Args:
      query: [batch, query, heads, head_dim].
      sources: with or without a batch axis (shared keys); heads is a multiple of their kv_heads.
      attended: what a kernel made of one more source, for `scaled_rows` of the query.
      rule: of the scores; its window is for the masks to say.

    Returns:
      [batch, query, heads, head_dim] in the dtype of `query`.
    """
    batch, length, heads, head_dim = query.shape
    if length > 1 and len(sources) > 1:
        sources = [_joined(sources, batch, length)]
    kv_heads = sources[0].kv.values.shape[-3]
    rows = scaled_rows(query, kv_heads, rule)
    scores = [_scores(rows, source, length, rule) for source in sources]
    maxima = [jnp.max(x, axis=-1, keepdims=True) for x in scores]
    highest = functools.reduce(jnp.maximum, maxima + ([attended.highest] if attended is not None else []))
    # The weights stay unnormalized until their product with the values, which is smaller than they are.
    weights = [jnp.exp(x - jax.lax.stop_gradient(highest)) for x in scores]
    totals = [jnp.sum(x, axis=-1, keepdims=True) for x in weights]
    parts = [_attended(x, source.kv, query.dtype) for x, source in zip(weights, sources, strict=True)]
    if attended is not None:
        share = jnp.exp(attended.highest - highest)
        totals.append(attended.total * share)
        parts.append(attended.values * share)
    result = (functools.reduce(jnp.add, parts) / functools.reduce(jnp.add, totals)).astype(query.dtype)
    return ungrouped(result.reshape(batch, kv_heads, length, heads // kv_heads, head_dim))


def _joined(sources: Sequence[Source], batch: int, length: int) -> Source:
    """One source in place of several: for many queries a copy of the keys costs less than one of the scores."""
    dtype = jnp.result_type(*(source.kv.keys.dtype for source in sources if source.kv.key_scales is None))
    masks = [
        jnp.broadcast_to(True if source.mask is None else source.mask, (batch, length, source.kv.length))
        for source in sources
    ]
    return Source(joined([source.kv for source in sources], batch, dtype), jnp.concatenate(masks, axis=-1))


def joined(entries: Sequence[KeyValues], batch: int, dtype: DTypeLike) -> KeyValues:
    """One after the other along the length, in `dtype`, with a batch axis and without scales."""
    plain = [_plain(kv, batch, dtype) for kv in entries]
    keys = jnp.concatenate([kv.keys for kv in plain], axis=-1)
    return KeyValues(keys, jnp.concatenate([kv.values for kv in plain], axis=-2))


def _plain(kv: KeyValues, batch: int, dtype: DTypeLike) -> KeyValues:
    """Keys and values in `dtype`, with a batch axis and without scales."""
    keys, values = kv.keys.astype(dtype), kv.values.astype(dtype)
    if kv.key_scales is not None and kv.value_scales is not None:
        keys = keys * kv.key_scales[:, :, None, :].astype(dtype)
        values = values * kv.value_scales[..., None].astype(dtype)
    if keys.ndim == 3:
        keys, values = (jnp.broadcast_to(x, (batch, *x.shape)) for x in (keys, values))
    return KeyValues(keys, values)


def _scores(rows: jax.Array, source: Source, length: int, rule: ScoreRule) -> jax.Array:
    """float32 [batch, kv_heads, length * group, key]; the lowest float where the mask is false."""
    kv, mask = source
    rows = rows.astype(rows.dtype if kv.key_scales is not None else kv.keys.dtype)
    keys = kv.keys if kv.key_scales is None else kept_as_stored(kv.keys, rows)
    scores = einsum("bkrd,kds->bkrs" if keys.ndim == 3 else "bkrd,bkds->bkrs", rows, keys, jnp.float32)
    if kv.key_scales is not None:
        scores = scores * kv.key_scales[:, :, None, :]
    scores = rule.capped(scores)
    if mask is None:
        return scores
    shape = scores.shape
    scores = scores.reshape(*shape[:2], length, shape[2] // length, shape[3])
    return jnp.where(mask[:, None, :, None], scores, jnp.finfo(jnp.float32).min).reshape(shape)


def _attended(weights: jax.Array, kv: KeyValues, dtype: DTypeLike) -> jax.Array:
    """float32 [batch, kv_heads, rows, head_dim]."""
    if kv.value_scales is not None:
        weights = weights * kv.value_scales[:, :, None, :]
    weights = weights.astype(dtype if kv.value_scales is not None else kv.values.dtype)
    equation = "bkrs,ksd->bkrd" if kv.values.ndim == 3 else "bkrs,bksd->bkrd"
    values = kv.values if kv.value_scales is None else kept_as_stored(kv.values, weights)
    return einsum(equation, weights, values, jnp.float32)
