"""Tokens written into a cache of ragged rows, in place: a Pallas kernel for TPUs that touches only their tiles.

A tile is what the memory of a TPU is cut into: 128 slots where slots are the minor axis (keys, scales), 32 where they
are the one before it (values). The tokens of a chunk lie in one tile of a row or in two.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import PartitionSpec

from humpback_jax.models.kv_cache import KeyValues, cache_specs, cast, map_fields
from humpback_jax.partitioning import on_each_device

LANES, ROWS = 128, 32  # slots of a tile in the minor axis, and in the one before it for int8 and all wider types


def writes_in_place(platform: str, cache: KeyValues, count: int) -> bool:
    """Whether `write_ragged` serves a cache, and `count` tokens per row: on TPUs, where all axes are whole tiles."""
    whole = cache.length % LANES == 0 and cache.values.shape[-1] % LANES == 0
    return platform == "tpu" and whole and count <= ROWS


def write_ragged(cache: KeyValues, recent: KeyValues, starts: jax.Array, interpret: bool = False) -> KeyValues:
    """As `merge_recent`: the tokens of `recent` [batch, ...] at slots `starts` int32 [batch] and after, in place.

    Under `use_mesh` each device writes its own rows and heads.
    """
    specs = cache_specs(cache)
    rows = PartitionSpec(specs.keys[0])
    write = on_each_device(functools.partial(_write_all, interpret=interpret), (specs, specs, rows), specs)
    return write(cache, cast(recent, cache), starts)


def _write_all(cache: KeyValues, recent: KeyValues, starts: jax.Array, interpret: bool) -> KeyValues:
    """`write_ragged` of one device."""
    starts = jnp.minimum(starts, cache.length - recent.length)
    return map_fields(lambda axis, old, new: _write(old, new, axis, starts, interpret), cache, recent)


def _write(old: jax.Array, new: jax.Array, axis: int, starts: jax.Array, interpret: bool) -> jax.Array:
    """One array of a cache; `axis` is that of the slots."""
    count, tile = new.shape[axis], LANES if axis == old.ndim - 1 else ROWS

    def at(row: jax.Array, part: jax.Array, starts: Any) -> tuple:
        """The tile of the first token, then that of the last."""
        index = (starts[row] + part * (count - 1)) // tile
        return tuple(row if i == 0 else index if i == axis else 0 for i in range(old.ndim))

    block = (1, *(tile if i == axis else n for i, n in enumerate(old.shape) if i > 0))
    tile_bytes = starts.size * old.size // (old.shape[0] * old.shape[axis]) * tile * old.dtype.itemsize
    result: jax.Array = pl.pallas_call(
        functools.partial(_kernel, axis=axis, tile=tile, count=count),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=1,
            grid=(old.shape[0], 2),
            in_specs=[
                pl.BlockSpec((1, *new.shape[1:]), lambda row, part, starts: (row, *(0,) * (old.ndim - 1))),
                pl.BlockSpec(block, at),
            ],
            out_specs=pl.BlockSpec(block, at),
        ),
        out_shape=jax.ShapeDtypeStruct(old.shape, old.dtype),
        input_output_aliases={2: 0},
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary")),
        cost_estimate=pl.CostEstimate(flops=0, transcendentals=0, bytes_accessed=4 * tile_bytes),
        name="write_ragged",
        interpret=interpret,
    )(starts, new, old)
    return result


def _kernel(starts: Any, new: Any, old: Any, out: Any, *, axis: int, tile: int, count: int) -> None:
    """One tile of one row, all heads."""
    row, part = pl.program_id(0), pl.program_id(1)
    start = starts[row]
    first = (start + part * (count - 1)) // tile * tile
    wide = jnp.int32 if old.dtype == jnp.int8 else jnp.float32  # what every chip can select
    places: list[tuple[int, ...]] = [(0,)] if len(old.shape) == 3 else [(0, head) for head in range(old.shape[1])]
    for place in places:
        tokens, kept = new[place].astype(wide), old[place].astype(wide)
        within = axis - len(place)
        slots = first + jax.lax.broadcasted_iota(jnp.int32, kept.shape, within)
        for i in range(count):
            token = jax.lax.slice_in_dim(tokens, i, i + 1, axis=within)
            kept = jnp.where(slots == start + i, token, kept)
        out[place] = kept.astype(out.dtype)
