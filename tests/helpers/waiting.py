"""How tests wait: for a condition with a generous limit, by a clock of their own, and never for a number of seconds.

A machine that is busy with something else may take a minute for what takes a millisecond elsewhere. So no test looks
once at a process, a port or a file that another one changes, and none expects to be quicker than a limit.
"""

import os
import pathlib
import time

PATIENCE = 300.0  # seconds; a test that waits so long for anything has found a fault


def wait_until(condition, what="the condition", seconds=PATIENCE, unless=None):
    """The first true value of `condition()`.

    Args:
      condition: is asked again and again.
      what: is awaited, for the message; a function is called when it is needed, to show a log.
      seconds: after which waiting is a failure.
      unless: where this becomes true and the condition does not, waiting is in vain: `process.poll() is not None`.
    """
    limit = time.monotonic() + seconds
    while True:
        in_vain = unless is not None and unless()  # asked first: the condition may come true between the two
        if value := condition():
            return value
        shown = what if isinstance(what, str) else None
        if in_vain:
            raise AssertionError(f"waited in vain for {shown or what()}")
        if time.monotonic() > limit:
            raise AssertionError(f"waited {seconds:g} s for {shown or what()}")
        time.sleep(0.01)


def is_running(pid):
    """Whether a process lives; one that has ended and that nobody has asked about does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = pathlib.Path("/proc", str(pid), "stat")
    try:
        return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class FakeTime:
    """In place of the module `time` in what is tested: sleeping sets the clock on, and nobody waits.

    Args:
      on_sleep: is called with the number of the sleep, from 1: what the rest of the world does meanwhile.
    """

    def __init__(self, on_sleep=None):
        self.now, self.sleeps, self._on_sleep = 1_000_000.0, 0, on_sleep

    def monotonic(self):
        return self.now

    perf_counter = time = monotonic

    def sleep(self, seconds):
        self.now += seconds
        self.sleeps += 1
        if self._on_sleep is not None:
            self._on_sleep(self.sleeps)
