"""Data between steps on one machine: Parquet files that are partitioned by key, and sorted where they are read.

A task writes a file per data set, with the rows of each partition in row groups of their own, and then a marker that
names the files with their hashes. A task reads one partition of such files in the order of keys: DuckDB sorts it, out
of core where it does not fit the memory it is given.
"""

import dataclasses
import hashlib
import itertools
import os
import pathlib
import zlib
from collections.abc import Iterable, Iterator, Sequence

import pyarrow
import pyarrow.parquet

from humpback_jax.corpus.pipeline.engine import Row
from humpback_jax.files import read_json, sha256_of_file, write_json

COLUMNS = ("key", "order", "payload")
SCHEMA = pyarrow.schema([("part", pyarrow.int32()), *((name, pyarrow.string()) for name in COLUMNS)])
SORTED_IN_PYTHON = 30_000  # rows; a DuckDB query costs more than to sort so few

_FLUSHED_CHARS = 8_000_000
_FLUSHED_ROWS = 100_000
_ROWS_PER_BATCH = 1024


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Files of rows; `rows` of them in all."""

    files: tuple[str, ...] = ()
    rows: int = 0


def partition_of(key: str, partitions: int) -> int:
    """Which partition a key is in, the same on every machine."""
    return zlib.crc32(key.encode()) % partitions


class DatasetWriter:
    """Writes the rows of one task, a file per data set; nothing is there under its name before `close`."""

    def __init__(self, folder: pathlib.Path, task: str, partitions: int) -> None:
        self._folder, self._task, self._partitions = folder, task, partitions
        self._pending: dict[str, list[tuple[int, str, str, str]]] = {}
        self._chars = self._rows = 0
        self._writers: dict[str, pyarrow.parquet.ParquetWriter] = {}
        self._counts: dict[str, int] = {}

    def add(self, row: Row) -> None:
        """One more row."""
        part = partition_of(row.key, self._partitions) if self._partitions > 1 else 0
        self._pending.setdefault(row.dataset, []).append((part, row.key, row.order, row.payload))
        self._chars += len(row.key) + len(row.order) + len(row.payload)
        self._rows += 1
        if self._chars > _FLUSHED_CHARS or self._rows > _FLUSHED_ROWS:
            self._flush()

    def close(self) -> dict[str, Dataset]:
        """Flushes all to the disk, gives the files their names, and returns them by data set."""
        self._flush()
        datasets = {}
        for name, writer in self._writers.items():
            writer.close()
            temporary, path = self._temporary(name), self._folder / f"{name}-{self._task}.parquet"
            with open(temporary, "rb") as stream:
                os.fsync(stream.fileno())
            os.replace(temporary, path)
            datasets[name] = Dataset((str(path),), self._counts[name])
        return datasets

    def _flush(self) -> None:
        for name, rows in self._pending.items():
            if name not in self._writers:
                self._writers[name] = pyarrow.parquet.ParquetWriter(self._temporary(name), SCHEMA, compression="zstd")
            rows.sort(key=_part)
            for _, group in itertools.groupby(rows, _part):
                columns = [list(column) for column in zip(*group, strict=True)]
                self._writers[name].write_table(pyarrow.table(columns, schema=SCHEMA))
            self._counts[name] = self._counts.get(name, 0) + len(rows)
        self._pending, self._chars, self._rows = {}, 0, 0

    def _temporary(self, name: str) -> pathlib.Path:
        # The process's number, for a task that a killed run's worker may still be at.
        return self._folder / f"{name}-{self._task}.{os.getpid()}.tmp"


def _part(row: tuple[int, str, str, str]) -> int:
    return row[0]


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
    datasets: Sequence[Dataset], part: int, memory_bytes: int, spill: str
) -> Iterator[tuple[str, Iterator[tuple[str, str]]]]:
    """(key, its (order, payload)) of one partition, in ascending order of keys and, within a key, of orders."""
    files = [file for dataset in datasets for file in dataset.files]
    if sum(dataset.rows for dataset in datasets) <= SORTED_IN_PYTHON:
        rows: Iterable[tuple[str, str, str]] = sorted(_read_part(files, part))
    else:
        rows = _sorted_by_duckdb(files, part, memory_bytes, spill)
    for key, group in itertools.groupby(rows, _key):
        yield key, ((order, payload) for _, order, payload in group)


def _key(row: tuple[str, str, str]) -> str:
    return row[0]


def _read_part(files: Sequence[str], part: int) -> Iterator[tuple[str, str, str]]:
    for file in files:
        table = pyarrow.parquet.read_table(file, filters=[("part", "=", part)], use_threads=False)
        yield from zip(*(table.column(name).to_pylist() for name in COLUMNS), strict=True)


def _sorted_by_duckdb(files: Sequence[str], part: int, memory_bytes: int, spill: str) -> Iterator[tuple[str, str, str]]:
    """One thread: there is a task per core. DuckDB compares texts by their bytes, which is by code points."""
    import duckdb

    memory = f"{memory_bytes >> 20}MiB"
    with duckdb.connect(config={"threads": 1, "memory_limit": memory, "temp_directory": spill}) as connection:
        rows = 'SELECT "key", "order", payload FROM read_parquet($files) WHERE part = $part'
        query = f'{rows} ORDER BY "key", "order", payload'
        relation = connection.sql(query, params={"files": list(files), "part": part})
        for batch in relation.to_arrow_reader(_ROWS_PER_BATCH):
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def count_keys(dataset: Dataset, most_common: int | None) -> dict[str, int]:
    """Rows per key, or those of the most common keys; ties in the order of the keys."""
    if not dataset.files:
        return {}
    import duckdb

    limit = "" if most_common is None else f"LIMIT {most_common}"
    with duckdb.connect() as connection:
        query = f'SELECT "key", count(*) AS n FROM read_parquet($files) GROUP BY "key" ORDER BY n DESC, "key" {limit}'
        return dict(connection.sql(query, params={"files": list(dataset.files)}).fetchall())


def read_payloads(dataset: Dataset) -> Iterator[str]:
    """The payloads of all rows, in batches from the disk."""
    for file in dataset.files:
        for batch in pyarrow.parquet.ParquetFile(file).iter_batches(_ROWS_PER_BATCH, columns=["payload"]):
            yield from batch.column(0).to_pylist()


def text_hash(text: str) -> str:
    """A short name of a text: 80 bits of its SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:20]
