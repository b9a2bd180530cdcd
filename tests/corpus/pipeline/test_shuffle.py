"""Rows between steps: every row arrives once, in order, whichever way it is sorted; damaged files are made again."""

import pathlib

from hypothesis import given, settings
from hypothesis import strategies as st

from humpback_jax.corpus.pipeline import shuffle
from humpback_jax.corpus.pipeline.engine import Row
from humpback_jax.corpus.pipeline.shuffle import DatasetWriter, completed, count_keys, mark_complete, read_groups

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
@given(ROWS, st.integers(1, 4), st.booleans())
def test_groups_come_sorted_and_whole(tmp_path_factory, rows, partitions, by_duckdb):
    folder = tmp_path_factory.mktemp("rows")
    datasets = write(folder, rows, partitions)
    limit, shuffle.SORTED_IN_PYTHON = shuffle.SORTED_IN_PYTHON, -1 if by_duckdb else 100
    try:
        parts = [
            [(key, list(group)) for key, group in read_groups(datasets, part, 1 << 28, str(folder / "spill"))]
            for part in range(partitions)
            if datasets
        ]
    finally:
        shuffle.SORTED_IN_PYTHON = limit
    expected = sorted((row.key, row.order, row.payload) for row in rows if row.dataset == "x")
    found = [(key, order, payload) for part in parts for key, group in part for order, payload in group]
    assert sorted(found) == expected
    for part in parts:
        keys = [key for key, _ in part]
        assert keys == sorted(set(keys))
        assert all(group == sorted(group) for _, group in part)


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


def test_keys_are_counted_the_most_common_first(tmp_path):
    rows = [Row("x", key, str(i)) for i, key in enumerate("abcbcdc")]
    (dataset,) = write(tmp_path, rows, 2, tasks=1)
    assert list(count_keys(dataset, None).items()) == [("c", 3), ("b", 2), ("a", 1), ("d", 1)]
    assert list(count_keys(dataset, 3)) == ["c", "b", "a"]
    assert count_keys(shuffle.Dataset(), 3) == {}


def test_large_rows_are_written_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(shuffle, "_FLUSHED_ROWS", 7)
    rows = [Row("x", f"{i % 11}", f"{i:05d}", "p" * 100) for i in range(200)]
    datasets = write(tmp_path, rows, 3)
    found = [row for part in range(3) for _, group in read_groups(datasets, part, 1 << 28, "") for row in group]
    assert sorted(order for order, _ in found) == [f"{i:05d}" for i in range(200)]
