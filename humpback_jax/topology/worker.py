"""The process that compiles: reads one request as JSON from standard input, prints one answer as its last line."""

import collections
import dataclasses
import hashlib
import json
import pathlib
import re
import sys
import time
from typing import Any

import jax

from humpback_jax.files import write_atomically
from humpback_jax.hardware import Slice, get_slice
from humpback_jax.topology.compiler import libtpu_version, slice_devices, topology_arguments
from humpback_jax.topology.hlo import hlo_cost
from humpback_jax.topology.programs import Program, lower_program
from humpback_jax.topology.request import FitReport, FitRequest

_NEEDED = re.compile(r"(?:\(|Used )([\d.]+)([GMK])(?:\) exceeds available HBM| of [\d.]+[GMK] hbm)")
REPORT_VERSION = 1  # part of the cache's key: raised when a report is made in another way
_UNITS = {"G": 1.0, "M": 2.0**-10, "K": 2.0**-20}


def main() -> None:
    """Answers the request on standard input."""
    asked = json.loads(sys.stdin.read())
    try:
        answer = dataclasses.asdict(check(FitRequest.from_json(asked["request"]), asked.get("cache")))
    except (ValueError, KeyError) as error:
        answer = {"invalid": str(error.args[0])}
    print(json.dumps(answer))


def check(request: FitRequest, cache: str | None = None) -> FitReport:
    """Compiles the program that is asked for; ValueError where it cannot even be laid out over the slice."""
    chip_slice, libtpu = get_slice(request.slice), libtpu_version() or ""
    devices = slice_devices(chip_slice)
    try:
        program = lower_program(request, devices)
    except jax.errors.JaxRuntimeError as error:  # caches alone are too large
        mesh = {"data": len(devices) // request.tensor, "fsdp": 1, "sequence": 1, "tensor": request.tensor}
        return _refusal(error, chip_slice, mesh)
    options = program.options | dict(request.options)
    versions = (libtpu, jax.__version__, REPORT_VERSION)
    decisive = {"topology": topology_arguments(chip_slice), "options": options, "versions": versions}
    digest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode())
    digest.update(program.lowered.as_text().encode())
    answer = pathlib.Path(cache, f"{digest.hexdigest()}.json") if cache else None
    if answer and answer.is_file():
        return dataclasses.replace(FitReport(**json.loads(answer.read_text())), compile_seconds=0.0)
    started = time.monotonic()
    try:
        compiled = program.lowered.compile(compiler_options=dict(options) or None)
    except jax.errors.JaxRuntimeError as error:
        report = _refusal(error, chip_slice, program.mesh)
    else:
        report = _report(compiled, program, chip_slice, time.monotonic() - started)
    report = dataclasses.replace(report, libtpu=libtpu, jax=jax.__version__)
    if answer:
        write_atomically(answer, json.dumps(dataclasses.asdict(report)))
    return report


def _refusal(error: jax.errors.JaxRuntimeError, chip_slice: Slice, mesh: dict[str, int]) -> FitReport:
    """The report of a program that is too large; any other error of the compiler is raised again."""
    message = " ".join(line.strip() for line in str(error).splitlines() if line.strip())[:600]
    if "RESOURCE_EXHAUSTED" not in message:
        raise error
    needed = None
    if match := _NEEDED.search(message):
        needed = round(float(match.group(1)) * _UNITS[match.group(2)], 3)
    return FitReport(False, needed, chip_slice.chip.hbm_gib, None, None, mesh, message)


def _gib(size: float) -> float:
    return round(size / 2**30, 4)


def _report(compiled: Any, program: Program, chip_slice: Slice, seconds: float) -> FitReport:
    memory, chip = compiled.memory_analysis(), chip_slice.chip
    cost = hlo_cost(compiled.as_text(), program.unknown_trips)
    fusions, in_kernels = cost.cycles / chip.clock_hz, cost.kernel_seconds(chip)
    flops = cost.flops + sum(kernel.count * kernel.counted_flops for kernel in cost.kernels)
    peak = _gib(memory.peak_memory_in_bytes)
    units = program.units
    kernels: dict[str, int] = collections.Counter()
    for kernel in cost.kernels:
        kernels[kernel.name] += kernel.count
    return FitReport(
        fits=peak <= chip.hbm_gib,
        peak_gib=peak,
        hbm_gib=chip.hbm_gib,
        estimated_seconds=round((fusions + in_kernels) / units, 6),
        hlo_flops=flops / units,
        mesh=program.mesh,
        fusion_seconds=round(fusions / units, 6),
        kernel_seconds=round(in_kernels / units, 6),
        argument_gib=_gib(memory.argument_size_in_bytes),
        temp_gib=_gib(memory.temp_size_in_bytes),
        alias_gib=_gib(memory.alias_size_in_bytes),
        collectives={name: [count / units, _gib(size / units)] for name, (count, size) in cost.collectives.items()},
        kernels=dict(kernels),
        bound_seconds=round(flops / units / chip.peak_flops, 6),
        compile_seconds=round(seconds, 1),
    )


if __name__ == "__main__":
    main()
