"""What servers and archives make of an HTTP answer: heads, codings, chunks, types, cut ends."""

import bz2
import gzip
import pathlib
import zlib

import brotli
import pytest
from make_archives import HTML_TYPE, html, http, packed, read_all, reasons, warc_record, written

from humpback_jax.corpus.readers.http_message import BadMessageError, dechunk, read_response
from humpback_jax.corpus.readers.pages import Page

PAGE = html()
ZSTD_FRAME = b"\x28\xb5\x2f\xfd\x60"  # single segment, two bytes of content size


def zstd(content: bytes) -> bytes:
    """A zstd frame of one raw block (RFC 8878)."""
    size = len(content)
    return ZSTD_FRAME + (size - 256).to_bytes(2, "little") + (size << 3 | 1).to_bytes(3, "little") + content


def raw_deflate(content: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(content) + compressor.flush()


def chunked(body: bytes, size: int = 300) -> bytes:
    parts = [body[i : i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def only(path: pathlib.Path, message: bytes, **record: object) -> Page | str:
    """The page of an archive with one record, or why there is none."""
    pages, rejected = read_all(written(path / "one.warc.gz", packed(warc_record(message, **record))))  # type: ignore[arg-type]
    assert len(pages) + len(rejected) == 1
    return pages[0] if pages else rejected[0].reason


@pytest.mark.parametrize(
    "status",
    [
        b"HTTP/1.1 200 OK",
        b"HTTP/1.0 200",
        b"HTTP/2 200",
        b"HTTP/2.0 200 OK",
        b"HTTP/3 200",
        b"http/1.1 200 ok",
        b"HTTP/1.1  200   OK",
        b"ICY 200 OK",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK",
        b"HTTP/1.1 200 Connection established\r\n\r\nHTTP/1.1 200 OK",
    ],
)
def test_any_way_to_say_200(tmp_path: pathlib.Path, status: bytes) -> None:
    page = only(tmp_path, http(PAGE, status=status))
    assert isinstance(page, Page)
    assert page.text == PAGE.decode()


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (b"HTTP/1.1 404 Not Found", "http_status:404"),
        (b"HTTP/1.1 206 Partial Content", "http_status:206"),
        (b"HTTP/1.1 100 Continue", "http_status:100"),
        (b"HTTP/1.1 999 No", "http_status:invalid"),
        (b"HTTP/1.1 020 No", "http_status:invalid"),
        (b"HTTP/1.1 OK", "bad_http"),
        (b"HTTP/1.1 2000 OK", "bad_http"),
        (b"GET / HTTP/1.1", "bad_http"),
    ],
)
def test_other_answers_are_named(tmp_path: pathlib.Path, status: bytes, reason: str) -> None:
    assert only(tmp_path, http(PAGE, status=status)) == reason


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Type: text/html, text/html; charset=utf-8\r\n",
        b"Content-Type: text/html\r\nContent-Type: text/html; charset=utf-8\r\n",
        b'Content-Type: "text/html"; charset="utf-8"\r\n',
        b"Content-Type: text/html; charset = 'utf-8'\r\n",
        b"CONTENT-TYPE:TEXT/HTML;CHARSET=UTF-8\r\n",
        b"Content-Type: html\r\n",
        b"Content-Type:\r\n",
        b"Server: x\r\n",
        b"X-Long: a\r\n b\r\nContent-Type: text/html;\r\n\tcharset=utf-8\r\n",
        b"a bad line\r\nContent-Type: application/xhtml+xml\r\n",
        b"Content-Type: application/octet-stream\r\n",
    ],
)
def test_any_way_to_say_html(tmp_path: pathlib.Path, fields: bytes) -> None:
    text = html("Brunnen, tief und kühl")
    page = only(tmp_path, http(text, fields))
    assert isinstance(page, Page)
    assert page.text == text.decode()


def test_lines_may_end_in_line_feeds_alone(tmp_path: pathlib.Path) -> None:
    page = only(tmp_path, http(PAGE).replace(b"\r\n", b"\n"))
    assert isinstance(page, Page)
    assert page.text == PAGE.decode()


@pytest.mark.parametrize("declared", [b"image/png", b"text/plain", b"application/json", b"application/xml"])
def test_other_types_are_no_pages_but_where_the_archive_found_html(tmp_path: pathlib.Path, declared: bytes) -> None:
    message = http(PAGE, b"Content-Type: " + declared + b"\r\n")
    assert only(tmp_path, message) == "not_html"
    found = b"WARC-Identified-Payload-Type: text/html\r\n"
    assert isinstance(only(tmp_path, message, fields=found), Page)
    # What the archive found counts only if the content looks like it.
    assert only(tmp_path, http(b"\x89PNG" * 40, b"Content-Type: image/png\r\n"), fields=found) == "not_html"


