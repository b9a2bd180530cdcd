"""Several processes that train one model together: `jax.distributed` with an address, timeouts and advice of our own.

Every process runs the same command with its number, the count and the coordinator's address: HOST:PORT where process 0
runs. The mesh then spans the devices of all of them; bulk inference stays on each process's own devices.
"""

import contextlib
import os
import sys
from collections.abc import Iterator

from humpback_jax.runtime.console import say
from humpback_jax.runtime.processes import process_count, process_index, seconds_from
from humpback_jax.runtime.watchdog import watchdog

COORDINATOR_VARIABLE = "HUMPBACK_COORDINATOR"
START_VARIABLE, START_SECONDS = "HUMPBACK_START_SECONDS", 300.0
HEARTBEAT_VARIABLE, HEARTBEAT_SECONDS = "HUMPBACK_HEARTBEAT_SECONDS", 60.0


def join_processes(coordinator: str | None) -> None:
    """Says which process this is, and connects it with the others where a coordinator is named.

    Call it before anything else touches a device.

    Args:
      coordinator: HOST:PORT of process 0; None takes HUMPBACK_COORDINATOR, without which the processes share nothing
        but the run directory, and process 0 trains alone.

    Raises:
      ValueError: the address has no port, no process number is given, or JAX has another number for this process.
        Processes that do not find each other end with status 1 and say who is missing.
    """
    index, count = process_index(), process_count()
    address = coordinator or os.environ.get(COORDINATOR_VARIABLE)
    if address is None:
        if count > 1:
            say(f"process {index} of {count}; process 0 trains alone, unless all are given --coordinator")
        return
    if not address.rpartition(":")[0] or not address.rpartition(":")[2].isdigit():
        raise ValueError(f"coordinator {address!r} is not HOST:PORT; name the host of process 0 and a free port on it")
    if count == 1:
        raise ValueError(
            f"coordinator {address} is given, but not which process this is; add --process_index and --process_count"
        )
    say(f"process {index} of {count}: connecting to {address}")
    _initialize(address, index, count)


def _initialize(address: str, index: int, count: int) -> None:
    import jax

    start = seconds_from(START_VARIABLE, START_SECONDS)
    heartbeat = round(seconds_from(HEARTBEAT_VARIABLE, HEARTBEAT_SECONDS))
    # jaxlib's preemption service would swallow SIGTERM, also outside of training.
    jax.config.update("jax_enable_preemption_service", False)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    advice = (
        f"all {count} processes must run, with this address, numbers 0 to {count - 1} and --process_count {count}, and "
        f"the port must be open. Run the same command again in all of them; if they are slow to start, set "
        f"{START_VARIABLE} higher"
    )
    # Where the time is over jaxlib aborts without a word of advice, so that ours must be over before.
    with watchdog(f"process {index} of {count}: connecting to {address}", start, advice):
        jax.distributed.initialize(
            address,
            count,
            index,
            initialization_timeout=round(start) + 60,
            heartbeat_timeout_seconds=heartbeat,
            shutdown_timeout_seconds=heartbeat,
        )
        if jax.default_backend() == "cpu":
            # Processes that load a program run ahead of those that compile it, and gloo then mixes up their transfers.
            jax.config.update("jax_enable_compilation_cache", False)
        with _stdout_as_stderr():  # gloo prints a line, and what a verb prints may be read as JSON
            agree(True)
    if (jax.process_index(), jax.process_count()) != (index, count):  # two processes would lead, or none
        raise ValueError(
            f"process {index} of {count} is to JAX process {jax.process_index()} of {jax.process_count()}: the slice "
            "counts its workers in another order; delete it and create it again"
        )
    say(
        f"process {index} of {count}: connected, {jax.local_device_count()} of {jax.device_count()} devices are here; "
        f"if a process dies, the others end within {2 * heartbeat} s: run the same command again in all of them"
    )


@contextlib.contextmanager
def _stdout_as_stderr() -> Iterator[None]:
    """Sends what compiled code writes to standard output to standard error."""
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)


def agree(*flags: bool) -> tuple[bool, ...]:
    """Each flag as true as in any process; a collective where there are several: all must call it at the same point."""
    import jax

    if jax.process_count() == 1:
        return flags
    import numpy as np
    from jax.experimental import multihost_utils

    gathered = multihost_utils.process_allgather(np.array(flags))
    return tuple(bool(flag) for flag in gathered.any(axis=0))


@contextlib.contextmanager
def peer_failures(what: str) -> Iterator[None]:
    """Turns the runtime's error about a lost connection into ConnectionError that says what was going on.

    Args:
      what: the work, for the message: `update 57`.
    """
    import jax

    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        if jax.process_count() == 1 or not any(sign in str(error) for sign in ("Gloo", "NCCL", "UNAVAILABLE", "peer")):
            raise
        raise ConnectionError(
            f"{what} failed in process {jax.process_index()} of {jax.process_count()}, most likely because another "
            f"process died: look for the first error in the logs of the others, then run the same command again in "
            f"all of them ({str(error).strip().splitlines()[0]})"
        ) from error


def leave_at_once(status: int) -> None:
    """After an error, ends a process of several without waiting for the others, which wait for it in vain."""
    jax = sys.modules.get("jax")
    if jax is not None and jax.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
