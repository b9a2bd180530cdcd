"""Rows between steps: every row arrives once, in order, whichever way it is sorted; damaged files are made again."""

import itertools
import pathlib
from collections import Counter

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from humpback_jax.corpus.pipeline import shuffle
from humpback_jax.corpus.pipeline.engine import NumberedRows, Row, number_text
from humpback_jax.corpus.pipeline.shuffle import DatasetWriter, completed, mark_complete, read_groups, sum_by_key

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
ROWS = st.lists(st.builds(Row, st.sampled_from(["x", "y"]), TEXT, TEXT, TEXT), max_size=40)


def write(folder: pathlib.Path, rows, partitions, tasks=2):
    written = []
    for task in range(tasks):
        writer = DatasetWriter(folder, str(task), partitions)
        for row in rows[task::tasks]:
            writer.add(row)
        written.append(writer.close())
    return [datasets["x"] for datasets in written if "x" in datasets]


@settings(max_examples=25)
@given(ROWS, st.integers(1, 4), st.integers(1, 3), st.booleans())
def test_groups_come_sorted_and_whole(tmp_path_factory, rows, partitions, least, by_duckdb):
    folder = tmp_path_factory.mktemp("rows")
    datasets = write(folder, rows, partitions)
    limit, shuffle.SORTED_IN_PYTHON = shuffle.SORTED_IN_PYTHON, -1 if by_duckdb else 100
    try:
        parts = [
            [(key, list(group)) for key, group in read_groups(datasets, part, 1 << 28, str(folder / "spill"), least)]
            for part in range(partitions)
            if datasets
        ]
    finally:
        shuffle.SORTED_IN_PYTHON = limit
    in_order = sorted((row.key, row.order, row.payload) for row in rows if row.dataset == "x")
    sizes = Counter(key for key, _, _ in in_order)
    expected = [row for row in in_order if sizes[row[0]] >= least]
    found = [(key, order, payload) for part in parts for key, group in part for order, payload in group]
    assert sorted(found) == expected
    for part in parts:
        keys = [key for key, _ in part]
        assert keys == sorted(set(keys))
        assert all(group == sorted(group) for _, group in part)


NUMBERS = st.lists(st.integers(0, 9) | st.integers(2**63, 2**64 - 1), min_size=1, max_size=5, unique=True)


@settings(max_examples=25)
@given(st.lists(st.tuples(NUMBERS, TEXT), max_size=20), st.integers(1, 3), st.integers(1, 4), st.booleans())
def test_groups_of_numbers_are_those_of_rows(tmp_path_factory, entries, partitions, least, by_duckdb):
    folder = tmp_path_factory.mktemp("numbers")
    rows = [NumberedRows("x", np.array(numbers, np.uint64), order) for numbers, order in entries]
    datasets = write(folder, rows, partitions)
    limit, shuffle.SORTED_IN_PYTHON = shuffle.SORTED_IN_PYTHON, -1 if by_duckdb else 1000
    try:
        parts = [
            [(key, list(group)) for key, group in read_groups(datasets, part, 1 << 28, str(folder / "spill"), least)]
            for part in range(partitions)
        ]
    finally:
        shuffle.SORTED_IN_PYTHON = limit
    expected = {}
    for numbers, order in entries:
        for number in numbers:
            expected.setdefault(number_text(number), []).append((order, ""))
    assert dict(itertools.chain(*parts)) == {key: sorted(e) for key, e in expected.items() if len(e) >= least}
    assert all(part == sorted(part) for part in parts)


def test_a_task_is_complete_only_with_the_files_it_names(tmp_path):
    assert completed(tmp_path, "0") is None
    writer = DatasetWriter(tmp_path, "0", 3)
    for i in range(10):
        writer.add(Row("x", str(i), "", "payload"))
    datasets = writer.close()
    assert completed(tmp_path, "0") is None
    mark_complete(tmp_path, "0", datasets)
    assert completed(tmp_path, "0") == datasets
    file = pathlib.Path(datasets["x"].files[0])
    file.write_bytes(file.read_bytes()[:-1])
    assert completed(tmp_path, "0") is None
    file.unlink()
    assert completed(tmp_path, "0") is None


@pytest.mark.parametrize("by_duckdb", [False, True])
def test_numbers_are_added_by_key_the_largest_first(tmp_path, monkeypatch, by_duckdb):
    monkeypatch.setattr(shuffle, "SORTED_IN_PYTHON", -1 if by_duckdb else 100)
    rows = [Row("x", key, str(i), number) for i, (key, number) in enumerate(zip("abcbcdc", "2111132", strict=True))]
    (dataset,) = write(tmp_path, rows, 2, tasks=1)
    assert list(sum_by_key(dataset, None).items()) == [("c", 4), ("d", 3), ("a", 2), ("b", 2)]
    assert list(sum_by_key(dataset, 3)) == ["c", "d", "a"]
    assert sum_by_key(shuffle.Dataset(), 3) == {}


def test_large_rows_are_written_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(shuffle, "_FLUSHED_ROWS", 7)
    rows = [Row("x", f"{i % 11}", f"{i:05d}", "p" * 100) for i in range(200)]
    datasets = write(tmp_path, rows, 3)
    found = [row for part in range(3) for _, group in read_groups(datasets, part, 1 << 28, "") for row in group]
    assert sorted(order for order, _ in found) == [f"{i:05d}" for i in range(200)]


def test_a_long_sort_prints_nothing(tmp_path, monkeypatch, capfd):
    """DuckDB shows a bar on standard output after two seconds, where the figures of a command belong; here, at once."""
    connect = duckdb.connect

    def impatient(**options):
        connection = connect(**options)
        connection.execute("SET progress_bar_time = 1")
        return connection

    monkeypatch.setattr(duckdb, "connect", impatient)
    monkeypatch.setattr(shuffle, "SORTED_IN_PYTHON", -1)
    rows = [Row("x", f"{i * 7919 % 50_000:06d}", str(i), f"{i}") for i in range(50_000)]
    (dataset,) = write(tmp_path, rows, 1, tasks=1)
    groups = read_groups([dataset], 0, 1 << 28, str(tmp_path / "spill"))
    assert [key for key, _ in groups] == sorted(row.key for row in rows)
    assert len(sum_by_key(dataset, None)) == len(rows)
    assert capfd.readouterr() == ("", "")
