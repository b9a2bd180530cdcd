"""Token cross-entropy of packed rows, summed, without ever holding all logits."""

import jax
import jax.numpy as jnp

from humpback_jax.models.llama import Llama, hidden_states, logits

Batch = dict[str, jax.Array]


def target_log_probs(model: Llama, params: dict, hidden: jax.Array, targets: jax.Array, chunk: int) -> jax.Array:
    """Log-probability of every target token, float32 [rows, length].

    Args:
      model: the decoder.
      params: its parameters.
      hidden: final hidden states [rows, length, emb_dim].
      targets: int32 [rows, length].
      chunk: positions whose logits exist at one time; they are recomputed in the backward pass.
    """

    def one(hidden: jax.Array, targets: jax.Array) -> jax.Array:
        scores = logits(model, params, hidden)
        picked = jnp.take_along_axis(scores, targets[..., None], axis=-1)[..., 0]
        return picked - jax.nn.logsumexp(scores, axis=-1)

    length = targets.shape[1]
    if length % chunk:
        chunk = length
    split = lambda x: jnp.moveaxis(x.reshape(x.shape[0], length // chunk, chunk, *x.shape[2:]), 1, 0)  # noqa: E731
    log_probs = jax.lax.map(lambda pair: jax.checkpoint(one)(*pair), (split(hidden), split(targets)))
    return jnp.moveaxis(log_probs, 0, 1).reshape(targets.shape)


def summed_loss(
    model: Llama, params: dict, batch: Batch, dropout_key: jax.Array | None, logits_chunk: int
) -> tuple[jax.Array, jax.Array]:
    """(sum of weighted token losses, sum of weights) of one microbatch of shifted, packed rows.

    Sums, not means: the caller adds them over microbatches and divides once, so that every supervised token counts
    the same wherever it was packed.
    """
    hidden = hidden_states(
        model,
        params,
        batch["decoder_input_tokens"],
        batch["decoder_positions"],
        batch["decoder_segment_ids"],
        dropout_key=dropout_key,
    )
    weights = batch["decoder_loss_weights"]
    log_probs = target_log_probs(model, params, hidden, batch["decoder_target_tokens"], logits_chunk)
    return -jnp.sum(log_probs * weights), jnp.sum(weights)
