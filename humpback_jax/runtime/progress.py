"""Progress of long work: a rich bar with rate and time left on a terminal, plain log lines elsewhere."""

import contextlib
import sys
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LOG_EVERY_SECONDS = 15.0
_console = Console(stderr=True)


def say(message: str) -> None:
    """One line for the person watching, above any bar."""
    _console.print(message, highlight=False, soft_wrap=True)


class ProgressReporter:
    """Counts work done; subclasses decide how it is shown."""

    def __init__(self, description: str, total: int, unit: str, done: int = 0) -> None:
        self.description, self.total, self.unit = description, total, unit
        self.done, self._started_at, self._start = done, time.monotonic(), done

    def advance(self, count: int = 1, **fields: object) -> None:
        """Adds `count` finished units; `fields` (loss=…, tokens_per_second=…) are shown beside the rate."""
        self.done += count
        self._show("  ".join(f"{key} {_short(value)}" for key, value in fields.items()))

    @property
    def rate(self) -> float:
        """Units per second since the start."""
        return (self.done - self._start) / max(time.monotonic() - self._started_at, 1e-9)

    def _show(self, fields: str) -> None:
        raise NotImplementedError("a reporter shows its progress in a subclass")


class _TerminalReporter(ProgressReporter):
    def __init__(self, bar: Progress, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self._bar = bar
        self._task = bar.add_task(self.description, total=self.total, completed=self.done, fields="")

    def _show(self, fields: str) -> None:
        text = f"{self.rate:.2f} {self.unit}/s  {fields}"
        self._bar.update(self._task, completed=self.done, fields=text)


class _LogReporter(ProgressReporter):
    _last = 0.0

    def _show(self, fields: str) -> None:
        now = time.monotonic()
        if now - self._last < LOG_EVERY_SECONDS and self.done < self.total:
            return
        self._last = now
        left = (self.total - self.done) / self.rate if self.rate else 0.0
        say(f"{self.description}: {self.done}/{self.total} {self.unit}  {self.rate:.2f}/s  {left:.0f} s left  {fields}")


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@contextlib.contextmanager
def progress_bar(
    description: str, total: int, unit: str, *, done: int = 0, show: bool = True
) -> Iterator[ProgressReporter]:
    """A reporter for `total` units of work of which `done` were finished earlier; `show=False` keeps it silent."""
    if not show:
        yield _SilentReporter(description, total, unit, done)
    elif not sys.stderr.isatty():
        yield _LogReporter(description, total, unit, done)
    else:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[fields]}"),
        )
        with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=_console) as bar:
            yield _TerminalReporter(bar, description, total, unit, done)


class _SilentReporter(ProgressReporter):
    def _show(self, fields: str) -> None:
        return
