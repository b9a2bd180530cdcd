"""SIGTERM: work that survives `kill -9` ends at once, training first finishes its update and saves; the status is 0."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

GO_ON = "run the same command to go on"
RETRY_VARIABLE = "HUMPBACK_RETRY_STATUS"


class Stopped(BaseException):
    """The process was told to stop and did; not an Exception, so that nobody takes it for a failure of their own."""


_requested = threading.Event()


def retry_status(default: int) -> int:
    """Exit status of a process that was told to stop, lost its peers or hung: what starts it may name its own.

    Without one, a watcher could not tell a run that was stopped from one that is finished.
    """
    return int(os.environ.get(RETRY_VARIABLE, default))


_deferrals = 0


@contextlib.contextmanager
def stop_on_sigterm() -> Iterator[None]:
    """Turns SIGTERM into `Stopped`, raised at once or when the outermost `deferred_stop` ends.

    Signals reach only the main thread: elsewhere this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _requested.clear()
    before = signal.signal(signal.SIGTERM, _on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        _requested.clear()


@contextlib.contextmanager
def deferred_stop() -> Iterator[None]:
    """Inside, a signal only sets `stop_requested`; a stop that nobody acted on is raised at the end."""
    global _deferrals
    _deferrals += 1
    try:
        yield
    finally:
        _deferrals -= 1
    _raise_if_due()


def stop_requested() -> bool:
    """Whether this process was told to stop."""
    return _requested.is_set()


def _on_signal(number: int, frame: FrameType | None) -> None:
    if not _requested.is_set():  # the second signal does not disturb the way out
        _requested.set()
        _raise_if_due()


def _raise_if_due() -> None:
    if _requested.is_set() and not _deferrals:
        raise Stopped(f"stopped by SIGTERM; {GO_ON}")
