"""A pool of worker processes that is watched from outside: a task goes on after the record that hangs or kills it.

A worker says before every record what it is about to do, in memory that it shares with the pool. When a record takes
too long the pool ends the worker; when a worker ends by itself (out of memory, a crash in a library) the pool notices.
Either way the task begins again in another worker, and a record that did it twice is left out. (Once may be an accident
from outside, and accidents must not change what is written.) Workers are forked from a clean server process, never from
the caller, and are replaced after some tasks, so that memory which a library loses is given back.
"""

import collections
import dataclasses
import gc
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any

WORKERS_VARIABLE = "HUMPBACK_CORPUS_WORKERS"
TASKS_PER_WORKER = 50
HUNG, DIED = "timeout", "crashed"

_POLL_SECONDS = 0.2
_IDLE, _READING, _CUTTING = 0.0, 1.0, 2.0
_READY = "ready"
_COLLECTED = (50_000, 20, 20)  # objects, and rounds, between the garbage collector's looks
_PRELOADED = ["humpback_jax.corpus.pipeline.local", "humpback_jax.corpus.page_segments"]


def default_workers() -> int:
    """As many as there are cores for this process, or what HUMPBACK_CORPUS_WORKERS says."""
    if value := os.environ.get(WORKERS_VARIABLE):
        if not value.isdigit() or int(value) < 1:
            raise ValueError(f"{WORKERS_VARIABLE} must be a whole number of at least 1, found {value!r}")
        return int(value)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """A picklable piece of work: `function(argument, monitor)` in a worker.

    Attributes:
      name: for messages.
      stops: records at which the reading of the shard ends, and why.
      skips: records that are read and not cut, and why.
    """

    name: str
    function: Callable[[Any, "Heartbeat"], Any]
    argument: Any
    stops: tuple[tuple[int, str], ...] = ()
    skips: tuple[tuple[int, str], ...] = ()


class Heartbeat:
    """The worker's side of the watch: what it is about to do, and which records it must leave out."""

    def __init__(self, shared: Any, task: Task) -> None:
        self._shared, self._stops, self._skips = shared, dict(task.stops), dict(task.skips)

    def reading(self, record: int) -> str | None:
        """Before a record is read."""
        self._shared[:] = (record, _READING, time.monotonic())
        return self._stops.get(record)

    def cutting(self, record: int) -> str | None:
        """Before a record is cut."""
        self._shared[:] = (record, _CUTTING, time.monotonic())
        return self._skips.get(record)

    def rest(self) -> None:
        """No record is at work."""
        self._shared[:] = (0, _IDLE, time.monotonic())


class _Worker:
    """A process, the pool's end of its pipe, and the task that it has."""

    def __init__(self, context: Any) -> None:
        self.shared = context.RawArray("d", 3)
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, self.shared), daemon=True)
        self.process.start()
        theirs.close()
        self.ready, self.tasks_done, self.task = False, 0, None  # type: bool, int, Task | None

    def give(self, task: Task) -> None:
        self.task, self.shared[1] = task, _IDLE
        self.connection.send(task)

    def is_overdue(self, seconds: float) -> bool:
        return self.shared[1] != _IDLE and time.monotonic() - self.shared[2] > seconds

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


class Pool:
    """Workers for the length of a `with` block; see the module."""

    def __init__(self, workers: int, seconds_per_record: float, tasks_per_worker: int = TASKS_PER_WORKER) -> None:
        self.workers = workers
        self._seconds, self._tasks_per_worker = seconds_per_record, tasks_per_worker
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(_PRELOADED)
        self._idle: list[_Worker] = []
        self._busy: list[_Worker] = []
        self._incidents: collections.Counter[tuple[str, int, float]] = collections.Counter()

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._idle + self._busy:
            worker.end()
        self._idle, self._busy = [], []

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[str, Any]]:
        """(name of the task, what its function returned) as they end, in any order.

        Raises:
          RuntimeError: a function raised, or a worker ends again and again outside any record.
        """
        waiting = collections.deque(tasks)
        while waiting or self._busy:
            while waiting and len(self._busy) < self.workers:
                worker = self._idle.pop() if self._idle else _Worker(self._context)
                self._busy.append(worker)
                worker.give(waiting.popleft())
            ready = set(multiprocessing.connection.wait([w.connection for w in self._busy], _POLL_SECONDS))
            for worker in list(self._busy):
                if worker.connection in ready:
                    yield from self._receive(worker, waiting)
                elif worker.is_overdue(self._seconds):
                    self._replace(worker, HUNG, waiting)

    def _receive(self, worker: _Worker, waiting: collections.deque[Task]) -> Iterator[tuple[str, Any]]:
        try:
            message = worker.connection.recv()
        except (EOFError, OSError):
            self._replace(worker, DIED, waiting)
            return
        if message == _READY:
            worker.ready = True
            return
        task, (succeeded, result) = worker.task, message
        assert task is not None
        if not succeeded:
            raise RuntimeError(f"{task.name} failed in a worker:\n{result}")
        worker.tasks_done += 1
        self._busy.remove(worker)
        if worker.tasks_done < self._tasks_per_worker:
            self._idle.append(worker)
        else:
            worker.end()
        yield task.name, result

    def _replace(self, worker: _Worker, reason: str, waiting: collections.deque[Task]) -> None:
        """Ends a worker and puts its task first in the queue, without the record that has ended two workers."""
        record, doing, task = int(worker.shared[0]), worker.shared[1], worker.task
        assert task is not None
        self._busy.remove(worker)
        worker.end()
        place = task.name, record, doing
        self._incidents[place] += 1
        if self._incidents[place] > 1:
            task = _without(task, record, doing, reason, worker.ready)
        waiting.appendleft(task)


def _without(task: Task, record: int, doing: float, reason: str, was_ready: bool) -> Task:
    if doing == _READING:
        return dataclasses.replace(task, stops=(*task.stops, (record, reason)))
    if doing == _CUTTING:
        return dataclasses.replace(task, skips=(*task.skips, (record, reason)))
    if not was_ready:
        raise RuntimeError(
            "worker processes do not start; a script that builds a corpus does so below `if __name__ == '__main__':`"
        )
    raise RuntimeError(
        f"{task.name}: its worker process was ended twice from outside, probably for want of memory; use fewer workers"
    )


def _serve(connection: multiprocessing.connection.Connection, shared: Any) -> None:
    """The worker's loop: a task, its result, until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the pool's process ends its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Pages make many objects and no cycles: what is loaded is never looked at again, the rest seldom.
    gc.freeze()
    gc.set_threshold(*_COLLECTED)
    connection.send(_READY)
    while True:
        try:
            task: Task = connection.recv()
        except EOFError:
            return
        heartbeat = Heartbeat(shared, task)
        try:
            message = True, task.function(task.argument, heartbeat)
        except Exception:
            message = False, traceback.format_exc()
        heartbeat.rest()
        connection.send(message)


def _end_with_parent() -> None:
    """A worker whose pool was killed must not go on writing beside the next run's."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        sys.stderr.flush()
        os._exit(1)
