"""From an input file to its pages: archive records and HTML files are decoded, all else is rejected by name."""

import dataclasses
import zlib
from collections.abc import Iterator
from typing import Literal

from fastwarc.warc import WarcRecord, WarcRecordType

from humpback_jax.corpus.readers.charset import UndecodableError, decode_page
from humpback_jax.corpus.readers.inputs import InputFile, file_kind, gunzip, looks_like_html
from humpback_jax.corpus.readers.warc import RawRecord, RejectedRecord, read_warc

_HTML_TYPES = ("text/html", "application/xhtml+xml")
# Some archives keep the headers of a body that they have already decoded, so each step may be one too many.
_DECODE_MODES: tuple[Literal["all", "content", "transfer", "none"], ...] = ("all", "content", "transfer", "none")


@dataclasses.dataclass(frozen=True)
class Page:
    """One page as text; `is_html` is false for the plain text of a WET record. `position` is its file offset."""

    url: str
    text: str
    is_html: bool
    position: int = 0


class _Reject(Exception):
    """Carries the reason why a record is no page."""


def read_pages(file: InputFile, max_page_bytes: int) -> Iterator[Page | RejectedRecord]:
    """Every record of one file as a page or a rejection, in file order, one at a time."""
    kind = file_kind(file)
    if kind == "empty":
        yield RejectedRecord("empty_file", detail="the file has no bytes")
    elif kind == "unknown":
        yield RejectedRecord("unknown_file", detail="neither WARC, WET nor HTML by name or content")
    elif kind == "html":
        try:
            yield _html_file_page(file, max_page_bytes)
        except _Reject as rejection:
            yield RejectedRecord(str(rejection))
    else:
        with file.path.open("rb") as stream:
            for record in read_warc(stream, max_page_bytes):
                try:
                    yield record if isinstance(record, RejectedRecord) else _record_page(record, max_page_bytes)
                except _Reject as rejection:
                    yield RejectedRecord(str(rejection), record.position)


def _html_file_page(file: InputFile, max_page_bytes: int) -> Page:
    with file.path.open("rb") as stream:
        content = stream.read(max_page_bytes + 1)
    try:
        return Page(file.name, _decode(gunzip(content, max_page_bytes + 1), None, max_page_bytes), is_html=True)
    except zlib.error:
        raise _Reject("bad_encoding") from None


def _record_page(record: RawRecord, max_page_bytes: int) -> Page:
    if record.content is None:
        raise _Reject(f"not_a_page:{record.type}")
    if record.type == WarcRecordType.conversion:
        if _media_type(record.content_type) != "text/plain":
            raise _Reject("not_html")
        return Page(record.url, _decode(record.content, "utf-8", max_page_bytes), False, record.position)
    if record.type == WarcRecordType.resource and not record.content_type.startswith("application/http"):
        body, content_type, charset = record.content, record.content_type, None
    else:
        body, content_type, charset = _http_body(record.content, max_page_bytes)
    if content_type and _media_type(content_type) not in _HTML_TYPES:
        raise _Reject("not_html")
    if body and not content_type and not looks_like_html(body):
        raise _Reject("not_html")
    return Page(record.url, _decode(body, charset, max_page_bytes), True, record.position)


def _http_body(content: bytes, max_page_bytes: int) -> tuple[bytes, str, str | None]:
    """(body, content type, charset) of an HTTP response whose status is 200."""
    for mode in _DECODE_MODES:
        message = WarcRecord()
        message.init_headers(WarcRecordType.response)
        message.is_http = True
        message.set_bytes_content(content)
        try:
            message.parse_http(auto_decode=mode, quirks_mode=True)
            status = message.http_headers.status_code
            if status is None:
                raise _Reject("bad_http")
            if status != 200:
                raise _Reject(f"http_status:{status if 100 <= status <= 599 else 'invalid'}")
            body = message.reader.read(max_page_bytes + 1)
        except OSError:
            continue
        if mode != "all" and not looks_like_html(body):
            continue
        return body, message.http_headers.get("Content-Type") or "", message.http_charset
    raise _Reject("bad_encoding")


def _media_type(content_type: str) -> str:
    return content_type.split(";")[0].strip().lower()


def _decode(body: bytes, charset: str | None, max_page_bytes: int) -> str:
    if len(body) > max_page_bytes:
        raise _Reject("page_too_large")
    if not body.strip():
        raise _Reject("empty_body")
    try:
        return decode_page(body, charset)
    except UndecodableError:
        raise _Reject("wrong_charset") from None
