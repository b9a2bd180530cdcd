"""Files that are whole or absent, JSON lines with named faults, hashes."""

import errno
import hashlib
import json
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from humpback_jax import files
from humpback_jax.files import (
    JsonLines,
    atomic_writer,
    in_blocks,
    jsonl_line,
    read_json,
    read_jsonl,
    sha256_of_bytes,
    sha256_of_file,
    write_atomically,
    write_json,
    write_jsonl,
)

VALUES = st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"]))
ROWS = st.lists(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), VALUES, max_size=4))


@given(ROWS)
def test_rows_come_back_as_they_were(rows):
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/rows.jsonl"
        write_jsonl(path, rows)
        assert [row for _, row in read_jsonl(path)] == rows
        assert [number for number, _ in read_jsonl(path)] == list(range(1, len(rows) + 1))


def test_bytes_and_text_are_written_whole_into_new_folders(tmp_path):
    write_atomically(tmp_path / "a" / "b" / "text", "é")
    assert (tmp_path / "a" / "b" / "text").read_bytes() == "é".encode()
    write_atomically(tmp_path / "a" / "b" / "text", b"\x00")
    assert (tmp_path / "a" / "b" / "text").read_bytes() == b"\x00"
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["text"]


def test_a_write_that_dies_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, "old")

    def dying_rows():
        yield {"a": 1}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_jsonl(path, dying_rows())
    assert path.read_text() == "old"


def test_the_new_content_appears_only_at_the_end(tmp_path):
    path = tmp_path / "file"
    with atomic_writer(path) as stream:
        stream.write(b"new")
        stream.flush()
        assert not path.exists()
    assert path.read_text() == "new"


def test_a_full_disk_names_the_file_and_keeps_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, "old")

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match=rf"could not write {path} \(No space left on device\); free space") as caught:
        write_atomically(path, "new")
    assert caught.value.errno == errno.ENOSPC
    assert path.read_text() == "old"


def test_json_is_sorted_and_readable(tmp_path):
    write_json(tmp_path / "value.json", {"b": "é", "a": [1]})
    assert (tmp_path / "value.json").read_text() == '{\n  "a": [\n    1\n  ],\n  "b": "é"\n}\n'
    assert read_json(tmp_path / "value.json") == {"a": [1], "b": "é"}


def test_damaged_json_is_named(tmp_path):
    (tmp_path / "value.json").write_text('{"a": ')
    with pytest.raises(ValueError, match=r"value\.json is not valid JSON .*; delete it and run"):
        read_json(tmp_path / "value.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1}\n\n{"a": \n', r"rows\.jsonl:3: not valid JSON"),
        ("[1]\n", r"rows\.jsonl:1: expected a JSON object, found list"),
        ('{"a": 1}\n3\n', r"rows\.jsonl:2: expected a JSON object, found int"),
    ],
)
def test_damaged_lines_are_named(tmp_path, text, message):
    (tmp_path / "rows.jsonl").write_text(text)
    with pytest.raises(ValueError, match=message):
        list(read_jsonl(tmp_path / "rows.jsonl"))


def test_a_line_keeps_the_order_of_keys():
    assert jsonl_line({"b": 1, "a": "\N{LINE SEPARATOR}é"}) == '{"b": 1, "a": "\N{LINE SEPARATOR}é"}\n'
    assert json.loads(jsonl_line({"b": "x\ny"})) == {"b": "x\ny"}


@given(st.binary(max_size=3000))
def test_hashes(data):
    with tempfile.NamedTemporaryFile() as file:
        file.write(data * 1000)
        file.flush()
        expected = hashlib.sha256(data * 1000).hexdigest()
        assert sha256_of_file(file.name) == sha256_of_bytes(data * 1000) == expected


@given(st.lists(ROWS, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_rows_of_several_files_are_found_again_by_their_positions(parts, draw):
    with tempfile.TemporaryDirectory() as folder:
        paths = [f"{folder}/{number}.jsonl" for number in range(len(parts))]
        for path, part in zip(paths, parts, strict=True):
            with open(path, "w", encoding="utf-8", newline="") as stream:
                stream.writelines(draw.choice(["", "\n", " \n"]) + jsonl_line(row) for row in part)
        lines = JsonLines(paths)
        rows = [row for part in parts for row in part]
        assert [row for _, row in lines] == rows
        positions = [position for position, _ in lines]
        assert positions == list(lines.positions()) == sorted(set(positions))
        numbers = draw.choices(range(len(rows)), k=5) if rows else []
        assert lines.at([positions[number] for number in numbers]) == [rows[number] for number in numbers]


def test_a_last_line_without_an_end_is_a_row(tmp_path):
    for number in range(2):
        (tmp_path / f"{number}.jsonl").write_text(f'{{"row": {number}}}')
    lines = JsonLines([tmp_path / "0.jsonl", tmp_path / "1.jsonl"])
    assert list(lines) == [(0, {"row": 0}), (10, {"row": 1})]
    assert lines.at([10, 0]) == [{"row": 1}, {"row": 0}]


def test_a_damaged_row_is_named_by_file_and_line_or_place(tmp_path):
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    good.write_text('{"a": 1}\n')
    bad.write_bytes(b'{"a": 1}\n\n{"a": \xff}\n')
    lines = JsonLines([good, bad])
    with pytest.raises(ValueError, match=r"bad\.jsonl:3: not valid JSON"):
        list(lines)
    with pytest.raises(ValueError, match=r"bad\.jsonl: byte \d+: not valid JSON"):
        lines.at([*lines.positions()])


def test_files_elsewhere_are_copied_once_and_the_copies_go(tmp_path, monkeypatch):
    paths = [tmp_path / "0.jsonl", tmp_path / "1.jsonl"]
    for path in paths:
        write_jsonl(path, [{"name": path.name}])
    monkeypatch.setattr(files, "is_remote", lambda path: True)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "copies"))
    (tmp_path / "copies").mkdir()
    lines = JsonLines(paths)
    assert [row["name"] for _, row in lines] == ["0.jsonl", "1.jsonl"]
    for path in paths:
        path.unlink()
    assert [row["name"] for row in lines.at(list(lines.positions()))] == ["0.jsonl", "1.jsonl"]
    del lines
    assert list((tmp_path / "copies").iterdir()) == []


@given(st.lists(st.integers(), max_size=20), st.integers(1, 7))
def test_blocks_are_the_items_in_order(items, size):
    blocks = list(in_blocks(iter(items), size))
    assert [item for block in blocks for item in block] == items
    assert all(len(block) == size for block in blocks[:-1]) and all(blocks)
