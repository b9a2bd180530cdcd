"""Continuous batching: which request enters which slot when, and whose tokens a chunk of decode steps holds.

The loop knows nothing of the model; it drives the `Programs` of an engine. Requests enter in the order given, in groups
of one prompt bucket, and that order alone decides the schedule: nothing here depends on the clock.
"""

import collections
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np


@dataclasses.dataclass(frozen=True)
class Finished:
    """What a slot wrote for a request: token ids without the stop token."""

    index: int
    slot: int
    token_ids: tuple[int, ...]
    stopped: bool
    finite: bool


@dataclasses.dataclass
class Occupant:
    """One request in a slot. Reports that were under way when it finished still name it, and are ignored."""

    index: int
    finished: bool = False


@dataclasses.dataclass
class SlotStats:
    """How well the slots were used.

    Attributes:
      requests: requests finished.
      chunks: dispatches of the decode program.
      steps: decode steps run.
      kept: row-steps that gave a token that is kept.
      slots: rows of a step.
      prompt_tokens: real prompt tokens prefilled, the shared prefix not counted.
      prefill_tokens: prompt tokens computed, padding included.
    """

    slots: int
    requests: int = 0
    chunks: int = 0
    steps: int = 0
    kept: int = 0
    prompt_tokens: int = 0
    prefill_tokens: int = 0

    @property
    def row_step_efficiency(self) -> float:
        """Share of the row-steps that gave a token that is kept."""
        return self.kept / max(1, self.steps * self.slots)

    @property
    def padding_waste(self) -> float:
        """Share of the prefilled tokens that were padding."""
        return 1.0 - self.prompt_tokens / self.prefill_tokens if self.prefill_tokens else 0.0


class Programs(Protocol):
    """What the loop needs of an engine; every method only dispatches, except reading a report."""

    def insert(self, bucket: int, members: Sequence[tuple[int, int]]) -> None:
        """Prefills (slot, request index) pairs of one bucket, at most `group_size(bucket)` of them."""

    def decode(self, exit_at: int) -> Any:
        """Dispatches one chunk and returns its report: see `humpback_jax.inference.decode.ChunkReport`."""

    def read(self, report: Any) -> Any:
        """The report's arrays on the host."""

    def group_size(self, bucket: int) -> int:
        """Rows of one prefill call."""


def run_slots(
    programs: Programs,
    buckets: Sequence[int],
    lengths: Sequence[int],
    slots: int,
    overlap: bool,
    on_finished: Callable[[Sequence[Finished]], None],
    stats: SlotStats,
) -> None:
    """Runs all requests.

    Args:
      programs: of an engine with empty slots.
      buckets: prompt bucket of every request, ascending.
      lengths: prompt tokens of every request, for the statistics.
      slots: rows.
      overlap: dispatch chunk k + 1 before reading chunk k. Hides the host behind the device, at the price of one chunk
        per request in which its slot is idle. Without it a chunk also ends as soon as enough slots are free.
      on_finished: called with the requests that a report shows finished, before their slots are used again.
      stats: updated in place.
    """
    pending = collections.deque(range(len(buckets)))
    occupants: list[Occupant | None] = [None] * slots
    under_way: collections.deque[tuple[Any, tuple[Occupant | None, ...]]] = collections.deque()
    while pending or any(occupants) or under_way:
        while group := _next_group(programs, buckets, pending, occupants):
            _insert(programs, buckets, lengths, group, occupants, stats)
        if any(occupant is not None for occupant in occupants):
            wanted = min(programs.group_size(buckets[pending[0]]), len(pending)) if pending else slots
            under_way.append((programs.decode(slots + 1 if overlap else wanted), tuple(occupants)))
            stats.chunks += 1
            if overlap and len(under_way) < 2:
                continue
        report, snapshot = under_way.popleft()
        _read(programs.read(report), snapshot, occupants, on_finished, stats)


def _next_group(
    programs: Programs,
    buckets: Sequence[int],
    pending: collections.deque[int],
    occupants: Sequence[Occupant | None],
) -> list[tuple[int, int]]:
    """(slot, request) pairs of the next prefill call, or nothing while too few slots are free for a full one."""
    if not pending:
        return []
    bucket = buckets[pending[0]]
    count = 0
    while count < min(len(pending), programs.group_size(bucket)) and buckets[pending[count]] == bucket:
        count += 1
    free = [slot for slot, occupant in enumerate(occupants) if occupant is None]
    return [(slot, pending.popleft()) for slot in free[:count]] if len(free) >= count else []


def _insert(
    programs: Programs,
    buckets: Sequence[int],
    lengths: Sequence[int],
    group: Sequence[tuple[int, int]],
    occupants: list[Occupant | None],
    stats: SlotStats,
) -> None:
    bucket = buckets[group[0][1]]
    programs.insert(bucket, group)
    for slot, index in group:
        occupants[slot] = Occupant(index)
        stats.prompt_tokens += lengths[index]
    stats.prefill_tokens += bucket * programs.group_size(bucket)


def _read(
    report: Any,
    snapshot: Sequence[Occupant | None],
    occupants: list[Occupant | None],
    on_finished: Callable[[Sequence[Finished]], None],
    stats: SlotStats,
) -> None:
    """Hands over what the rows of this report's own occupants wrote, and frees their slots."""
    stats.steps += int(report.steps)
    stats.kept += int(report.kept)
    finished = []
    for slot, occupant in enumerate(snapshot):
        if occupant is None or occupant.finished or not report.done[slot]:
            continue
        ids = np.asarray(report.output[slot, : report.counts[slot]]).tolist()
        stopped, finite = bool(report.stopped[slot]), bool(report.finite[slot])
        finished.append(Finished(occupant.index, slot, tuple(ids), stopped, finite))
        occupant.finished = True
        occupants[slot] = None
    if finished:
        stats.requests += len(finished)
        on_finished(finished)
