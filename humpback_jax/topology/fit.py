"""Does it fit, and how fast? One program on one slice; or a small search for a mesh and a batch."""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Sequence

from humpback_jax.models.config import LlamaConfig
from humpback_jax.runtime.compilation_cache import default_cache
from humpback_jax.topology.compiler import ask_worker
from humpback_jax.topology.request import TRAINING, FitReport, FitRequest, Mesh

MARGIN = 0.97  # of the memory that a suggested batch may take by its estimate
WEIGHTS_SHARE = 0.7  # of the memory that one copy of the weights may take where meshes are suggested
GIB = 2**30

Ask = Callable[[FitRequest], FitReport]


def fit(request: FitRequest, cache: pathlib.Path | None) -> FitReport:
    """Compiles what is asked for in a process of its own, or takes the answer from `cache`."""
    answer = ask_worker({"request": dataclasses.asdict(request), "cache": str(cache) if cache else None})
    if "invalid" in answer:
        raise ValueError(answer["invalid"])
    report = FitReport(**answer)
    return report if report.fits else dataclasses.replace(report, knob=first_knob(request, report))


def fit_or_recall(request: FitRequest) -> FitReport:
    """`fit` with the cache of all answers on this machine."""
    return fit(request, default_cache() / "topology")


def resident_gib(request: FitRequest) -> float:
    """What a program holds per device whatever its batch, in GiB: the state of training, or the weights."""
    if request.trains:
        return request.config.num_params * (12 if request.param_dtype == "float32" else 10) / _shards(request) / GIB
    return request.config.num_params * (1 if request.weight_dtype == "int8" else 2) / request.tensor / GIB


def working_gib(request: FitRequest) -> float:
    """What a program needs per device beside what is resident, whatever its batch, in GiB: an estimate.

    Training: float32 gradients, a bfloat16 copy of the weights, and one whole layer with its gradient.
    """
    if not request.trains:
        return 0.3
    return request.config.num_params * 6 * (1 / _shards(request) + 1 / request.config.num_layers) / GIB


def _shards(request: FitRequest) -> int:
    """Devices that share one copy of the state of training."""
    return request.devices // request.mesh_sizes.get("data", 1)


def least_gib(request: FitRequest) -> float:
    """Less than a program needs per device, in GiB: what is resident, and what it keeps of every row."""
    config, per_row = request.config, 0.0
    if request.trains:  # the inputs of all layers, in bfloat16
        split = request.tensor * request.mesh_sizes.get("sequence", 1)
        per_row = config.num_layers * request.length * config.emb_dim * 2 / split
    elif request.step == "decode":
        size = 1 if request.kv_dtype == "int8" else 2
        entries = config.num_layers * request.length * config.num_kv_heads * config.head_dim
        per_row = 2 * entries * size / request.devices  # tensor times copies is all devices
    return resident_gib(request) + request.batch * per_row / GIB


def first_knob(request: FitRequest, report: FitReport) -> dict[str, object]:
    """What to change first so that it fits: fewer rows where rows are what is too much, else how weights are held.

    What is neither resident nor working memory scales with the rows.
    """
    unit, fixed = _batch_unit(request), resident_gib(request) + working_gib(request)
    room, needed = MARGIN * report.hbm_gib - fixed, max((report.peak_gib or 0.0) - fixed, 1e-9)
    batch = min(int(request.batch * max(room, 0.0) / needed), request.batch - unit) // unit * unit
    if batch >= unit:
        return {"batch": batch}
    if not request.trains:
        if request.weight_dtype != "int8":
            return {"weight_dtype": "int8"}
        wider = (n for n in range(request.tensor + 1, request.config.num_kv_heads + 1) if _divides(request.config, n))
        return {"mesh": f"tensor={next(wider, request.tensor)}"}
    if request.remat != "full":
        return {"remat": "full"}
    if request.param_dtype == "float32":
        return {"param_dtype": "bfloat16"}
    return {"slice": "a larger one"}


def _batch_unit(request: FitRequest) -> int:
    """Rows come in multiples of this: of copies of the weights in inference."""
    return 1 if request.trains else max(1, request.devices // request.tensor)


def _divides(config: LlamaConfig, tensor: int) -> bool:
    lengths = (config.num_heads, config.num_kv_heads, config.mlp_dim, config.vocab_size)
    return all(length % tensor == 0 for length in lengths)


def candidate_meshes(request: FitRequest) -> list[Mesh]:
    """Meshes worth trying, the likeliest first.

    Training: all devices on `fsdp`; then a `tensor` axis of 4 where it divides. Inference: the smallest `tensor` that
    leaves room for weights and cache, the next, and `data` over the rest.
    """
    config, devices = request.config, request.devices
    if request.trains:
        return [(), (("tensor", 4),)] if devices >= 16 and _divides(config, 4) else [()]
    meshes: list[Mesh] = [(("tensor", n),) for n in range(1, devices + 1) if devices % n == 0 and _divides(config, n)]
    room = WEIGHTS_SHARE * request.hbm_gib
    return ([mesh for mesh in meshes if resident_gib(request.on(mesh)) < room] or meshes[-1:])[:2]


def candidate_batches(request: FitRequest) -> list[int]:
    """Batches to try from the largest on: per device in training, in all otherwise."""
    per_device = dict.fromkeys(TRAINING, (8, 4, 2, 1))
    counts = (per_device | {"decode": (128, 64, 32, 16, 8, 4, 2, 1)}).get(request.step, (4, 1))
    return [_batch_unit(request) * count for count in counts]


def search(
    request: FitRequest, meshes: Sequence[Mesh] | None, batches: Sequence[int] | None, ask: Ask
) -> tuple[FitRequest, FitReport]:
    """The mesh and batch with the most rows per second, among those that fit.

    Of every mesh the largest batch that fits is compiled; what cannot fit by arithmetic is passed over. None stands for
    the candidates of the model and slice; `ask` compiles one.

    Returns:
      The winning request and its report; of a search where nothing fits, the smallest request with its report.
    """
    tried: list[tuple[FitRequest, FitReport]] = []
    for mesh in candidate_meshes(request) if meshes is None else meshes:
        on_mesh = request.on(mesh)
        rows = candidate_batches(on_mesh) if batches is None else batches
        programs = [dataclasses.replace(on_mesh, batch=batch) for batch in rows]
        for program in [p for p in programs if least_gib(p) <= p.hbm_gib] or programs[-1:]:
            tried.append((program, ask(program)))
            if tried[-1][1].fits:
                break
    if not tried:
        raise ValueError("nothing to try: give a mesh and a batch")
    fitting = [(program, report) for program, report in tried if report.fits]
    return max(fitting, key=lambda pair: rows_per_second(*pair)) if fitting else tried[-1]


def rows_per_second(request: FitRequest, report: FitReport) -> float:
    """Rows (training, prefill, scoring) or tokens (decode) per second over the whole slice, by the estimate."""
    rows = request.batch
    if request.trains:
        groups = math.prod(report.mesh.values()) // report.mesh["tensor"] // report.mesh["sequence"]
        rows *= groups * request.microbatches
    return rows / (report.estimated_seconds or math.inf)
