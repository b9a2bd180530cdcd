"""Key/value cache: where it lies in memory and how new tokens enter it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from humpback_jax.models.config import LlamaConfig
from humpback_jax.partitioning import constrain


class KVCache(NamedTuple):
    """Keys and values of every layer, `[layers, batch, kv_heads, length, head_dim]`.

    Slot `s` of a row holds the token at position `s`, so `slot <= query position` is the whole validity rule: slots
    beyond a row's length hold garbage that is overwritten before any query can see it.
    """

    keys: jax.Array
    values: jax.Array

    @property
    def length(self) -> int:
        """Slots per row."""
        return self.keys.shape[3]


def init_kv_cache(config: LlamaConfig, batch_size: int, length: int, dtype: DTypeLike) -> KVCache:
    """A cache of zeros for `batch_size` rows of at most `length` tokens."""
    shape = (config.num_layers, batch_size, config.num_kv_heads, length, config.head_dim)
    return KVCache(keys=jnp.zeros(shape, dtype), values=jnp.zeros(shape, dtype))


def write_kv_cache(
    cache: KVCache, layer: jax.Array, keys: jax.Array, values: jax.Array, positions: jax.Array
) -> KVCache:
    """Writes new tokens of one layer in place.

    Args:
      cache: the whole cache.
      layer: int32 scalar.
      keys: [batch, tokens, kv_heads, head_dim].
      values: as keys.
      positions: int32 [batch, tokens]; consecutive along a row.
    """

    def write(slots: jax.Array, new: jax.Array) -> jax.Array:
        new = new.astype(slots.dtype)
        if positions.shape[1] == 1:
            rows = jnp.arange(new.shape[0])
            updated = slots.at[layer, rows, :, positions[:, 0]].set(new[:, 0])
        else:
            write_row = lambda row, block, start: jax.lax.dynamic_update_slice(row, block, (0, start, 0))  # noqa: E731
            updated = slots.at[layer].set(jax.vmap(write_row)(slots[layer], new.swapaxes(1, 2), positions[:, 0]))
        return constrain(updated, None, "cache_batch", "activation_kv_heads", "cache_length", None)

    return KVCache(keys=write(cache.keys, keys), values=write(cache.values, values))
