"""What is watched of a training run: metrics and profiler traces.

The metrics of an update are read while the next already runs. They are JSON lines for programs, TensorBoard and Weights
& Biases for people; a restart continues all three without repeats. A trace of chosen updates is for TensorBoard, XProf
or Perfetto.
"""

import dataclasses
import hashlib
import json
import math
import os
import re
from collections.abc import Callable
from typing import Any

import jax
from etils import epath

from humpback_jax.files import PathLike, jsonl_line, write_atomically
from humpback_jax.run_files import METRICS, PROFILE, TENSORBOARD
from humpback_jax.runtime.progress import ProgressReporter
from humpback_jax.training.throughput import Throughput, Workload


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


@dataclasses.dataclass(frozen=True)
class Monitoring:
    """What is watched besides the metrics; it decides nothing about the result.

    Attributes:
      profile_steps: updates to trace.
      wandb_project: project of Weights & Biases to report to, or None.
    """

    profile_steps: ProfileSteps | None = None
    wandb_project: str | None = None


class MetricsWriter:
    """Writes one row per update to `metrics.jsonl`, to a TensorBoard event file, and to W&B if a project is given."""

    def __init__(self, directory: PathLike, first_step: int, wandb_project: str | None = None) -> None:
        """Rows of updates after `first_step` (written by a run that was cut off) are dropped."""
        from tensorboardX import SummaryWriter  # imports protobuf: only training pays for it

        self._path = epath.Path(directory) / METRICS
        kept = []
        if self._path.exists():
            for line in self._path.read_text().splitlines():
                try:
                    row = json.loads(line)
                except json.JSONDecodeError:
                    break  # the last line of a run that was killed while writing
                if row["step"] <= first_step:
                    kept.append(row)
        write_atomically(self._path, "".join(map(jsonl_line, kept)))
        self._stream = self._path.open("a")
        self._tensorboard = SummaryWriter(str(epath.Path(directory) / TENSORBOARD), purge_step=first_step + 1)
        self._wandb = None if wandb_project is None else _wandb_run(directory, wandb_project)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Adds the values of update number `step` (counted from 1)."""
        self._stream.write(jsonl_line({"step": step, **values}))
        self._stream.flush()
        for name, value in values.items():
            self._tensorboard.add_scalar(f"training/{name}", value, step)
        if self._wandb is not None:
            self._wandb.log({f"training/{name}": value for name, value in values.items()}, step=step)

    def close(self) -> None:
        """Flushes everything."""
        self._stream.close()
        self._tensorboard.close()
        if self._wandb is not None:
            self._wandb.finish()


def _wandb_run(directory: PathLike, project: str) -> Any:
    """A run that a restart in the same folder goes on with; ValueError says how to get the package."""
    try:
        import wandb
    except ImportError as error:
        raise ValueError(
            "reporting to Weights & Biases needs its package: pip install 'humpback_jax[wandb]'"
        ) from error
    folder = os.path.abspath(directory)
    name = hashlib.sha256(folder.encode()).hexdigest()[:16]
    return wandb.init(project=project, id=name, name=os.path.basename(folder), dir=folder, resume="allow")


@dataclasses.dataclass(frozen=True)
class Update:
    """Update number `step` (from 1), dispatched, whose metrics nobody has waited for."""

    step: int
    metrics: dict[str, jax.Array]
    learning_rate: float
    work: Workload
    example_ids: tuple[str, ...]
    started: float


class Reports:
    """Checks the metrics of every update and hands them on, one update late, so that the device never waits for us."""

    def __init__(self, writer: MetricsWriter | None, bar: ProgressReporter, throughput: Throughput) -> None:
        """`writer` is None in all processes but one."""
        self._writer, self._bar, self._throughput = writer, bar, throughput
        self._pending: Update | None = None

    def add(self, update: Update) -> None:
        """Takes an update and reports the one before.

        Raises:
          FloatingPointError: loss or gradient norm of the update before are not finite; names it and its examples.
        """
        self.flush()
        self._pending = update

    def flush(self) -> None:
        """Waits for the update that is pending, if any, and reports it; raises as `add` does."""
        if self._pending is None:
            return
        update, self._pending = self._pending, None
        values = {name: float(value) for name, value in update.metrics.items()}
        if not math.isfinite(values["loss"]) or not math.isfinite(values["grad_norm"]):
            raise FloatingPointError(
                f"update {update.step}: loss {values['loss']}, gradient norm {values['grad_norm']}, on examples "
                f"{', '.join(update.example_ids)}; lower the learning rate, or look at these examples"
            )
        values |= {"learning_rate": update.learning_rate} | self._throughput.measure(update.work, update.started)
        if self._writer is not None:
            self._writer.write(update.step, values)
        self._bar.advance(loss=values["loss"], tokens_per_second=round(values["tokens_per_second"]))

    def close(self) -> dict[str, float]:
        """Reports what is pending and closes the writer; returns the figures of all updates."""
        self.flush()
        if self._writer is not None:
            self._writer.close()
        return self._throughput.summary()


class Profiler:
    """Traces its updates into DIRECTORY/profile; use as a context manager, so that a trace is always ended."""

    def __init__(self, directory: PathLike, steps: ProfileSteps | None) -> None:
        self._folder, self._steps, self._active = os.path.join(directory, PROFILE), steps, False

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
