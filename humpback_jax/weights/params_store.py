"""The parameters of a model folder: an Orbax checkpoint, written and read without holding the model in memory twice."""

import functools
import hashlib
import logging
import math
import os
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from humpback_jax.files import PathLike
from humpback_jax.models.config import LlamaConfig
from humpback_jax.runtime.saving import saving
from humpback_jax.weights.mapping import flatten, leaf_shape, rules_of, unflatten

CHUNK_BYTES = 64 << 20
_GB = 10**9


def write_params(path: PathLike, params: Mapping) -> None:
    """Writes the tree as an Orbax checkpoint at `path` (local, or `gs://`).

    Memory-mapped leaves go to disk chunk by chunk. Every chunk is a file of its own: Orbax's other layout (OCDBT) keeps
    a whole compressed leaf in memory until it commits, and a leaf holds all layers.
    """
    leaves = jax.tree.map(_without_copy, dict(params))
    largest = max(leaf.nbytes for leaf in jax.tree.leaves(leaves))
    handler = ocp.PyTreeCheckpointHandler(use_ocdbt=False, save_concurrent_gb=max(8, math.ceil(largest / _GB) + 1))
    chunking = jax.tree.map(_chunked, leaves)
    logger = logging.getLogger("absl")
    # Orbax warns that it found nothing to merge, which is always so without OCDBT.
    logger.addFilter(_keep_message)
    try:
        with saving(path), ocp.Checkpointer(handler) as checkpointer:
            # Where the folder is written in place, what a killed process left there is replaced.
            checkpointer.save(_absolute(path), args=ocp.args.PyTreeSave(leaves, save_args=chunking), force=True)
    finally:
        logger.removeFilter(_keep_message)


def _absolute(path: PathLike) -> str:
    """A local path from the root; `gs://` as it is."""
    return os.fspath(path) if "://" in os.fspath(path) else os.path.abspath(path)


def _chunked(leaf: Any) -> ocp.SaveArgs:
    return ocp.SaveArgs(chunk_byte_size=CHUNK_BYTES, shard_axes=(0,)) if leaf.ndim else ocp.SaveArgs()


def _keep_message(record: logging.LogRecord) -> bool:
    return "Skipping merge of OCDBT" not in str(record.msg)


def _without_copy(leaf: Any) -> Any:
    """A host array as a CPU jax.Array over the same memory; Orbax would copy a numpy array before it writes it."""
    if isinstance(leaf, jax.Array):
        return leaf
    try:
        cpu = jax.devices("cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS names accelerators only
        return leaf
    return jax.device_put(leaf, cpu, may_alias=True)


def read_params(path: PathLike, config: LlamaConfig, dtype: Any, shardings: Mapping | None) -> dict:
    """Restores the tree; with `shardings` (a tree of jax.sharding.Sharding) every host reads only its own slices."""
    one_device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    placed = flatten(shardings) if shardings is not None else {}
    abstract = {
        rule.path: jax.ShapeDtypeStruct(leaf_shape(rule, config), dtype, sharding=placed.get(rule.path, one_device))
        for rule in rules_of(config)
    }
    if shardings is not None and placed.keys() != abstract.keys():
        wrong = sorted(placed.keys() ^ abstract.keys())[0]
        raise ValueError(f"the shardings and the parameters of {path} differ at {wrong}")
    options = ocp.options.MultiprocessingOptions()
    if jax.process_count() > 1 and all(leaf.sharding.is_fully_addressable for leaf in abstract.values()):
        # Every process reads for itself, when it comes to it: it must not wait for the others.
        process = jax.process_index()
        options = ocp.options.MultiprocessingOptions(process, {process}, barrier_sync_key_prefix=f"process{process}")
    with ocp.StandardCheckpointer(multiprocessing_options=options) as checkpointer:
        return checkpointer.restore(_absolute(path), unflatten(abstract))


class StoredParams:
    """Reads single layers of a stored parameter tree, so that an export never holds the model."""

    def __init__(self, path: PathLike) -> None:
        self._path = _absolute(path)

    @functools.cache  # noqa: B019 - one short-lived reader, a dozen leaves
    def _leaf(self, path: str) -> Any:
        import tensorstore

        base = self._path if "://" in self._path else "file://" + self._path
        store = {"driver": "zarr", "kvstore": f"{base}/{path.replace('/', '.')}/"}
        return tensorstore.open(store, open=True, read=True).result()

    def __call__(self, path: str, layer: int | None) -> np.ndarray:
        """One leaf, or one layer of a stacked leaf, in its stored dtype."""
        leaf = self._leaf(path)
        return np.asarray((leaf if layer is None else leaf[layer]).read().result())


def params_sha256(params: Mapping) -> str:
    """Hash over the sorted leaf paths, dtypes, shapes and bytes of a parameter tree; one leaf is on the host at a time.

    Arrays spread over several hosts raise ValueError: no host can see all of their bytes.
    """
    leaves = flatten(params)
    for path, leaf in leaves.items():
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            raise ValueError(f"parameter {path} is spread over several hosts; hash the saved model folder instead")
    return _sha256((path, np.asarray(leaf)) for path, leaf in leaves.items())


def stored_params_sha256(path: PathLike, config: LlamaConfig) -> str:
    """`params_sha256` of the parameters written at `path`, read back one leaf at a time."""
    stored = StoredParams(path)
    names = flatten(unflatten({rule.path: None for rule in rules_of(config)}))
    return _sha256((name, stored(name, None)) for name in names)


def _sha256(leaves: Iterable[tuple[str, np.ndarray]]) -> str:
    digest = hashlib.sha256()
    for path, array in leaves:
        digest.update(f"{path} {array.dtype.name} {list(array.shape)}\n".encode())
        for part in array if array.ndim > 1 else array[None]:
            digest.update(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