CODINGS = [
    ("gzip", gzip.compress(PAGE, mtime=0)),
    ("x-gzip", gzip.compress(PAGE, mtime=0)),
    ("GZIP", gzip.compress(PAGE, mtime=0) + bytes(400)),
    ("gzip", gzip.compress(PAGE[:99], mtime=0) + gzip.compress(PAGE[99:], mtime=0)),
    ("deflate", zlib.compress(PAGE)),
    ("deflate", raw_deflate(PAGE)),
    ("br", brotli.compress(PAGE)),
    ("zstd", zstd(PAGE)),
    ("bzip2", bz2.compress(PAGE)),
    ("gzip, br", brotli.compress(gzip.compress(PAGE, mtime=0))),
    ("gzip", gzip.compress(gzip.compress(PAGE), mtime=0)),
    ("identity", PAGE),
    ("utf-8", PAGE),
    ("gzip", PAGE),
    ("br", PAGE),
    ("deflate", PAGE),
    ("zstd", PAGE),
    ("", gzip.compress(PAGE, mtime=0)),
    ("", zstd(PAGE)),
]


@pytest.mark.parametrize(("name", "body"), CODINGS)
@pytest.mark.parametrize("in_chunks", [False, True])
def test_codings_said_unsaid_doubled_and_false(name: str, body: bytes, in_chunks: bool) -> None:
    fields = HTML_TYPE + (f"Content-Encoding: {name}\r\n".encode() if name else b"")
    if in_chunks:
        body, fields = chunked(body), fields + b"Transfer-Encoding: chunked\r\n"
    found = read_response(http(body, fields), 10**6)
    assert (found.body, found.truncated) == (PAGE, False)


def test_chunks_with_extensions_and_none_at_all() -> None:
    fields = HTML_TYPE + b"Transfer-Encoding: chunked\r\n"
    extended = b"%x;name=value\r\n%s\r\n0\r\nTrailer: x\r\n\r\n" % (len(PAGE), PAGE)
    for body in (extended, PAGE, b"%x \r\n%s\r\n" % (len(PAGE), PAGE)):
        assert read_response(http(body, fields), 10**6).body == PAGE


LONG_PAGE = html("Harbours", 4000)


@pytest.mark.parametrize(
    ("name", "packed_body"),
    [
        ("gzip", gzip.compress(LONG_PAGE, mtime=0)),
        ("deflate", zlib.compress(LONG_PAGE)),
        ("deflate", raw_deflate(LONG_PAGE)),
        ("br", brotli.compress(LONG_PAGE)),
        ("", LONG_PAGE),
    ],
)
@pytest.mark.parametrize("in_chunks", [False, True])
def test_what_is_cut_is_read_as_far_as_it_goes(name: str, packed_body: bytes, in_chunks: bool) -> None:
    fields = HTML_TYPE + (f"Content-Encoding: {name}\r\n".encode() if name else b"")
    fields += b"Transfer-Encoding: chunked\r\n" if in_chunks else b"Content-Length: %d\r\n" % len(packed_body)
    body = chunked(packed_body) if in_chunks else packed_body
    found = read_response(http(body[: len(body) * 2 // 3], fields), 10**7)
    assert found.truncated
    assert len(LONG_PAGE) // 3 < len(found.body) < len(LONG_PAGE)
    assert LONG_PAGE.startswith(found.body)


def test_damage_inside_a_coding_keeps_what_comes_before() -> None:
    body = bytearray(gzip.compress(LONG_PAGE, mtime=0))
    body[len(body) // 2] ^= 0xFF
    found = read_response(http(bytes(body), HTML_TYPE + b"Content-Encoding: gzip\r\n"), 10**7)
    assert found.truncated
    assert found.body[:1000] == LONG_PAGE[:1000]
    with pytest.raises(BadMessageError, match="bad_encoding"):
        read_response(http(b"neither gzip nor markup", HTML_TYPE + b"Content-Encoding: gzip\r\n"), 10**7)


def test_a_wrong_length_of_a_whole_page_does_not_cut_it() -> None:
    found = read_response(http(PAGE, HTML_TYPE + b"Content-Length: 999999\r\n"), 10**6)
    assert (found.body, found.truncated) == (PAGE, False)
    found = read_response(http(gzip.compress(PAGE, mtime=0)[:-8], HTML_TYPE + b"Content-Encoding: gzip\r\n"), 10**6)
    assert (found.body, found.truncated) == (PAGE, False)


@pytest.mark.parametrize("cut", range(0, 400, 7))
def test_chunks_cut_anywhere_leave_no_chunk_size_in_the_page(cut: int) -> None:
    body = chunked(b"<p>" + b"word " * 200, 100)
    content, missing = dechunk(body[: len(body) - cut - 1])
    assert missing or cut < 4
    assert (b"<p>" + b"word " * 200).startswith(content)


@pytest.mark.parametrize("why", [b"length", b"time", b"disconnect", b"unspecified"])
def test_what_the_crawler_cut_is_flagged(tmp_path: pathlib.Path, why: bytes) -> None:
    page = only(tmp_path, http(PAGE), fields=b"WARC-Truncated: " + why + b"\r\n")
    assert isinstance(page, Page)
    assert page.truncated
    whole = only(tmp_path, http(PAGE))
    assert isinstance(whole, Page)
    assert not whole.truncated


def test_a_revisit_says_so(tmp_path: pathlib.Path) -> None:
    record = warc_record(http(b""), kind="revisit")
    _, rejected = read_all(
        written(tmp_path / "r.warc.gz", packed(record, warc_record(http(PAGE), kind="continuation")))
    )
    assert reasons(rejected) == ["not_a_page:revisit", "not_a_page:continuation"]
