"""The records of a WARC or WET file, with what is damaged reported and what comes after it still read."""

import dataclasses
import gzip
import re
import zlib
from collections.abc import Generator, Iterator
from typing import BinaryIO

from fastwarc.warc import ArchiveIterator, WarcRecord, WarcRecordType

from humpback_jax.corpus.readers.inputs import GZIP_MAGIC, content_start

_PAGE_TYPES = (WarcRecordType.response, WarcRecordType.resource, WarcRecordType.conversion)

_BLOCK_BYTES = 1 << 16
_RECORD_HEAD_BYTES = 512
_RECORD_START = re.compile(rb"\x1f\x8b\x08|(?<=\n)WARC/1\.[01]\r?\n")


@dataclasses.dataclass(frozen=True)
class RawRecord:
    """One record; `content` is None for a type that holds no page. `position` is its offset in the file, in bytes."""

    type: WarcRecordType
    url: str
    content_type: str
    content: bytes | None
    position: int


@dataclasses.dataclass(frozen=True)
class RejectedRecord:
    """A record, or a stretch of the file, that gives no page; `reason` is the name it is counted under.

    `detail` says more where a person should look at it (damage), else it is empty.
    """

    reason: str
    position: int = 0
    detail: str = ""


@dataclasses.dataclass(frozen=True)
class _Damage:
    """Where and why reading cannot go on; `began` if a record was there, `at_end` if none can follow."""

    position: int
    detail: str
    began: bool
    at_end: bool = False


def read_warc(stream: BinaryIO, max_record_bytes: int) -> Iterator[RawRecord | RejectedRecord]:
    """Every record of a seekable WARC stream (plain, gzip or zstd), in file order.

    Damage never raises: what cannot be read becomes one `damaged_warc`, after which reading goes on at the next record
    that starts cleanly, or one `truncated_warc` where no record follows. A file without any record gives one
    `not_a_warc`. A page longer than `max_record_bytes` is not loaded: `page_too_large`.
    """
    start: int | None = 0
    while start is not None:
        damage = yield from _whole_records(stream, start, max_record_bytes)
        if damage is None:
            return
        following = None if damage.at_end else _find_record(stream, damage.position + 1)
        reason = "damaged_warc" if following is not None else "truncated_warc" if damage.began else "not_a_warc"
        # A restart that reads nothing is the same stretch of damage, already counted.
        if damage.began or start == 0:
            yield RejectedRecord(reason, damage.position, damage.detail)
        start = following


def _whole_records(
    stream: BinaryIO, start: int, max_record_bytes: int
) -> Generator[RawRecord | RejectedRecord, None, _Damage | None]:
    """The records from one offset until the end of the file (returns None) or the first damage."""
    stream.seek(start)
    position, began = start, False
    try:
        for record in ArchiveIterator(stream, parse_http=False):
            position, began = max(record.stream_pos, start), True
            yield _read_record(record, max_record_bytes)
    except OSError as error:
        return _Damage(position, str(error)[:200], began)
    if not began or _has_cut_tail(stream, position, start):
        return _Damage(position, "the file ends inside a record", began=True, at_end=True)
    return None


def _read_record(record: WarcRecord, max_record_bytes: int) -> RawRecord | RejectedRecord:
    """The record; OSError for one that is not all there."""
    position, length = record.stream_pos, record.content_length
    is_page = record.record_type in _PAGE_TYPES
    content = record.reader.read() if is_page and length <= max_record_bytes else None
    size = record.consume() if content is None else len(content)
    declared = record.headers.get("Content-Length")
    if declared is None or not declared.strip().isdigit() or size < length:
        raise OSError(f"{size} of {declared or '?'} bytes of a record are there")
    if is_page and content is None:
        return RejectedRecord("page_too_large", position)
    url = (record.headers.get("WARC-Target-URI") or "").strip().removeprefix("<").removesuffix(">")
    return RawRecord(record.record_type, url, record.headers.get("Content-Type") or "", content, position)


def _has_cut_tail(stream: BinaryIO, position: int, start: int) -> bool:
    """Whether bytes of a further record, too few to be one, follow the last whole record (which is at `position`)."""
    stream.seek(position)
    head = stream.read(_RECORD_HEAD_BYTES)
    if head.startswith(b"WARC/"):
        return _plain_tail(stream, position)
    # In an archive that is one gzip member the offsets of its records mean nothing: check it from its start.
    return _gzip_tail(stream, position if head.startswith(GZIP_MAGIC) else start)


def _plain_tail(stream: BinaryIO, position: int) -> bool:
    stream.seek(position)
    head = stream.read(_BLOCK_BYTES)
    match = re.search(rb"\r?\n\r?\n", head)
    length = re.search(rb"\ncontent-length:\s*(\d+)", head, re.IGNORECASE)
    if not match or not length:
        return True
    stream.seek(position + match.end() + int(length.group(1)))
    return stream.read(_RECORD_HEAD_BYTES).strip() != b""


def _gzip_tail(stream: BinaryIO, position: int) -> bool:
    stream.seek(position)
    if stream.read(len(GZIP_MAGIC)) != GZIP_MAGIC:
        return False
    stream.seek(position)
    try:
        with gzip.open(stream) as content:
            while content.read(_BLOCK_BYTES):
                pass
    except (EOFError, gzip.BadGzipFile, zlib.error):
        return True
    return False


def _find_record(stream: BinaryIO, start: int) -> int | None:
    """Offset of the first record at or after `start` whose first bytes can be read; None if there is none."""
    base = start - 1  # the pattern looks at the byte before
    while True:
        stream.seek(base)
        block = stream.read(_BLOCK_BYTES)
        for match in _RECORD_START.finditer(block, 1):
            if _starts_record(stream, base + match.start()):
                return base + match.start()
        if len(block) < _BLOCK_BYTES:
            return None
        base += len(block) - 17


def _starts_record(stream: BinaryIO, position: int) -> bool:
    stream.seek(position)
    head = content_start(stream.read(_RECORD_HEAD_BYTES))
    return re.match(rb"WARC/1\.[01]\r?\n[A-Za-z]", head) is not None
