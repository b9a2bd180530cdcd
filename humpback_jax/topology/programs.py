"""The programs that training and inference run, lowered for the devices of a slice: the same functions, no weights."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from humpback_jax.data.packing import FEATURES, PAIR_FEATURES
from humpback_jax.inference import compiled
from humpback_jax.inference.compiled import Programs
from humpback_jax.inference.decode import Prefix
from humpback_jax.inference.engine import Engine
from humpback_jax.inference.precision import CONTRACTED_AXES, WEIGHTS
from humpback_jax.inference.requests import EngineConfig
from humpback_jax.models.kv_cache import KeyValues
from humpback_jax.models.llama import Llama, abstract_params, logical_specs
from humpback_jax.models.products import QuantizedKernel
from humpback_jax.partitioning import (
    LogicalAxisRules,
    MeshShape,
    batch_sharding,
    compiler_options,
    make_mesh,
    shardings,
    use_mesh,
)
from humpback_jax.topology.request import FitRequest
from humpback_jax.training.config import ComputeConfig
from humpback_jax.training.layout import check_layout
from humpback_jax.training.preference import PreferenceLoss
from humpback_jax.training.step import BATCH_AXES, TrainSetup, make_train_step

STOP_IDS = (2,)
RATINGS = 5  # candidates of a scoring call


@dataclasses.dataclass(frozen=True)
class Program:
    """A lowered program, and how many units of work one run of it is (updates, prefill calls, decode steps, …).

    `options` are the compiler's, as the project compiles this program, beside those of its `jax.jit`.
    """

    lowered: jax.stages.Lowered
    mesh: dict[str, int]
    options: dict[str, str] = dataclasses.field(default_factory=dict)
    units: int = 1
    unknown_trips: int = 1


def lower_program(request: FitRequest, devices: Sequence[Any]) -> Program:
    """What a request asks for, lowered for these devices.

    Raises:
      ValueError: the model or the batch does not divide over the mesh; the message says what would.
    """
    return _train(request, devices) if request.trains else _inference(request, devices)


def _struct(shape: tuple[int, ...], dtype: Any, sharding: Any = None) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def _train(request: FitRequest, devices: Sequence[Any]) -> Program:
    """One update on `batch` rows per device, of examples or of pairs of answers, in `microbatches` parts."""
    config = request.config
    mesh, rules = make_mesh(MeshShape(**request.mesh_sizes), devices), LogicalAxisRules()
    rows = request.batch * len(devices) // mesh.shape["tensor"] // mesh.shape["sequence"]
    check_layout(config, mesh, rules, rows, request.length)
    compute = ComputeConfig(
        param_dtype=request.param_dtype,
        gradient_dtype=request.gradient_dtype,
        remat_policy=request.remat,
        dropout=request.dropout,
    )
    preference = PreferenceLoss() if request.step == "prefer" else None
    model, chunk = compute.model(config, "tpu"), request.logits_chunk
    setup = TrainSetup(model, mesh, rules, logits_chunk=chunk, preference=preference)
    step, state = make_train_step(setup), setup.abstract_state()  # no mesh is set yet: its devices cannot run anything
    sharding = batch_sharding(mesh, rules, BATCH_AXES)
    shape = (request.microbatches, rows, request.length)
    batch = {
        name: _struct(shape, dtype, sharding)
        for name, dtype in (FEATURES if preference is None else PAIR_FEATURES).items()
        if request.packed or preference is not None or name != "decoder_segment_ids"
    }
    key = jax.eval_shape(lambda: jax.random.key(0))
    with use_mesh(mesh, rules):
        lowered = step.lower(state, batch, _struct((), jnp.int32), _struct((), jnp.float32), key)  # type: ignore[attr-defined]
    return Program(lowered, dict(mesh.shape), unknown_trips=request.microbatches)


class _Recorder(Programs):
    """Remembers what an engine asks to have compiled, and compiles none of it."""

    def __init__(self, mesh: jax.sharding.Mesh, rules: LogicalAxisRules) -> None:
        super().__init__(mesh, rules)
        self.asked: dict[str, tuple[Any, dict[str, Any]]] = {}
        self._compiling = Programs(mesh, rules)

    def compile(self, program: compiled.Program, arguments: Mapping[str, Any]) -> Any:
        self.asked[program.name[0]] = (program.function, {**program.static, **arguments})

    def outputs(self, program: compiled.Program, arguments: Mapping[str, Any]) -> Any:
        return self._compiling.outputs(program, arguments)


class AbstractEngine(Engine):
    """The engine of inference without weights, for devices that are not there: shapes in the place of arrays."""

    def __init__(self, model: Llama, config: EngineConfig, devices: Sequence[Any], int8_weights: bool = False) -> None:
        """Like `Engine`; `int8_weights` stands for `transform_params=quantize_params`."""
        super().__init__(
            model,
            lambda placed: {"layers": {}},
            config,
            devices=devices,
            transform_params=lambda _: self._abstract_params(int8_weights),
        )
        self.programs: _Recorder = _Recorder(self.mesh, self.rules)

    def _abstract_params(self, int8_weights: bool) -> dict:
        shapes = abstract_params(self.model)
        placed = shardings(self.mesh, self.rules, logical_specs(self.model), shapes)

        def quantized(path: tuple, leaf: Any, sharding: NamedSharding) -> Any:
            if not int8_weights or path[-1].key not in WEIGHTS:
                return _struct(leaf.shape, leaf.dtype, sharding)
            kept = [i for i in range(leaf.ndim) if i not in CONTRACTED_AXES[path[-2].key]]
            spec = (*sharding.spec, *(None,) * leaf.ndim)
            scale_sharding = NamedSharding(self.mesh, jax.sharding.PartitionSpec(*(spec[i] for i in kept)))
            scales = _struct(tuple(leaf.shape[i] for i in kept), jnp.float32, scale_sharding)
            return QuantizedKernel(_struct(leaf.shape, jnp.int8, sharding), scales)

        return jax.tree_util.tree_map_with_path(quantized, shapes, placed)

    def put(self, array: np.ndarray) -> Any:
        """The shape of a host array, replicated."""
        return _struct(array.shape, array.dtype, batch_sharding(self.mesh, self.rules, (None,) * array.ndim))

    def prefix(self, ids: Sequence[int]) -> Prefix:
        """Shapes of keys and values of a shared head."""
        if not ids:
            return ()
        config = self.model.config
        dtype = self.model.dtype if self.cache_dtype == jnp.int8 else self.cache_dtype
        sharding = batch_sharding(self.mesh, self.rules, ("activation_kv_heads", None, None))
        heads, width, length = config.num_kv_heads, config.head_dim, len(ids)
        layer = KeyValues(
            _struct((heads, width, length), dtype, sharding), _struct((heads, length, width), dtype, sharding)
        )
        return (layer,) * config.num_layers


def _inference(request: FitRequest, devices: Sequence[Any]) -> Program:
    """A prefill or scoring call of `batch` rows of `length` tokens, or a chunk of decode steps of `batch` rows."""
    if set(request.mesh_sizes) - {"data", "tensor"}:
        raise ValueError(f"mesh {request.mesh_sizes}: inference has the axes data (copies of the weights) and tensor")
    engine_config = _engine_config(request)
    model = Llama(request.config, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16, platform="tpu")
    mesh = make_mesh(MeshShape(data=-1, fsdp=1, tensor=engine_config.tensor_parallelism), devices)
    check_layout(request.config, mesh, LogicalAxisRules(), request.batch, request.length)
    engine = AbstractEngine(model, engine_config, devices, request.weight_dtype == "int8")
    engine.job_prefix_ids, prompt = tuple(range(request.prefix)), [engine_config.max_prompt_length]
    if request.step == "score":
        engine.compile_scoring(prompt, RATINGS)
    else:
        engine.compile_generation(prompt, STOP_IDS)
    function, arguments = engine.programs.asked[request.step]
    with use_mesh(engine.mesh, engine.rules):
        lowered = function.lower(**arguments)
    units = engine.decode_steps if request.step == "decode" else 1
    options = compiler_options(engine.mesh) or {}
    return Program(lowered, dict(engine.mesh.shape), options, units, unknown_trips=units)


def _engine_config(request: FitRequest) -> EngineConfig:
    """An engine whose calls have the rows and lengths of the request; for decode, whose caches have its length.

    Half of a cache is for prompts. What prompts share is no part of their bucket, but of their longest length.
    """
    decode = request.step == "decode"
    bucket = request.length // 2 - request.prefix if decode else request.length
    if bucket < 1:
        raise ValueError(f"a prefix of {request.prefix} tokens leaves no room in caches of {request.length}")
    config = EngineConfig(
        slots=request.batch if decode else 4 * request.batch,
        prompt_buckets=tuple(sorted({bucket, bucket + request.prefix})),
        max_new_tokens=1,
        prefill_tokens=request.batch * bucket,
        kv_dtype=request.kv_dtype,
        tensor_parallelism=request.tensor,
    )
    if not decode:
        return config
    rest = request.length - config.max_prompt_length - config.steps_per_chunk(overlap=True)
    return dataclasses.replace(config, max_new_tokens=rest)
