"""The records of a WARC or WET file, with what is damaged reported and what comes after it still read."""

import dataclasses
import re
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from fastwarc.warc import ArchiveIterator, WarcRecord, WarcRecordType

from humpback_jax.corpus.inputs import GZIP_MAGIC, gunzip_start

PAGE_TYPES = (WarcRecordType.response, WarcRecordType.resource, WarcRecordType.conversion)

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
class BadRecord:
    """A record, or a stretch of the file, that cannot be used; `reason` is the name it is counted under."""

    reason: str
    position: int
    detail: str = ""


def read_warc(stream: BinaryIO, max_record_bytes: int) -> Iterator[RawRecord | BadRecord]:
    """Every record of a seekable WARC stream (plain, gzip or zstd), in file order.

    Damage never raises: what cannot be read becomes one `damaged_warc`, after which reading goes on at the next record
    that starts cleanly, or one `truncated_warc` where no record follows. A file without any record gives one
    `not_a_warc`. A page longer than `max_record_bytes` is not loaded: `page_too_large`.
    """
    start: int | None = 0
    while start is not None:
        attempt = _Attempt(start)
        yield from attempt.records(stream, max_record_bytes)
        if attempt.error is None:
            return
        following = None if attempt.at_end else find_record(stream, attempt.position + 1)
        reason = "damaged_warc" if following is not None else "truncated_warc" if attempt.began else "not_a_warc"
        # A restart that reads nothing is the same stretch of damage, already counted.
        if attempt.began or start == 0:
            yield BadRecord(reason, attempt.position, attempt.error)
        start = following


class _Attempt:
    """Reads whole records from one offset until the end of the file or the first damage."""

    def __init__(self, start: int) -> None:
        self.start = self.position = start
        self.count = 0
        self.began = False
        self.at_end = False
        self.error: str | None = None

    def records(self, stream: BinaryIO, max_record_bytes: int) -> Iterator[RawRecord | BadRecord]:
        stream.seek(self.start)
        try:
            for record in ArchiveIterator(stream, parse_http=False):
                self.began = True
                self.position = max(record.stream_pos, self.start)
                raw = _read_record(record, max_record_bytes)
                if isinstance(raw, str):
                    self.error = raw
                    return
                self.count += 1
                yield raw
        except OSError as error:
            self.error = str(error)[:200]
            return
        if not self.count or _has_cut_tail(stream, self.position, self.start):
            self.error, self.at_end, self.began = "the file ends inside a record", True, True


def _read_record(record: WarcRecord, max_record_bytes: int) -> RawRecord | BadRecord | str:
    """The record; or, for one that is not all there, how much of it is."""
    position, length = record.stream_pos, record.content_length
    is_page = record.record_type in PAGE_TYPES
    content = record.reader.read() if is_page and length <= max_record_bytes else None
    size = record.consume() if content is None else len(content)
    declared = record.headers.get("Content-Length")
    if declared is None or not declared.strip().isdigit() or size < length:
        return f"{size} of {declared or '?'} bytes of a record are there"
    if is_page and content is None:
        return BadRecord("page_too_large", position, f"{length} bytes; max_page_bytes is {max_record_bytes}")
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
    member = zlib.decompressobj(wbits=31)
    pending = stream.read(_BLOCK_BYTES)
    if not pending.startswith(GZIP_MAGIC):
        return False
    while pending:
        try:
            member.decompress(pending, _BLOCK_BYTES)
        except zlib.error:
            return True
        if member.eof:
            pending = member.unused_data or stream.read(_BLOCK_BYTES)
            if pending:
                member = zlib.decompressobj(wbits=31)
        else:
            pending = member.unconsumed_tail or stream.read(_BLOCK_BYTES)
    return not member.eof


def find_record(stream: BinaryIO, start: int) -> int | None:
    """Offset of the first record at or after `start` whose first bytes can be read; None if there is none."""
    position = start
    while True:
        stream.seek(max(position - 1, 0))
        block = stream.read(_BLOCK_BYTES)
        base = max(position - 1, 0)
        for match in _RECORD_START.finditer(block):
            candidate = base + match.start()
            if candidate >= position and _starts_record(stream, candidate):
                return candidate
        if len(block) < _BLOCK_BYTES:
            return None
        position = base + len(block) - 16


def _starts_record(stream: BinaryIO, position: int) -> bool:
    stream.seek(position)
    head = stream.read(_RECORD_HEAD_BYTES)
    content = gunzip_start(head) if head.startswith(GZIP_MAGIC) else head
    return re.match(rb"WARC/1\.[01]\r?\n[A-Za-z]", content) is not None
