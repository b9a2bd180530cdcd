"""From an input file to its pages: what each record holds is decoded, all else is rejected by name."""

import dataclasses
import http.client
import itertools
from collections.abc import Iterator
from typing import BinaryIO

from humpback_jax.corpus.readers.archive_heads import ArchiveKind
from humpback_jax.corpus.readers.archives import read_archive
from humpback_jax.corpus.readers.charset import UndecodableError, decode_page
from humpback_jax.corpus.readers.compression import Codec, ExpansionError, buffered, open_layers, read_up_to
from humpback_jax.corpus.readers.file_kinds import FileKind, is_page, looks_like_html, sniff
from humpback_jax.corpus.readers.http_message import (
    BadMessageError,
    charset_of,
    has_page_end,
    media_types,
    read_response,
)
from humpback_jax.corpus.readers.inputs import InputFile
from humpback_jax.corpus.readers.mhtml import read_mhtml
from humpback_jax.corpus.readers.records import PROBLEMS, RawRecord, RejectedRecord
from humpback_jax.corpus.readers.rows import RawRow, read_jsonl_rows, read_parquet_rows
from humpback_jax.corpus.readers.zip_archives import read_zip

_HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})
# Types that say nothing: the content decides, as in browsers.
_NO_TYPES = frozenset({"*/*", "unknown/unknown", "application/unknown", "application/octet-stream"})
# A saved page carries its pictures: the file may be so much larger than its page.
_MHTML_PARTS = 8
_READ_ERRORS = (OSError, http.client.HTTPException)
_DEFAULT_MAX_PAGE_BYTES = 8_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """One page as text.

    Attributes:
      is_html: false for plain text (a WET record, a row of text).
      position, end: bytes of the file where its record stands, first and one past the last; 0 and the file's size where
        records share compressed bytes, or are not told apart by bytes (Parquet).
      record: ordinal among all that the file gives, pages or not.
      truncated: its end is missing: the archive says so, or a chunked or compressed body breaks off.
    """

    url: str
    text: str
    is_html: bool
    position: int = 0
    end: int = 0
    record: int = 0
    truncated: bool = False


RawItem = RawRecord | RawRow | RejectedRecord | Page


class _RejectError(Exception):
    """Carries the reason why a record is no page."""


def read_pages(file: InputFile, max_page_bytes: int) -> Iterator[Page | RejectedRecord]:
    """Every record of one file as a page or a rejection, in file order, one at a time; no content makes it raise.

    At most `max_page_bytes` (of content, decompressed) are read of a page; a larger one is `page_too_large`. What the
    file system or the server refuses is a `read_error`, after which the file gives no more.
    """
    for record, item in enumerate(_raw_items(file, max_page_bytes)):
        yield _finished(item, file, record, max_page_bytes)


def read_page_at(
    file: InputFile, start: int, end: int, record: int | None = None, max_page_bytes: int = _DEFAULT_MAX_PAGE_BYTES
) -> Page:
    """The page that `read_pages` gave with these values of `position` and `end`, read alone.

    Where records share their bytes (0 to the file's size), `record` says which one; without it the first page is taken.
    Raises ValueError where no page stands there, with the reason.
    """
    if start == 0 and end >= file.size:
        items, first, count = _raw_items(file, max_page_bytes), record or 0, None if record is None else 1
    else:
        part = dataclasses.replace(file, ranges=((start, end - start),))
        items, first, count = _raw_items(part, max_page_bytes), 0, None
    reason = "nothing is there"
    for number, item in itertools.islice(enumerate(items), first, None if count is None else first + count):
        found = _finished(item, file, number if record is None else record, max_page_bytes)
        if isinstance(found, Page):
            return found
        reason = found.reason
    raise ValueError(f"{file.name}: no page at bytes {start} to {end}: {reason}")


def _raw_items(file: InputFile, max_page_bytes: int) -> Iterator[RawItem]:
    if file.problem:
        yield RejectedRecord(file.problem, detail=PROBLEMS[file.problem])
        return
    try:
        with file.path.open("rb") as stream:
            if file.ranges is None:
                kind, codecs = sniff(stream, file.name)
                yield from _items_of_kind(stream, kind, codecs, file, max_page_bytes)
            else:
                yield from _items_of_ranges(stream, file, max_page_bytes)
    except ExpansionError as error:
        yield RejectedRecord("expands_too_far", 0, str(error), file.size)
    except _READ_ERRORS as error:
        yield RejectedRecord("read_error", 0, (str(error) or repr(error))[:200], file.size)


