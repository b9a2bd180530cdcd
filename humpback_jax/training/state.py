"""What a training run carries from one update to the next, and how it is sharded."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from humpback_jax.models.llama import Llama, abstract_params, logical_specs
from humpback_jax.models.lora import LoraConfig, adapter_shapes, adapter_specs, init_adapters
from humpback_jax.partitioning import LogicalAxisRules, shardings
from humpback_jax.training.optimizer import OptimizerConfig, make_optimizer

LoadParams = Callable[[dict], dict]  # from the parameters' shardings to the parameters


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
    """

    model: Llama
    mesh: Mesh
    rules: LogicalAxisRules = LogicalAxisRules()
    optimizer: OptimizerConfig = OptimizerConfig()
    lora: LoraConfig | None = None
    logits_chunk: int = 256
    z_loss: float = 0.0

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
