"""The compiled programs of generation: shared prefix, prefill into slots, chunks of decode steps, and probes.

A slot is a row of the batch that one request after another occupies. Rows never see each other, so what a request is
given depends on its prompt, its key and the compiled shapes alone.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from humpback_jax.inference.sampling import request_keys, sample
from humpback_jax.models.attention import Masks, causal_mask
from humpback_jax.models.cache_write_kernel import write_ragged, writes_in_place
from humpback_jax.models.kv_cache import (
    Context,
    KeyValues,
    constrain_cache,
    grow,
    init_layer_cache,
    insert_rows,
    merge_recent,
    take_rows,
)
from humpback_jax.models.llama import Llama, hidden_states_in_context, logits
from humpback_jax.partitioning import constrain

Prefix = tuple[KeyValues, ...]  # one per layer, without a batch axis; empty when no head is shared


class RowSampling(NamedTuple):
    """Settings per row: key_data uint32 [rows, 2], temperature, top_p float32 [rows], max_new_tokens int32 [rows]."""

    key_data: jax.Array
    temperature: jax.Array
    top_p: jax.Array
    max_new_tokens: jax.Array


class RowSettings(NamedTuple):
    """`RowSampling` as the host gives it: request_numbers uint32 [rows] and the job's seed (uint32 scalar) for keys."""

    request_numbers: jax.Array
    seed: jax.Array
    temperature: jax.Array
    top_p: jax.Array
    max_new_tokens: jax.Array


class Rows(NamedTuple):
    """Where every row stands.

    `tokens[r]` was drawn last and will stand at `positions[r]`; `output[r, :counts[r]]` are the tokens kept so far. A
    row that is done keeps its position: slots of its cache from there on are never valid.
    """

    tokens: jax.Array  # int32 [rows]
    positions: jax.Array  # int32 [rows], in the whole sequence
    output: jax.Array  # int32 [rows, max_new_tokens]
    counts: jax.Array  # int32 [rows]
    stopped: jax.Array  # bool [rows]: a stop token was drawn
    done: jax.Array  # bool [rows]: stopped, at the limit, or empty
    finite: jax.Array  # bool [rows]: every logit so far was a number


class SlotState(NamedTuple):
    """Everything that stays on the device between programs: one cache per layer, settings, and rows."""

    caches: tuple[KeyValues, ...]
    sampling: RowSampling
    rows: Rows


def _placed(state: SlotState) -> SlotState:
    """Caches sharded by heads, all else on every device: every program leaves the state as the next expects it."""
    caches = tuple(constrain_cache(cache) for cache in state.caches)
    return SlotState(caches, jax.tree.map(_replicated, state.sampling), jax.tree.map(_replicated, state.rows))


def _replicated(x: jax.Array) -> jax.Array:
    return constrain(x, *(None,) * x.ndim)


class ChunkReport(NamedTuple):
    """What the host reads after a chunk: output, counts, stopped, done, finite as in `Rows`.

    `steps` and `kept` are scalars: decode steps run, and row-steps among them that gave a token that is kept.
    """

    output: jax.Array
    counts: jax.Array
    stopped: jax.Array
    done: jax.Array
    finite: jax.Array
    steps: jax.Array
    kept: jax.Array


def _contexts(model: Llama, prefix: Prefix, caches: tuple[KeyValues, ...] = ()) -> list[Context]:
    layers = range(model.config.num_layers)
    return [Context(prefix[i] if prefix else None, caches[i] if caches else None) for i in layers]


def _prefix_length(prefix: Prefix) -> int:
    return prefix[0].length if prefix else 0


def _positions(tokens: jax.Array, start: int) -> jax.Array:
    return jnp.broadcast_to(start + jnp.arange(tokens.shape[1], dtype=jnp.int32), tokens.shape)


@functools.partial(jax.jit, static_argnames=("model", "cache_dtype"))
def compute_prefix(model: Llama, params: dict, tokens: jax.Array, cache_dtype: DTypeLike) -> Prefix:
    """Keys and values of the shared head of all prompts: int32 [length] to one KeyValues per layer."""
    masks = Masks(causal_mask(tokens.shape[0]))
    rows = tokens[None]
    _, written = hidden_states_in_context(model, params, rows, _positions(rows, 0), masks, _contexts(model, ()))
    return tuple(KeyValues(kv.keys[0].astype(cache_dtype), kv.values[0].astype(cache_dtype)) for kv in written)


def prefill(
    model: Llama, params: dict, prefix: Prefix, tokens: jax.Array, lengths: jax.Array
) -> tuple[jax.Array, list[KeyValues]]:
    """Hidden states [rows, bucket, emb_dim] of right-padded prompts that follow the prefix, and their keys, values.

    `lengths`, int32 [rows], counts the tokens of each row that are no padding.
    """
    tokens = constrain(tokens, "activation_batch", None)
    positions = _positions(tokens, _prefix_length(prefix))
    masks = Masks(causal_mask(tokens.shape[1]), lengths=_prefix_length(prefix) + lengths)
    return hidden_states_in_context(model, params, tokens, positions, masks, _contexts(model, prefix))


