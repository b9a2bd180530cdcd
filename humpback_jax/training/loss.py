"""Token cross-entropy of packed rows, summed, without ever holding all logits."""

import jax
import jax.numpy as jnp

from humpback_jax.models.llama import Llama, hidden_states, logits
from humpback_jax.partitioning import constrain, num_shards

Batch = dict[str, jax.Array]


def token_losses(
    model: Llama, params: dict, hidden: jax.Array, targets: jax.Array, chunk: int, z_loss: float = 0.0
) -> jax.Array:
    """Cross-entropy of every target token, float32 [rows, length].

    Args:
      model: the decoder.
      params: its parameters.
      hidden: final hidden states [rows, length, emb_dim].
      targets: int32 [rows, length].
      chunk: positions per row whose logits exist at one time, whatever the length; they are recomputed in the backward
        pass.
      z_loss: weight of the squared log-normalizer, which is added to every token's loss.
    """
    length = targets.shape[1]
    num_chunks = -(-length // chunk)
    shards = num_shards("activation_length")
    width = -(-length // (num_chunks * shards)) * shards
    split = lambda x: _interleaved(x, width, num_chunks)  # noqa: E731

    def one(pair: tuple[jax.Array, jax.Array]) -> jax.Array:
        hidden = constrain(pair[0], "activation_batch", "activation_length", "activation_embed")
        scores = logits(model, params, hidden)
        scores = constrain(scores, "activation_batch", "activation_length", "activation_vocab")
        normalizer = jax.nn.logsumexp(scores, axis=-1)
        picked = jnp.take_along_axis(scores, pair[1][..., None], axis=-1)[..., 0]
        losses = normalizer - picked
        return losses + z_loss * normalizer**2 if z_loss else losses

    losses = jax.lax.map(jax.checkpoint(one), (split(hidden), split(targets)))
    return jnp.moveaxis(losses, 0, 2).reshape(targets.shape[0], width * num_chunks)[:, :length]


def _interleaved(x: jax.Array, width: int, num_chunks: int) -> jax.Array:
    """[rows, length, …] as [chunks, rows, width, …]: chunk i holds positions i, i + chunks, i + 2 chunks, ….

    So every device that holds a stretch of the length holds the same share of every chunk, and nothing moves.
    """
    padded = jnp.pad(x, [(0, 0), (0, width * num_chunks - x.shape[1]), *[(0, 0)] * (x.ndim - 2)])
    return jnp.moveaxis(padded.reshape(x.shape[0], width, num_chunks, *x.shape[2:]), 2, 0)


def summed_loss(
    model: Llama,
    params: dict,
    batch: Batch,
    dropout_key: jax.Array | None,
    logits_chunk: int,
    z_loss: float = 0.0,
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
        batch.get("decoder_segment_ids"),
        dropout_key=dropout_key,
    )
    weights = batch["decoder_loss_weights"]
    losses = token_losses(model, params, hidden, batch["decoder_target_tokens"], logits_chunk, z_loss)
    return jnp.sum(losses * weights), jnp.sum(weights)
