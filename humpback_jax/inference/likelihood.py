"""The compiled programs of scoring: one prefill, and log-probabilities only where they are wanted."""

import functools

import jax
import jax.numpy as jnp

from humpback_jax.inference.decode import Prefix, continued, log_probs_after, prefill
from humpback_jax.models.llama import Llama, logits
from humpback_jax.partitioning import constrain


@functools.partial(jax.jit, static_argnames=("model",))
def candidate_log_probs(
    model: Llama, params: dict, prefix: Prefix, tokens: jax.Array, lengths: jax.Array, candidates: jax.Array
) -> jax.Array:
    """Log-probability of each candidate as the token after each prompt: one forward pass, no loop.

    Args:
      model: the decoder (static).
      params: its parameters.
      prefix: what all prompts begin with.
      tokens: int32 [rows, bucket], the rest of the prompts, padded on the right.
      lengths: int32 [rows].
      candidates: int32 [rows, n].

    Returns:
      float32 [rows, n], from the raw distribution (no temperature, no nucleus).
    """
    hidden, _ = prefill(model, params, prefix, tokens, lengths)
    return log_probs_after(model, params, hidden, lengths, candidates)


@functools.partial(jax.jit, static_argnames=("model",))
def branch_log_probs(
    model: Llama,
    params: dict,
    prefix: Prefix,
    tokens: jax.Array,
    lengths: jax.Array,
    forced: jax.Array,
    forced_lengths: jax.Array,
    candidates: jax.Array,
) -> jax.Array:
    """Several questions about every prompt, each after other tokens; the prompt is read once.

    Args:
      model: the decoder (static).
      params: its parameters.
      prefix: what all prompts begin with.
      tokens: int32 [rows, bucket], the rest of the prompts, padded on the right.
      lengths: int32 [rows].
      forced: int32 [branches, n], what follows a prompt in each branch, padded on the right.
      forced_lengths: int32 [branches], at least 1.
      candidates: int32 [branches, c], of which one comes next.

    Returns:
      float32 [rows, branches, c], from the raw distribution.
    """
    rows = tokens.shape[0]
    _, written = prefill(model, params, prefix, tokens, lengths)

    def ask(branch: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        added, length, wanted = (jnp.broadcast_to(each, (rows, *each.shape)) for each in branch)
        hidden = continued(model, params, prefix, written, lengths, added, length)
        return log_probs_after(model, params, hidden, length, wanted)

    return constrain(jnp.moveaxis(jax.lax.map(ask, (forced, forced_lengths, candidates)), 0, 1), None, None, None)


@functools.partial(jax.jit, static_argnames=("model", "chunk", "count_misses"))
def answer_log_likelihoods(
    model: Llama,
    params: dict,
    prefix: Prefix,
    tokens: jax.Array,
    starts: jax.Array,
    lengths: jax.Array,
    chunk: int,
    count_misses: bool = False,
) -> jax.Array:
    """Sum of the log-probabilities of answer tokens.

    Logits exist for `chunk` tokens at a time, and only for answers: the number of chunks is not part of the shape.

    Args:
      model: the decoder (static).
      params: its parameters.
      prefix: what all prompts begin with.
      tokens: int32 [rows, bucket], the rest of prompt and answer, padded on the right.
      starts: int32 [rows], place of the first answer token, at least 1.
      lengths: int32 [rows], answer tokens; 0 for an empty row.
      chunk: tokens whose logits exist at once (static).
      count_misses: also count the answer tokens that are not the most likely one at their place (static).

    Returns:
      float32 [rows], or [rows, 2] with the misses in the second column.
    """
    hidden, _ = prefill(model, params, prefix, tokens, starts + lengths)
    wanted = _in_spans(tokens.shape[1], starts[:, None], lengths[:, None])[:, 0]
    values = _wanted_log_probs(model, params, hidden, tokens, wanted, chunk, count_misses)
    sums = jnp.sum(values, axis=1)
    return constrain(sums, *(None for _ in sums.shape))


@functools.partial(jax.jit, static_argnames=("model", "chunk", "mean_hidden"))
def span_log_likelihoods(
    model: Llama,
    params: dict,
    prefix: Prefix,
    tokens: jax.Array,
    starts: jax.Array,
    lengths: jax.Array,
    ends: jax.Array,
    candidates: jax.Array,
    chunk: int,
    mean_hidden: bool = False,
) -> jax.Array:
    """Several questions about one reading: how likely its spans are, what comes after it, what the model made of it.

    Args:
      model: the decoder (static).
      params: its parameters.
      prefix: what all prompts begin with.
      tokens: int32 [rows, bucket], the rest of the prompts, padded on the right.
      starts: int32 [rows, s], place of the first token of each span, at least 1; spans do not overlap.
      lengths: int32 [rows, s], tokens of each span; 0 for an empty one.
      ends: int32 [rows], tokens of each row.
      candidates: int32 [rows, c], of which one comes after the last token.
      chunk: tokens whose logits exist at once (static).
      mean_hidden: also return the final hidden states' mean over each row's tokens (static).

    Returns:
      float32 [rows, s + c]: the sum of the log-probabilities of every span, then that of each candidate; with the mean
      [rows, s + c + emb_dim].
    """
    hidden, _ = prefill(model, params, prefix, tokens, ends)
    spans = _in_spans(tokens.shape[1], starts, lengths)
    values = _wanted_log_probs(model, params, hidden, tokens, jnp.any(spans, axis=1), chunk)
    sums = jnp.sum(jnp.where(spans, values[:, None, :], 0.0), axis=-1)
    if candidates.shape[1]:
        sums = jnp.concatenate([sums, log_probs_after(model, params, hidden, ends, candidates)], 1)
    if mean_hidden:
        real = (jnp.arange(tokens.shape[1]) < ends[:, None])[..., None]
        total = jnp.sum(jnp.where(real, hidden.astype(jnp.float32), 0.0), axis=1)
        sums = jnp.concatenate([sums, total / ends[:, None]], 1)
    return constrain(sums, None, None)


def _in_spans(bucket: int, starts: jax.Array, lengths: jax.Array) -> jax.Array:
    """Which places lie in which span: bool [rows, s, bucket]."""
    places = jnp.arange(bucket)[None, None, :]
    return (places >= starts[..., None]) & (places < (starts + lengths)[..., None])


def _wanted_log_probs(
    model: Llama,
    params: dict,
    hidden: jax.Array,
    tokens: jax.Array,
    wanted: jax.Array,
    chunk: int,
    count_misses: bool = False,
) -> jax.Array:
    """Log-probabilities of the wanted tokens, 0 elsewhere: float32 [rows, bucket], or [rows, bucket, 2] with misses."""
    rows, bucket = tokens.shape
    # Wanted places first, in order; they are answered chunk by chunk until none is left.
    order = jnp.argsort(~wanted.reshape(-1), stable=True)
    order = jnp.pad(order, (0, -order.shape[0] % chunk))
    total, flat_hidden, flat_tokens = jnp.sum(wanted), hidden.reshape(rows * bucket, -1), tokens.reshape(-1)

    def answer(i: jax.Array, found: jax.Array) -> jax.Array:
        index = jax.lax.dynamic_slice_in_dim(order, i * chunk, chunk)
        scores = logits(model, params, flat_hidden[index - 1])
        log_probs = jax.nn.log_softmax(scores, axis=-1)[jnp.arange(chunk), flat_tokens[index]]
        real = i * chunk + jnp.arange(chunk) < total
        if count_misses:
            missed = (jnp.argmax(scores, axis=-1) != flat_tokens[index]).astype(jnp.float32)
            log_probs, real = jnp.stack([log_probs, missed], axis=-1), real[:, None]
        return found.at[index].add(jnp.where(real, log_probs, 0.0))

    shape = (rows * bucket, 2) if count_misses else (rows * bucket,)
    found = jax.lax.fori_loop(0, -(-total // chunk), answer, jnp.zeros(shape, jnp.float32))
    return found.reshape(rows, bucket, *shape[1:])
