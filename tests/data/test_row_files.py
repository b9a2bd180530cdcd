"""Rows of files in every format, packed in every way, and what damaged files get."""

import bz2
import csv
import gzip
import io
import json
import lzma

import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from humpback_jax.data.row_files import read_rows

ROWS = [
    {"instruction": "Name a knot, and say: why?", "output": "A bowline.\nIt holds."},
    {"instruction": 'Say "ü"; then\ttab', "output": "ü\u2028, 犬 🪢"},
    {"instruction": "Third", "output": "one; two"},
]


def _json_lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _table(rows, delimiter):
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().encode()


def _arrow(rows, new):
    table, sink = pyarrow.Table.from_pylist(rows), io.BytesIO()
    with new(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _parquet(rows):
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
    return sink.getvalue()


FILES = {
    "lines.jsonl": _json_lines(ROWS),
    "crlf.jsonl": _json_lines(ROWS).replace(b"\n{", b"\r\n\r\n{"),
    "list.json": json.dumps(ROWS, indent=1).encode(),
    "one_line": json.dumps(ROWS).encode(),
    "objects.json": "\n".join(json.dumps(row, indent=2) for row in ROWS).encode(),
    "glued.jsonl": b"".join(json.dumps(row).encode() for row in ROWS),
    "wrapped.json": json.dumps({"version": 2, "data": ROWS}).encode(),
    "numbered.json": json.dumps({"rows": [{"row_idx": i, "row": row} for i, row in enumerate(ROWS)]}).encode(),
    "columns.json": json.dumps({key: [row[key] for row in ROWS] for key in ROWS[0]}).encode(),
    "pandas.json": json.dumps({k: {str(i): r[k] for i, r in enumerate(ROWS)} for k in ROWS[0]}).encode(),
    "a.csv": _table(ROWS, ","),
    "a.tsv": _table(ROWS, "\t"),
    "semicolons.csv": _table(ROWS, ";"),
    "table_without_name": _table(ROWS, ","),
    "a.parquet": _parquet(ROWS),
    "a.arrow": _arrow(ROWS, pyarrow.ipc.new_file),
    "stream.arrow": _arrow(ROWS, pyarrow.ipc.new_stream),
}
PACKED = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": zstandard.ZstdCompressor().compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".download": gzip.compress,
}


@pytest.mark.parametrize("packing", PACKED)
@pytest.mark.parametrize("name", FILES)
def test_every_format_and_packing_gives_the_same_rows(tmp_path, name, packing):
    path = tmp_path / (name + packing)
    path.write_bytes(PACKED[packing](FILES[name]))
    if packing == ".download" and name.endswith((".csv", ".tsv")):
        path = path.rename(tmp_path / name)  # packed, and its name does not say so
    assert [row.value for row in read_rows(path)] == ROWS


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("name", ["lines.jsonl", "list.json", "a.csv", "objects.json"])
def test_a_mark_of_the_byte_order_says_the_encoding(tmp_path, name, encoding):
    (tmp_path / name).write_bytes(FILES[name].decode().encode(encoding))
    assert [row.value for row in read_rows(tmp_path / name)] == ROWS


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", b'{"a": 1}\n{"a": "\xe9"}\n{"a": 2}\n', [(1, ""), (2, "not_utf8"), (3, "")]),
        ("a.jsonl", b'// by hand\n{"a": 1}\n\n{"a": \n', [(1, "not_json"), (2, ""), (4, "not_json")]),
        ("a.csv", b'a,b\n1,2\n1,2,3\n"\xe9",1\n', [(2, ""), (3, "bad_csv"), (4, "not_utf8")]),
        ("b.csv", b'a,b\n1,2\n\n"x"y,1\n1\n', [(2, ""), (4, "bad_csv"), (5, "")]),
        ("a.json", b'[{"a": 1}, 3]', [(1, ""), (2, "not_an_object")]),
    ],
)  # fmt: skip
def test_bad_rows_are_numbered_as_an_editor_does(tmp_path, name, content, expected):
    (tmp_path / name).write_bytes(content)
    assert [(row.number, row.reason) for row in read_rows(tmp_path / name)] == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"", "is empty"),
        ("a.jsonl", b" \n\n", "is empty"),
        ("a.gz", gzip.compress(b""), "is empty"),
        ("a.json", b'[{"a": 1},]', r"a\.json:1: not valid JSON"),
        ("a.json", b'[{"a": "\xe9"}]', "not UTF-8"),
        ("a.txt", b"Once upon a time\nthere was", "none of the formats"),
        ("a.xlsx", b"PK\x03\x04rest", "save it as CSV"),
        ("a.parquet", b"PAR1 and no more", "damaged"),
        ("a.jsonl.gz", gzip.compress(_json_lines(ROWS * 900), mtime=0)[:-9], r"damaged after row \d+"),
        ("a.csv", b"a,a\n1,2\n", "each once"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        list(read_rows(tmp_path / name))
    assert str(tmp_path / name) in str(error.value)


def test_a_folder_and_nothing_are_named(tmp_path):
    with pytest.raises(ValueError, match="is a folder; give one file"):
        list(read_rows(tmp_path))
    with pytest.raises(FileNotFoundError, match="gone does not exist"):
        list(read_rows(tmp_path / "gone"))


_TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), max_size=20)


@given(st.lists(st.fixed_dictionaries({"instruction": _TEXTS, "output": _TEXTS}), min_size=2, max_size=4))
def test_any_text_comes_back_from_lines_lists_and_tables(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("rows")
    for name, content in {"a.jsonl": _json_lines(rows), "a.json": json.dumps(rows).encode()}.items():
        (folder / name).write_bytes(content)
        assert [row.value for row in read_rows(folder / name)] == rows
    (folder / "a.csv").write_bytes(_table(rows, ","))
    assert [row.value for row in read_rows(folder / "a.csv")] == rows


@given(st.binary(max_size=80), st.sampled_from(["a.jsonl", "a.csv", "a.parquet", "a.gz"]))
def test_any_bytes_are_rows_or_an_error_that_names_the_file(tmp_path_factory, content, name):
    path = tmp_path_factory.mktemp("bytes") / name
    path.write_bytes(content)
    try:
        assert all((row.value is None) == bool(row.reason) for row in read_rows(path))
    except ValueError as error:
        assert str(path) in str(error)
