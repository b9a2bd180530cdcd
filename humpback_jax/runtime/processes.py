"""Which process this is of several that share nothing but a folder, and how one waits for the others.

Every process is started with the same command and HUMPBACK_PROCESS_INDEX / HUMPBACK_PROCESS_COUNT (or the options of
the command); under `jax.distributed` its numbers are taken. Process 0 leads: it writes what is there only once.
"""

import os
import sys
import time
from collections.abc import Callable, Sequence

from humpback_jax.runtime.console import say

INDEX_VARIABLE, COUNT_VARIABLE = "HUMPBACK_PROCESS_INDEX", "HUMPBACK_PROCESS_COUNT"
STALL_VARIABLE = "HUMPBACK_STALL_SECONDS"
STALL_SECONDS = 1800.0
POLL_SECONDS = 2.0
REMINDER_SECONDS = 60.0


def process_index() -> int:
    """Number of this process, from 0."""
    return _identity()[0]


def process_count() -> int:
    """Number of processes that work on the same folder."""
    return _identity()[1]


def is_leader() -> bool:
    """True for the one process that writes what all make once, products and manifests, and shows progress.

    Nobody else may ask JAX: `join_processes` has seen to it that the numbers are the same, and without a coordinator
    every process is number 0 to its own JAX.
    """
    return process_index() == 0


def set_process(index: int | None, count: int | None) -> None:
    """Sets which process this is; with neither number given, all stays as it was.

    Raises:
      ValueError: one number is missing, or they do not fit each other.
    """
    if index is None and count is None:
        return
    _check(index, count, "--process_index", "--process_count")
    os.environ[INDEX_VARIABLE], os.environ[COUNT_VARIABLE] = str(index), str(count)


def stall_seconds() -> float:
    """Seconds without any sign of the other processes after which waiting for them is an error."""
    return seconds_from(STALL_VARIABLE, STALL_SECONDS)


def seconds_from(variable: str, default: float) -> float:
    """The seconds an environment variable says; ValueError names it where it is no number."""
    text = os.environ.get(variable)
    try:
        return default if text is None else float(text)
    except ValueError as error:
        raise ValueError(f"{variable}={text!r} is not a number of seconds") from error


def wait_until_complete(
    missing: Callable[[], Sequence[str]],
    signs_of_life: Callable[[], object] | None = None,
    *,
    poll_seconds: float = POLL_SECONDS,
    patience: float | None = None,
) -> None:
    """Returns when `missing` names nothing more.

    Args:
      missing: what the other processes still have to write.
      signs_of_life: a value that changes as long as they work; what is missing always counts.
      poll_seconds: between two looks.
      patience: seconds without a change (default: `stall_seconds`).

    Raises:
      TimeoutError: nothing changed for so long; names what is missing and what to do.
    """
    patience, last_state = stall_seconds() if patience is None else patience, None
    changed = logged = time.monotonic()
    while names := missing():
        state, now = (tuple(names), signs_of_life() if signs_of_life else None), time.monotonic()
        if state != last_state:
            last_state, changed = state, now
        elif now - changed >= patience:
            raise TimeoutError(
                f"waited {patience:g} s for other processes, which wrote nothing; missing: {_some(names)}. If one "
                f"of them has died, run the same command again in all processes, however many; if they are only slow, "
                f"set {STALL_VARIABLE} higher"
            )
        if now - logged >= REMINDER_SECONDS:
            say(f"waiting for other processes: {len(names)} missing: {_some(names)}")
            logged = now
        time.sleep(poll_seconds)


def _identity() -> tuple[int, int]:
    index, count = os.environ.get(INDEX_VARIABLE), os.environ.get(COUNT_VARIABLE)
    if index is not None or count is not None:
        return _check(index, count, INDEX_VARIABLE, COUNT_VARIABLE)
    # Whoever initialised jax.distributed has imported jax; nobody else should have to.
    jax = sys.modules.get("jax")
    if jax is not None and jax.distributed.is_initialized():
        return jax.process_index(), jax.process_count()
    return 0, 1


def _check(index: str | int | None, count: str | int | None, index_name: str, count_name: str) -> tuple[int, int]:
    try:
        numbers = int(index), int(count)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{index_name} is {index} and {count_name} is {count}; give two whole numbers, or neither"
        ) from error
    if not 0 <= numbers[0] < numbers[1]:
        raise ValueError(
            f"{index_name} is {index} of {count_name} {count}; it must be 0 or more and less than the count"
        )
    return numbers


def _some(names: Sequence[str], limit: int = 8) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
