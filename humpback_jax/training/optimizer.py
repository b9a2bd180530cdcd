"""AdamW and the learning-rate schedule of the paper (section 2 of its experiments: 1e-5 falling linearly to 9e-6)."""

import dataclasses
import functools
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import optax

from humpback_jax.ranges import NaturalFloat, NaturalInt, PositiveFloat, Range, Rate, Share, check_fields


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW hyper-parameters; the betas are LIMA's, whose settings the paper says it takes.

    Attributes:
      learning_rate: at the first update.
      final_learning_rate: at the last update (a value, not a factor); not above `learning_rate`.
      warmup_steps: updates of linear warm-up from 0.
      b1, b2, eps: Adam moments.
      weight_decay: decoupled; not applied to norm scales and biases.
      max_grad_norm: global-norm clip; None switches it off.
    """

    learning_rate: Annotated[float, Range(above=0, most=1)] = 1e-5
    final_learning_rate: Share = 9e-6
    warmup_steps: NaturalInt = 0
    b1: Rate = 0.9
    b2: Rate = 0.95
    eps: PositiveFloat = 1e-8
    weight_decay: NaturalFloat = 0.1
    max_grad_norm: PositiveFloat | None = 1.0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.final_learning_rate > self.learning_rate:
            raise ValueError(
                f"OptimizerConfig.final_learning_rate is {self.final_learning_rate:g}, above learning_rate = "
                f"{self.learning_rate:g}: the rate would rise; set both, the paper's falls by a tenth"
            )

    def learning_rate_at(self, step: int, num_steps: int) -> float:
        """Learning rate of update `step` = 0 … num_steps - 1."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / (self.warmup_steps + 1)
        progress = (step - self.warmup_steps) / max(num_steps - 1 - self.warmup_steps, 1)
        return self.learning_rate + (self.final_learning_rate - self.learning_rate) * min(progress, 1.0)


def decay_mask(params: Any) -> Any:
    """True where weight decay applies: every parameter but norm scales and biases."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key not in ("scale", "bias"), params)


def make_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
    """Updates before the learning rate; the step multiplies by it, so that one compiled step serves any schedule.

    Moments are float32 whatever the dtype of the parameters; gradients are expected in float32.
    """
    clip = [optax.clip_by_global_norm(config.max_grad_norm)] if config.max_grad_norm is not None else []
    chain = optax.chain(
        *clip,
        optax.scale_by_adam(b1=config.b1, b2=config.b2, eps=config.eps),
        optax.add_decayed_weights(config.weight_decay, mask=decay_mask),
    )
    return optax.GradientTransformation(
        lambda params: chain.init(optax.tree.zeros_like(params, dtype=jnp.float32)), chain.update
    )


def apply_updates(params: dict, updates: dict, learning_rate: jax.Array, key: jax.Array) -> dict:
    """params - learning_rate * updates, computed in float32, each parameter in its dtype.

    bfloat16 weights are rounded up or down at random, in proportion: rounded to the nearest, steps of the paper's size
    (1e-5 beside weights of 1e-2) would leave almost all of them where they are.
    """
    structure = jax.tree.structure(params)
    keys = jax.tree.unflatten(structure, list(jax.random.split(key, len(jax.tree.leaves(params)))))
    return jax.tree.map(functools.partial(_updated, learning_rate), params, updates, keys)


def _updated(learning_rate: jax.Array, param: jax.Array, update: jax.Array, key: jax.Array) -> jax.Array:
    exact = param.astype(jnp.float32) - learning_rate * update
    return _round_at_random(exact, key) if param.dtype == jnp.bfloat16 else exact.astype(param.dtype)


def _round_at_random(x: jax.Array, key: jax.Array) -> jax.Array:
    """bfloat16 of finite float32: up with the probability that makes the mean exact."""
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32) + jax.random.bits(key, x.shape, jnp.uint16).astype(jnp.uint32)
    return jax.lax.bitcast_convert_type((bits >> 16).astype(jnp.uint16), jnp.bfloat16)
