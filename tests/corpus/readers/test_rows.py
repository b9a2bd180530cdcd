"""Pages in the rows of JSONL and Parquet files."""

import gzip
import json
import lzma
import pathlib
import random

import pyarrow
import pyarrow.parquet
import pytest
from make_archives import MAX_PAGE_BYTES, html, read_all, reasons, written

from humpback_jax.corpus.readers.inputs import list_inputs
from humpback_jax.corpus.readers.pages import read_page_at
from humpback_jax.corpus.readers.rows import Columns

PAGE = html().decode()
TEXT = "Wells\n\nThe wells of the valley are deep, and their water is cold in summer."


def lines(*rows: object) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


@pytest.mark.parametrize("columns", [("url", "html"), ("uri", "raw_html"), ("source_url", "content"), ("link", "text")])
def test_columns_are_found_by_name_and_html_by_content(tmp_path: pathlib.Path, columns: tuple[str, str]) -> None:
    url, content = columns
    data = lines(
        {"id": 1, url: "http://a.example/1", content: PAGE}, {"id": 2, url: "http://a.example/2", content: TEXT}
    )
    pages, rejected = read_all(written(tmp_path / "pages.jsonl", data))
    assert rejected == []
    assert [(page.url, page.text) for page in pages] == [("http://a.example/1", PAGE), ("http://a.example/2", TEXT)]
    # A column that says HTML holds HTML, whatever it looks like.
    assert [page.is_html for page in pages] == [True, "html" in content]


def test_nested_and_missing_addresses_and_columns_by_option(tmp_path: pathlib.Path) -> None:
    data = lines(
        {"raw_content": TEXT, "meta": {"url": "http://a.example/1"}},
        {"text": TEXT, "metadata": {"url": "http://a.example/2", "other": 1}},
        {"text": TEXT},
    )
    pages, _ = read_all(written(tmp_path / "a.jsonl", data))
    assert [page.url for page in pages] == ["http://a.example/1", "http://a.example/2", "a.jsonl#2"]
    (tmp_path / "b.jsonl").write_bytes(lines({"page": {"body": PAGE, "at": "http://b.example/"}, "text": "summary"}))
    (file,) = list_inputs([tmp_path / "b.jsonl"], columns=Columns(url="page.at", content="page.body"))
    pages, _ = read_all(file)
    assert [(page.url, page.text, page.is_html) for page in pages] == [("http://b.example/", PAGE, True)]


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress])
def test_every_row_is_counted_and_read_again_alone(tmp_path: pathlib.Path, pack) -> None:  # type: ignore[no-untyped-def]
    good = {"url": "http://a.example/", "html": PAGE}
    data = (
        b"\xef\xbb\xbf"
        + lines(good)
        + b"\n"
        + lines({"url": "u", "html": ""}, {"url": "u", "html": None}, [1], {"x": 1})
    )
    data += b'{"url": "cut", "html": "<p>\n' + lines({"url": "u", "html": 3}, {"url": "u", "html": "\ud800 <p>half"})
    data += lines({"url": "u", "html": "x" * 20_000}) + lines(good)[:-1]
    file = written(tmp_path / "a.jsonl", pack(data))
    pages, rejected = read_all(file, 10_000)
    assert reasons(rejected) == [
        *("empty_body", "empty_body", "bad_row", "unknown_columns", "bad_row", "bad_row", "page_too_large"),
    ]
    assert [page.text for page in pages] == [PAGE, "\N{REPLACEMENT CHARACTER} <p>half", PAGE]
    for page in pages:
        assert read_page_at(file, page.position, page.end, page.record, 10_000) == page
    if pack is bytes:
        assert data[pages[2].position : pages[2].end] == lines(good)[:-1]


def test_a_line_without_end_takes_no_memory(tmp_path: pathlib.Path) -> None:
    data = lines({"text": TEXT}) + b'{"text": "' + b"a" * 3_000_000 + b'"}\n' + lines({"text": TEXT})
    pages, rejected = read_all(written(tmp_path / "a.jsonl", data), 100_000)
    assert (len(pages), reasons(rejected)) == (2, ["page_too_large"])


def test_a_packed_table_that_breaks_off(tmp_path: pathlib.Path) -> None:
    texts = (random.Random(i).randbytes(900).hex() for i in range(300))
    data = gzip.compress(lines({"text": ""}, *({"text": text} for text in texts)), mtime=0)
    pages, rejected = read_all(written(tmp_path / "a.jsonl.gz", data[: len(data) // 2]))
    assert 10 < len(pages) < 300
    assert reasons(rejected) == ["empty_body", "damaged_file"]


def parquet(path: pathlib.Path, columns: dict[str, list], **options: object) -> None:
    pyarrow.parquet.write_table(pyarrow.table(columns), path, **options)


@pytest.mark.parametrize("compression", ["none", "zstd", "gzip"])
def test_parquet(tmp_path: pathlib.Path, compression: str) -> None:
    urls = [f"http://a.example/{i}" for i in range(100)]
    contents = [html(f"Page {i}", 3) for i in range(100)]
    path = tmp_path / "pages.parquet"
    parquet(path, {"url": urls, "html": contents, "n": list(range(100))}, compression=compression, row_group_size=17)
    (file,) = list_inputs([path])
    pages, rejected = read_all(file)
    assert rejected == []
    assert [page.url for page in pages] == urls
    assert [page.text.encode() for page in pages] == contents
    assert {(page.position, page.end) for page in pages} == {(0, file.size)}
    for number in (0, 16, 17, 50, 99):
        assert read_page_at(file, 0, file.size, number) == pages[number]


def test_parquet_of_text_with_holes_and_without_columns(tmp_path: pathlib.Path) -> None:
    parquet(tmp_path / "a.parquet", {"text": [TEXT, None, PAGE], "metadata": [{"url": "http://m.example/"}] * 3})
    (file,) = list_inputs([tmp_path / "a.parquet"])
    pages, rejected = read_all(file)
    assert [(page.url, page.is_html) for page in pages] == [("http://m.example/", False), ("http://m.example/", True)]
    assert reasons(rejected) == ["empty_body"]
    parquet(tmp_path / "b.parquet", {"id": [1, 2]})
    (file,) = list_inputs([tmp_path / "b.parquet"])
    _, rejected = read_all(file)
    assert reasons(rejected) == ["unknown_columns"]
    assert "among id; name the columns" in rejected[0].detail


def test_damaged_parquet(tmp_path: pathlib.Path) -> None:
    parquet(tmp_path / "a.parquet", {"text": [TEXT * 50] * 40}, row_group_size=10)
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    for cut in (data[:300], data[:-6], b"PAR1" + bytes(50)):
        _, rejected = read_all(written(tmp_path / "b.parquet", bytes(cut)))
        assert reasons(rejected) == ["damaged_file"]
    assert len(read_all(written(tmp_path / "c.parquet", bytes(data)), MAX_PAGE_BYTES)[0]) == 40
