"""A model on its devices: weights, where host arrays go, compiled programs, keys and values of shared prefixes."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from humpback_jax.inference.compiled import Programs
from humpback_jax.inference.decode import Prefix, compute_prefix
from humpback_jax.inference.layouts import lay_out_for_decode
from humpback_jax.inference.requests import CPU_PREFILL_TOKENS, EngineConfig
from humpback_jax.inference.slots import SlotStats
from humpback_jax.models.dtypes import CACHE, dtype_of
from humpback_jax.models.llama import Llama, abstract_params, logical_specs, unstack_layers
from humpback_jax.partitioning import (
    LogicalAxisRules,
    MeshShape,
    batch_sharding,
    make_mesh,
    put_global,
    shardings,
    use_mesh,
)


class LoadedModel:
    """One copy of a model on a group of devices, or several copies that share the rows of every call."""

    def __init__(
        self,
        model: Llama,
        load_params: Callable[[dict], dict],
        config: EngineConfig,
        devices: Sequence[jax.Device] | None = None,
        transform_params: Callable[[dict], dict] | None = None,
    ) -> None:
        """Loads the weights.

        Args:
          model: the decoder; its parameters on disk are stacked.
          load_params: called with the shardings of the stacked parameters, returns them placed accordingly.
          config: shapes of the programs.
          devices: that the model has (default: the first `tensor_parallelism` of this host); where they are more than
            one copy of the weights needs, rows are dealt over the copies. With devices of several hosts, every host
            makes the same calls.
          transform_params: applied to the parameters after they are split by layer, for example to quantize them.
        """
        self.rules = LogicalAxisRules()
        devices = jax.local_devices()[: config.tensor_parallelism] if devices is None else devices
        self.mesh = make_mesh(MeshShape(data=-1, fsdp=1, tensor=config.tensor_parallelism), devices)
        self.copies = self.mesh.shape["data"]
        if config.slots % self.copies:
            raise ValueError(
                f"EngineConfig.slots is {config.slots}, which {self.copies} copies of the weights cannot share "
                "equally; choose a multiple"
            )
        device = self.mesh.devices.flat[0]
        where = dict(platform=device.platform, device_kind=device.device_kind)
        self.model, self.on_cpu = dataclasses.replace(model, scan_layers=False, **where), device.platform == "cpu"
        if self.on_cpu and config.prefill_tokens is None:
            config = dataclasses.replace(config, prefill_tokens=CPU_PREFILL_TOKENS)
        self.config = config
        # CPU compilers widen a whole bfloat16 cache to float32 when tokens are written into it.
        default_dtype = jnp.float32 if self.on_cpu else model.dtype
        self.cache_dtype = dtype_of(config.kv_dtype, CACHE) if config.kv_dtype else default_dtype
        self.overlap = not self.on_cpu if config.overlap is None else config.overlap
        self.decode_steps = config.steps_per_chunk(self.overlap)
        self.stats = SlotStats(config.slots)
        stacked = dataclasses.replace(model, scan_layers=True)
        placed = shardings(self.mesh, self.rules, logical_specs(stacked), abstract_params(stacked))
        transform = transform_params or (lambda params: params)
        on_tpu, rows = device.platform == "tpu", config.slots // self.copies
        lay_out = functools.partial(lay_out_for_decode, rows=rows) if on_tpu else lambda params: params
        # No name here for what is loaded: each step releases an array as soon as it has made the next one of it.
        self.params = lay_out(transform(unstack_layers(load_params(placed), model.config.num_layers)))
        self.programs = Programs(self.mesh, self.rules)
        self._prefixes: dict[tuple[int, ...], Prefix] = {}

    def rows(self, count: int) -> int:
        """Rows of a call for `count` prompts: every copy of the weights has the same number of them."""
        return -(-count // self.copies) * self.copies

    def put(self, array: np.ndarray) -> jax.Array:
        """A host array on the devices of this model, replicated."""
        return put_global(array, batch_sharding(self.mesh, self.rules, (None,) * array.ndim))

    def prefix(self, ids: Sequence[int]) -> Prefix:
        """Keys and values of a shared head, computed once."""
        key = tuple(ids)
        if not key:
            return ()
        if key not in self._prefixes:
            dtype = self.model.dtype if self.cache_dtype == jnp.int8 else self.cache_dtype
            with use_mesh(self.mesh, self.rules):
                tokens = self.put(np.asarray(key, np.int32))
                self._prefixes[key] = compute_prefix(self.model, self.params, tokens, dtype)
        return self._prefixes[key]
