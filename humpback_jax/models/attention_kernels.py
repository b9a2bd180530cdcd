"""Attention of whole sequences by the kernels of TPUs, GPUs and CPUs, and the function that chooses among all kernels.

All kernels here compute what `humpback_jax.models.attention.attention` computes, without ever holding the scores of a
whole row. They serve calls whose queries stand for all tokens of the call: training, prefill, scoring.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks
from jax.sharding import PartitionSpec
from jax.typing import DTypeLike

from humpback_jax.models.attention import joined
from humpback_jax.models.cpu_attention import blockwise_attention, chunked_attention
from humpback_jax.models.decode_kernel import LANES
from humpback_jax.models.kv_cache import KeyValues, padded
from humpback_jax.models.score_rule import LLAMA_RULE, ScoreRule
from humpback_jax.partitioning import dividing_mesh_axes, on_each_device

AttentionName = Literal["xla", "splash", "cudnn", "blockwise", "chunked", "ragged"]

MAX_BLOCK = 512  # queries or keys of one splash block; 2048 do not fit the vector memory
MIN_LENGTH = 128  # queries from which on a kernel is worth its padding
MIN_BLOCKWISE_LENGTH = 512  # queries from which on there are enough blocks of other segments to skip
MAX_CUDNN_HEAD_DIM = 128  # of the forward and backward kernels on every GPU they run on


def choose_attention(
    platform: str,
    *,
    head_dim: int,
    query_length: int,
    dtype: DTypeLike,
    segmented: bool = False,
    shared_prefix: bool = False,
    length_shards: int = 1,
    cache_length: int = 0,
    windowed: bool = False,
    soft_capped: bool = False,
) -> AttentionName:
    """Which implementation attends on a platform: over whole sequences, or also over a cache of rows.

    Nothing is asked of the local devices: programs are also compiled ahead of time for other machines.

    Args:
      platform: of the devices that run the program: `"cpu"`, `"tpu"` or `"gpu"` (NVIDIA).
      head_dim: width of one head.
      query_length: tokens per row of the call.
      dtype: of the queries.
      segmented: rows hold several packed segments.
      shared_prefix: keys without a batch axis stand before those of the call.
      length_shards: devices that a row is split over; XLA splits queries, a kernel would gather whole rows.
      cache_length: slots per row of the cache before the call's own tokens; 0 for none.
      windowed: some keys before a query are too far back for it.
      soft_capped: scores are capped.

    Returns:
      `"xla"` for `attention`, the name of an `implementation` of `prefill_attention`, or, with a cache, `"ragged"` for
      `humpback_jax.models.decode_kernel.ragged_attention` over the cache, XLA over the rest.

    Raises:
      ValueError: an unknown platform.
    """
    if platform not in ("cpu", "tpu", "gpu"):
        raise ValueError(f"unknown platform {platform!r}; choose from cpu, tpu, gpu")
    if cache_length:
        # Registers are 128 wide: what is not a multiple would be padded, which copies the cache.
        whole = head_dim % LANES == 0 and cache_length % LANES == 0 and length_shards == 1
        served = dtype in (jnp.bfloat16, jnp.float32)
        served = served and not windowed  # the kernel reads all that a row has filled
        return "ragged" if platform == "tpu" and query_length == 1 and whole and served else "xla"
    if query_length < MIN_LENGTH or (segmented and shared_prefix) or length_shards > 1:
        return "xla"
    if platform == "cpu" and not segmented:
        return "chunked"
    if platform == "cpu" and query_length >= MIN_BLOCKWISE_LENGTH:
        return "chunked" if soft_capped else "blockwise"  # whose own backward pass knows no caps
    if platform == "tpu" and dtype in (jnp.bfloat16, jnp.float32) and head_dim % 8 == 0:
        return "splash"
    # cuDNN's backward pass wants even lengths where it is given a mask.
    unmasked_or_even = not segmented or query_length % 2 == 0
    heads_fit = head_dim % 8 == 0 and head_dim <= MAX_CUDNN_HEAD_DIM
    plain = not windowed and not soft_capped
    if platform == "gpu" and dtype in (jnp.bfloat16, jnp.float16) and heads_fit and unmasked_or_even and plain:
        return "cudnn"
    return "xla"


def prefill_attention(
    query: jax.Array,
    kv: KeyValues,
    segment_ids: jax.Array | None = None,
    prefix: KeyValues | None = None,
    *,
    implementation: str,
    interpret: bool = False,
    rule: ScoreRule = LLAMA_RULE,
) -> jax.Array:
    """Causal attention of whole sequences, differentiable.

    The same as `attention(query, [Source(prefix, None), Source(kv, mask)])` with the mask `causal_mask`, or, given
    segments, `segment_mask` of positions that count up within each; what padding attends to may differ.

    Under `use_mesh` rows and heads are computed where the axis rules put them; a split length is gathered, which
    `choose_attention` avoids. The name `attention_out` for rematerialization stands on the result, and with splash
    and blockwise on the log-sum-exp.

    Args:
      query: [batch, length, heads, head_dim].
      kv: of the same tokens: keys [batch, kv_heads, head_dim, length], values [batch, kv_heads, length, head_dim].
      segment_ids: int32 [batch, length] of packed rows, 0 for padding; default one segment per row.
      prefix: keys and values that every query sees, without a batch axis; not together with segments.
      implementation: `"splash"`, `"cudnn"`, `"blockwise"` or `"chunked"`.
      interpret: run splash without a TPU, slowly, for tests.
      rule: of the scores, its window included.

    Returns:
      [batch, length, heads, head_dim] in the dtype of `query`.

    Raises:
      ValueError: an unknown implementation, a rule that it does not know, segments together with a prefix, or int8
        keys.
    """
    kernels: dict[str, Callable[..., jax.Array]] = {
        "splash": functools.partial(_splash, interpret=interpret),
        "cudnn": _cudnn,
        "blockwise": blockwise_attention,
        "chunked": chunked_attention,
    }
    if implementation not in kernels:
        raise ValueError(f"unknown implementation {implementation!r}; choose from {', '.join(kernels)}")
    if segment_ids is not None and prefix is not None:
        raise ValueError("packed segments cannot share a prefix in a kernel; ask choose_attention what serves the call")
    if any(given is not None and given.key_scales is not None for given in (kv, prefix)):
        raise ValueError("int8 keys do not fit a kernel; give it keys and values in the compute dtype")
    unknown = (rule.soft_cap, rule.window) if implementation == "cudnn" else (rule.soft_cap,)
    if implementation in ("cudnn", "blockwise") and any(value is not None for value in unknown):
        raise ValueError(f"{implementation!r} does not know {rule}; ask choose_attention what serves the call")
    specs = _specs(query, kv, segment_ids, prefix)
    attend = on_each_device(functools.partial(_attend, kernels[implementation], rule), specs, specs[0])
    return attend(query, kv, segment_ids, prefix)


def _specs(query: jax.Array, kv: KeyValues, segment_ids: jax.Array | None, prefix: KeyValues | None) -> tuple[Any, ...]:
    """PartitionSpecs of the arguments; query heads lie where the key heads that serve them do."""
    batch = dividing_mesh_axes("activation_batch", query.shape[0])
    heads = dividing_mesh_axes("activation_kv_heads", kv.values.shape[1])
    spec: Any = PartitionSpec  # KeyValues holds arrays, or here what says how they are split
    return (
        spec(batch, None, heads, None),
        KeyValues(spec(batch, heads, None, None), spec(batch, heads, None, None)),
        None if segment_ids is None else spec(batch, None),
        None if prefix is None else KeyValues(spec(heads, None, None), spec(heads, None, None)),
    )


def _attend(
    kernel: Callable[..., jax.Array],
    rule: ScoreRule,
    query: jax.Array,
    kv: KeyValues,
    segment_ids: jax.Array | None,
    prefix: KeyValues | None,
) -> jax.Array:
    """The kernel over the keys of prefix and call, joined."""
    entries = [kv] if prefix is None else [prefix, kv]
    keys, values, _, _ = joined(entries, query.shape[0], query.dtype)
    return kernel(query, keys, values, segment_ids, 0 if prefix is None else prefix.length, rule)


def block_and_length(length: int) -> tuple[int, int]:
    """(block, padded length) for splash: as few blocks of at most `MAX_BLOCK` as cover `length`, as small as can be."""
    count = -(-length // MAX_BLOCK)
    block = -(-length // (count * LANES)) * LANES
    return block, block * count


def _splash(
    query: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    segment_ids: jax.Array | None,
    prefix_length: int,
    rule: ScoreRule,
    interpret: bool,
) -> jax.Array:
    """Query [b, t, h, d], keys [b, k, d, s], values [b, k, s, d] to [b, t, h, d]."""
    length, heads = query.shape[1:3]
    query_block, query_length = block_and_length(length)
    # Every query that is padding sees a key, if only padding: with a window that takes as many keys.
    needed = keys.shape[3] if rule.window is None else prefix_length + query_length
    key_block, key_length = block_and_length(needed)
    shape = (query_length, key_length)
    seen: Any = masks.CausalMask(shape, offset=prefix_length)
    if rule.window is not None:
        seen = masks.LocalMask(shape, window_size=(rule.window - 1, 0), offset=prefix_length)
    sizes = splash.BlockSizes(
        block_q=query_block,
        block_kv=key_block,
        block_q_dkv=query_block,
        block_kv_dkv=key_block,
        block_q_dq=query_block,
        block_kv_dq=key_block,
        k_layout=splash.QKVLayout.SEQ_MINOR,  # as KeyValues holds them: no copy
    )
    kernel: Callable[..., jax.Array] = splash.make_splash_mha_single_device(
        mask=masks.MultiHeadMask([seen] * heads),
        block_sizes=sizes,
        residual_checkpoint_name="attention_out",
        attn_logits_soft_cap=rule.soft_cap,
        interpret=interpret,
    )
    # Padded keys stand after all others, where the causal mask hides them from every query that is not padding.
    rows = padded(rule.scaled(query).swapaxes(1, 2), 2, query_length)
    keys, values = padded(keys, 3, key_length).swapaxes(2, 3), padded(values, 2, key_length)
    if segment_ids is None:
        attended = jax.vmap(kernel)(rows, keys, values)
    else:
        ids = splash.SegmentIds(padded(segment_ids, 1, query_length), padded(segment_ids, 1, key_length))
        attended = jax.vmap(kernel)(rows, keys, values, ids)
    return attended[:, :, :length].swapaxes(1, 2)


def _cudnn(
    query: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    segment_ids: jax.Array | None,
    prefix_length: int,
    rule: ScoreRule,
) -> jax.Array:
    """Query [b, t, h, d], keys [b, k, d, s], values [b, k, s, d] to [b, t, h, d]."""
    mask = None
    if segment_ids is not None or prefix_length:
        # cuDNN's own causal mask starts at the first key; one that starts after a prefix must be given.
        seen = np.tri(query.shape[1], keys.shape[3], prefix_length, bool)
        mask = jnp.asarray(seen)[None, None]
        if segment_ids is not None:
            mask = mask & (segment_ids[:, None, :, None] == segment_ids[:, None, None, :])
    attended: jax.Array = jax.nn.dot_product_attention(
        query,
        keys.transpose(0, 3, 1, 2),
        values.swapaxes(1, 2),
        mask=mask,
        scale=rule.scale,
        is_causal=mask is None,
        implementation="cudnn",
    )
    return checkpoint_name(attended, "attention_out")
