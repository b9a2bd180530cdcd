"""What a run says about its updates; the metrics of one are read while the next already runs."""

import dataclasses
import math

from humpback_jax.runtime.progress import ProgressReporter
from humpback_jax.training.monitoring import MetricsWriter
from humpback_jax.training.step import Metrics
from humpback_jax.training.throughput import Throughput, Workload


@dataclasses.dataclass(frozen=True)
class Update:
    """Update number `step` (from 1), dispatched, whose metrics nobody has waited for."""

    step: int
    metrics: Metrics
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
