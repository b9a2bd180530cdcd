"""Data between steps on one machine: Parquet files that are partitioned by key, and sorted where they are read.

A task writes a file per data set, with the rows of each partition in row groups of their own, and then a marker that
names the files with their hashes. A task reads one partition of such files in the order of keys: DuckDB sorts it, out
of core where it does not fit the memory it is given. Where small groups are of no interest the keys are counted first,
and no other row becomes an object.
"""

import dataclasses
import itertools
import os
import pathlib
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet

from humpback_jax.corpus.pipeline.engine import AnyRow, NumberedRows, Row, number_text
from humpback_jax.files import read_json, sha256_of_file, write_json

COLUMNS = ("key", "order", "payload")
SORTED_IN_PYTHON = 30_000  # rows; a DuckDB query costs more than to sort so few

_FLUSHED_CHARS = 8_000_000
_FLUSHED_ROWS = 100_000
_ROWS_PER_BATCH = 1024
_QUIET = "SET enable_progress_bar = false"  # it would be printed among what the command prints


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Files of rows; `rows` of them in all."""

    files: tuple[str, ...] = ()
    rows: int = 0


class DatasetWriter:
    """Writes the rows of one task, a file per data set; nothing is there under its name before `close`."""

    def __init__(self, folder: pathlib.Path, task: str, partitions: int) -> None:
        self._folder, self._task, self._partitions = folder, task, partitions
        self._pending: dict[str, list[Row]] = {}
        self._numbered: dict[str, list[NumberedRows]] = {}
        self._chars = self._rows = 0
        self._writers: dict[str, pyarrow.parquet.ParquetWriter] = {}
        self._counts: dict[str, int] = {}

    def add(self, row: AnyRow) -> None:
        """One more row, or several under numbers."""
        if isinstance(row, NumberedRows):
            self._numbered.setdefault(row.dataset, []).append(row)
            self._rows += len(row.keys)
            self._chars += len(row.order)
        else:
            self._pending.setdefault(row.dataset, []).append(row)
            self._rows += 1
            self._chars += len(row.key) + len(row.order) + len(row.payload)
        if self._chars > _FLUSHED_CHARS or self._rows > _FLUSHED_ROWS:
            self._flush()

    def close(self) -> dict[str, Dataset]:
        """Flushes all to the disk, gives the files their names, and returns them by data set."""
        self._flush()
        datasets = {}
        for name, writer in self._writers.items():
            writer.close()
            path = self._folder / f"{name}-{self._task}.parquet"
            os.replace(self._temporary(name), path)  # not synced: what the disk loses is found by its hash
            datasets[name] = Dataset((str(path),), self._counts[name])
        return datasets

    def _flush(self) -> None:
        for name, rows in self._pending.items():
            self._write(name, *_table(rows))
        for name, numbered in self._numbered.items():
            self._write(name, *_numbered_table(numbered))
        self._pending, self._numbered, self._chars, self._rows = {}, {}, 0, 0

    def _write(self, name: str, table: pyarrow.Table, hashes: np.ndarray) -> None:
        parts = hashes % self._partitions
        if self._partitions > 1:
            order = np.argsort(parts, kind="stable")
            table, parts = table.take(order), parts[order]
        table = table.add_column(0, "part", pyarrow.array(parts.astype(np.int32)))
        if name not in self._writers:
            self._writers[name] = self._writer(name, table.schema)
        edges = np.flatnonzero(np.diff(parts, prepend=-1, append=-1))
        for start, end in itertools.pairwise(edges.tolist()):
            self._writers[name].write_table(table.slice(start, end - start))
        self._counts[name] = self._counts.get(name, 0) + len(table)

    def _writer(self, name: str, schema: pyarrow.Schema) -> pyarrow.parquet.ParquetWriter:
        repeated = ["part"] if "payload" in schema.names else ["part", "order"]
        options = {"compression": "lz4", "use_dictionary": repeated, "write_statistics": ["part"]}
        return pyarrow.parquet.ParquetWriter(self._temporary(name), schema, **options)

    def _temporary(self, name: str) -> pathlib.Path:
        # The process's number, for a task that a killed run's worker may still be at.
        return self._folder / f"{name}-{self._task}.{os.getpid()}.tmp"


def _table(rows: Sequence[Row]) -> tuple[pyarrow.Table, np.ndarray]:
    """(the columns of rows, a hash of each key)."""
    _, *columns = zip(*rows, strict=True)
    hashes = np.fromiter((zlib.crc32(key.encode()) for key in columns[0]), np.int64, len(rows))
    return pyarrow.table([pyarrow.array(column, pyarrow.string()) for column in columns], COLUMNS), hashes


def _numbered_table(rows: Sequence[NumberedRows]) -> tuple[pyarrow.Table, np.ndarray]:
    """(key and order of every number, what is left of it besides the sign: the numbers are hashes)."""
    keys = np.concatenate([row.keys for row in rows])
    places = np.repeat(np.arange(len(rows), dtype=np.int32), [len(row.keys) for row in rows])
    orders = pyarrow.DictionaryArray.from_arrays(pyarrow.array(places), pyarrow.array([row.order for row in rows]))
    return pyarrow.table([pyarrow.array(keys), orders], COLUMNS[:2]), (keys >> np.uint64(1)).astype(np.int64)


def mark_complete(folder: pathlib.Path, task: str, datasets: dict[str, Dataset]) -> None:
    """Writes the completion file of a task: its files with their rows and hashes."""
    written = {
        name: [os.path.basename(dataset.files[0]), dataset.rows, sha256_of_file(dataset.files[0])]
        for name, dataset in datasets.items()
    }
    write_json(folder / f"{task}.completed", written)


def completed(folder: pathlib.Path, task: str) -> dict[str, Dataset] | None:
    """What a complete task has written; None where the marker is absent or a file is not the one that it names."""
    marker = folder / f"{task}.completed"
    if not marker.exists():
        return None
    datasets = {}
    for name, (file, rows, sha256) in read_json(marker).items():
        path = folder / file
        if not path.exists() or sha256_of_file(path) != sha256:
            return None
        datasets[name] = Dataset((str(path),), rows)
    return datasets


def read_groups(
    datasets: Sequence[Dataset], part: int, memory_bytes: int, spill: str, least: int = 1
) -> Iterator[tuple[str, Iterator[tuple[str, str]]]]:
    """(key, its (order, payload)) of one partition, in ascending order of keys and, within a key, of orders.

    Keys of fewer than `least` rows are left out.
    """
    pieces = [piece for dataset in datasets for file in dataset.files for piece in _pieces_of(file, part)]
    if least > 1:
        pieces = _of_common_keys(pieces, least)
    if not pieces:
        return
    if sum(piece.rows for piece in pieces) <= SORTED_IN_PYTHON:
        rows: Iterable[tuple[Any, str, str]] = sorted(_read_rows(pieces))
    else:
        files = sorted({piece.file for piece in pieces})
        rows = _sorted_by_duckdb(files, part, least, memory_bytes, spill)
    for key, group in itertools.groupby(rows, _key):
        name = key if isinstance(key, str) else number_text(key)
        yield name, ((order, payload) for _, order, payload in group)


@dataclasses.dataclass(frozen=True, eq=False)
class _Piece:
    """Rows of one partition that stand together in a file, and which of them are wanted; None: all."""

    file: str
    group: int
    rows: int
    wanted: np.ndarray | None = None

    def read(self, columns: Sequence[str]) -> pyarrow.Table:
        """Those of these columns that the file has."""
        with pyarrow.parquet.ParquetFile(self.file) as parquet:
            return parquet.read_row_group(self.group, columns, use_threads=False)


def _pieces_of(file: str, part: int) -> Iterator[_Piece]:
    with pyarrow.parquet.ParquetFile(file) as parquet:
        groups = map(parquet.metadata.row_group, range(parquet.metadata.num_row_groups))
        for i, group in enumerate(groups):
            if group.column(0).statistics.min == part:
                yield _Piece(file, i, group.num_rows)


def _of_common_keys(pieces: Sequence[_Piece], least: int) -> list[_Piece]:
    """The rows whose keys have `least` rows or more, all pieces together."""
    if not pieces:
        return []
    keys = pyarrow.concat_tables([piece.read(COLUMNS[:1]) for piece in pieces]).column(0)
    if pyarrow.types.is_string(keys.type):
        codes = keys.combine_chunks().dictionary_encode().indices.to_numpy()
        is_wanted = np.bincount(codes)[codes] >= least
    else:
        numbers = keys.to_numpy()
        in_order = np.sort(numbers)
        common = np.unique(in_order[least - 1 :][in_order[least - 1 :] == in_order[: len(in_order) - least + 1]])
        found = np.minimum(np.searchsorted(common, numbers), max(len(common) - 1, 0))
        is_wanted = common[found] == numbers if len(common) else np.zeros(len(numbers), bool)
    masks = np.split(is_wanted, np.cumsum([piece.rows for piece in pieces])[:-1])
    marked = zip(pieces, masks, strict=True)
    return [dataclasses.replace(piece, wanted=mask, rows=int(mask.sum())) for piece, mask in marked if mask.any()]


def _read_rows(pieces: Iterable[_Piece]) -> Iterator[tuple[Any, str, str]]:
    for piece in pieces:
        table = piece.read(COLUMNS)
        if piece.wanted is not None:
            table = table.filter(pyarrow.array(piece.wanted))
        columns = [column.to_pylist() for column in table.columns]
        if len(columns) < len(COLUMNS):
            columns.append([""] * len(table))
        yield from zip(*columns, strict=True)


def _sorted_by_duckdb(
    files: Sequence[str], part: int, least: int, memory_bytes: int, spill: str
) -> Iterator[tuple[Any, str, str]]:
    """One thread: there is a task per core. DuckDB compares texts by their bytes, which is by code points."""
    import duckdb

    memory = f"{memory_bytes >> 20}MiB"
    with duckdb.connect(config={"threads": 1, "memory_limit": memory, "temp_directory": spill}) as connection:
        connection.execute(_QUIET)
        columns = pyarrow.parquet.read_schema(files[0]).names
        payload = "payload" if "payload" in columns else "'' AS payload"
        rows = f'SELECT "key", "order", {payload} FROM read_parquet($files) WHERE part = $part'
        if least > 1:
            keys = 'SELECT "key" FROM read_parquet($files) WHERE part = $part'
            rows += f' AND "key" IN ({keys} GROUP BY "key" HAVING count(*) >= $least)'
        query = f'{rows} ORDER BY "key", "order", payload'
        parameters = {"files": list(files), "part": part} | ({"least": least} if least > 1 else {})
        for batch in connection.sql(query, params=parameters).to_arrow_reader(_ROWS_PER_BATCH):
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _key(row: tuple[Any, str, str]) -> Any:
    return row[0]


def sum_by_key(dataset: Dataset, most_common: int | None) -> dict[str, int]:
    """The sum of the payloads per key, or those of the largest sums; ties in the order of the keys."""
    if not dataset.files:
        return {}
    if dataset.rows <= SORTED_IN_PYTHON:
        sums = Counter[str]()
        for file in dataset.files:
            table = pyarrow.parquet.read_table(file, columns=["key", "payload"])
            for key, number in zip(*(column.to_pylist() for column in table.columns), strict=True):
                sums[key] += int(number)
        return dict(sorted(sums.items(), key=_largest_first)[:most_common])
    import duckdb

    limit = "" if most_common is None else f"LIMIT {most_common}"
    with duckdb.connect() as connection:
        connection.execute(_QUIET)
        summed = 'SELECT "key", sum(payload::BIGINT)::BIGINT AS n FROM read_parquet($files) GROUP BY "key"'
        query = f'{summed} ORDER BY n DESC, "key" {limit}'
        return dict(connection.sql(query, params={"files": list(dataset.files)}).fetchall())


def _largest_first(summed: tuple[str, int]) -> tuple[int, str]:
    return -summed[1], summed[0]


def read_payloads(dataset: Dataset) -> Iterator[str]:
    """The payloads of all rows, in batches from the disk."""
    for file in dataset.files:
        for batch in pyarrow.parquet.ParquetFile(file).iter_batches(_ROWS_PER_BATCH, columns=["payload"]):
            yield from batch.column(0).to_pylist()
