"""The records of a WARC, WET or ARC file, with what is damaged reported and what comes after it still read."""

import zlib
from collections.abc import Iterator
from typing import BinaryIO

from humpback_jax.corpus.readers.archive_heads import (
    PAGE_KINDS,
    RECORD_STARTS,
    ArchiveKind,
    DamageError,
    Head,
    begins_record,
    read_head,
)
from humpback_jax.corpus.readers.byte_views import (
    ByteView,
    FileView,
    GzipMemberView,
    ZstdFrameView,
    starts_zstd_frame,
    zstd_frame_length,
)
from humpback_jax.corpus.readers.compression import (
    BadCompressionError,
    ExpansionError,
    codec_of,
    is_zstd_skippable,
)
from humpback_jax.corpus.readers.records import RawRecord, RejectedRecord

_SEARCHED_BYTES = 1 << 16
_RECORD_HEAD_BYTES = 640
# So many bytes that look like a record's first and are not are tried after damage before the rest is given up.
_MAX_FALSE_STARTS = 20_000
_PADDING = 16  # so many NUL bytes between records, or fewer at the end, are no damage


def read_archive(
    stream: BinaryIO,
    kind: ArchiveKind,
    max_record_bytes: int,
    start: int = 0,
    end: int | None = None,
    size: int = 0,
) -> Iterator[RawRecord | RejectedRecord]:
    """Every record of a seekable stream from `start` to `end`, in file order; gzip and zstd members are read as such.

    Damage never raises: what cannot be read becomes one `damaged_warc` (or `_arc`), after which reading goes on at the
    next record that starts cleanly, or one `truncated_warc` where no record follows. A stream without any record gives
    one `not_a_warc`. A page longer than `max_record_bytes` is not loaded: `page_too_large`. Content that is out of all
    proportion to its compressed bytes is `expands_too_far`.

    `size` is that of the file: records that share compressed bytes are said to stand at 0 to `size`.
    """
    dictionary = _leading_dictionary(stream) if start else b""
    archive = _Archive(FileView(stream, start, end), kind, max_record_bytes, size, dictionary)
    try:
        yield from archive.records()
    except ExpansionError as error:
        yield RejectedRecord("expands_too_far", 0, str(error), size)


def _leading_dictionary(stream: BinaryIO) -> bytes:
    """The frame with the dictionary that a .warc.zst file may begin with, which every record needs."""
    stream.seek(0)
    if not is_zstd_skippable(stream.read(4)):
        return b""
    file = FileView(stream)
    return file.take(zstd_frame_length(file))


