"""The loss of packed rows: cross-entropy of their tokens from hidden states, without ever holding all logits."""

import functools

import jax
import jax.numpy as jnp

from humpback_jax.models.kv_cache import padded
from humpback_jax.models.llama import Llama, hidden_states, logits
from humpback_jax.partitioning import constrain, num_shards

Batch = dict[str, jax.Array]
Pieces = tuple[jax.Array, jax.Array, jax.Array]  # hidden states, targets and weights, each [chunks, rows, width, …]


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


def token_losses(
    model: Llama,
    params: dict,
    hidden: jax.Array,
    targets: jax.Array,
    chunk: int,
    weights: jax.Array | None = None,
) -> jax.Array:
    """Cross-entropy of every target token, float32 [rows, length]; to be looked at, not to be differentiated.

    Args:
      model: the decoder.
      params: its parameters.
      hidden: final hidden states [rows, length, emb_dim].
      targets: int32 [rows, length].
      chunk: positions per row whose logits exist at one time, whatever the length.
      weights: float32 [rows, length]; the losses are times these, and chunks without a weighted token are skipped.
    """
    length = targets.shape[1]
    if weights is None:
        num_chunks, width = _chunks(length, chunk)
        pieces = [_interleaved(padded(x, 1, num_chunks * width), num_chunks) for x in (hidden, targets)]
        losses = jax.lax.map(lambda piece: _losses(model, params, piece[0], piece[1], 0.0), pieces)
        return _restored(losses, None, length)
    arranged, inverse = _arranged(hidden, targets, weights, chunk)
    return _restored(jax.lax.map(functools.partial(_weighted_losses, model, params), arranged), inverse, length)


def _weighted_losses(model: Llama, params: dict, piece: Pieces) -> jax.Array:
    """The losses of a chunk times their weights, float32 [rows, width]."""
    hidden, targets, weights = piece
    return jax.lax.cond(
        jnp.any(weights),
        lambda: _losses(model, params, hidden, targets, 0.0) * weights,
        lambda: jnp.zeros(targets.shape, jnp.float32),
    )


def summed_cross_entropy(
    model: Llama,
    params: dict,
    hidden: jax.Array,
    targets: jax.Array,
    weights: jax.Array,
    chunk: int,
    z_loss: float = 0.0,
) -> jax.Array:
    """Sum of the weighted cross-entropy of all target tokens, a float32 scalar.

    Gradients are taken chunk by chunk on the way forwards, while a chunk's logits are there, and only scaled on the way
    back: no logits are computed twice. Chunks without a weighted token (of a prompt, or of padding) are skipped; where
    a row is whole on its device its weighted tokens are moved to its front, so that there are such chunks.

    Args:
      model: the decoder.
      params: its parameters.
      hidden: final hidden states [rows, length, emb_dim].
      targets: int32 [rows, length].
      weights: float32 [rows, length]; not differentiated.
      chunk: positions per row whose logits exist at one time, whatever the length.
      z_loss: weight of the squared log-normalizer, which is added to every token's loss.
    """
    head = {name: params[name] for name in ("token_embedder" if model.config.tie_word_embeddings else "lm_head",)}
    return _summed(model, chunk, z_loss, head, hidden, targets, weights)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _summed(
    model: Llama, chunk: int, z_loss: float, head: dict, hidden: jax.Array, targets: jax.Array, weights: jax.Array
) -> jax.Array:
    pieces, _ = _arranged(hidden, targets, weights, chunk)
    losses = jax.lax.map(lambda piece: _weighted_loss(model, z_loss, head, *piece), pieces)
    return jnp.sum(losses)


def _forward(
    model: Llama, chunk: int, z_loss: float, head: dict, hidden: jax.Array, targets: jax.Array, weights: jax.Array
) -> tuple[jax.Array, tuple[dict, jax.Array]]:
    """The sum, and its gradients with respect to the output projection and the hidden states."""
    gradient = jax.value_and_grad(functools.partial(_weighted_loss, model, z_loss), argnums=(0, 1))
    pieces, inverse = _arranged(hidden, targets, weights, chunk)

    def add(sums: tuple[jax.Array, dict], piece: Pieces) -> tuple[tuple[jax.Array, dict], jax.Array]:
        def compute() -> tuple[tuple[jax.Array, dict], jax.Array]:
            loss, (of_head, of_hidden) = gradient(head, *piece)
            return jax.tree.map(jnp.add, sums, (loss, of_head)), of_hidden

        return jax.lax.cond(jnp.any(piece[2]), compute, lambda: (sums, jnp.zeros_like(piece[0])))

    zeros = jnp.float32(0), jax.tree.map(jnp.zeros_like, head)
    (loss, of_head), of_pieces = jax.lax.scan(add, zeros, pieces)
    return loss, (of_head, _restored(of_pieces, inverse, hidden.shape[1]))


