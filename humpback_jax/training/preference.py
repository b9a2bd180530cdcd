"""Losses of pairs of answers in packed rows: DPO, IPO and SimPO; and what a model makes of both answers.

A pair takes two neighbouring segments of one row, the chosen answer before the rejected one (`data/packing.py`), and a
loss is a function of the log-probabilities of the two. Its slope in these weights the tokens' cross-entropy, whose
gradient is then that of the loss: nothing but the logits is computed twice, and never all of them exist.
"""

import dataclasses
import functools
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from humpback_jax.models.kv_cache import padded
from humpback_jax.models.llama import Llama, hidden_states, logits
from humpback_jax.partitioning import constrain
from humpback_jax.ranges import NaturalFloat, OneOf, PositiveFloat, Range, check_fields
from humpback_jax.training.loss import Batch, summed_cross_entropy, token_losses

DPO, IPO, SIMPO = "dpo", "ipo", "simpo"
LOSSES = (DPO, IPO, SIMPO)
REFERENCE = "decoder_reference"
# What is summed over the pairs of a batch; a pair whose rewards are equal is half a correct one.
SUMS = ("pairs", "reward_accuracy", "reward_margin", "chosen_reward", "rejected_reward")


@dataclasses.dataclass(frozen=True)
class PreferenceLoss:
    """What a model loses by its rewards of two answers, of which one is preferred.

    Attributes:
      kind: `dpo`: -log sigmoid of the margin, the reward being beta times log-probability over the reference's
        (Rafailov et al., 2023, eq. 7); `ipo`: the square of the margin's distance from 1/2, the reward being beta times
        that per token (Azar et al., 2023, eq. 17, per token as TRL has it); `simpo`: -log sigmoid of the margin less
        gamma, the reward being beta times log-probability per token, without a reference (Meng et al., 2024, eq. 6).
      beta: of the reward: how dear it is to leave the reference.
      gamma: SimPO: margin that is asked for.
      label_smoothing: DPO and SimPO: share of the pairs that are thought to be the wrong way round (Mitchell, 2023).
    """

    kind: Annotated[str, OneOf(*LOSSES)] = DPO
    beta: PositiveFloat = 0.1
    gamma: NaturalFloat = 0.5
    label_smoothing: Annotated[float, Range(least=0, below=0.5)] = 0.0

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def needs_reference(self) -> bool:
        """Whether log-probabilities of a reference model enter."""
        return self.kind != SIMPO

    def rewards(self, log_probs: Any, reference: Any, lengths: Any) -> Any:
        """Of answers, float [...], of JAX or NumPy: what the loss compares.

        Args:
          log_probs: of all tokens of an answer together, in nats.
          reference: the same under the reference model.
          lengths: tokens of an answer.
        """
        gained = log_probs - reference if self.needs_reference else log_probs
        return self.beta * (gained if self.kind == DPO else gained / lengths)

    def losses(self, margins: jax.Array) -> jax.Array:
        """Of pairs whose rewards differ so much."""
        if self.kind == IPO:  # (margin / beta - 1 / (2 beta)) squared
            return ((margins - 0.5) / self.beta) ** 2
        margins = margins - (self.gamma if self.kind == SIMPO else 0.0)
        right, wrong = -jax.nn.log_sigmoid(margins), -jax.nn.log_sigmoid(-margins)
        return right * (1.0 - self.label_smoothing) + wrong * self.label_smoothing


