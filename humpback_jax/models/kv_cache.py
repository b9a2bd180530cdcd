"""Key/value cache of one layer: where it lies in memory, how rows enter it, how tokens are added, how it is quantized.

Layers are separate arrays, so that reading one never copies it out of a stack. The decode loop only reads the cache:
the tokens of a chunk of steps are collected in a small `recent` buffer and merged once per chunk.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jax.typing import DTypeLike

from humpback_jax.models.config import LlamaConfig
from humpback_jax.models.products import to_int8
from humpback_jax.partitioning import constrain, dividing_mesh_axes


class KeyValues(NamedTuple):
    """Keys and values of one layer; without the batch axis they are shared by every row.

    `keys` [batch, kv_heads, head_dim, length] lie as the product with the queries wants them, `values`
    [batch, kv_heads, length, head_dim] as the product with the weights does. int8 entries stand for
    `keys * key_scales[:, :, None, :]` and `values * value_scales[..., None]`, scales float32 [batch, kv_heads, length].
    """

    keys: jax.Array
    values: jax.Array
    key_scales: jax.Array | None = None
    value_scales: jax.Array | None = None

    @property
    def length(self) -> int:
        """Slots per row."""
        return self.keys.shape[-1]


class Context(NamedTuple):
    """What a layer's queries see besides the tokens of the call.

    Attributes:
      prefix: keys and values of the head of the prompt that all rows share, without a batch axis.
      cache: the rows' own keys and values; which slots are valid is the caller's mask.
      recent: tokens of this chunk of decode steps, stored as the cache stores them, so that no result depends on when
        a chunk ends; the call writes its own token at `step` and sees those up to it.
    """

    prefix: KeyValues | None = None
    cache: KeyValues | None = None
    recent: KeyValues | None = None


_LENGTH_AXES = (3, 2, 2, 2)  # of the fields of KeyValues with a batch axis


def map_fields(function: Callable[..., Any], *entries: KeyValues) -> KeyValues:
    """function(length axis, one array of each entry) for every field that is there."""
    fields = zip(_LENGTH_AXES, *entries, strict=True)
    results: Any = [None if arrays[0] is None else function(axis, *arrays) for axis, *arrays in fields]
    return KeyValues(*results)


def cache_specs(cache: KeyValues) -> Any:
    """`cache` with PartitionSpecs over mesh axes in the place of arrays: rows and heads are split where they divide."""
    batch = dividing_mesh_axes("cache_batch", cache.keys.shape[0])
    heads = dividing_mesh_axes("activation_kv_heads", cache.keys.shape[1])
    return map_fields(lambda axis, x: PartitionSpec(batch, heads, *[None] * (x.ndim - 2)), cache)


def init_layer_cache(config: LlamaConfig, batch_size: int, length: int, dtype: DTypeLike) -> KeyValues:
    """Zeros for `batch_size` rows of at most `length` tokens; dtype int8 adds scales."""
    shape = (batch_size, config.num_kv_heads)
    scales = jnp.zeros((*shape, length), jnp.float32) if jnp.dtype(dtype) == jnp.int8 else None
    return KeyValues(
        keys=jnp.zeros((*shape, config.head_dim, length), dtype),
        values=jnp.zeros((*shape, length, config.head_dim), dtype),
        key_scales=scales,
        value_scales=scales,
    )


def kv_bytes_per_row(config: LlamaConfig, length: int, dtype: DTypeLike) -> int:
    """Bytes that a row of `length` tokens takes in the caches of all layers, scales included."""
    cache = jax.eval_shape(lambda: init_layer_cache(config, 1, length, dtype))
    return config.num_layers * sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(cache))


def constrain_cache(cache: KeyValues) -> KeyValues:
    """The cache sharded by rows and heads."""

    def shard(axis: int, x: jax.Array) -> jax.Array:
        rest: list[str | None] = [None] * (x.ndim - 2)
        rest[axis - 2] = "cache_length"
        return constrain(x, "cache_batch", "activation_kv_heads", *rest)

    return map_fields(shard, cache)


def quantize(new: KeyValues) -> KeyValues:
    """int8 with one scale per row, head and token."""
    keys, key_scales = to_int8(new.keys, -2)
    values, value_scales = to_int8(new.values, -1)
    return KeyValues(keys, values, key_scales, value_scales)


def cast(new: KeyValues, like: KeyValues) -> KeyValues:
    """`new` in the storage format of `like`."""
    if like.key_scales is not None:
        return new if new.key_scales is not None else quantize(new)
    return KeyValues(new.keys.astype(like.keys.dtype), new.values.astype(like.values.dtype))


def insert_rows(cache: KeyValues, new: KeyValues, slots: jax.Array) -> KeyValues:
    """Writes rows `new` [rows, ...] at the start of cache rows `slots` int32 [rows]; one out of range is dropped."""

    def write(axis: int, old: jax.Array, rows: jax.Array) -> jax.Array:
        start = (slice(None),) * (axis - 1) + (slice(rows.shape[axis]),)
        return old.at[(slots, *start)].set(rows, mode="drop")

    return map_fields(write, cache, cast(new, cache))


def write_token(recent: KeyValues, token: KeyValues, step: jax.Array) -> KeyValues:
    """`recent` with one token per row at slot `step` (int32 scalar), the same for all rows."""
    return map_fields(
        lambda axis, old, new: jax.lax.dynamic_update_slice_in_dim(old, new, step, axis), recent, cast(token, recent)
    )


def merge_recent(cache: KeyValues, recent: KeyValues, starts: jax.Array) -> KeyValues:
    """Writes the tokens of `recent` [batch, ...] at slots `starts` [batch] and after; there must be room for all."""

    def write(axis: int, old: jax.Array, new: jax.Array) -> jax.Array:
        place = functools.partial(jax.lax.dynamic_update_slice_in_dim, axis=axis - 1)
        return jax.vmap(place)(old, new, starts)

    return map_fields(write, cache, cast(recent, cache))


def grow(cache: KeyValues, length: int) -> KeyValues:
    """The same rows with room for `length` tokens."""
    return map_fields(lambda axis, x: padded(x, axis, length), cache)


def padded(x: jax.Array, axis: int, length: int) -> jax.Array:
    """`x` with zeros after its end along an axis, up to `length`."""
    return jnp.pad(x, [(0, (length - x.shape[axis]) * (i == axis)) for i in range(x.ndim)])


def take_rows(cache: KeyValues, rows: jax.Array) -> KeyValues:
    """Copies of the rows `rows` int32 [n]."""
    return jax.tree.map(lambda x: x[rows], cache)
