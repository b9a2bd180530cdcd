"""The sharded files of a corpus folder: how they are named, written and read, as JSON lines or Parquet.

A set of files such as `segments-00000-of-00003.jsonl` is read as one, in order. Segments are in the order of their ids.
"""

import contextlib
import itertools
import json
import re
from collections.abc import Iterator
from typing import Any, Literal

from etils import epath

from humpback_jax.files import PathLike, atomic_writer, jsonl_line, read_jsonl, sha256_of_bytes, sha256_of_file
from humpback_jax.run_files import SEGMENTS

FileFormat = Literal["jsonl", "parquet"]

ROWS_PER_FILE = 50_000  # of segments: about 100 MB of JSON lines
_ROWS_PER_GROUP = 5_000  # rows of Parquet in memory at a time
_NUMBERED = re.compile(r"-(\d{5,})-of-(\d{5,})\.(\w+)$")


def read_segments(folder: PathLike) -> Iterator[dict]:
    """The segments of a corpus folder or of the stage `segments`, one at a time, in the order of their ids.

    Raises:
      FileNotFoundError: there are none.
      ValueError: a file of the set is missing, or a line is damaged; both are named.
    """
    return read_shards(folder, SEGMENTS)


def segments_sha256(folder: PathLike) -> str:
    """Hash of the segments' content: of the hashes of their files, in order."""
    return sha256_of_bytes("\n".join(sha256_of_file(path) for path in shard_paths(folder, SEGMENTS)).encode())


class RowFile(contextlib.AbstractContextManager["RowFile"]):
    """A file that rows are written to one at a time; it is there, whole, once the block ends well.

    Rows of Parquet have the columns of the first one; a file without rows has none.
    """

    def __init__(self, path: PathLike, file_format: FileFormat = "jsonl") -> None:
        self.path = epath.Path(path)
        self._format, self._rows, self._pending = file_format, 0, []  # type: FileFormat, int, list[dict]
        self._stack = contextlib.ExitStack()
        self._parquet: Any = None

    def __enter__(self) -> "RowFile":
        self._stream = self._stack.enter_context(atomic_writer(self.path))
        return self

    def __exit__(self, *error: Any) -> bool | None:
        if error[0] is None and self._format == "parquet":
            self._flush()
            self._parquet.close()
        return self._stack.__exit__(*error)

    def write(self, row: dict) -> None:
        """Adds a row."""
        if self._format == "jsonl":
            self._rows += 1
            self._stream.write(jsonl_line(row).encode())
            return
        self._add_to_group(row)

    def write_json(self, row: str) -> None:
        """Adds a row that is JSON already, as `jsonl_line` makes it."""
        if self._format == "jsonl":
            self._rows += 1
            self._stream.write((row + "\n").encode())
            return
        self._add_to_group(json.loads(row))

    def _add_to_group(self, row: dict) -> None:
        self._rows += 1
        self._pending.append(row)
        if len(self._pending) == _ROWS_PER_GROUP:
            self._flush()

    @property
    def summary(self) -> dict[str, Any]:
        """`{"rows", "sha256"}` of the file once it is there."""
        return {"rows": self._rows, "sha256": sha256_of_file(self.path)}

    def _flush(self) -> None:
        import pyarrow
        import pyarrow.parquet

        if self._parquet is None:
            fields = self._pending[0].items() if self._pending else ()
            # Scores are a map: which there are may differ by row, and a struct without fields cannot be written.
            scores = pyarrow.map_(pyarrow.string(), pyarrow.float64())
            kinds = {name: scores if isinstance(value, dict) else pyarrow.scalar(value).type for name, value in fields}
            self._parquet = pyarrow.parquet.ParquetWriter(self._stream, pyarrow.schema(kinds))
        self._parquet.write_table(pyarrow.Table.from_pylist(self._pending, self._parquet.schema))
        self._pending = []


def read_shards(folder: PathLike, template: str) -> Iterator[dict]:
    """The rows of a set of files, one at a time, in order; errors as of `read_segments`."""
    paths = shard_paths(folder, template)
    return itertools.chain.from_iterable(map(read_shard_file, paths))


def shard_paths(folder: PathLike, template: str) -> list[epath.Path]:
    """The files of a set in order; errors as of `read_segments`."""
    paths = _files_of(epath.Path(folder), template)
    if not paths:
        raise FileNotFoundError(
            f"{folder} holds no {template.format(i=0, n=1, suffix='jsonl')} or the like; give a folder that "
            "`humpback corpus build` or `humpback align` has written"
        )
    found = [_numbers(path) for path in paths]
    count = found[0][1]
    if found != [(i, count, found[0][2]) for i in range(count)]:
        raise ValueError(
            f"{folder}: expected {count} files from {paths[0].name} on, found "
            f"{', '.join(path.name for path in paths)}; run the step that writes them again"
        )
    return paths


def remove_shards(folder: PathLike, template: str) -> None:
    """Removes every file of the set, complete or not."""
    for path in _files_of(epath.Path(folder), template):
        path.unlink()


def _files_of(folder: epath.Path, template: str) -> list[epath.Path]:
    stem = template.partition("{")[0]
    paths = (path for path in folder.glob(stem + "*") if _NUMBERED.fullmatch(path.name.removeprefix(stem[:-1])))
    return sorted(paths)


def _numbers(path: epath.Path) -> tuple[int, int, str]:
    match = _NUMBERED.search(path.name)
    assert match is not None, path
    return int(match[1]), int(match[2]), match[3]


def read_shard_file(path: epath.Path) -> Iterator[dict]:
    """The rows of one file, one at a time."""
    if path.suffix != ".parquet":
        yield from (row for _, row in read_jsonl(path))
        return
    import pyarrow.parquet

    with path.open("rb") as stream:
        for batch in pyarrow.parquet.ParquetFile(stream).iter_batches(_ROWS_PER_GROUP):
            yield from batch.to_pylist(maps_as_pydicts="strict")
