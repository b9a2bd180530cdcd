"""What a training run carries from one update to the next, and how it is sharded."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from humpback_jax.models.llama import Llama, abstract_params, logical_specs
from humpback_jax.models.lora import LoraConfig, adapter_shapes, adapter_specs
from humpback_jax.partitioning import LogicalAxisRules, shardings


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


def state_shardings(
    model: Llama,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    rules: LogicalAxisRules,
    lora: LoraConfig | None = None,
) -> TrainState:
    """A TrainState of NamedShardings: moments lie where their parameter lies, scalars are replicated."""
    shapes, frozen = abstract_params(model), None
    params = shardings(mesh, rules, logical_specs(model), shapes)
    if lora is not None:
        shapes, frozen = adapter_shapes(model, lora), params
        params = shardings(mesh, rules, adapter_specs(model, lora), shapes)
    replicated = NamedSharding(mesh, PartitionSpec())
    opt_state = optax.tree_map_params(
        optimizer,
        lambda _, sharding: sharding,
        jax.eval_shape(optimizer.init, shapes),
        params,
        transform_non_params=lambda _: replicated,
    )
    return TrainState(step=replicated, params=params, opt_state=opt_state, frozen=frozen or ())


def abstract_state(
    model: Llama,
    optimizer: optax.GradientTransformation,
    state_sharding: TrainState,
    lora: LoraConfig | None = None,
) -> TrainState:
    """The state as `jax.ShapeDtypeStruct` leaves with shardings: what a checkpoint restores into, nothing `frozen`."""
    trained = abstract_params(model) if lora is None else adapter_shapes(model, lora)
    shapes = jax.eval_shape(lambda params: init_train_state(params, optimizer), trained)
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        state_sharding._replace(frozen=()),
    )