def _items_of_ranges(stream: BinaryIO, file: InputFile, max_page_bytes: int) -> Iterator[RawItem]:
    """The records at an archive's ranges, or the rows at those of a JSONL file."""
    for offset, length in file.ranges or ():
        stream.seek(offset)
        head = stream.read(min(length, 16))
        if head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{"):
            yield from itertools.islice(read_jsonl_rows(stream, file.columns, max_page_bytes, file.size, offset), 1)
        else:
            kind: ArchiveKind = "arc" if ".arc" in file.name.lower() else "warc"
            yield from read_archive(stream, kind, max_page_bytes, offset, offset + length)


def _items_of_kind(
    stream: BinaryIO, kind: FileKind, codecs: tuple[Codec, ...], file: InputFile, max_page_bytes: int
) -> Iterator[RawItem]:
    content = open_layers(stream, codecs)
    match kind:
        case "empty":
            yield RejectedRecord("empty_file", detail="the file has no bytes")
        case "unknown":
            detail = "no archive, page or table of pages by content or name"
            yield RejectedRecord("unknown_file", detail=detail, end=file.size)
        case "warc" | "arc":
            yield from read_archive(content, kind, max_page_bytes, size=file.size)
        case "zip":
            yield from read_zip(content, max_page_bytes, file.size)
        case "jsonl":
            rows = buffered(content) if codecs else content
            yield from read_jsonl_rows(rows, file.columns, max_page_bytes, file.size, is_packed=bool(codecs))
        case "parquet":
            yield from read_parquet_rows(content, file.columns, file.size)
        case "mhtml":
            yield _mhtml_page(content, file, max_page_bytes)
        case "html":
            yield _html_page(content, file, max_page_bytes)


def _html_page(content: BinaryIO, file: InputFile, max_page_bytes: int) -> Page | RejectedRecord:
    content.seek(0)
    body, cut = read_up_to(content, max_page_bytes + 1)
    if cut and not body:
        return RejectedRecord("bad_encoding", end=file.size)
    try:
        text = _decoded(body, None, max_page_bytes)
    except _RejectError as rejection:
        return RejectedRecord(str(rejection), end=file.size)
    return Page(file.name, text, True, 0, file.size, truncated=cut and not has_page_end(body))


def _mhtml_page(content: BinaryIO, file: InputFile, max_page_bytes: int) -> Page | RejectedRecord:
    content.seek(0)
    limit = _MHTML_PARTS * max_page_bytes
    data, cut = read_up_to(content, limit + 1)
    if len(data) > limit:
        return RejectedRecord("page_too_large", end=file.size)
    saved = read_mhtml(data)
    if saved is None:
        return RejectedRecord("not_html", end=file.size)
    try:
        text = _decoded(saved.body, saved.charset, max_page_bytes)
    except _RejectError as rejection:
        return RejectedRecord(str(rejection), end=file.size)
    is_cut = (cut or saved.truncated) and not has_page_end(saved.body)
    return Page(saved.url or file.name, text, True, 0, file.size, truncated=is_cut)


def _finished(item: RawItem, file: InputFile, record: int, max_page_bytes: int) -> Page | RejectedRecord:
    if isinstance(item, Page | RejectedRecord):
        return dataclasses.replace(item, record=record)
    try:
        if isinstance(item, RawRow):
            return _row_page(item, file, record, max_page_bytes)
        return _record_page(item, record, max_page_bytes)
    except (_RejectError, BadMessageError) as rejection:
        return RejectedRecord(str(rejection), item.position, end=item.end, record=record)


def _row_page(row: RawRow, file: InputFile, record: int, max_page_bytes: int) -> Page:
    if isinstance(row.content, bytes):
        text = _decoded(row.content, None, max_page_bytes)
    else:
        text = _valid_text(row.content)
        if len(text) > max_page_bytes or len(text.encode()) > max_page_bytes:
            raise _RejectError("page_too_large")
        if not text.strip():
            raise _RejectError("empty_body")
    is_html = is_page(text[:8192].encode(), "") if row.content_is_html is None else row.content_is_html
    return Page(_valid_text(row.url) or f"{file.name}#{record}", text, is_html, row.position, row.end, record)


def _valid_text(text: str) -> str:
    """Halves of surrogate pairs, which JSON can spell and no file can hold, become replacement characters."""
    return text.encode("utf-16", errors="surrogatepass").decode("utf-16", errors="replace")


def _record_page(record: RawRecord, ordinal: int, max_page_bytes: int) -> Page:
    if record.content is None:
        raise _RejectError(f"not_a_page:{record.kind}")
    body, charset, cut = record.content, charset_of(record.content_type), record.truncated
    is_html = record.kind != "conversion"
    if not is_html:
        if media_types(record.content_type)[:1] not in ([], ["text/plain"]):
            raise _RejectError("not_html")
        charset = charset or "utf-8"
    elif (record.kind == "response" and not _has_no_http(record)) or record.content_type.startswith("application/http"):
        message = read_response(record.content, max_page_bytes)
        body, charset, cut = message.body, charset_of(message.content_type), cut or message.truncated
        _check_type(message.content_type, record.identified_type, body)
    else:
        _check_type(record.content_type, record.identified_type, body)
    text = _decoded(body, charset, max_page_bytes)
    return Page(record.url, text, is_html, record.position, record.end, ordinal, cut)


def _has_no_http(record: RawRecord) -> bool:
    """Whether a record of an ARC file, whose head has the content's own type, holds the bare page."""
    assert record.content is not None
    return not record.content_type.startswith("application/http") and not record.content[:5].upper().startswith(
        (b"HTTP/", b"ICY ")
    )


def _check_type(content_type: str, identified_type: str, body: bytes) -> None:
    """Rejects what is not HTML: by the declared type, by the content where that says nothing.

    The archive's own finding (WARC-Identified-Payload-Type) outweighs a declared type where the content agrees.
    """
    declared = media_types(content_type)
    if any(kind in _HTML_TYPES for kind in declared) or not body.strip():
        return
    says_nothing = not any("/" in kind for kind in declared) or all(kind in _NO_TYPES for kind in declared)
    if not (says_nothing or identified_type.lower() in _HTML_TYPES) or not looks_like_html(body):
        raise _RejectError("not_html")


def _decoded(body: bytes, charset: str | None, max_page_bytes: int) -> str:
    if len(body) > max_page_bytes:
        raise _RejectError("page_too_large")
    if not body.strip():
        raise _RejectError("empty_body")
    try:
        return decode_page(body, charset)
    except UndecodableError:
        raise _RejectError("wrong_charset") from None
