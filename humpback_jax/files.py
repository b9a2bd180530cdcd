"""Files that are either whole or absent: atomic writes, JSON lines, hashes. Paths may be local or `gs://`."""

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from etils import epath

PathLike = str | os.PathLike[str]


@contextlib.contextmanager
def atomic_writer(path: PathLike) -> Iterator[BinaryIO]:
    """A stream whose content appears at `path` when the block ends well; a reader sees the old file or the new one."""
    target = epath.Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(target.name + ".tmp")
    try:
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            if hasattr(stream, "fileno"):
                os.fsync(stream.fileno())
        temporary.replace(target)
    except OSError as error:
        raise OSError(
            error.errno,
            f"could not write {path} ({error.strerror}); free space or choose another folder, then run again",
        ) from error


def write_atomically(path: PathLike, data: str | bytes) -> None:
    """Writes `data` whole or not at all; a full disk names the file."""
    with atomic_writer(path) as stream:
        stream.write(data.encode() if isinstance(data, str) else data)


def read_json(path: PathLike) -> Any:
    """The JSON value in a file; a damaged file raises ValueError naming it."""
    try:
        return json.loads(epath.Path(path).read_text())
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} is not valid JSON ({error}); delete it and run the step that writes it again"
        ) from error


def write_json(path: PathLike, value: Any) -> None:
    """Writes `value` as indented JSON with sorted keys, atomically."""
    write_atomically(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def read_jsonl(path: PathLike) -> Iterator[tuple[int, dict]]:
    """Yields (line number from 1, object) for every non-empty line; ValueError names file and line."""
    with epath.Path(path).open("r") as stream:
        yield from json_lines(stream, path)


def json_lines(stream: Iterable[str], path: PathLike) -> Iterator[tuple[int, dict]]:
    """What `read_jsonl` yields, of lines that are open already; `path` is for messages."""
    for number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}:{number}: not valid JSON ({error}); every line must be one object") from error
        if not isinstance(row, dict):
            raise ValueError(f"{path}:{number}: expected a JSON object, found {type(row).__name__}")
        yield number, row


def jsonl_line(row: dict) -> str:
    """One JSON object as a line; key order is kept so that equal rows give equal bytes."""
    return json.dumps(row, ensure_ascii=False) + "\n"


def write_jsonl(path: PathLike, rows: Iterable[dict]) -> None:
    """Writes rows as JSON lines as they come, whole or not at all."""
    with atomic_writer(path) as stream:
        for row in rows:
            stream.write(jsonl_line(row).encode())


class GrowingFile:
    """JSON lines that several threads add to; a row is on the disk before `append` returns."""

    def __init__(self, path: PathLike) -> None:
        self.path = epath.Path(path)
        self._lock = threading.Lock()

    def append(self, row: dict) -> None:
        """Adds one object; a lone surrogate in it becomes a question mark."""
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as stream:
                stream.write(jsonl_line(row).encode("utf-8", errors="replace"))
                stream.flush()
                os.fsync(stream.fileno())


def sha256_of_bytes(data: bytes) -> str:
    """Hex digest."""
    return hashlib.sha256(data).hexdigest()


def sha256_of_file(path: PathLike) -> str:
    """Hex digest of a file's content, read in blocks of 1 MiB."""
    digest = hashlib.sha256()
    with epath.Path(path).open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
