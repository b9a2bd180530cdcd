"""Resumable shard files: a job over many items survives `kill -9` at any moment and loses at most one shard.

    DIRECTORY/identity.json            what the job is; another job in the same directory is refused
    DIRECTORY/shard-00003-of-00010.jsonl
    DIRECTORY/shard-00003-of-00010.completed   holds the shard's SHA-256; written after the shard

Items belong to shards by row index, so prompts, draws and bytes do not depend on where or when a shard is made.
"""

from collections.abc import Callable, Iterator, Sequence
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

Item = TypeVar("Item")


def claim_directory(directory: PathLike, identity: dict[str, Any]) -> None:
    """Writes `identity.json`, or checks that the one there is the same.

    Raises:
      ValueError: the directory belongs to another job; the differing keys are named.
    """
    path = epath.Path(directory) / "identity.json"
    if not path.exists():
        write_json(path, identity)
        return
    found = read_json(path)
    if found != identity:
        different = sorted(key for key in found.keys() | identity.keys() if found.get(key) != identity.get(key))
        raise ValueError(
            f"{directory} was begun with another {', '.join(different)}; use another run directory, or delete this "
            "folder to start it again"
        )


def run_sharded(
    directory: PathLike,
    items: Sequence[Item],
    shard_size: int,
    process: Callable[[Sequence[Item]], list[dict]],
    *,
    on_skip: Callable[[int], None] | None = None,
) -> Iterator[dict]:
    """Runs `process` over the shards that are not complete yet, then yields the rows of all shards in order.

    Args:
      directory: claimed with `claim_directory`.
      items: all items of the job, in a fixed order.
      shard_size: items per shard.
      process: items of a shard to its rows.
      on_skip: called with the number of items of every shard that was complete already.
    """
    folder = epath.Path(directory)
    count = -(-len(items) // shard_size)
    paths = [folder / f"shard-{i:05d}-of-{count:05d}.jsonl" for i in range(count)]
    for i, path in enumerate(paths):
        members = items[i * shard_size : (i + 1) * shard_size]
        if _is_complete(path):
            if on_skip is not None:
                on_skip(len(members))
            continue
        data = "".join(map(jsonl_line, process(members))).encode()
        write_atomically(path, data)
        write_atomically(_marker(path), sha256_of_bytes(data))
    for path in paths:
        yield from (row for _, row in read_jsonl(path))


def _marker(path: epath.Path) -> epath.Path:
    return path.with_suffix(".completed")


def _is_complete(path: epath.Path) -> bool:
    """True when the marker is there and the shard still has the bytes it names."""
    return _marker(path).exists() and path.exists() and _marker(path).read_text() == sha256_of_file(path)
