"""Attention of single queries over a cache of ragged rows: a Pallas kernel for TPUs that reads what a row has filled.

The grid runs over (row, block of the cache). A block behind the end of its row is neither computed nor read: in its
place the first block of the next row is fetched. Scores, weights and sums stay in float32, and the result is not
normalized, so that other sources of keys can be added to it.

Nothing is asked of the local devices: the kind of chip is an argument, and programs compile ahead of time.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import PartitionSpec

from humpback_jax.hardware import CHIP_OF_KIND
from humpback_jax.models.kv_cache import KeyValues, cache_specs
from humpback_jax.models.score_rule import LLAMA_RULE, ScoreRule
from humpback_jax.partitioning import on_each_device

LANES, SUBLANES = 128, 8  # of a TPU vector register of float32
LOWEST = float(jnp.finfo(jnp.float32).min)

# The longest block of keys, and of values, in bytes. Both are held twice (one is read while one is used), and their
# product with the queries in float32 beside them; kernels may have 16 MiB of vector memory on all of these chips.
# Chips with faster memory take longer blocks, so that a block's time stays well above that of starting one.
BLOCK_BYTES = {"v4": 2**20, "v5e": 2**20, "v5p": 2**21, "v6e": 2**21}
MAX_BLOCK_LENGTH = 2048


class Attended(NamedTuple):
    """Softmax attention before it is normalized, float32: what one source of keys adds to a query.

    Attributes:
      values: [batch, kv_heads, queries, head_dim], sum of exp(score - highest) * value.
      highest: [batch, kv_heads, queries, 1], of the scores; the lowest float where there were none.
      total: [batch, kv_heads, queries, 1], sum of exp(score - highest).
    """

    values: jax.Array
    highest: jax.Array
    total: jax.Array


def block_length(device_kind: str, length: int, head_bytes: int) -> int:
    """Slots of the cache in one block: the most that divide `length` and fit, as a multiple of `LANES`.

    Args:
      device_kind: as JAX names it, `"TPU v5 lite"`; a kind that is not in the table gets the shortest of its blocks.
      length: slots per row, a multiple of `LANES`.
      head_bytes: bytes of the keys of one slot, of all heads that one device holds.
    """
    chip = CHIP_OF_KIND.get(device_kind)
    room = BLOCK_BYTES[chip.name] if chip else min(BLOCK_BYTES.values())
    most = max(1, min(room // head_bytes, MAX_BLOCK_LENGTH) // LANES)
    count = length // LANES
    return LANES * max(n for n in range(1, min(most, count) + 1) if count % n == 0)


def ragged_attention(
    query: jax.Array,
    cache: KeyValues,
    lengths: jax.Array,
    *,
    device_kind: str,
    block: int | None = None,
    interpret: bool = False,
    rule: ScoreRule = LLAMA_RULE,
) -> Attended:
    """Attends over the first `lengths[r]` slots of row `r`; under `use_mesh` each device over its rows and heads.

    Args:
      query: [batch, kv_heads, queries, head_dim], scaled; the queries of the heads that share a key head.
      cache: float32, bfloat16 or int8 with scales; its length and head_dim are multiples of `LANES` on a TPU.
      lengths: int32 [batch], at most the length of the cache.
      device_kind: of the chip that runs it.
      block: slots per block, which divide the length of the cache; default: from the table of the chip.
      interpret: run without a TPU, slowly, for tests.
      rule: of the scores; the kernel knows no windows, and the queries are scaled already.
    """
    attend = functools.partial(
        _attend, device_kind=device_kind, block=block, interpret=interpret, soft_cap=rule.soft_cap
    )
    specs = cache_specs(cache)
    rows: Any = specs.keys
    mapped = on_each_device(attend, (rows, specs, PartitionSpec(rows[0])), Attended(rows, rows, rows))
    return mapped(query, cache, lengths)


def _attend(
    query: jax.Array,
    cache: KeyValues,
    lengths: jax.Array,
    *,
    device_kind: str,
    block: int | None,
    interpret: bool,
    soft_cap: float | None,
) -> Attended:
    """`ragged_attention` of one device."""
    batch, kv_heads, queries, head_dim = query.shape
    block = block or block_length(device_kind, cache.length, kv_heads * head_dim * cache.keys.dtype.itemsize)
    blocks = cache.length // block
    # A register holds eight rows of float32: fewer queries would be padded anyway.
    padded = -(-queries // SUBLANES) * SUBLANES
    rows = jnp.pad(query.astype(jnp.float32), [(0, 0), (0, 0), (0, padded - queries), (0, 0)])
    compute = query.dtype if cache.key_scales is not None else cache.keys.dtype

    def whole(*shape: int) -> Any:
        return pl.BlockSpec((1, kv_heads, *shape), lambda row, index, lengths: (row, 0, 0, 0))

    in_specs = [
        whole(padded, head_dim),
        pl.BlockSpec((1, kv_heads, head_dim, block), _at(3, 4, batch, block)),
        pl.BlockSpec((1, kv_heads, block, head_dim), _at(2, 4, batch, block)),
    ]
    scales = [x for x in (cache.key_scales, cache.value_scales) if x is not None]
    in_specs += [pl.BlockSpec((1, kv_heads, block), _at(2, 3, batch, block)) for _ in scales]
    shapes = [(kv_heads, padded, width) for width in (head_dim, LANES, LANES)]
    outputs = pl.pallas_call(
        functools.partial(
            _kernel, block=block, compute=jnp.dtype(compute), scaled=bool(scales), rule=ScoreRule(soft_cap=soft_cap)
        ),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=1,
            grid=(batch, blocks),
            in_specs=in_specs,
            out_specs=[whole(*shape[1:]) for shape in shapes],
            scratch_shapes=[pltpu.VMEM(shape, jnp.float32) for shape in shapes],
        ),
        out_shape=[jax.ShapeDtypeStruct((batch, *shape), jnp.float32) for shape in shapes],
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary")),
        cost_estimate=cost(cache, rows.shape),
        name="ragged_attention",
        interpret=interpret,
    )(lengths, rows, cache.keys, cache.values, *scales)
    values, highest, total = (x[:, :, :queries] for x in outputs)
    return Attended(values, highest[..., :1], total[..., :1])


def _at(axis: int, rank: int, batch: int, block: int) -> Callable[..., tuple]:
    """Which block of an array of the cache a step of the grid reads; `axis` is that of the slots.

    Behind the end of a row that is the start of the next one, so that it is there when the next row begins.
    """

    def index_map(row: jax.Array, index: jax.Array, lengths: Any) -> tuple:
        filled = (index == 0) | (index * block < lengths[row])
        place = jnp.where(filled, row, jnp.minimum(row + 1, batch - 1)), jnp.where(filled, index, 0)
        return tuple(place[0] if i == 0 else place[1] if i == axis else 0 for i in range(rank))

    return index_map


def cost(cache: KeyValues, query_shape: tuple[int, ...]) -> Any:
    """What the kernel does when all rows are full, which is the most: products, exponentials, and bytes moved.

    Args:
      cache: of one device.
      query_shape: (batch, kv_heads, queries, head_dim), the queries padded.

    Returns:
      A `pallas.CostEstimate`; the compiler does not look into kernels.
    """
    scores = math.prod(query_shape[:3]) * cache.length
    moved = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(cache))
    beside = 4 * math.prod(query_shape[:3]) * (2 * query_shape[3] + 2 * LANES)
    return pl.CostEstimate(flops=4 * scores * query_shape[3], transcendentals=scores, bytes_accessed=moved + beside)


def _kernel(
    lengths: Any,
    query: Any,
    keys: Any,
    values: Any,
    *refs: Any,
    block: int,
    compute: Any,
    scaled: bool,
    rule: ScoreRule,
) -> None:
    """One block of one row, all heads."""
    key_scales, value_scales = refs[:2] if scaled else (None, None)
    outputs, (summed, highest, total) = refs[-6:-3], refs[-3:]
    row, index = pl.program_id(0), pl.program_id(1)
    length = lengths[row]

    @pl.when(index == 0)
    def begin() -> None:
        summed[...] = jnp.zeros_like(summed)
        highest[...] = jnp.full_like(highest, LOWEST)
        total[...] = jnp.zeros_like(total)

    @pl.when(index * block < length)
    def add() -> None:
        """One block of the cache into the running softmax of every head."""
        for head in range(keys.shape[1]):
            scores = _product(query[0, head], keys[0, head], compute)
            if key_scales is not None:
                scores = scores * key_scales[0, pl.ds(head, 1), :]
            scores = rule.capped(scores)
            slots = index * block + jax.lax.broadcasted_iota(jnp.int32, scores.shape, 1)
            scores = jnp.where(slots < length, scores, LOWEST)
            before = highest[head]
            now = jnp.maximum(before, jnp.max(scores, axis=1, keepdims=True))
            weights, kept = jnp.exp(scores - now[:, :1]), jnp.exp(before - now)
            highest[head] = now
            total[head] = total[head] * kept + jnp.sum(weights, axis=1, keepdims=True)
            if value_scales is not None:
                weights = weights * value_scales[0, pl.ds(head, 1), :]
            summed[head] = summed[head] * kept[:, :1] + _product(weights, values[0, head], compute)

    @pl.when(index == pl.num_programs(1) - 1)
    def end() -> None:
        for output, gathered in zip(outputs, (summed, highest, total), strict=True):
            output[0] = gathered[...]


def _product(left: jax.Array, right: jax.Array, dtype: Any) -> jax.Array:
    """Matrix product in `dtype`, float32 in and out of it; int8 reaches bfloat16 by way of float32 on every chip."""
    if right.dtype == jnp.int8:
        right = right.astype(jnp.float32)
    return jnp.dot(left.astype(dtype), right.astype(dtype), preferred_element_type=jnp.float32)
