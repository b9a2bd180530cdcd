"""The TPU compiler on a machine without a TPU: a process of its own with a quiet environment, and a cache of answers.

A process that has loaded libtpu holds a lock file, may print, and may die of what it is asked to compile; none of this
may touch the process of the user. JAX's own compilation cache cannot read back programs that were compiled ahead of
time, so what is cached is the answer, under a hash of the lowered program, the compiler's version and the options.
"""

import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
from typing import Any

import click

from humpback_jax.hardware import Slice

WORKER = "humpback_jax.topology.worker"
QUIET = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    # Any accelerator will do: what is compiled for is named in each request.
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_MIN_LOG_LEVEL": "3",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


class CompilerError(click.ClickException):
    """The compiler could not be run, or ended without an answer; a verb that meets it ends with status 1."""


def libtpu_version() -> str | None:
    """The version of libtpu, or None where it is not installed."""
    return importlib.metadata.version("libtpu") if importlib.util.find_spec("libtpu") else None


def quiet_environment() -> dict[str, str]:
    """The environment of a process that compiles; no persistent compilation cache, which cannot be read back."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_COMPILATION_", "XLA_FLAGS"))}
    return kept | QUIET


def topology_arguments(slice_: Slice) -> dict[str, Any]:
    """Arguments of `jax.experimental.topologies.get_topology_desc`.

    v4 without `megacore` would silently be two half chips to a chip, and a torus without `wrap` another network.
    """
    return {
        "topology_name": f"{slice_.chip.name}:{slice_.topology}",
        "chips_per_host_bounds": (1, 1, 1) if slice_.num_devices == 1 else (2, 2, 1),
        "wrap": slice_.wrap,
    } | ({"chip_config_name": "megacore"} if slice_.chip.cores == 2 else {})


def slice_devices(slice_: Slice) -> list[Any]:
    """The devices of the compiler's topology, each a whole chip; needs libtpu, and `quiet_environment`.

    Raises:
      RuntimeError: they are not as many, or not of the kind, that the name says.
    """
    from jax.experimental import topologies

    devices: list[Any] = list(topologies.get_topology_desc(platform="tpu", **topology_arguments(slice_)).devices)
    kinds = {device.device_kind for device in devices}
    if len(devices) != slice_.num_devices or kinds != {slice_.chip.device_kinds[0]}:
        raise RuntimeError(
            f"slice {slice_.name}: the compiler made {len(devices)} devices of {', '.join(sorted(kinds))}, expected "
            f"{slice_.num_devices} of {slice_.chip.device_kinds[0]}; install the libtpu that humpback_jax[tpu] pins"
        )
    return devices


def ask_worker(request: dict[str, Any]) -> dict[str, Any]:
    """The worker's answer to a request; both are plain JSON values.

    Raises:
      CompilerError: libtpu is missing, or the worker died; the message ends with what it printed last.
    """
    if libtpu_version() is None:
        raise CompilerError("no libtpu here; install the TPU compiler that JAX pins: pip install 'humpback_jax[tpu]'")
    done = subprocess.run(
        [sys.executable, "-m", WORKER],
        input=json.dumps(request),
        env=quiet_environment(),
        capture_output=True,
        text=True,
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        tail = "\n".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-12:])
        raise CompilerError(f"the compiler process ended with status {done.returncode}:\n{tail}")
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer
