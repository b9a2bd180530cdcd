"""The loss of packed rows, summed."""

import jax
import jax.numpy as jnp

from humpback_jax.models.llama import Llama, hidden_states
from humpback_jax.training.cross_entropy import summed_cross_entropy

Batch = dict[str, jax.Array]


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
    targets, weights = batch["decoder_target_tokens"], batch["decoder_loss_weights"]
    return summed_cross_entropy(model, params, hidden, targets, weights, logits_chunk, z_loss), jnp.sum(weights)