class _Archive:
    def __init__(self, file: FileView, kind: ArchiveKind, max_record_bytes: int, size: int, dictionary: bytes) -> None:
        self._file, self._kind, self._max_record_bytes, self._size = file, kind, max_record_bytes, size
        self._dictionary = dictionary
        self._shared = bool(size) and file.is_layer

    def records(self) -> Iterator[RawRecord | RejectedRecord]:
        """Records and rejections until the end."""
        file, found = self._file, False
        while file.skip_blank():
            if not file.peek(_PADDING).strip(b"\0"):
                file.skip_blank(b"\0")
                continue
            at, reason = file.position, ""
            try:
                for record in self._records_here():
                    found = True
                    yield record
                continue
            except DamageError as damage:
                found, detail = found or damage.began, str(damage)
            except BadCompressionError as damage:
                detail = str(damage)
            except ExpansionError as bomb:
                reason, found, detail = "expands_too_far", True, str(bomb)
            detail = file.damage or detail
            following = _find_record(file, at + 1, self._kind)
            if not reason:
                reason = f"damaged_{self._kind}" if following else f"truncated_{self._kind}" if found else ""
            yield self._rejected(reason or f"not_a_{self._kind}", at, detail)
            if following is None:
                return
        if file.damage or not found:
            reason = f"truncated_{self._kind}" if found else f"not_a_{self._kind}"
            yield self._rejected(reason, file.position, file.damage or "there is no record")

    def _records_here(self) -> Iterator[RawRecord | RejectedRecord]:
        """The records at the file's position: one, or all those of one compressed member."""
        file = self._file
        start, head = file.position, file.peek(4)
        if is_zstd_skippable(head):
            frame = file.take(zstd_frame_length(file))
            self._dictionary = self._dictionary or frame
            return
        codec = codec_of(head)
        if codec not in ("gzip", "zstd"):
            record = self._read(file)
            file.skip_blank()
            yield self._item(*record, start, file.position)
            return
        view = GzipMemberView(file) if codec == "gzip" else ZstdFrameView(file, self._dictionary)
        if not view.skip_blank():
            return
        record = self._read(view)
        if not view.skip_blank():
            yield self._item(*record, start, file.position)
            return
        yield self._item(*record, 0, self._size)
        while view.skip_blank():
            try:
                record = self._read(view)
            except DamageError as damage:
                if not _find_in_member(view, self._kind):
                    raise
                yield self._rejected(f"damaged_{self._kind}", start, str(damage))
            else:
                yield self._item(*record, 0, self._size)

    def _read(self, view: ByteView) -> tuple[Head, bytes | None]:
        """The record at the view's position; DamageError for one that is not all there."""
        head = read_head(view, self._kind)
        if head.kind == "filedesc":
            # Its length is wrong in many files: it ends where the next record begins.
            block = view.peek(min(head.length, self._max_record_bytes) + _SEARCHED_BYTES)
            following = RECORD_STARTS["arc"].search(block)
            if following or view is not self._file:
                view.skip(following.start() if following else len(block))
                return head, None
        left = view.left()
        if left is not None and left < head.length:
            raise DamageError(f"{left} of {head.length} bytes of a record are there")
        if head.kind not in PAGE_KINDS or head.length > self._max_record_bytes:
            content, size = None, view.skip(head.length)
        else:
            content = view.take(head.length)
            size = len(content)
        if size < head.length:
            raise DamageError(f"{size} of {head.length} bytes of a record are there")
        return head, content

    def _rejected(self, reason: str, start: int, detail: str) -> RejectedRecord:
        """What could not be read from `start` to where the file stands now."""
        if self._shared:
            return RejectedRecord(reason, 0, f"{detail} (at byte {start} of the content)", self._size)
        return RejectedRecord(reason, start, detail, self._file.position)

    def _item(self, head: Head, content: bytes | None, start: int, end: int) -> RawRecord | RejectedRecord:
        if self._shared:
            start, end = 0, self._size
        if head.kind in PAGE_KINDS and content is None:
            return RejectedRecord("page_too_large", start, end=end)
        return RawRecord(
            head.kind, head.url, head.content_type, content, start, end, head.identified_type, head.truncated
        )


def _find_record(file: FileView, start: int, kind: ArchiveKind) -> int | None:
    """Offset of the first record at or after `start` whose first bytes can be read, where the file then stands.

    None if there is none; the file then stands at its end.
    """
    if not file.seek(start):
        return None
    tries = 0
    while True:
        block = file.peek(_SEARCHED_BYTES)
        at_end = len(block) < _SEARCHED_BYTES
        for match in RECORD_STARTS[kind].finditer(block):
            if match.start() > len(block) - _RECORD_HEAD_BYTES and not at_end:
                break
            tries += 1
            if _starts_record(block[match.start() : match.start() + _RECORD_HEAD_BYTES], kind):
                file.skip(match.start())
                return file.position
        if at_end or tries > _MAX_FALSE_STARTS:
            file.skip(len(block) if at_end else file.left() or 0)
            return None
        file.skip(len(block) - _RECORD_HEAD_BYTES)


def _find_in_member(view: ByteView, kind: ArchiveKind) -> bool:
    """Moves to the next plain record of a compressed member; False if there is none."""
    view.skip(1)
    while True:
        block = view.peek(_SEARCHED_BYTES)
        at_end = len(block) < _SEARCHED_BYTES
        for match in RECORD_STARTS[kind].finditer(block):
            if match.start() and begins_record(block[match.start() :][:_RECORD_HEAD_BYTES], kind):
                view.skip(match.start())
                return True
        if at_end:
            return False
        view.skip(len(block) - _RECORD_HEAD_BYTES)


def _starts_record(head: bytes, kind: ArchiveKind) -> bool:
    codec = codec_of(head)
    if codec == "zstd":
        return starts_zstd_frame(head)
    if codec == "gzip":
        try:
            head = zlib.decompressobj(wbits=31).decompress(head, _RECORD_HEAD_BYTES)
        except zlib.error:
            return False
    return begins_record(head, kind)
