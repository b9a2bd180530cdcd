"""What becomes of the product of a query and a key before the softmax, and how far back a query sees."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class ScoreRule(NamedTuple):
    """How attention scores are made; the default is that of LLaMA.

    Attributes:
      scale: of the products; None: head_dim^-0.5.
      soft_cap: scores x become cap * tanh(x / cap); None: they stay.
      window: a query sees so many tokens, itself included; None: all before it.
    """

    scale: float | None = None
    soft_cap: float | None = None
    window: int | None = None

    def scaled(self, query: jax.Array) -> jax.Array:
        """Queries [..., head_dim] whose products with keys are scaled."""
        return query * (query.shape[-1] ** -0.5 if self.scale is None else self.scale)

    def capped(self, scores: jax.Array) -> jax.Array:
        """Scores before they are masked."""
        return scores if self.soft_cap is None else self.soft_cap * jnp.tanh(scores / self.soft_cap)


LLAMA_RULE = ScoreRule()
