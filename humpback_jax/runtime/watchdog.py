"""Work that may hang is given a time: when it is over, the process says what hung and ends."""

import contextlib
import faulthandler
import os
import sys
import threading
from collections.abc import Callable, Iterator

from humpback_jax.runtime.stopping import retry_status


@contextlib.contextmanager
def watchdog(
    what: str, limit_seconds: float | None, advice: str, on_hang: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Ends the process with status 1 when the block takes longer than `limit_seconds`; None sets no limit.

    A hang inside a collective or a file system cannot be interrupted by an exception, so the process ends at once; its
    checkpoints are whole or absent, and the same command goes on from them.

    Args:
      what: the work, for the message: `update 57`, `saving checkpoint 12`.
      limit_seconds: how long it may take.
      advice: what to do, for the message.
      on_hang: called with the message, in a thread of its own, instead of ending the process.
    """
    if limit_seconds is None:
        yield
        return
    message = f"{what} has taken more than {limit_seconds:g} s; {advice}"
    timer = threading.Timer(limit_seconds, on_hang or _end_process, [message])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _end_process(message: str) -> None:
    """Says where every thread stands and what hung, and ends the process without waiting for anything."""
    faulthandler.dump_traceback(all_threads=True)
    print(f"humpback: error: {message}", file=sys.stderr, flush=True)
    os._exit(retry_status(1))
