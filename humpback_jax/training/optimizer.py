"""AdamW and the learning-rate schedule of the paper (section 2 of its experiments: 1e-5 falling linearly to 9e-6)."""

import dataclasses
from typing import Any

import jax
import optax


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW hyper-parameters; the betas are LIMA's, whose settings the paper says it takes.

    Attributes:
      learning_rate: at the first update.
      final_learning_rate: at the last update (a value, not a factor).
      warmup_steps: updates of linear warm-up from 0.
      b1, b2, eps: Adam moments.
      weight_decay: decoupled; not applied to norm scales.
      max_grad_norm: global-norm clip; None switches it off.
    """

    learning_rate: float = 1e-5
    final_learning_rate: float = 9e-6
    warmup_steps: int = 0
    b1: float = 0.9
    b2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.1
    max_grad_norm: float | None = 1.0

    def learning_rate_at(self, step: int, num_steps: int) -> float:
        """Learning rate of update `step` = 0 … num_steps - 1."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / (self.warmup_steps + 1)
        progress = (step - self.warmup_steps) / max(num_steps - 1 - self.warmup_steps, 1)
        return self.learning_rate + (self.final_learning_rate - self.learning_rate) * min(progress, 1.0)


def decay_mask(params: Any) -> Any:
    """True where weight decay applies: every parameter but the norm scales."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key != "scale", params)


def make_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
    """Updates before the learning rate; the step multiplies by it, so that one compiled step serves any schedule."""
    clip = [optax.clip_by_global_norm(config.max_grad_norm)] if config.max_grad_norm is not None else []
    return optax.chain(
        *clip,
        optax.scale_by_adam(b1=config.b1, b2=config.b2, eps=config.eps),
        optax.add_decayed_weights(config.weight_decay, mask=decay_mask),
    )
