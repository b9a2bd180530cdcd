"""Resumable shard files: a job over many items survives `kill -9` at any moment and loses at most one shard per worker.

    DIRECTORY/identity.json            what the job is; another job in the same directory is refused
    DIRECTORY/shard-00003-of-00010.jsonl
    DIRECTORY/shard-00003-of-00010.completed   holds the shard's SHA-256; written after the shard

Items belong to shards by row index, so prompts, draws and bytes do not depend on where or when a shard is made. Several
processes may share the directory: each makes every n-th shard, and waits for the markers of the others.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any, Generic, Protocol, TypeVar

from etils import epath

from humpback_jax.files import (
    PathLike,
    jsonl_line,
    read_json,
    sha256_of_bytes,
    sha256_of_file,
    write_atomically,
    write_json,
)
from humpback_jax.run_files import IDENTITY, SHARD, SHARD_COMPLETED
from humpback_jax.runtime.processes import POLL_SECONDS, wait_until_complete

Item = TypeVar("Item")
ItemOut = TypeVar("ItemOut", covariant=True)
Worker = Callable[[Sequence[Item]], list[dict]]


class Items(Protocol[ItemOut]):
    """What a job takes: a sequence, or what makes the items of a slice when it is asked for them."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Sequence[ItemOut]: ...


def claim_directory(directory: PathLike, identity: dict[str, Any], process_index: int = 0) -> None:
    """Writes `identity.json`, or checks that the one there is the same.

    Raises:
      ValueError: the directory belongs to another job; the differing keys are named.
    """
    path = epath.Path(directory) / IDENTITY
    if not path.exists():
        # Processes that start at once write the same bytes, each under a name of its own until they are whole.
        temporary = path.with_name(f"identity-{process_index:05d}.json")
        write_json(temporary, identity)
        temporary.replace(path)
    begun = read_json(path)
    if begun != identity:
        different = sorted(key for key in begun.keys() | identity.keys() if begun.get(key) != identity.get(key))
        raise ValueError(
            f"{directory} was begun with another {', '.join(different)}; use another run directory, or delete this "
            "folder to start it again"
        )


class Shards(Generic[Item]):
    """The shard files of one job, and this process's share of them.

    Attributes:
      num_items: of this process's shards.
      missing: numbers of those among them that are yet to be made.
      paths: of all shards of the job, in order.
    """

    def __init__(
        self,
        directory: PathLike,
        items: Items[Item],
        shard_size: int,
        process_index: int = 0,
        process_count: int = 1,
        writes: bool = True,
    ) -> None:
        """Looks at what is there.

        Args:
          directory: claimed with `claim_directory`.
          items: all items of the job, in a fixed order.
          shard_size: items per shard.
          process_index, process_count: this process makes the shards i with i % process_count == process_index.
          writes: False in a process that makes the same shards as another one, which writes them.
        """
        folder, count = epath.Path(directory), -(-len(items) // shard_size)
        self._items, self._shard_size, self._writes = items, shard_size, writes
        self.paths = [folder / SHARD.format(i=i, n=count) for i in range(count)]
        self._share = range(process_index, count, process_count)
        self.num_items = sum(map(self._length, self._share))
        self.missing = [i for i in self._share if not _is_complete(self.paths[i])]

    @property
    def num_complete(self) -> int:
        """Items of this process's shards that were there from the start."""
        return self.num_items - sum(map(self._length, self.missing))

    def make(self, workers: Sequence[Worker[Item]], stop: threading.Event | None = None) -> None:
        """Makes the missing shards, as many at a time as there are workers; the first that fails ends them all.

        Args:
          workers: each turns the items of a shard into its rows, in a thread of its own if there are several.
          stop: set when a shard fails, for workers to give up those that are under way.
        """
        todo, stop = iter(self.missing), stop or threading.Event()
        if len(workers) < 2:
            for worker in workers:
                self._work(worker, todo, stop)
            return
        with ThreadPoolExecutor(len(workers), thread_name_prefix="shard") as executor:
            try:
                # The iterator of a list may be shared: every thread takes what comes next.
                futures = [executor.submit(self._work, worker, todo, stop) for worker in workers]
                ended, _ = wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                stop.set()
        for future in ended:
            future.result()

    def fill(self, ready: Callable[[Sequence[Item]], list[dict] | None]) -> int:
        """Writes the missing shards whose rows are there already; returns how many items they hold.

        Args:
          ready: the rows of a shard's items, or None where they must be made.
        """
        left, filled = [], 0
        for i in self.missing:
            rows = ready(self._part(i))
            if rows is None:
                left.append(i)
                continue
            self._write(i, rows)
            filled += len(rows)
        self.missing = left
        return filled

    def wait(self, poll_seconds: float = POLL_SECONDS, patience: float | None = None) -> None:
        """Returns when the shards of all processes are complete.

        Raises:
          TimeoutError: no new shard came for `patience` seconds (default: `stall_seconds`); names the missing ones.
        """
        of_others = set(range(len(self.paths))) - (set(self._share) if self._writes else set())
        _wait_for([self.paths[i] for i in sorted(of_others)], poll_seconds, patience)

    def _work(self, worker: Worker[Item], todo: Iterator[int], stop: threading.Event) -> None:
        for i in todo:
            if stop.is_set():
                return
            self._write(i, worker(self._part(i)))

    def _part(self, i: int) -> Sequence[Item]:
        return self._items[i * self._shard_size : (i + 1) * self._shard_size]

    def _write(self, i: int, rows: list[dict]) -> None:
        if self._writes:
            data = "".join(map(jsonl_line, rows)).encode()
            write_atomically(self.paths[i], data)
            write_atomically(_marker(self.paths[i]), sha256_of_bytes(data))

    def _length(self, i: int) -> int:
        return min(self._shard_size, len(self._items) - i * self._shard_size)


def complete_shards(directory: PathLike) -> list[epath.Path]:
    """The shard files of a job, or of what was done of it, that are whole."""
    markers = epath.Path(directory).glob(f"*{os.path.splitext(SHARD_COMPLETED)[1]}")
    shards = (path.with_suffix(os.path.splitext(SHARD)[1]) for path in markers)
    return sorted(path for path in shards if _is_complete(path))


def _wait_for(paths: Sequence[epath.Path], poll_seconds: float, patience: float | None) -> None:
    """Waits until these shards are complete; a shard that was seen complete is not looked at again."""
    unseen = list(paths)

    def missing() -> list[str]:
        unseen[:] = [path for path in unseen if not _is_complete(path)]
        return list(map(str, unseen))

    wait_until_complete(missing, poll_seconds=poll_seconds, patience=patience)


def _marker(path: epath.Path) -> epath.Path:
    return path.with_suffix(os.path.splitext(SHARD_COMPLETED)[1])


def _is_complete(path: epath.Path) -> bool:
    """True when the marker is there and the shard still has the bytes it names."""
    return _marker(path).exists() and path.exists() and _marker(path).read_text() == sha256_of_file(path)
