"""One update: gradients summed over microbatches, divided once, clipped, applied."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from humpback_jax.models.lora import adapted_params
from humpback_jax.partitioning import batch_sharding, compiler_options
from humpback_jax.training.loss import Batch, summed_loss
from humpback_jax.training.optimizer import apply_updates, make_optimizer
from humpback_jax.training.state import TrainSetup, TrainState

BATCH_AXES = (None, "activation_batch", "activation_length")  # [microbatches, rows, length]

ROUNDING = 2**31 - 1  # folded into the key of a step; microbatches fold in 0, 1, 2, …

Metrics = dict[str, jax.Array]
TrainStep = Callable[[TrainState, Batch, ArrayLike, ArrayLike, jax.Array], tuple[TrainState, Metrics]]


def accumulate_gradients(
    loss: Callable[[dict, Batch, jax.Array], tuple[jax.Array, jax.Array]],
    params: dict,
    batch: Batch,
    num_microbatches: jax.Array,
    key: jax.Array,
) -> tuple[dict, jax.Array, jax.Array]:
    """Sums over the first `num_microbatches` (at least 1) microbatches: (float32 gradients, loss, weights).

    The trip count is traced: a step whose examples packed into fewer rows costs less and compiles nothing. Where the
    batch has one microbatch there is no sum, and no memory for one: gradients keep the dtype of their parameters.
    """
    gradient = jax.value_and_grad(loss, has_aux=True)
    if jax.tree.leaves(batch)[0].shape[0] == 1:
        only = jax.tree.map(lambda x: x[0], batch)
        (loss_sum, weight_sum), gradients = gradient(params, only, jax.random.fold_in(key, 0))
        return gradients, loss_sum, weight_sum

    def add(i: jax.Array, sums: tuple) -> tuple:
        microbatch = jax.tree.map(lambda x: x[i], batch)
        (loss_sum, weight_sum), gradients = gradient(params, microbatch, jax.random.fold_in(key, i))
        return jax.tree.map(lambda total, new: total + new.astype(jnp.float32), sums, (gradients, loss_sum, weight_sum))

    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), params)
    return jax.lax.fori_loop(0, num_microbatches, add, (zeros, jnp.float32(0), jnp.float32(0)))


@functools.lru_cache(maxsize=8)
def make_train_step(setup: TrainSetup) -> TrainStep:
    """The jitted update `(state, batch, num_microbatches, learning_rate, key) -> (state, metrics)`.

    The batch has the decoder_* features, each [microbatches, rows, length]. Cached, so that every round of the
    algorithm runs the same compiled program. Dropout is on exactly when the model has dropout rates. With LoRA only
    the adapters train, and the weights in `state.frozen` go through untouched.
    """
    optimizer = make_optimizer(setup.optimizer)
    use_dropout = any(setup.model.dropout_rates or ())

    def train_step(
        state: TrainState, batch: Batch, num_microbatches: jax.Array, learning_rate: jax.Array, key: jax.Array
    ) -> tuple[TrainState, Metrics]:
        def loss(params: dict, microbatch: Batch, key: jax.Array) -> tuple[jax.Array, jax.Array]:
            if setup.lora is not None:
                params = adapted_params(state.frozen, params, setup.lora, key)
            dropout_key = key if use_dropout else None
            return summed_loss(setup.model, params, microbatch, dropout_key, setup.logits_chunk, setup.z_loss)

        key = jax.random.fold_in(key, state.step)
        gradients, loss_sum, weight_sum = accumulate_gradients(loss, state.params, batch, num_microbatches, key)
        denominator = jnp.maximum(weight_sum, 1.0)
        gradients = jax.tree.map(lambda g: g.astype(jnp.float32) / denominator, gradients)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = apply_updates(state.params, updates, learning_rate, jax.random.fold_in(key, ROUNDING))
        metrics = {
            "loss": loss_sum / denominator,
            "grad_norm": optax.global_norm(gradients),
            "supervised_tokens": weight_sum,
        }
        return TrainState(state.step + 1, params, opt_state, state.frozen), metrics

    states = setup.state_shardings()
    return jax.jit(
        train_step,
        donate_argnums=0,
        in_shardings=(states, batch_sharding(setup.mesh, setup.rules, BATCH_AXES), None, None, None),
        out_shardings=(states, None),
        compiler_options=compiler_options(setup.mesh),
    )
