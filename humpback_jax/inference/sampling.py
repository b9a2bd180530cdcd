"""Greedy and nucleus sampling whose draws depend on (seed, request, position) and on nothing else."""

import dataclasses
import hashlib
from typing import Annotated

import jax
import jax.numpy as jnp

from humpback_jax.ranges import NaturalFloat, Range, check_fields

_ABOVE_ONE = 0x3F800001  # bit pattern of the smallest float32 above 1.0
CANDIDATES = 128  # most probable tokens among which the nucleus is looked for first


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    """How tokens are drawn; temperature 0 is greedy. The defaults are the paper's (T = 0.7, p = 0.9)."""

    temperature: NaturalFloat = 0.7
    top_p: Annotated[float, Range(above=0, most=1)] = 0.9

    def __post_init__(self) -> None:
        check_fields(self)


def request_number(request_id: str) -> int:
    """A stable 32-bit number of a request id, the same on every machine and in every run."""
    return int.from_bytes(hashlib.sha256(request_id.encode()).digest()[:4], "big")


def request_keys(seed: jax.typing.ArrayLike, request_numbers: jax.typing.ArrayLike) -> jax.Array:
    """One typed PRNG key per request: fold_in(key(seed), request number)."""
    return jax.vmap(lambda number: jax.random.fold_in(jax.random.key(seed), number))(request_numbers)


def nucleus(probabilities: jax.Array, top_p: jax.Array) -> jax.Array:
    """The smallest set of most probable tokens whose mass reaches `top_p`.

    The set is {p >= t} for the largest threshold t that still holds enough mass. Positive floats order as their bit
    patterns do, so 31 halvings find t exactly, with no sort over the vocabulary.

    Args:
      probabilities: float32 [batch, vocab].
      top_p: float32 [batch].

    Returns:
      bool [batch, vocab]; tokens that tie with the least probable member are members too.
    """
    bits = jax.lax.bitcast_convert_type(probabilities, jnp.int32)

    def halve(_: int, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bounds
        middle = low + (high - low) // 2
        mass = jnp.sum(jnp.where(bits >= middle[:, None], probabilities, 0.0), axis=-1)
        enough = mass >= top_p
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

    start = jnp.zeros_like(top_p, jnp.int32), jnp.full_like(top_p, _ABOVE_ONE, jnp.int32)
    low, _ = jax.lax.fori_loop(0, 31, halve, start)
    return bits >= low[:, None]


def token_noise(keys: jax.Array, positions: jax.Array, token_ids: jax.Array) -> jax.Array:
    """Gumbel noise of single tokens, float32 [batch, n]: a function of request key, position and token id alone.

    Args:
      keys: typed PRNG keys [batch], one per request.
      positions: int32 [batch], position in the sequence of the token to draw.
      token_ids: int32 [batch, n].
    """
    fold = jax.random.fold_in
    at_position = jax.vmap(fold)(keys, positions)
    token_keys = jax.vmap(lambda key, ids: jax.vmap(lambda token: fold(key, token))(ids))(at_position, token_ids)
    bits = jax.random.key_data(token_keys)[..., 0]
    uniform = ((bits >> 9).astype(jnp.float32) + 0.5) * 2.0**-23
    return -jnp.log(-jnp.log(uniform))


def perturbed_log_probs(
    logits: jax.Array, keys: jax.Array, positions: jax.Array, temperature: jax.Array, top_p: jax.Array
) -> jax.Array:
    """Scores whose argmax is a draw from the tempered nucleus (Gumbel-max); -inf outside the nucleus.

    Args:
      logits: float32 [batch, vocab].
      keys: typed PRNG keys [batch], one per request.
      positions: int32 [batch], position in the sequence of the token to draw.
      temperature: float32 [batch], above 0.
      top_p: float32 [batch].
    """
    log_probs = jax.nn.log_softmax(logits / temperature[:, None], axis=-1)
    noise = token_noise(keys, positions, jnp.broadcast_to(jnp.arange(logits.shape[1]), logits.shape))
    return jnp.where(nucleus(jnp.exp(log_probs), top_p), log_probs + noise, -jnp.inf)


def sample(
    logits: jax.Array, keys: jax.Array, positions: jax.Array, temperature: jax.Array, top_p: jax.Array
) -> jax.Array:
    """One token id per row, int32 [batch]; rows with temperature 0 take the most likely token.

    The nucleus is looked for among the most probable `CANDIDATES` tokens. Only rows whose nucleus is larger are drawn
    from the whole vocabulary, one by one; which way a row goes depends on that row alone.
    """
    # Without barriers, slices of the results reach into the top-k, and compilers make it a sort of the vocabulary. One
    # barrier for both would make the partitioner of a sharded vocabulary abort.
    values, ids = map(jax.lax.optimization_barrier, jax.lax.top_k(logits, min(CANDIDATES, logits.shape[1])))
    safe_temperature = jnp.where(temperature > 0, temperature, 1.0)
    normalizer = jax.nn.logsumexp(logits / safe_temperature[:, None], axis=-1)
    log_probs = values / safe_temperature[:, None] - normalizer[:, None]
    probabilities = jnp.exp(log_probs)
    enough = jnp.cumsum(probabilities, axis=-1) >= top_p[:, None]
    least = jnp.take_along_axis(probabilities, jnp.argmax(enough, axis=-1)[:, None], axis=-1)
    # A tie at the end of the list may go on behind it.
    whole = jnp.any(enough, axis=-1) & (probabilities[:, -1] < least[:, 0])
    scores = jnp.where(probabilities >= least, log_probs + token_noise(keys, positions, ids), -jnp.inf)
    drawn = jnp.take_along_axis(ids, jnp.argmax(scores, axis=-1)[:, None], axis=-1)[:, 0]
    open_rows = (temperature > 0) & ~whole
    order = jnp.argsort(~open_rows)

    def draw_row(i: jax.Array, drawn: jax.Array) -> jax.Array:
        rows = (logits, keys, positions, safe_temperature, top_p)
        scores = perturbed_log_probs(*(jax.lax.dynamic_slice_in_dim(x, order[i], 1) for x in rows))
        return drawn.at[order[i]].set(jnp.argmax(scores[0]).astype(jnp.int32))

    drawn = jax.lax.fori_loop(0, jnp.sum(open_rows), draw_row, drawn)
    return jnp.where(temperature > 0, drawn, ids[:, 0])