@functools.partial(jax.jit, static_argnames=("model", "slots", "cache_length", "max_new_tokens", "cache_dtype"))
def init_slots(model: Llama, slots: int, cache_length: int, max_new_tokens: int, cache_dtype: DTypeLike) -> SlotState:
    """Empty slots."""
    zeros, floats = jnp.zeros((slots,), jnp.int32), jnp.zeros((slots,), jnp.float32)
    true = jnp.ones((slots,), bool)
    layers = range(model.config.num_layers)
    return _placed(
        SlotState(
            tuple(init_layer_cache(model.config, slots, cache_length, cache_dtype) for _ in layers),
            RowSampling(jnp.zeros((slots, 2), jnp.uint32), floats, floats, zeros),
            Rows(zeros, zeros, jnp.zeros((slots, max_new_tokens), jnp.int32), zeros, ~true, true, true),
        )
    )


@functools.partial(jax.jit, static_argnames=("cache_length",))
def grow_cache(cache: KeyValues, cache_length: int) -> KeyValues:
    """The cache of one layer with room for more tokens."""
    return constrain_cache(grow(cache, cache_length))


def accept(rows: Rows, scores: jax.Array, positions: jax.Array, sampling: RowSampling, stop_ids: jax.Array) -> Rows:
    """Draws the token at `positions` from the logits `scores` for every row that is not done, and records it.

    A stop token ends its row and is not recorded.
    """
    keys = jax.random.wrap_key_data(sampling.key_data)
    drawn = sample(scores, keys, positions, sampling.temperature, sampling.top_p)
    stop = jnp.any(drawn[:, None] == stop_ids[None, :], axis=-1)
    keep = ~rows.done & ~stop
    index = jnp.arange(drawn.shape[0])
    places = jnp.minimum(rows.counts, rows.output.shape[1] - 1)
    output = rows.output.at[index, places].set(jnp.where(keep, drawn, rows.output[index, places]))
    counts = rows.counts + keep
    return Rows(
        tokens=jnp.where(rows.done, rows.tokens, drawn),
        positions=positions,
        output=output,
        counts=counts,
        stopped=rows.stopped | (~rows.done & stop),
        done=rows.done | stop | (counts >= sampling.max_new_tokens),
        finite=rows.finite & (rows.done | jnp.all(jnp.isfinite(scores), axis=-1)),
    )


@functools.partial(jax.jit, static_argnames=("model",), donate_argnames=("state",))
def prefill_into_slots(
    model: Llama,
    params: dict,
    prefix: Prefix,
    state: SlotState,
    tokens: jax.Array,
    lengths: jax.Array,
    slots: jax.Array,
    settings: RowSettings,
    stop_ids: jax.Array,
) -> SlotState:
    """Prefills prompts, draws their first tokens and puts them into slots.

    Args:
      model: the decoder (static), with `scan_layers=False`.
      params: its parameters.
      prefix: what all prompts begin with.
      state: donated.
      tokens: int32 [rows, bucket], the rest of the prompts, padded on the right.
      lengths: int32 [rows], at least 1.
      slots: int32 [rows]; a row whose slot is out of range is computed and dropped.
      settings: of the rows.
      stop_ids: int32 [n].
    """
    count, max_new_tokens = tokens.shape[0], state.rows.output.shape[1]
    hidden, written = prefill(model, params, prefix, tokens, lengths)
    scores = logits(model, params, at_index(hidden, lengths - 1))
    key_data = jax.random.key_data(request_keys(settings.seed, settings.request_numbers))
    sampling = RowSampling(key_data, settings.temperature, settings.top_p, settings.max_new_tokens)
    zeros, false = jnp.zeros((count,), jnp.int32), jnp.zeros((count,), bool)
    empty = Rows(zeros, zeros, jnp.zeros((count, max_new_tokens), jnp.int32), zeros, false, false, ~false)
    rows = accept(empty, scores, _prefix_length(prefix) + lengths, sampling, stop_ids)

    def put(old: jax.Array, new: jax.Array) -> jax.Array:
        return old.at[slots].set(new, mode="drop")

    caches = tuple(insert_rows(cache, new, slots) for cache, new in zip(state.caches, written, strict=True))
    return _placed(SlotState(caches, jax.tree.map(put, state.sampling, sampling), jax.tree.map(put, state.rows, rows)))


