"""Greedy and nucleus sampling whose draws depend on (seed, request, position) and on nothing else."""

import dataclasses
import hashlib

import jax
import jax.numpy as jnp

_ABOVE_ONE = 0x3F800001  # bit pattern of the smallest float32 above 1.0


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    """How tokens are drawn; temperature 0 is greedy. The defaults are the paper's (T = 0.7, p = 0.9)."""

    temperature: float = 0.7
    top_p: float = 0.9

    def __post_init__(self) -> None:
        if self.temperature < 0 or not 0 < self.top_p <= 1:
            raise ValueError(f"{self}: temperature must be at least 0 and top_p in (0, 1]")


def request_number(request_id: str) -> int:
    """A stable 32-bit number of a request id, the same on every machine and in every run."""
    return int.from_bytes(hashlib.sha256(request_id.encode()).digest()[:4], "big")


def request_keys(seed: int, request_numbers: jax.typing.ArrayLike) -> jax.Array:
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
    keys = jax.vmap(jax.random.fold_in)(keys, positions)
    noise = jax.vmap(lambda key: jax.random.gumbel(key, logits.shape[-1:], jnp.float32))(keys)
    return jnp.where(nucleus(jnp.exp(log_probs), top_p), log_probs + noise, -jnp.inf)


def sample(
    logits: jax.Array, keys: jax.Array, positions: jax.Array, temperature: jax.Array, top_p: jax.Array
) -> jax.Array:
    """One token id per row, int32 [batch]; rows with temperature 0 take the most likely token."""
    greedy = jnp.argmax(logits, axis=-1)

    def draw() -> jax.Array:
        safe_temperature = jnp.where(temperature > 0, temperature, 1.0)
        drawn = jnp.argmax(perturbed_log_probs(logits, keys, positions, safe_temperature, top_p), axis=-1)
        return jnp.where(temperature > 0, drawn, greedy)

    return jax.lax.cond(jnp.any(temperature > 0), draw, lambda: greedy).astype(jnp.int32)
