"""The compiled programs of generation and scoring: prefill, the decode loop, and reading log-probabilities."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from humpback_jax.inference.sampling import sample
from humpback_jax.models.kv_cache import KVCache, init_kv_cache
from humpback_jax.models.llama import Llama
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
    model: Llama, params: dict, tokens: jax.Array, lengths: jax.Array, cache_length: int
) -> tuple[KVCache, jax.Array]:
    """Runs right-padded prompts [batch, bucket]; returns the filled cache and the logits after each last token."""
    cache = init_kv_cache(model.config, tokens.shape[0], cache_length, model.dtype)
    hidden, cache = model.apply({"params": params}, tokens, None, None, cache, method="hidden_states")
    last = jnp.take_along_axis(hidden, (lengths - 1)[:, None, None], axis=1)[:, 0]
    return cache, model.apply({"params": params}, last, method="logits")


def accept(
    state: DecodeState, logits: jax.Array, positions: jax.Array, sampling: RowSampling, stop_ids: jax.Array
) -> DecodeState:
    """Draws the token at `positions` for every row that is not done, and records it unless it is a stop token."""
    drawn = sample(logits, sampling.keys, positions, sampling.temperature, sampling.top_p)
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
        finite=state.finite & (state.done | jnp.all(jnp.isfinite(logits), axis=-1)),
    )


def decode(model: Llama, params: dict, state: DecodeState, sampling: RowSampling, stop_ids: jax.Array) -> DecodeState:
    """Decodes until every row is done."""

    def step(state: DecodeState) -> DecodeState:
        hidden, cache = model.apply(
            {"params": params}, state.tokens[:, None], state.positions[:, None], None, state.kv_cache,
            method="hidden_states",
        )  # fmt: skip
        logits = model.apply({"params": params}, hidden[:, 0], method="logits")
        positions = jnp.where(state.done, state.positions, state.positions + 1)
        return accept(state._replace(kv_cache=cache), logits, positions, sampling, stop_ids)

    return jax.lax.while_loop(lambda state: ~jnp.all(state.done), step, state)


@functools.partial(jax.jit, static_argnames=("model", "max_new_tokens"))
def generate_batch(
    model: Llama,
    params: dict,
    tokens: jax.Array,
    lengths: jax.Array,
    empty: jax.Array,
    sampling: RowSampling,
    stop_ids: jax.Array,
    max_new_tokens: int,
) -> Generated:
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
    """
    batch, bucket = tokens.shape
    tokens = constrain(tokens, "activation_batch", None)
    cache, logits = prefill(model, params, tokens, lengths, bucket + max_new_tokens)
    zeros, false = jnp.zeros((batch,), jnp.int32), jnp.zeros((batch,), bool)
    state = DecodeState(
        cache, zeros, lengths - 1, jnp.zeros((batch, max_new_tokens), jnp.int32), zeros, false, empty, ~false
    )
    state = accept(state, logits, lengths, sampling, stop_ids)
    state = decode(model, params, state, sampling, stop_ids)
    return Generated(state.output, state.counts, state.stopped, state.finite)


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
    hidden, _ = model.apply({"params": params}, tokens, method="hidden_states")
    last = jnp.take_along_axis(hidden, (lengths - 1)[:, None, None], axis=1)[:, 0]
    log_probs = jax.nn.log_softmax(model.apply({"params": params}, last, method="logits"), axis=-1)
    return jnp.take_along_axis(log_probs, candidates, axis=-1)


@functools.partial(jax.jit, static_argnames=("model", "chunk"))
def token_log_probs(model: Llama, params: dict, tokens: jax.Array, chunk: int = 128) -> jax.Array:
    """Log-probability of tokens[:, i + 1] given tokens[:, : i + 1], float32 [batch, length - 1].

    Logits exist for `chunk` positions at a time.
    """
    hidden, _ = model.apply({"params": params}, tokens[:, :-1], method="hidden_states")
    targets = tokens[:, 1:]
    pad = -targets.shape[1] % chunk
    hidden, targets = jnp.pad(hidden, ((0, 0), (0, pad), (0, 0))), jnp.pad(targets, ((0, 0), (0, pad)))

    def one(pair: tuple[jax.Array, jax.Array]) -> jax.Array:
        log_probs = jax.nn.log_softmax(model.apply({"params": params}, pair[0], method="logits"), axis=-1)
        return jnp.take_along_axis(log_probs, pair[1][..., None], axis=-1)[..., 0]

    split = lambda x: jnp.moveaxis(x.reshape(x.shape[0], -1, chunk, *x.shape[2:]), 1, 0)  # noqa: E731
    log_probs = jnp.moveaxis(jax.lax.map(one, (split(hidden), split(targets))), 0, 1)
    return log_probs.reshape(tokens.shape[0], -1)[:, : tokens.shape[1] - 1]
