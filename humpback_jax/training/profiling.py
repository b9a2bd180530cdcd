"""A profiler trace of chosen updates, for TensorBoard, XProf or Perfetto."""

import dataclasses
import os
import re
from collections.abc import Callable

import jax

from humpback_jax.files import PathLike


@dataclasses.dataclass(frozen=True)
class ProfileSteps:
    """Updates `first` to `last`, counted from 1 as in the metrics, both included."""

    first: int
    last: int


def parse_profile_steps(text: str) -> ProfileSteps:
    """`A:B`; ValueError says what is wrong with it."""
    match = re.fullmatch(r"(\d+):(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError(f"--profile_steps={text}: expected A:B, updates A to B counted from 1, for example 10:12")
    return ProfileSteps(int(match[1]), int(match[2]))


class Profiler:
    """Traces its updates into DIRECTORY/profile; use as a context manager, so that a trace is always ended."""

    def __init__(self, directory: PathLike, steps: ProfileSteps | None) -> None:
        self._folder, self._steps, self._active = os.path.join(directory, "profile"), steps, False

    def __enter__(self) -> "Profiler":
        return self

    def __exit__(self, *_: object) -> None:
        if self._active:  # training ended or failed before the last update to trace
            self._stop()

    def start_if_first(self, step: int) -> None:
        """Begins the trace when update `step` is its first, or the first after a restart in its midst."""
        if self._steps is None or self._active or not self._steps.first <= step <= self._steps.last:
            return
        jax.profiler.start_trace(self._folder)
        self._active = True

    def stop_if_last(self, step: int, wait: Callable[[], object]) -> None:
        """Ends and writes the trace when update `step` is its last; `wait` returns when that update is done."""
        if self._active and self._steps is not None and step == self._steps.last:
            wait()
            self._stop()

    def _stop(self) -> None:
        jax.profiler.stop_trace()
        self._active = False