def _backward(
    model: Llama, chunk: int, z_loss: float, gradients: tuple[dict, jax.Array], cotangent: jax.Array
) -> tuple[dict, jax.Array, None, None]:
    of_head, of_hidden = jax.tree.map(lambda x: (x * cotangent).astype(x.dtype), gradients)
    return of_head, of_hidden, None, None


_summed.defvjp(_forward, _backward)


def _weighted_loss(
    model: Llama, z_loss: float, head: dict, hidden: jax.Array, targets: jax.Array, weights: jax.Array
) -> jax.Array:
    return jnp.sum(_losses(model, head, hidden, targets, z_loss) * weights)


def _losses(model: Llama, head: dict, hidden: jax.Array, targets: jax.Array, z_loss: float) -> jax.Array:
    """Cross-entropy float32 [rows, width] of a chunk."""
    hidden = constrain(hidden, "activation_batch", "activation_length", "activation_embed")
    scores = constrain(logits(model, head, hidden), "activation_batch", "activation_length", "activation_vocab")
    normalizer = jax.nn.logsumexp(scores, axis=-1)
    losses = normalizer - jnp.take_along_axis(scores, targets[..., None], axis=-1)[..., 0]
    return losses + z_loss * normalizer**2 if z_loss else losses


def _chunks(length: int, chunk: int) -> tuple[int, int]:
    """(number of chunks of a row, positions in each, a multiple of the devices that share the length)."""
    num_chunks = -(-length // chunk)
    shards = num_shards("activation_length")
    return num_chunks, -(-length // (num_chunks * shards)) * shards


def _interleaved(x: jax.Array, num_chunks: int) -> jax.Array:
    """[rows, length, …] as [chunks, rows, width, …]: chunk i holds positions i, i + chunks, i + 2 chunks, ….

    So every device that holds a stretch of the length holds the same share of every chunk, and nothing moves.
    """
    return jnp.moveaxis(x.reshape(x.shape[0], -1, num_chunks, *x.shape[2:]), 2, 0)


def _arranged(hidden: jax.Array, targets: jax.Array, weights: jax.Array, chunk: int) -> tuple[Pieces, jax.Array | None]:
    """The chunks, and where in them each position of a row went; None for `_interleaved` ones."""
    num_chunks, width = _chunks(targets.shape[1], chunk)
    whole = [padded(x, 1, num_chunks * width) for x in (hidden, targets, weights)]
    if num_shards("activation_length") > 1:
        first, second, third = (_interleaved(x, num_chunks) for x in whole)
        return (first, second, third), None
    order = jnp.argsort(whole[2] == 0, axis=1, stable=True)
    ordered = [_take(x, order).reshape(x.shape[0], num_chunks, width, *x.shape[2:]) for x in whole]
    first, second, third = (jnp.moveaxis(x, 1, 0) for x in ordered)
    return (first, second, third), jnp.argsort(order, axis=1)


def _restored(pieces: jax.Array, inverse: jax.Array | None, length: int) -> jax.Array:
    """[chunks, rows, width, …] of `_arranged`, or without `inverse` of `_interleaved`, as [rows, length, …]."""
    num_chunks, rows, width, *rest = pieces.shape
    if inverse is None:
        return jnp.moveaxis(pieces, 0, 2).reshape(rows, num_chunks * width, *rest)[:, :length]
    return _take(jnp.moveaxis(pieces, 0, 1).reshape(rows, num_chunks * width, *rest), inverse)[:, :length]


def _take(x: jax.Array, order: jax.Array) -> jax.Array:
    """Positions of each row [rows, length, …] in another order [rows, length]."""
    return jnp.take_along_axis(x, order.reshape(order.shape + (1,) * (x.ndim - 2)), axis=1)