@functools.partial(jax.jit, static_argnames=("model", "max_steps"), donate_argnames=("state",))
def decode_chunk(
    model: Llama,
    params: dict,
    prefix: Prefix,
    state: SlotState,
    stop_ids: jax.Array,
    exit_at: jax.Array,
    max_steps: int,
) -> tuple[SlotState, ChunkReport]:
    """Up to `max_steps` decode steps of all slots.

    Ends early when all rows are done, or `exit_at` (int32 scalar) of them. The caches are read during the steps and
    written once at the end; the chunk's own tokens wait in a buffer of `max_steps` slots.
    """
    config, slots = model.config, state.rows.tokens.shape[0]
    starts = state.rows.positions - _prefix_length(prefix)
    valid = jnp.arange(state.caches[0].length)[None, None, :] < starts[:, None, None]
    contexts = _contexts(model, prefix, state.caches)
    recent = init_layer_cache(config, slots, max_steps, state.caches[0].keys.dtype)
    places = None if config.sliding_window is None else state.rows.positions[:, None] + jnp.arange(max_steps)
    Carry = tuple[Rows, list[KeyValues], jax.Array]

    def step(carry: Carry) -> Carry:
        rows, recents, number = carry
        seen = (jnp.arange(max_steps) <= number)[None, None, :]
        masks = Masks(new=seen, cache=valid, cache_lengths=starts, key_positions=places)
        with_recent = [context._replace(recent=written) for context, written in zip(contexts, recents, strict=True)]
        hidden, recents = hidden_states_in_context(
            model, params, rows.tokens[:, None], rows.positions[:, None], masks, with_recent, number
        )
        scores = logits(model, params, hidden[:, 0])
        positions = jnp.where(rows.done, rows.positions, rows.positions + 1)
        return accept(rows, scores, positions, state.sampling, stop_ids), recents, number + 1

    def goes_on(carry: Carry) -> jax.Array:
        rows, _, number = carry
        return (number < max_steps) & ~jnp.all(rows.done) & (jnp.sum(rows.done) < exit_at)

    first = (state.rows, [recent] * config.num_layers, jnp.zeros((), jnp.int32))
    rows, recents, steps = jax.lax.while_loop(goes_on, step, first)
    merge = write_ragged if writes_in_place(model.platform, state.caches[0], max_steps) else merge_recent
    caches = tuple(merge(cache, new, starts) for cache, new in zip(state.caches, recents, strict=True))
    kept = jnp.sum(rows.counts - state.rows.counts)
    report = ChunkReport(rows.output, rows.counts, rows.stopped, rows.done, rows.finite, steps, kept)
    report = ChunkReport(*map(_replicated, report))
    return _placed(SlotState(caches, state.sampling, rows)), report


@functools.partial(jax.jit, static_argnames=("model",))
def probe_slots(
    model: Llama,
    params: dict,
    prefix: Prefix,
    caches: tuple[KeyValues, ...],
    slots: jax.Array,
    tokens: jax.Array,
    starts: jax.Array,
    lengths: jax.Array,
    candidates: jax.Array,
) -> jax.Array:
    """Log-probability of each candidate after forced tokens that follow what some slots hold.

    Args:
      model: the decoder (static).
      params: its parameters.
      prefix: what all prompts begin with.
      caches: of all slots; not changed.
      slots: int32 [rows], which slots are asked.
      tokens: int32 [rows, n]: the last written token again, then the forced ones, padded on the right.
      starts: int32 [rows], cache slot of the first of `tokens`; those before it are read.
      lengths: int32 [rows], real tokens in each row.
      candidates: int32 [rows, c].

    Returns:
      float32 [rows, c], from the raw distribution.
    """
    taken = [take_rows(cache, slots) for cache in caches]
    hidden = continued(model, params, prefix, taken, starts, tokens, lengths)
    return log_probs_after(model, params, hidden, lengths, candidates)


def continued(
    model: Llama,
    params: dict,
    prefix: Prefix,
    caches: Sequence[KeyValues],
    starts: jax.Array,
    tokens: jax.Array,
    lengths: jax.Array,
) -> jax.Array:
    """Hidden states [rows, n, emb_dim] of tokens [rows, n] that come after the first `starts` [rows] of each cache.

    `lengths`, int32 [rows], counts the tokens of each row that are no padding.
    """
    valid = jnp.arange(caches[0].length)[None, None, :] < starts[:, None, None]
    positions = _positions(tokens, _prefix_length(prefix)) + starts[:, None]
    so_far = _prefix_length(prefix) + starts + lengths
    masks = Masks(new=causal_mask(tokens.shape[1]), cache=valid, lengths=so_far)
    contexts = _contexts(model, prefix, tuple(caches))
    return hidden_states_in_context(model, params, tokens, positions, masks, contexts)[0]


def log_probs_after(
    model: Llama, params: dict, hidden: jax.Array, lengths: jax.Array, candidates: jax.Array
) -> jax.Array:
    """Log-probabilities of candidates [rows, c] after the token at `lengths - 1` of hidden states."""
    log_probs = jax.nn.log_softmax(logits(model, params, at_index(hidden, lengths - 1)), axis=-1)
    values = jnp.take_along_axis(log_probs, candidates, axis=-1)
    return constrain(values, None, None)


def at_index(hidden: jax.Array, index: jax.Array) -> jax.Array:
    """hidden[r, index[r]] of every row: [rows, length, emb_dim] to [rows, emb_dim]."""
    return jnp.take_along_axis(hidden, index[:, None, None], axis=1)[:, 0]
