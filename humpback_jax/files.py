"""Files that are either whole or absent: atomic writes, JSON lines, hashes. Paths may be local or `gs://`."""

import bisect
import contextlib
import functools
import gzip
import hashlib
import itertools
import json
import os
import pathlib
import shutil
import tempfile
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, TypeVar

from etils import epath

PathLike = str | os.PathLike[str]
Item = TypeVar("Item")

GZIP_MAGIC = b"\x1f\x8b"


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


def read_text(path: PathLike) -> str:
    """The UTF-8 text of a file, gzipped or not, without a byte order mark; ValueError names a file that is neither."""
    data = epath.Path(path).read_bytes()
    try:
        return (gzip.decompress(data) if data.startswith(GZIP_MAGIC) else data).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise ValueError(f"{path} is not gzipped or plain UTF-8 text ({error}); get this file again") from error


def read_json_values(path: PathLike) -> list[Any]:
    """The values of a JSON file, gzipped or not: a list, JSON lines, or one object of columns as one object per row.

    Raises:
      ValueError: the file is none of these.
    """
    text = read_text(path)
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        try:
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        except json.JSONDecodeError:
            raise ValueError(f"{path} is neither JSON nor JSON lines ({error}); get this file again") from error
    if isinstance(value, dict):
        columns = bool(value) and all(isinstance(column, dict | list) for column in value.values())
        return rows_of_columns(value) if columns else [value]  # or JSON lines with a single line
    if not isinstance(value, list):
        raise ValueError(f"{path} holds {type(value).__name__}; expected a list of annotations")
    return value


def rows_of_columns(columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    """{column: {row: value}} or {column: [value]}, as pandas writes them, as one object per row."""
    by_row = {name: c if isinstance(c, dict) else dict(enumerate(c)) for name, c in columns.items()}
    index = list(dict.fromkeys(row for column in by_row.values() for row in column))
    return [{name: column.get(row) for name, column in by_row.items()} for row in index]


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
        if line.strip():
            yield number, _json_object(line, f"{path}:{number}")


def _json_object(line: str | bytes, where: str) -> dict:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{where}: not valid JSON ({error}); every line must be one object") from error
    if not isinstance(row, dict):
        raise ValueError(f"{where}: expected a JSON object, found {type(row).__name__}")
    return row


class JsonLines:
    """The rows of JSONL files, one file after the other, none of them held: a row is read again by its position.

    A position is the row's first byte, counted over all files. Files that are not local are copied to a temporary
    folder at the first use, because rows are read again in any order.
    """

    def __init__(self, paths: Iterable[PathLike]) -> None:
        self._paths = [os.fspath(path) for path in paths]

    def __str__(self) -> str:
        return " … ".join(dict.fromkeys([self._paths[0], self._paths[-1]])) if self._paths else "no file"

    def __len__(self) -> int:
        return sum(1 for _ in self.positions())

    def __iter__(self) -> Iterator[tuple[int, dict]]:
        """(position, row) of every row; ValueError names file and line."""
        for position, line, where in self._lines():
            yield position, _json_object(line, where)

    def positions(self) -> Iterator[int]:
        """Of every row, in order; what a row says is not looked at."""
        return (position for position, _, _ in self._lines())

    def at(self, positions: Sequence[int]) -> list[dict]:
        """Rows at positions, in the order given; they are read in the order of the files."""
        rows: dict[int, dict] = {}
        ascending = sorted(int(position) for position in positions)
        for number, inside in itertools.groupby(ascending, lambda place: bisect.bisect(self._starts, place) - 1):
            with self._local[number].open("rb") as stream:
                for position in inside:
                    stream.seek(position - self._starts[number])
                    rows[position] = _json_object(stream.readline(), f"{self._paths[number]}: byte {stream.tell()}")
        return [rows[int(position)] for position in positions]

    def _lines(self) -> Iterator[tuple[int, bytes, str]]:
        """(position, line, where for messages) of every line that is not empty."""
        for path, local, position in zip(self._paths, self._local, self._starts, strict=True):
            with local.open("rb") as stream:
                for number, line in enumerate(stream, start=1):
                    if line.strip():
                        yield position, line, f"{path}:{number}"
                    position += len(line)

    @functools.cached_property
    def _starts(self) -> list[int]:
        """Position of every file's first byte."""
        sizes = [path.stat().st_size for path in self._local]
        return [0, *itertools.accumulate(sizes)][: len(sizes)]

    @functools.cached_property
    def _local(self) -> list[pathlib.Path]:
        return [_local_copy(path, self._copies) if is_remote(path) else pathlib.Path(path) for path in self._paths]

    @functools.cached_property
    def _copies(self) -> tempfile.TemporaryDirectory:
        return tempfile.TemporaryDirectory(prefix="humpback-")


def is_remote(path: PathLike) -> bool:
    """Whether a path is a URL such as `gs://…`."""
    return "://" in os.fspath(path)


def _local_copy(path: str, folder: tempfile.TemporaryDirectory) -> pathlib.Path:
    descriptor, name = tempfile.mkstemp(dir=folder.name)
    with epath.Path(path).open("rb") as source, open(descriptor, "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
    return pathlib.Path(name)


def in_blocks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items; the last one is shorter."""
    iterator = iter(items)
    while block := list(itertools.islice(iterator, size)):
        yield block


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