def summed_preference_loss(
    model: Llama,
    params: dict,
    batch: Batch,
    dropout_key: jax.Array | None,
    logits_chunk: int,
    loss: PreferenceLoss,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """(sum of the losses of all pairs, `SUMS` of them) of one microbatch of packed rows of pairs.

    The gradient is that of the first.
    """
    hidden = _hidden(model, params, batch, dropout_key)
    log_probs, lengths = _of_answers(model, params, hidden, batch, logits_chunk)
    reference = _segment_sums(batch[REFERENCE], batch["decoder_segment_ids"])
    summed = functools.partial(_summed_losses, loss, reference, lengths)
    (value, sums), slopes = jax.value_and_grad(summed, has_aux=True)(log_probs)
    # Each answer token by the slope of the loss in its answer's log-probability, whose negative is cross-entropy.
    of_segment = jnp.pad(slopes.reshape(slopes.shape[0], -1), ((0, 0), (1, 0)))
    weights = -jnp.take_along_axis(of_segment, batch["decoder_segment_ids"], axis=1) * batch["decoder_loss_weights"]
    weights, targets = jax.lax.stop_gradient(weights), batch["decoder_target_tokens"]
    weighted = summed_cross_entropy(model, params, hidden, targets, weights, logits_chunk)
    value, sums = jax.lax.stop_gradient((value, sums))
    return value + (weighted - jax.lax.stop_gradient(weighted)), sums


def answer_log_probs(model: Llama, params: dict, batch: Batch, logits_chunk: int) -> tuple[jax.Array, jax.Array]:
    """(log-probabilities in nats, number of tokens) of both answers of every pair, float32 [rows, pairs, 2].

    Places without a pair have no tokens. `batch` is one microbatch, as above.
    """
    return _of_answers(model, params, _hidden(model, params, batch, None), batch, logits_chunk)


def answer_divergences(model: Llama, params: dict, reference: dict, batch: Batch, logits_chunk: int) -> jax.Array:
    """KL divergence from the `reference` parameters' distribution, summed over the tokens of each answer, in nats.

    Σ p log(p / q) over the vocabulary, p being that of `params`, at every place where an answer token is predicted:
    float32 [rows, pairs, 2].
    """
    of_policy, of_reference = (_hidden(model, each, batch, None) for each in (params, reference))
    length = of_policy.shape[1]
    num_chunks = -(-length // logits_chunk)
    width = -(-length // num_chunks)

    def of_chunk(start: jax.Array) -> jax.Array:
        parts = (jax.lax.dynamic_slice_in_dim(x, start, width, axis=1) for x in both)
        ours, theirs = (_log_softmax(model, each, x) for each, x in zip((params, reference), parts, strict=True))
        return jnp.sum(jnp.exp(ours) * (ours - theirs), axis=-1)

    both = [padded(x, 1, num_chunks * width) for x in (of_policy, of_reference)]
    divergences = jax.lax.map(of_chunk, jnp.arange(num_chunks) * width)
    divergences = jnp.moveaxis(divergences, 0, 1).reshape(of_policy.shape[0], -1)[:, :length]
    return _segment_sums(divergences * batch["decoder_loss_weights"], batch["decoder_segment_ids"])


def _log_softmax(model: Llama, params: dict, hidden: jax.Array) -> jax.Array:
    scores = constrain(logits(model, params, hidden), "activation_batch", "activation_length", "activation_vocab")
    return jax.nn.log_softmax(scores, axis=-1)


def _hidden(model: Llama, params: dict, batch: Batch, dropout_key: jax.Array | None) -> jax.Array:
    inputs = (batch[name] for name in ("decoder_input_tokens", "decoder_positions", "decoder_segment_ids"))
    return hidden_states(model, params, *inputs, dropout_key=dropout_key)


def _of_answers(
    model: Llama, params: dict, hidden: jax.Array, batch: Batch, logits_chunk: int
) -> tuple[jax.Array, jax.Array]:
    """Log-probabilities and lengths of answers from hidden states, not to be differentiated."""
    params, hidden = jax.lax.stop_gradient((params, hidden))
    weights, segments = batch["decoder_loss_weights"], batch["decoder_segment_ids"]
    losses = token_losses(model, params, hidden, batch["decoder_target_tokens"], logits_chunk, weights)
    return -_segment_sums(losses, segments), _segment_sums(weights, segments)


def _segment_sums(values: jax.Array, segments: jax.Array) -> jax.Array:
    """Sums over segments 1, 2, … of each row, two by two: float32 [rows, pairs, 2] of [rows, length].

    A segment has at least one place, so there is room for half as many pairs as places.
    """
    values = constrain(values, "activation_batch", None)
    number = 1 + segments.shape[1] // 2 * 2
    sums = jax.vmap(functools.partial(jax.ops.segment_sum, num_segments=number))(values, segments)
    return sums[:, 1:].reshape(values.shape[0], -1, 2)


def _summed_losses(
    loss: PreferenceLoss, reference: jax.Array, lengths: jax.Array, log_probs: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Sums over the pairs of a microbatch, of log-probabilities [rows, pairs, 2]."""
    there = lengths[..., 0] > 0
    rewards = loss.rewards(log_probs, reference, jnp.maximum(lengths, 1.0))
    margins = jnp.where(there, rewards[..., 0] - rewards[..., 1], 0.0)
    correct = (jnp.sign(margins) + 1.0) / 2.0
    rewards = jnp.where(there[..., None], rewards, 0.0)
    of_pairs = (jnp.ones_like(margins), correct, margins, rewards[..., 0], rewards[..., 1])
    sums = {name: jnp.sum(jnp.where(there, each, 0.0)) for name, each in zip(SUMS, of_pairs, strict=True)}
    return jnp.sum(jnp.where(there, loss.losses(margins), 0.0)), sums
