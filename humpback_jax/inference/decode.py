"""The compiled programs of generation and scoring: prefill, the decode loop, and reading log-probabilities."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from humpback_jax.inference.sampling import sample
from humpback_jax.models.kv_cache import KVCache, init_kv_cache
from humpback_jax.models.llama import Llama, hidden_states, logits
from humpback_jax.partitioning import constrain


class RowSampling(NamedTuple):
    """Per-row sampling settings: keys [batch], temperature and top_p float32 [batch], max_new_tokens int32 [batch]."""

    keys: jax.Array
    temperature: jax.Array
    top_p: jax.Array
    max_new_tokens: jax.Array


class DecodeState(NamedTuple):
    """Everything the decode loop carries; row r is independent of every other row.

    `tokens[r]` was drawn last and will stand at `positions[r]`; `output[r, :counts[r]]` are the tokens kept so far.
    """

    kv_cache: KVCache
    tokens: jax.Array  # int32 [batch]
    positions: jax.Array  # int32 [batch]
    output: jax.Array  # int32 [batch, max_new_tokens]
    counts: jax.Array  # int32 [batch]
    stopped: jax.Array  # bool [batch]: a stop token was drawn
    done: jax.Array  # bool [batch]: stopped, at the limit, or an empty row
    finite: jax.Array  # bool [batch]: every logit so far was a number


class Generated(NamedTuple):
    """What the host reads back: output int32 [batch, max_new_tokens], counts, stopped, finite [batch]."""

    output: jax.Array
    counts: jax.Array
    stopped: jax.Array
    finite: jax.Array


def prefill(
    model: Llama, params: dict, tokens: jax.Array, lengths: jax.Array, cache_length: int, cache_dtype: DTypeLike
) -> tuple[KVCache, jax.Array]:
    """Runs right-padded prompts [batch, bucket]; returns the filled cache and the logits after each last token."""
    cache = init_kv_cache(model.config, tokens.shape[0], cache_length, cache_dtype)
    hidden, cache = hidden_states(model, params, tokens, kv_cache=cache)
    return cache, logits(model, params, _at(hidden, lengths - 1))


def accept(
    state: DecodeState, scores: jax.Array, positions: jax.Array, sampling: RowSampling, stop_ids: jax.Array
) -> DecodeState:
    """Draws the token at `positions` from the logits `scores` for every row that is not done, and records it.

    A stop token ends its row and is not recorded.
    """
    drawn = sample(scores, sampling.keys, positions, sampling.temperature, sampling.top_p)
    stop = jnp.any(drawn[:, None] == stop_ids[None, :], axis=-1)
    keep = ~state.done & ~stop
    rows = jnp.arange(drawn.shape[0])
    slots = jnp.minimum(state.counts, state.output.shape[1] - 1)
    output = state.output.at[rows, slots].set(jnp.where(keep, drawn, state.output[rows, slots]))
    counts = state.counts + keep
    return state._replace(
        tokens=drawn,
        positions=positions,
        output=output,
        counts=counts,
        stopped=state.stopped | (~state.done & stop),
        done=state.done | stop | (counts >= sampling.max_new_tokens),
        finite=state.finite & (state.done | jnp.all(jnp.isfinite(scores), axis=-1)),
    )


def decode(model: Llama, params: dict, state: DecodeState, sampling: RowSampling, stop_ids: jax.Array) -> DecodeState:
    """Decodes until every row is done."""

    def step(state: DecodeState) -> DecodeState:
        tokens, positions = state.tokens[:, None], state.positions[:, None]
        hidden, cache = hidden_states(model, params, tokens, positions, kv_cache=state.kv_cache)
        scores = logits(model, params, hidden[:, 0])
        positions = jnp.where(state.done, state.positions, state.positions + 1)
        return accept(state._replace(kv_cache=cache), scores, positions, sampling, stop_ids)

    return jax.lax.while_loop(lambda state: ~jnp.all(state.done), step, state)


@functools.partial(jax.jit, static_argnames=("model", "max_new_tokens", "probe_room", "cache_dtype"))
def generate_batch(
    model: Llama,
    params: dict,
    tokens: jax.Array,
    lengths: jax.Array,
    empty: jax.Array,
    sampling: RowSampling,
    stop_ids: jax.Array,
    max_new_tokens: int,
    probe_room: int = 0,
    cache_dtype: DTypeLike = jnp.float32,
) -> tuple[Generated, KVCache | None]:
    """Prefill and decode of one batch.

    Args:
      model: the decoder (static).
      params: its parameters.
      tokens: int32 [batch, bucket], prompts padded on the right.
      lengths: int32 [batch].
      empty: bool [batch], rows that stand for no request.
      sampling: per-row settings; `sampling.max_new_tokens` is at most the static `max_new_tokens`.
      stop_ids: int32 [n].
      max_new_tokens: room in the output and in the cache (static).
      probe_room: further room in the cache for `probe_batch` (static); 0 when the cache is not wanted.
      cache_dtype: of the key/value cache (static).

    Returns:
      What was generated, and the cache if there is room for a probe.
    """
    batch, bucket = tokens.shape
    tokens = constrain(tokens, "activation_batch", None)
    cache, scores = prefill(model, params, tokens, lengths, bucket + max_new_tokens + probe_room, cache_dtype)
    zeros, false = jnp.zeros((batch,), jnp.int32), jnp.zeros((batch,), bool)
    state = DecodeState(
        cache, zeros, lengths - 1, jnp.zeros((batch, max_new_tokens), jnp.int32), zeros, false, empty, ~false
    )
    state = accept(state, scores, lengths, sampling, stop_ids)
    state = decode(model, params, state, sampling, stop_ids)
    return Generated(state.output, state.counts, state.stopped, state.finite), state.kv_cache if probe_room else None


@functools.partial(jax.jit, static_argnames=("model",))
def probe_batch(
    model: Llama,
    params: dict,
    kv_cache: KVCache,
    tokens: jax.Array,
    starts: jax.Array,
    lengths: jax.Array,
    candidates: jax.Array,
) -> jax.Array:
    """Log-probability of each candidate after forced tokens that follow what a cache holds.

    Args:
      model: the decoder (static).
      params: its parameters.
      kv_cache: from `generate_batch`; slots before `starts` are read, later ones are overwritten.
      tokens: int32 [batch, n]: the last written token again, then the forced ones, padded on the right.
      starts: int32 [batch], position of the first of `tokens`.
      lengths: int32 [batch], real tokens in each row.
      candidates: int32 [batch, c].

    Returns:
      float32 [batch, c], from the raw distribution.
    """
    positions = starts[:, None] + jnp.arange(tokens.shape[1])
    hidden, _ = hidden_states(model, params, tokens, positions, kv_cache=kv_cache)
    return _log_probs_after(model, params, hidden, lengths, candidates)


@functools.partial(jax.jit, static_argnames=("model",))
def candidate_log_probs(
    model: Llama, params: dict, tokens: jax.Array, lengths: jax.Array, candidates: jax.Array
) -> jax.Array:
    """Log-probability of each candidate as the token after each prompt: one forward pass, no loop.

    Args:
      model: the decoder (static).
      params: its parameters.
      tokens: int32 [batch, bucket], padded on the right.
      lengths: int32 [batch].
      candidates: int32 [batch, n].

    Returns:
      float32 [batch, n], from the raw distribution (no temperature, no nucleus).
    """
    hidden, _ = hidden_states(model, params, tokens)
    return _log_probs_after(model, params, hidden, lengths, candidates)


def _log_probs_after(
    model: Llama, params: dict, hidden: jax.Array, lengths: jax.Array, candidates: jax.Array
) -> jax.Array:
    """Log-probabilities of candidates [batch, c] after the token at `lengths - 1` of hidden states."""
    log_probs = jax.nn.log_softmax(logits(model, params, _at(hidden, lengths - 1)), axis=-1)
    return jnp.take_along_axis(log_probs, candidates, axis=-1)


def _at(hidden: jax.Array, index: jax.Array) -> jax.Array:
    """hidden[r, index[r]] of every row: [batch, length, emb_dim] to [batch, emb_dim]."""
    return jnp.take_along_axis(hidden, index[:, None, None], axis=1)[:, 0]


@functools.partial(jax.jit, static_argnames=("model", "chunk"))
def token_log_probs(model: Llama, params: dict, tokens: jax.Array, chunk: int = 128) -> jax.Array:
    """Log-probability of tokens[:, i + 1] given tokens[:, : i + 1], float32 [batch, length - 1].

    Logits exist for `chunk` positions at a time.
    """
    hidden, _ = hidden_states(model, params, tokens[:, :-1])
    targets = tokens[:, 1:]
    pad = -targets.shape[1] % chunk
    hidden, targets = jnp.pad(hidden, ((0, 0), (0, pad), (0, 0))), jnp.pad(targets, ((0, 0), (0, pad)))

    def one(pair: tuple[jax.Array, jax.Array]) -> jax.Array:
        log_probs = jax.nn.log_softmax(logits(model, params, pair[0]), axis=-1)
        return jnp.take_along_axis(log_probs, pair[1][..., None], axis=-1)[..., 0]

    split = lambda x: jnp.moveaxis(x.reshape(x.shape[0], -1, chunk, *x.shape[2:]), 1, 0)  # noqa: E731
    log_probs = jnp.moveaxis(jax.lax.map(one, (split(hidden), split(targets))), 0, 1)
    return log_probs.reshape(tokens.shape[0], -1)[:, : tokens.shape[1] - 1]
