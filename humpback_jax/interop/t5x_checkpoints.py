"""Checkpoints of t5x and our model folders, converted both ways; t5x itself is not needed.

A t5x checkpoint is an Orbax folder `checkpoint_<step>/state` with the tree
{"target": parameters, "state": {"step", "param_states"}}. Under our adapter its parameters are our own tree, so nothing
is renamed or transposed. Tensors stream: memory never holds the model.
"""

import functools
import os
import pathlib
import re
from typing import Any

import flax
import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from flax.traverse_util import flatten_dict, unflatten_dict

from humpback_jax.files import PathLike
from humpback_jax.models.config import LlamaConfig
from humpback_jax.models.llama import Llama, abstract_params
from humpback_jax.training.optimizer import OptimizerConfig, make_optimizer
from humpback_jax.weights.convert import stage_native
from humpback_jax.weights.mapping import check_params, rules_of
from humpback_jax.weights.model_folder import read_model_card
from humpback_jax.weights.params_store import StoredParams, write_params
from humpback_jax.weights.staging import refuse_existing, scratch_folder, staged_folder

STATE, TARGET = "state", "target"
_STEP = re.compile(r"checkpoint_(\d+)$")


def export_t5x(src: PathLike, dst: PathLike, step: int = 0) -> dict[str, Any]:
    """Writes a model folder as a t5x checkpoint that `t5x.train` starts from and `t5x.infer` reads.

    The moments of our `AdamW` are there too, all zero: t5x restores the whole state or none.

    Args:
      src: native model folder.
      dst: folder that gets `checkpoint_<step>`, which must not exist.
      step: number of updates that t5x is to count from.

    Returns:
      {"tensors", "step", "path"}.
    """
    card = read_model_card(src)
    destination = pathlib.Path(dst).absolute() / f"checkpoint_{step}"
    refuse_existing(destination)
    with scratch_folder(destination) as scratch:
        params = stage_native(src, scratch, "float32").params
        state = {"step": np.full((), step, np.int32), "param_states": _untrained_moments(card.config)}
        with staged_folder(destination) as folder:
            write_params(os.fspath(folder / STATE), {TARGET: params, "state": state})
    return {"tensors": len(rules_of(card.config)), "step": step, "path": os.fspath(destination)}


def import_t5x(src: PathLike, base: PathLike, dst: PathLike, dtype: str = "float32") -> dict[str, Any]:
    """Converts a checkpoint that t5x wrote to a native model folder; the optimizer state stays behind.

    Args:
      src: `checkpoint_<step>`, or the folder of several, of which the newest counts.
      base: the model folder that the t5x run was given: architecture, tokenizer, chat format.
      dst: the model folder to make; it must not exist.
      dtype: float32, bfloat16 or float16, of the stored parameters.

    Returns:
      {"tensors", "step", "path"}.

    Raises:
      FileNotFoundError: there is no checkpoint at `src`.
      ValueError: its parameters are not those of `base`'s architecture; the message names the first difference.
    """
    checkpoint, card = checkpoint_folder(src), read_model_card(base)
    destination = pathlib.Path(dst).absolute()
    refuse_existing(destination)
    _check_tensors(checkpoint / STATE, card.config)
    with scratch_folder(destination) as scratch:
        read_layer = _T5xParams(os.fspath(checkpoint / STATE))
        staged = stage_native(base, scratch, dtype, read_layer=read_layer)
        staged.save(destination, scratch, f"{checkpoint.name} of t5x, which began with {card.source}")
    return {"tensors": len(rules_of(card.config)), "step": _step_of(checkpoint), "path": os.fspath(destination)}


def checkpoint_folder(path: PathLike) -> epath.Path:
    """`checkpoint_<step>`: `path` itself, or the newest one inside; FileNotFoundError where there is none."""
    folder = epath.Path(path).resolve()
    if not _STEP.search(folder.name) and folder.is_dir():
        steps = [child for child in folder.iterdir() if _STEP.search(child.name)]
        folder = max(steps, key=_step_of) if steps else folder
    if not (folder / STATE).is_dir():
        raise FileNotFoundError(f"no t5x checkpoint at {path}; name MODEL_DIR of a t5x run, or checkpoint_<step> in it")
    return folder


def _step_of(folder: epath.Path) -> int:
    match = _STEP.search(folder.name)
    return int(match[1]) if match else -1


def _untrained_moments(config: LlamaConfig) -> dict:
    """The state of our AdamW before the first update, as t5x stores it: without empty branches.

    NumPy's zeros are pages that nobody has touched: they take no memory until they are written to.
    """
    shapes = jax.eval_shape(make_optimizer(OptimizerConfig()).init, abstract_params(Llama(config)))
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    return unflatten_dict(flatten_dict(flax.serialization.to_state_dict(zeros)))  # which leaves empty branches out


def _check_tensors(state: epath.Path, config: LlamaConfig) -> None:
    """The parameters of the checkpoint must be exactly those of the architecture."""
    tree = ocp.PyTreeCheckpointHandler().metadata(state).tree
    if TARGET not in tree:
        raise ValueError(f"{state}: there is no {TARGET!r} in it; expected a checkpoint that t5x.train wrote")
    check_params(tree[TARGET], config, f"{state} (give the model folder that its run began with)")


class _T5xParams(StoredParams):
    """Reads single layers of the parameters in the state of a t5x checkpoint."""

    @functools.cache  # noqa: B019 - one short-lived reader, a dozen leaves
    def _leaf(self, path: str) -> Any:
        import tensorstore

        base = self._path if "://" in self._path else "file://" + self._path
        name = f"{TARGET}.{path.replace('/', '.')}/"
        kvstore: Any = f"{base}/{name}"
        if (epath.Path(self._path) / "manifest.ocdbt").exists():  # as t5x itself writes it
            kvstore = {"driver": "ocdbt", "base": f"{base}/", "path": name}
        return tensorstore.open({"driver": "zarr", "kvstore": kvstore}, open=True, read=True).result()
