"""Continuous batching: which request enters which slot when, and whose tokens a chunk of decode steps holds.

The loop knows nothing of the model; it drives the `Programs` of an engine. Requests enter in the order given, in groups
of one prompt bucket, and that order alone decides the schedule: nothing here depends on the clock.
"""

import collections
import dataclasses
from collections.abc import Iterator, Sequence
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


@dataclasses.dataclass(frozen=True)
class Prompt:
    """What the loop knows of a request: the bucket and the length of its prompt, the shared prefix not counted."""

    bucket: int
    length: int


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


class Slots:
    """The slots of one run, and which request stands in which."""

    def __init__(self, programs: Programs, prompts: Sequence[Prompt], stats: SlotStats, overlap: bool) -> None:
        """Nothing is dispatched yet.

        Args:
          programs: of an engine with empty slots.
          prompts: of all requests, by ascending bucket.
          stats: of the engine; updated in place.
          overlap: dispatch chunk k + 1 before reading chunk k. Hides the host behind the device, at the price of one
            chunk per request in which its slot is idle. Without it a chunk also ends as soon as enough slots are free.
        """
        self._programs, self._prompts, self._stats, self._overlap = programs, prompts, stats, overlap
        self._pending = collections.deque(range(len(prompts)))
        self._occupants: list[Occupant | None] = [None] * stats.slots
        self._under_way: collections.deque[tuple[Any, tuple[Occupant | None, ...]]] = collections.deque()

    def run(self) -> Iterator[list[Finished]]:
        """Runs all requests; yields those that a report shows finished, before their slots are used again."""
        while self._pending or any(self._occupants) or self._under_way:
            while group := self._next_group():
                self._insert(group)
            if any(occupant is not None for occupant in self._occupants):
                self._under_way.append((self._programs.decode(self._exit_at()), tuple(self._occupants)))
                self._stats.chunks += 1
                if self._overlap and len(self._under_way) < 2:
                    continue
            report, snapshot = self._under_way.popleft()
            if finished := self._read(self._programs.read(report), snapshot):
                yield finished

    def _next_group(self) -> list[tuple[int, int]]:
        """(slot, request) pairs of the next prefill call, or nothing while too few slots are free for a full one."""
        if not self._pending:
            return []
        bucket, count = self._prompts[self._pending[0]].bucket, 0
        most = min(len(self._pending), self._programs.group_size(bucket))
        while count < most and self._prompts[self._pending[count]].bucket == bucket:
            count += 1
        free = [slot for slot, occupant in enumerate(self._occupants) if occupant is None]
        return [(slot, self._pending.popleft()) for slot in free[:count]] if len(free) >= count else []

    def _insert(self, group: Sequence[tuple[int, int]]) -> None:
        bucket = self._prompts[group[0][1]].bucket
        self._programs.insert(bucket, group)
        for slot, index in group:
            self._occupants[slot] = Occupant(index)
            self._stats.prompt_tokens += self._prompts[index].length
        self._stats.prefill_tokens += bucket * self._programs.group_size(bucket)

    def _exit_at(self) -> int:
        """Rows that may be done before a chunk ends: where chunks do not overlap, as many as the next group needs."""
        if self._overlap:
            return self._stats.slots + 1
        if not self._pending:
            return self._stats.slots
        return min(self._programs.group_size(self._prompts[self._pending[0]].bucket), len(self._pending))

    def _read(self, report: Any, snapshot: Sequence[Occupant | None]) -> list[Finished]:
        """What the rows of this report's own occupants wrote; frees their slots."""
        self._stats.steps += int(report.steps)
        self._stats.kept += int(report.kept)
        finished = []
        for slot, occupant in enumerate(snapshot):
            if occupant is None or occupant.finished or not report.done[slot]:
                continue
            ids = np.asarray(report.output[slot, : report.counts[slot]]).tolist()
            stopped, finite = bool(report.stopped[slot]), bool(report.finite[slot])
            finished.append(Finished(occupant.index, slot, tuple(ids), stopped, finite))
            occupant.finished = True
            self._occupants[slot] = None
        self._stats.requests += len(finished)
        return finished
