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
    atomic_writer,
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
