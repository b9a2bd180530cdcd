"""Progress of long work: a rich bar with rate and time left on a terminal, plain log lines elsewhere."""

import contextlib
import sys
import time
from collections.abc import Iterator

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from humpback_jax.runtime.console import error_console, say

LOG_EVERY_SECONDS = 15.0


class ProgressReporter:
    """Counts work done, in silence; subclasses show it."""

    def __init__(self, description: str, total: int, unit: str, done: int = 0) -> None:
        self.description, self.total, self.unit = description, total, unit
        self.done, self._started_at, self._start = done, time.monotonic(), done

    def advance(self, count: int = 1, **fields: object) -> None:
        """Adds `count` finished units; `fields` (loss=…, tokens_per_second=…) are shown beside the rate."""
        self.done += count
        self._show("  ".join(f"{key} {f'{x:.4g}' if isinstance(x, float) else x}" for key, x in fields.items()))

    @property
    def rate(self) -> float:
        """Units per second since the start."""
        return (self.done - self._start) / max(time.monotonic() - self._started_at, 1e-9)

    def _show(self, fields: str) -> None:
        return


class _TerminalReporter(ProgressReporter):
    def __init__(self, bar: Progress, description: str, total: int, unit: str, done: int) -> None:
        super().__init__(description, total, unit, done)
        self._bar, self._task = bar, bar.add_task(description, total=total, completed=done, fields="")

    def _show(self, fields: str) -> None:
        self._bar.update(self._task, completed=self.done, fields=f"{self.rate:.2f} {self.unit}/s  {fields}")


class _LogReporter(ProgressReporter):
    _last = 0.0

    def _show(self, fields: str) -> None:
        now = time.monotonic()
        if now - self._last < LOG_EVERY_SECONDS and self.done < self.total:
            return
        self._last = now
        left = (self.total - self.done) / self.rate if self.rate else 0.0
        say(f"{self.description}: {self.done}/{self.total} {self.unit}  {self.rate:.2f}/s  {left:.0f} s left  {fields}")


@contextlib.contextmanager
def progress_bar(
    description: str, total: int, unit: str, *, done: int = 0, show: bool = True
) -> Iterator[ProgressReporter]:
    """A reporter for `total` units of work of which `done` were finished earlier; `show=False` keeps it silent."""
    if not show or not sys.stderr.isatty():
        yield (_LogReporter if show else ProgressReporter)(description, total, unit, done)
        return
    texts = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[fields]}")
    with Progress(*texts, TimeElapsedColumn(), TimeRemainingColumn(), console=error_console()) as bar:
        yield _TerminalReporter(bar, description, total, unit, done)
