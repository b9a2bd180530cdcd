"""What a model makes of pairs of answers without being trained on them: on the mesh and in the dtypes of training."""

import dataclasses
import functools
from collections.abc import Mapping

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from humpback_jax.models.llama import Llama
from humpback_jax.partitioning import batch_sharding, compiler_options, put_global, use_mesh
from humpback_jax.training.loss import Batch
from humpback_jax.training.preference import answer_divergences, answer_log_probs
from humpback_jax.training.step import BATCH_AXES, TrainSetup


def score_pairs(setup: TrainSetup, params: dict, features: Mapping[str, np.ndarray]) -> np.ndarray:
    """Log-probability in nats and number of tokens of every answer.

    Args:
      setup: how the model is trained; its dropout is off here.
      params: of the decoder, placed as the setup places weights.
      features: packed pairs, each [microbatches, rows, length].

    Returns:
      float32 [microbatches * rows, pairs of a row, 2, 2]: chosen and rejected, log-probability and tokens.
    """
    function = functools.partial(_log_probs_and_lengths, _without_dropout(setup.model), logits_chunk=setup.logits_chunk)
    return _on_all(setup, function, params, features)


def diverging(setup: TrainSetup, params: dict, reference: dict, features: Mapping[str, np.ndarray]) -> np.ndarray:
    """KL divergence from `reference`, summed over the tokens of every answer: float32 [rows in all, pairs, 2]."""
    model = _without_dropout(setup.model)
    function = functools.partial(_divergences, model, logits_chunk=setup.logits_chunk)
    return _on_all(setup, function, (params, reference), features)


def _without_dropout(model: Llama) -> Llama:
    return dataclasses.replace(model, dropout_rates=None)


def _log_probs_and_lengths(model: Llama, params: dict, batch: Batch, logits_chunk: int) -> jax.Array:
    return jax.numpy.stack(answer_log_probs(model, params, batch, logits_chunk), axis=-1)


def _divergences(model: Llama, params: tuple[dict, dict], batch: Batch, logits_chunk: int) -> jax.Array:
    return answer_divergences(model, *params, batch, logits_chunk)


def _on_all(setup: TrainSetup, function: functools.partial, params: object, features: Mapping) -> np.ndarray:
    """A function of parameters and a microbatch, on every microbatch; all processes call it together."""
    everywhere = NamedSharding(setup.mesh, PartitionSpec())
    run = jax.jit(function, out_shardings=everywhere, compiler_options=compiler_options(setup.mesh))
    sharding = batch_sharding(setup.mesh, setup.rules, BATCH_AXES[1:])
    found = []
    with use_mesh(setup.mesh, setup.rules):
        for number in range(len(next(iter(features.values())))):
            batch = {name: put_global(array[number], sharding) for name, array in features.items()}
            found.append(np.asarray(run(params, batch)))
    return np.concatenate(found)
