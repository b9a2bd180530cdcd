"""Weights in int8, and what fewer bits cost and save.

Every kernel of a layer, the output head and the embedding table become int8 with one float32 scale per output channel;
norms stay as they are. The table has one scale per token: tied, it serves lookups and logits alike. Activations and
accumulation keep their dtypes.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from humpback_jax.models.products import QuantizedKernel, to_int8

# Axes that a weight's product sums over, by the name of the module that holds it.
CONTRACTED_AXES = {
    "query": (0,),
    "key": (0,),
    "value": (0,),
    "out": (0, 1),
    "gate": (0,),
    "up": (0,),
    "down": (0,),
    "lm_head": (0,),
    "token_embedder": (1,),
}
WEIGHTS = ("kernel", "embedding")  # leaves that stand in products; all others are norms and biases


@functools.partial(jax.jit, static_argnames=("axes",))
def quantize_kernel(kernel: jax.Array, axes: tuple[int, ...]) -> QuantizedKernel:
    """A float weight in int8, one scale for all entries along the contracted `axes`."""
    return QuantizedKernel(*to_int8(kernel, axes))


def quantize_params(params: dict[str, Any]) -> dict[str, Any]:
    """The parameters, split by layer, with int8 weights; `transform_params` of the engine.

    Weight by weight: each float array is released as soon as it is quantized, if nothing but the argument itself holds
    `params`.
    """
    leaves, treedef = jax.tree_util.tree_flatten_with_path(params)
    del params
    leaves.reverse()
    quantized = []
    while leaves:
        path, leaf = leaves.pop()
        if path[-1].key in WEIGHTS:
            leaf = jax.block_until_ready(quantize_kernel(leaf, CONTRACTED_AXES[path[-2].key]))
        quantized.append(leaf)
    return jax.tree.unflatten(treedef, quantized)


def weight_bytes(params: dict) -> int:
    """Bytes of all parameters, of all devices together where they are sharded, scales included."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(params))


def precision_effect(reference: Sequence[float], scores: Sequence[float]) -> dict[str, float]:
    """What a precision does to scores of the same pairs: `mean_absolute` and `max_absolute` shift, `rank_correlation`.

    The rank correlation is Spearman's, ties sharing their mean rank; nan where all scores of one side are equal.

    Raises:
      ValueError: the two differ in length, or hold fewer than two scores.
    """
    if len(reference) != len(scores) or len(scores) < 2:
        raise ValueError(
            f"{len(reference)} reference scores and {len(scores)} scores; give two or more of the same pairs"
        )
    from scipy import stats

    shift = np.abs(np.asarray(scores, np.float64) - np.asarray(reference, np.float64))
    ranked = len(set(reference)) > 1 and len(set(scores)) > 1
    return {
        "mean_absolute": float(shift.mean()),
        "max_absolute": float(shift.max()),
        "rank_correlation": float(stats.spearmanr(reference, scores).statistic) if ranked else float("nan"),
    }
