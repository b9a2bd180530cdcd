"""Does it fit, and how fast? One program on one slice; or a small search for a mesh and a batch."""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Iterable

from humpback_jax.hardware import get_slice
from humpback_jax.models.config import LlamaConfig, get_config
from humpback_jax.topology.compiler import ask_worker
from humpback_jax.topology.request import FitReport, FitRequest

MARGIN = 0.97  # of the memory that a suggested batch may take by its estimate


def fit(request: FitRequest, cache: pathlib.Path | None) -> FitReport:
    """Compiles what is asked for in a process of its own, or takes the answer from `cache`."""
    answer = ask_worker({"request": dataclasses.asdict(request), "cache": str(cache) if cache else None})
    if "invalid" in answer:
        raise ValueError(answer["invalid"])
    report = FitReport(**answer)
    return report if report.fits else dataclasses.replace(report, knob=first_knob(request, report))


def resident_gib(request: FitRequest) -> float:
    """What a program holds per device whatever its batch, in GiB: the state of training, or the weights."""
    config, chip_slice = get_config(request.model), get_slice(request.slice)
    if request.step == "train":
        shards = chip_slice.num_devices // request.mesh_sizes.get("data", 1)
        size = 12 if request.param_dtype == "float32" else 10
        return config.num_params * size / shards / 2**30
    size = 1 if request.weight_dtype == "int8" else 2
    return config.num_params * size / request.mesh_sizes.get("tensor", 1) / 2**30


def working_gib(request: FitRequest) -> float:
    """What a program needs per device beside what is resident, whatever its batch, in GiB: an estimate.

    Training: float32 gradients, a bfloat16 copy of the weights, and one whole layer with its gradient.
    """
    config = get_config(request.model)
    if request.step != "train":
        return 0.3
    shards = get_slice(request.slice).num_devices // request.mesh_sizes.get("data", 1)
    return config.num_params * 6 * (1 / shards + 1 / config.num_layers) / 2**30


def least_gib(request: FitRequest) -> float:
    """Less than a program needs per device, in GiB: what is resident, and what it keeps of every row."""
    config, sizes = get_config(request.model), request.mesh_sizes
    tensor = sizes.get("tensor", 1)
    per_row = 0.0
    if request.step == "train":  # the inputs of all layers, in bfloat16
        per_row = config.num_layers * request.length * config.emb_dim * 2 / tensor / sizes.get("sequence", 1)
    elif request.step == "decode":
        size = 1 if request.kv_dtype == "int8" else 2
        entries = config.num_layers * request.length * config.num_kv_heads * config.head_dim
        per_row = 2 * entries * size / get_slice(request.slice).num_devices  # tensor times copies is all devices
    return resident_gib(request) + request.batch * per_row / 2**30


def first_knob(request: FitRequest, report: FitReport) -> dict[str, object]:
    """What to change first so that it fits: fewer rows where rows are what is too much, else how weights are held.

    What is neither resident nor working memory scales with the rows.
    """
    config, unit = get_config(request.model), _batch_unit(request)
    fixed = resident_gib(request) + working_gib(request)
    room, needed = MARGIN * report.hbm_gib - fixed, max((report.peak_gib or 0.0) - fixed, 1e-9)
    batch = min(int(request.batch * max(room, 0.0) / needed), request.batch - unit) // unit * unit
    if batch >= unit:
        return {"batch": batch}
    if request.step != "train":
        if request.weight_dtype != "int8":
            return {"weight_dtype": "int8"}
        return {"mesh": f"tensor={_next_divisor(config, request.mesh_sizes.get('tensor', 1))}"}
    if request.remat != "full":
        return {"remat": "full"}
    if request.param_dtype == "float32":
        return {"param_dtype": "bfloat16"}
    return {"slice": "a larger one"}


def _batch_unit(request: FitRequest) -> int:
    """Rows come in multiples of this: of copies of the weights in inference."""
    if request.step == "train":
        return 1
    return max(1, get_slice(request.slice).num_devices // request.mesh_sizes.get("tensor", 1))


def _next_divisor(config: LlamaConfig, tensor: int) -> int:
    wider = (n for n in range(tensor + 1, config.num_kv_heads + 1) if _divides(config, n))
    return next(wider, tensor)


def _divides(config: LlamaConfig, tensor: int) -> bool:
    lengths = (config.num_heads, config.num_kv_heads, config.mlp_dim, config.vocab_size)
    return all(length % tensor == 0 for length in lengths)


def candidate_meshes(request: FitRequest) -> list[tuple[tuple[str, int], ...]]:
    """Meshes worth trying, the likeliest first.

    Training: all devices on `fsdp`; then a `tensor` axis of 4 where it divides. Inference: the smallest `tensor` that
    leaves room for weights and cache, the next two, and `data` over the rest.
    """
    config, devices = get_config(request.model), get_slice(request.slice).num_devices
    if request.step == "train":
        meshes: list[tuple[tuple[str, int], ...]] = [()]
        if devices >= 16 and _divides(config, 4):
            meshes.append((("tensor", 4),))
        return meshes
    sizes = [n for n in _divisors(devices) if _divides(config, n)]
    hbm = get_slice(request.slice).chip.hbm_gib
    with_room = [n for n in sizes if resident_gib(dataclasses.replace(request, mesh=(("tensor", n),))) < 0.7 * hbm]
    return [(("tensor", n),) for n in (with_room or sizes[-1:])[:2]]


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


def candidate_batches(request: FitRequest) -> list[int]:
    """Batches to try from the largest on: per device in training, in all otherwise."""
    if request.step == "train":
        return [8, 4, 2, 1]
    unit = _batch_unit(request)
    if request.step == "decode":
        return [unit * n for n in (128, 64, 32, 16, 8, 4, 2, 1)]
    return [unit * n for n in (4, 1)]


def search(
    request: FitRequest,
    meshes: Iterable[tuple[tuple[str, int], ...]] | None,
    batches: Iterable[int] | None,
    ask: Callable[[FitRequest], FitReport],
) -> tuple[FitRequest, FitReport]:
    """The mesh and batch with the most rows per second, among those that fit.

    Of every mesh the largest batch that fits is compiled; what cannot fit by arithmetic is passed over. None stands for
    the candidates of the model and slice; `ask` compiles one.

    Returns:
      The winning request and its report; of a search where nothing fits, the smallest request with its report.
    """
    best: tuple[FitRequest, FitReport] | None = None
    last: tuple[FitRequest, FitReport] | None = None
    for mesh in candidate_meshes(request) if meshes is None else meshes:
        on_mesh = dataclasses.replace(request, mesh=mesh)
        rows = list(candidate_batches(on_mesh) if batches is None else batches)
        requests = [dataclasses.replace(on_mesh, batch=batch) for batch in rows]
        hbm = get_slice(request.slice).chip.hbm_gib
        for asked in [one for one in requests if least_gib(one) <= hbm] or requests[-1:]:
            report = ask(asked)
            last = asked, report
            if report.fits:
                if best is None or rows_per_second(asked, report) > rows_per_second(*best):
                    best = asked, report
                break
    found = best or last
    if found is None:
        raise ValueError("nothing to try: give a mesh and a batch")
    return found


def rows_per_second(request: FitRequest, report: FitReport) -> float:
    """Rows (training, prefill, scoring) or tokens (decode) per second over the whole slice, by the estimate."""
    rows = request.batch
    if request.step == "train":
        rows *= (
            math.prod(report.mesh.values()) // report.mesh["tensor"] // report.mesh["sequence"] * request.microbatches
        )
    return rows / (report.estimated_seconds or math.inf)
