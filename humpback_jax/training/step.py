"""What is trained, what a run carries from one update to the next, how that is sharded, and one update of it.

In an update gradients are summed over microbatches, divided once, clipped and applied.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.typing import ArrayLike

from humpback_jax.models.llama import Llama, abstract_params, logical_specs
from humpback_jax.models.lora import LoraConfig, adapted_params, adapter_shapes, adapter_specs, init_adapters
from humpback_jax.partitioning import LogicalAxisRules, batch_sharding, compiler_options, shardings
from humpback_jax.training.loss import Batch, summed_loss
from humpback_jax.training.optimizer import OptimizerConfig, apply_updates, make_optimizer
from humpback_jax.training.preference import SUMS, PreferenceLoss, summed_preference_loss

BATCH_AXES = (None, "activation_batch", "activation_length")  # [microbatches, rows, length]

ROUNDING = 2**31 - 1  # folded into the key of a step; microbatches fold in 0, 1, 2, …

LoadParams = Callable[[dict], dict]  # from the parameters' shardings to the parameters
Metrics = dict[str, jax.Array]


class TrainState(NamedTuple):
    """State after `step` updates; also the tree of its shardings or of its shapes.

    `params` and their moments are what trains. With LoRA those are the adapters, and `frozen` the weights of the base,
    which no checkpoint repeats.
    """

    step: Any  # int32 scalar
    params: Any
    opt_state: Any
    frozen: Any = ()


def init_train_state(params: dict, optimizer: optax.GradientTransformation) -> TrainState:
    """State before the first update."""
    return TrainState(step=jnp.zeros((), jnp.int32), params=params, opt_state=optimizer.init(params))


@dataclasses.dataclass(frozen=True)
class TrainSetup:
    """What is trained, how, and where it lies; equal setups share one compiled update.

    Attributes:
      model: the decoder, with its dtypes, dropout rates and remat policy.
      mesh, rules: device mesh and logical axis rules.
      optimizer: AdamW.
      lora: train these adapters beside frozen weights; None trains the weights.
      logits_chunk: positions per row whose logits exist at one time.
      z_loss: weight of the squared log-normalizer of the logits.
      preference: the loss of pairs of answers; None: cross-entropy of answers.
    """

    model: Llama
    mesh: Mesh
    rules: LogicalAxisRules = LogicalAxisRules()
    optimizer: OptimizerConfig = OptimizerConfig()
    lora: LoraConfig | None = None
    logits_chunk: int = 256
    z_loss: float = 0.0
    preference: PreferenceLoss | None = None

    def state_shardings(self) -> TrainState:
        """A TrainState of NamedShardings: moments lie where their parameter lies, scalars are replicated."""
        params, frozen = shardings(self.mesh, self.rules, logical_specs(self.model), abstract_params(self.model)), None
        if self.lora is not None:
            frozen, specs = params, adapter_specs(self.model, self.lora)
            params = shardings(self.mesh, self.rules, specs, self._trained_shapes())
        replicated = NamedSharding(self.mesh, PartitionSpec())
        optimizer = make_optimizer(self.optimizer)
        opt_state = optax.tree_map_params(
            optimizer,
            lambda _, sharding: sharding,
            jax.eval_shape(optimizer.init, self._trained_shapes()),
            params,
            transform_non_params=lambda _: replicated,
        )
        return TrainState(step=replicated, params=params, opt_state=opt_state, frozen=frozen or ())

    def abstract_state(self) -> TrainState:
        """The state as `jax.ShapeDtypeStruct` leaves with shardings: what a checkpoint restores into, none `frozen`."""
        shapes = jax.eval_shape(self._initial, self._trained_shapes())
        return jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            shapes,
            self.state_shardings()._replace(frozen=()),
        )

    def initial_state(self, load_params: LoadParams, seed: int) -> TrainState:
        """The state before the first update, none `frozen`; adapters are drawn from `seed`."""
        placed = self.state_shardings()._replace(frozen=())
        if self.lora is None:
            trained = load_params(placed.params)
        else:
            draw = jax.jit(init_adapters, static_argnums=(0, 1), out_shardings=placed.params)
            trained = draw(self.model, self.lora, jax.random.key(seed))
        return jax.jit(self._initial, out_shardings=placed, donate_argnums=0)(trained)

    def _initial(self, trained: dict) -> TrainState:
        return init_train_state(trained, make_optimizer(self.optimizer))

    def _trained_shapes(self) -> dict:
        return abstract_params(self.model) if self.lora is None else adapter_shapes(self.model, self.lora)


TrainStep = Callable[[TrainState, Batch, ArrayLike, ArrayLike, jax.Array], tuple[TrainState, Metrics]]


def accumulate_gradients(
    loss: Callable[[dict, Batch, jax.Array], tuple[jax.Array, Any]],
    params: dict,
    batch: Batch,
    num_microbatches: jax.Array,
    key: jax.Array,
    no_sums: Any = 0.0,
) -> tuple[dict, jax.Array, Any]:
    """Sums over the first `num_microbatches` (at least 1) microbatches: (float32 gradients, loss, other sums).

    What else the loss sums is the weights, or a tree like `no_sums`, whose leaves are 0.

    The trip count is traced: a step whose examples packed into fewer rows costs less and compiles nothing. Where the
    batch has one microbatch there is no sum, and no memory for one: gradients keep the dtype of their parameters.
    """
    gradient = jax.value_and_grad(loss, has_aux=True)
    if jax.tree.leaves(batch)[0].shape[0] == 1:
        only = jax.tree.map(lambda x: x[0], batch)
        (loss_sum, other), gradients = gradient(params, only, jax.random.fold_in(key, 0))
        return gradients, loss_sum, other

    def add(i: jax.Array, sums: tuple) -> tuple:
        microbatch = jax.tree.map(lambda x: x[i], batch)
        (loss_sum, other), gradients = gradient(params, microbatch, jax.random.fold_in(key, i))
        return jax.tree.map(lambda total, new: total + new.astype(jnp.float32), sums, (gradients, loss_sum, other))

    zeros, nothing = jax.tree.map(lambda x: jnp.zeros(jnp.shape(x), jnp.float32), (params, no_sums))
    return jax.lax.fori_loop(0, num_microbatches, add, (zeros, jnp.float32(0), nothing))


def _summed_loss(
    setup: TrainSetup, params: dict, microbatch: Batch, dropout_key: jax.Array | None
) -> tuple[jax.Array, Any]:
    """Of the tokens of a microbatch, or of its pairs of answers; and what it is divided by."""
    if setup.preference is None:
        return summed_loss(setup.model, params, microbatch, dropout_key, setup.logits_chunk, setup.z_loss)
    return summed_preference_loss(setup.model, params, microbatch, dropout_key, setup.logits_chunk, setup.preference)


def _other_metrics(other: Any, denominator: jax.Array) -> Metrics:
    """The number of supervised tokens; or of pairs, and means over them."""
    if not isinstance(other, dict):
        return {"supervised_tokens": other}
    return {name: total if name == "pairs" else total / denominator for name, total in other.items()}


@functools.lru_cache(maxsize=8)
def make_train_step(setup: TrainSetup) -> TrainStep:
    """The jitted update `(state, batch, num_microbatches, learning_rate, key) -> (state, metrics)`.

    The batch has the decoder_* features, each [microbatches, rows, length]; the loss is the mean over supervised
    tokens, or over pairs of answers. Cached, so that every round of the algorithm runs the same compiled program.
    Dropout is on exactly when the model has dropout rates. With LoRA only the adapters train, and the weights in
    `state.frozen` go through untouched.
    """
    optimizer = make_optimizer(setup.optimizer)
    use_dropout = any(setup.model.dropout_rates or ())

    def train_step(
        state: TrainState, batch: Batch, num_microbatches: jax.Array, learning_rate: jax.Array, key: jax.Array
    ) -> tuple[TrainState, Metrics]:
        def loss(params: dict, microbatch: Batch, key: jax.Array) -> tuple[jax.Array, Any]:
            if setup.lora is not None:
                params = adapted_params(state.frozen, params, setup.lora, key)
            return _summed_loss(setup, params, microbatch, key if use_dropout else None)

        key = jax.random.fold_in(key, state.step)
        no_sums: Any = 0.0 if setup.preference is None else dict.fromkeys(SUMS, 0.0)
        gradients, loss_sum, other = accumulate_gradients(loss, state.params, batch, num_microbatches, key, no_sums)
        denominator = jnp.maximum(other if setup.preference is None else other["pairs"], 1.0)
        gradients = jax.tree.map(lambda g: g.astype(jnp.float32) / denominator, gradients)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = apply_updates(state.params, updates, learning_rate, jax.random.fold_in(key, ROUNDING))
        metrics = {
            "loss": loss_sum / denominator,
            "grad_norm": optax.global_norm(gradients),
        } | _other_metrics(other, denominator)
        return TrainState(state.step + 1, params, opt_state, state.frozen), metrics

    states = setup.state_shardings()
    return jax.jit(
        train_step,
        donate_argnums=0,
        in_shardings=(states, batch_sharding(setup.mesh, setup.rules, BATCH_AXES), None, None, None),
        out_shardings=(states, None),
        compiler_options=compiler_options(setup.mesh),
    )
