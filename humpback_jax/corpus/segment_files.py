"""The sharded files of a corpus folder: how they are named, written and read, as JSON lines or Parquet.

A set of files such as `segments-00000-of-00003.jsonl` is read as one, in order. Segments are in the order of their ids.
"""

import itertools
import re
from collections.abc import Iterable, Iterator
from typing import Literal

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


def write_segments(
    folder: PathLike,
    rows: Iterable[dict],
    num_rows: int,
    file_format: FileFormat = "jsonl",
    rows_per_file: int = ROWS_PER_FILE,
) -> list[epath.Path]:
    """Writes `num_rows` segments, which must come in the order of their ids; returns the files."""
    return write_shards(folder, SEGMENTS, rows, num_rows, file_format, rows_per_file)


def write_shards(
    folder: PathLike,
    template: str,
    rows: Iterable[dict],
    num_rows: int,
    file_format: FileFormat = "jsonl",
    rows_per_file: int = ROWS_PER_FILE,
) -> list[epath.Path]:
    """Writes rows into as many files as they need, at least one, each whole or absent; older files of the set go first.

    Args:
      folder: where they go.
      template: a name of `run_files` with `{i}`, `{n}` and `{suffix}`.
      rows: as they come; never held in memory.
      num_rows: how many there are, which the names say in advance.
      file_format: what is written.
      rows_per_file: the last file may have fewer.

    Raises:
      ValueError: there were not `num_rows` rows.
    """
    target = epath.Path(folder)
    remove_shards(target, template)
    count, stream, written = max(1, -(-num_rows // rows_per_file)), iter(rows), 0
    paths = [target / template.format(i=i, n=count, suffix=file_format) for i in range(count)]
    write = _write_jsonl if file_format == "jsonl" else _write_parquet
    for path in paths:
        written += write(path, itertools.islice(stream, rows_per_file))
    if written != num_rows or next(stream, None) is not None:
        raise ValueError(f"{target}: expected {num_rows} rows for {template}, {written} came, or more")
    return paths


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
            yield from batch.to_pylist()


def _write_jsonl(path: epath.Path, rows: Iterable[dict]) -> int:
    written = 0
    with atomic_writer(path) as stream:
        for row in rows:
            stream.write(jsonl_line(row).encode())
            written += 1
    return written


def _write_parquet(path: epath.Path, rows: Iterator[dict]) -> int:
    """The columns are those of the first rows; a file without rows has none."""
    import pyarrow
    import pyarrow.parquet

    written = 0
    table = pyarrow.Table.from_pylist(list(itertools.islice(rows, _ROWS_PER_GROUP)))
    with atomic_writer(path) as stream, pyarrow.parquet.ParquetWriter(stream, table.schema) as writer:
        while table.num_rows:
            writer.write_table(table)
            written += table.num_rows
            table = pyarrow.Table.from_pylist(list(itertools.islice(rows, _ROWS_PER_GROUP)), table.schema)
    return written
