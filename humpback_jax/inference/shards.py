"""Resumable shard files: a job over many items survives `kill -9` at any moment and loses at most one shard per worker.

    DIRECTORY/identity.json            what the job is; another job in the same directory is refused
    DIRECTORY/shard-00003-of-00010.jsonl
    DIRECTORY/shard-00003-of-00010.completed   holds the shard's SHA-256; written after the shard

Items belong to shards by row index, so prompts, draws and bytes do not depend on where or when a shard is made. Several
processes may share the directory: each makes every n-th shard, and waits for the markers of the others.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from etils import epath

from humpback_jax.files import (
    PathLike,
    jsonl_line,
    read_json,
    read_jsonl,
    sha256_of_bytes,
    sha256_of_file,
    write_atomically,
    write_json,
)
from humpback_jax.runtime.processes import POLL_SECONDS, STALL_SECONDS, wait_until_complete

Item = TypeVar("Item")


def claim_directory(directory: PathLike, identity: dict[str, Any], process_index: int = 0) -> None:
    """Writes `identity.json`, or checks that the one there is the same.

    Raises:
      ValueError: the directory belongs to another job; the differing keys are named.
    """
    path = epath.Path(directory) / "identity.json"
    if not path.exists():
        # Processes that start at once write the same bytes, each under a name of its own until they are whole.
        own = path.with_name(f"identity-{process_index:05d}.json")
        write_json(own, identity)
        own.replace(path)
    found = read_json(path)
    if found != identity:
        different = sorted(key for key in found.keys() | identity.keys() if found.get(key) != identity.get(key))
        raise ValueError(
            f"{directory} was begun with another {', '.join(different)}; use another run directory, or delete this "
            "folder to start it again"
        )


def items_of_process(num_items: int, shard_size: int, process_index: int, process_count: int) -> int:
    """How many of the items `run_sharded` gives to one process."""
    starts = range(process_index * shard_size, num_items, process_count * shard_size)
    return sum(min(shard_size, num_items - start) for start in starts)


def run_sharded(
    directory: PathLike,
    items: Sequence[Item],
    shard_size: int,
    process: Callable[[Sequence[Item]], list[dict]],
    *,
    on_skip: Callable[[int], None] | None = None,
    start: Callable[[int], int] | None = None,
    stop: threading.Event | None = None,
    process_index: int = 0,
    process_count: int = 1,
    writes: bool = True,
    poll_seconds: float = POLL_SECONDS,
    stall_seconds: float = STALL_SECONDS,
) -> Iterator[dict]:
    """Runs `process` over this process's missing shards, waits for the others, yields the rows of all shards in order.

    Args:
      directory: claimed with `claim_directory`.
      items: all items of the job, in a fixed order.
      shard_size: items per shard.
      process: items of a shard to its rows.
      on_skip: called with the number of items of every shard of this process that was complete already.
      start: called with the number of missing shards, if there are any, before the first of them; returns how many
        may be in work at a time, each in a thread of its own (default: one, in this thread).
      stop: set when a shard fails, for `process` to give up the shards that are in work.
      process_index, process_count: this process makes the shards i with i % process_count == process_index.
      writes: False in a process that makes the same shards as another one, which writes them.
      poll_seconds: between two looks for the shards of other processes.
      stall_seconds: how long to wait without a new one.

    Raises:
      TimeoutError: the other processes do not come on; names the missing shards.
    """
    folder = epath.Path(directory)
    count = -(-len(items) // shard_size)
    paths = [folder / f"shard-{i:05d}-of-{count:05d}.jsonl" for i in range(count)]
    members = [range(i * shard_size, min((i + 1) * shard_size, len(items))) for i in range(count)]

    def make(i: int) -> None:
        rows = process(items[members[i].start : members[i].stop])
        if not writes:
            return
        data = "".join(map(jsonl_line, rows)).encode()
        write_atomically(paths[i], data)
        write_atomically(_marker(paths[i]), sha256_of_bytes(data))

    own = range(process_index, count, process_count)
    todo = [i for i in own if not _is_complete(paths[i])]
    for i in sorted(set(own) - set(todo)):
        if on_skip is not None:
            on_skip(len(members[i]))
    if todo:
        _make_all(make, todo, start(len(todo)) if start is not None else 1, stop or threading.Event())
    _wait_for(sorted(set(range(count)) - (set(own) if writes else set())), paths, poll_seconds, stall_seconds)
    for path in paths:
        yield from (row for _, row in read_jsonl(path))


def _make_all(make: Callable[[int], None], todo: Sequence[int], concurrency: int, stop: threading.Event) -> None:
    """Makes all shards, `concurrency` at a time; the first that fails stops the others, and its error is raised."""
    if concurrency == 1:
        for i in todo:
            make(i)
        return
    with ThreadPoolExecutor(concurrency, thread_name_prefix="shard") as executor:
        try:
            futures = [executor.submit(make, i) for i in todo]
            wait(futures, return_when=FIRST_EXCEPTION)
            failed = [future for future in futures if future.done() and future.exception() is not None]
            if failed:
                failed[0].result()
        except BaseException:
            stop.set()
            executor.shutdown(wait=False, cancel_futures=True)
            raise


def _wait_for(indices: Sequence[int], paths: Sequence[epath.Path], poll_seconds: float, stall_seconds: float) -> None:
    """Waits until these shards are complete; a shard that was seen complete is not looked at again."""
    unseen = list(indices)

    def missing() -> list[str]:
        unseen[:] = [i for i in unseen if not _is_complete(paths[i])]
        return [str(paths[i]) for i in unseen]

    wait_until_complete(missing, poll_seconds=poll_seconds, stall_seconds=stall_seconds)


def _marker(path: epath.Path) -> epath.Path:
    return path.with_suffix(".completed")


def _is_complete(path: epath.Path) -> bool:
    """True when the marker is there and the shard still has the bytes it names."""
    return _marker(path).exists() and path.exists() and _marker(path).read_text() == sha256_of_file(path)
