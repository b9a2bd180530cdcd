"""Archives for tests, byte by byte: records of WARC and ARC files and HTTP messages, true or lying."""

import gzip
import io
import pathlib
import zipfile

from humpback_jax.corpus.readers.inputs import InputFile, list_inputs
from humpback_jax.corpus.readers.pages import Page, read_pages
from humpback_jax.corpus.readers.records import RejectedRecord

MAX_PAGE_BYTES = 1_000_000
HTML_TYPE = b"Content-Type: text/html; charset=utf-8\r\n"


def html(title: str = "Wells", sentences: int = 12) -> bytes:
    """A page; longer with more sentences."""
    text = " ".join(f"The {title.lower()} number {i} is {i * 7} metres deep." for i in range(sentences))
    head, body = f"<head><title>{title}</title></head>", f"<body><h1>{title}</h1><p>{text}</p></body>"
    return f"<!DOCTYPE html>\n<html>{head}{body}</html>".encode()


def http(body: bytes, fields: bytes = HTML_TYPE, status: bytes = b"HTTP/1.1 200 OK") -> bytes:
    """An HTTP answer; `fields` end with a line break each."""
    return status + b"\r\n" + fields + b"\r\n" + body


def warc_record(
    content: bytes,
    kind: str = "response",
    url: str = "http://a.example/",
    fields: bytes = b"",
    content_type: str = "application/http; msgtype=response",
    version: bytes = b"WARC/1.0",
    length: int | None = None,
) -> bytes:
    """A record; `length` lies about that of the content."""
    head = f"WARC-Type: {kind}\r\nWARC-Target-URI: {url}\r\nContent-Type: {content_type}\r\n".encode()
    size = len(content) if length is None else length
    return version + b"\r\n" + head + fields + b"Content-Length: %d\r\n\r\n" % size + content + b"\r\n\r\n"


def packed(*records: bytes) -> bytes:
    """One gzip member per record."""
    return b"".join(gzip.compress(record, mtime=0) for record in records)


def arc_file(*pages: tuple[str, bytes], version: int = 1, length: int | None = None) -> list[bytes]:
    """The records of an ARC file, its own description first; `length` lies about that of the description."""
    columns = "URL IP-address Archive-date Content-type"
    columns += " Result-code Checksum Location Offset Filename Archive-length" if version == 2 else " Archive-length"
    about = f"{version} 0 test\n{columns}\n\n".encode()
    middle = "200 - - 0 x.arc " if version == 2 else ""
    size = len(about) if length is None else length
    records = [f"filedesc://x.arc 0.0.0.0 20010101000000 text/plain {middle}{size}\n".encode() + about]
    for url, content in pages:
        records.append(f"{url} 10.0.0.1 20010101000000 text/html {middle}{len(content)}\n".encode() + content + b"\n")
    return records


def wacz(archive: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    """A WACZ file with one archive."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as container:
        container.writestr("datapackage.json", "{}")
        container.writestr("archive/data.warc.gz", archive, compression)
        container.writestr("pages/pages.jsonl", '{"format": "json-pages-1.0"}\n{"url": "http://a.example/"}\n')
    return stream.getvalue()


def written(path: pathlib.Path, data: bytes) -> InputFile:
    """The input file with these bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    (file,) = list_inputs([path])
    return file


def read_all(file: InputFile, max_page_bytes: int = MAX_PAGE_BYTES) -> tuple[list[Page], list[RejectedRecord]]:
    """(pages, rejections) of a file; their ordinals count everything once."""
    found = list(read_pages(file, max_page_bytes))
    assert [item.record for item in found] == list(range(len(found)))
    assert all(0 <= item.position <= item.end for item in found)
    return [item for item in found if isinstance(item, Page)], [i for i in found if isinstance(i, RejectedRecord)]


def reasons(rejected: list[RejectedRecord]) -> list[str]:
    """Why, in file order."""
    return [record.reason for record in rejected]
