"""Bytes read forward with a look ahead: those of a file, or of one compressed member of it."""

import io
import zlib
from typing import BinaryIO

from fastwarc.stream_io import ZstdReader

from humpback_jax.corpus.readers.compression import BadCompressionError, Layer, check_expansion, is_zstd_skippable

_BLOCK_BYTES = 1 << 16
_FIRST_BLOCK_BYTES = 1 << 12
_MAX_CONTENT_BLOCK = 1 << 20
_MAX_ZSTD_FRAME = 64 << 20  # compressed bytes; a larger frame is no single record
_MAX_ZSTD_BLOCKS = 100_000
_MAX_ZSTD_BLOCK_BYTES = 1 << 17
_MAX_REWINDS = 20


class ByteView:
    """Bytes read forward; subclasses say where more come from."""

    def __init__(self, start: int = 0) -> None:
        self._buffer = bytearray()
        self._at = 0
        self._base = start  # offset of the buffer's first byte

    @property
    def position(self) -> int:
        """Offset of the next byte."""
        return self._base + self._at

    def _more(self) -> bytes:
        raise NotImplementedError

    def left(self) -> int | None:
        """Bytes that follow; None where nobody knows before they are read."""
        return None

    def has(self, count: int) -> bool:
        """Whether that many bytes follow; reads them into the buffer."""
        while len(self._buffer) - self._at < count:
            block = self._more()
            if not block:
                return False
            if self._at:
                del self._buffer[: self._at]
                self._base += self._at
                self._at = 0
            self._buffer += block
        return True

    def peek(self, count: int) -> bytes:
        """The next bytes, up to `count`, which stay where they are."""
        self.has(count)
        return bytes(memoryview(self._buffer)[self._at : self._at + count])

    def peek_at(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes from `offset` bytes ahead, which stay where they are."""
        self.has(offset + count)
        return bytes(memoryview(self._buffer)[self._at + offset : self._at + offset + count])

    def take(self, count: int) -> bytes:
        """The next bytes, up to `count`."""
        taken = self.peek(count)
        self._at += len(taken)
        return taken

    def skip(self, count: int) -> int:
        """Passes over up to `count` bytes; the number passed."""
        skipped = 0
        while skipped < count and self.has(1):
            step = min(count - skipped, len(self._buffer) - self._at)
            self._at += step
            skipped += step
        return skipped

    def skip_blank(self, blank: bytes = b"\r\n") -> bool:
        """Passes over bytes of `blank`; whether others follow."""
        while self.has(1):
            rest = bytes(memoryview(self._buffer)[self._at : self._at + 256])
            kept = len(rest.lstrip(blank))
            self._at += len(rest) - kept
            if kept:
                return True
        return False


class FileView(ByteView):
    """The bytes of a file from `start` to `end`, or of the content of a file that is compressed as a whole (a Layer).

    Damage of a Layer ends the view, and `damage` says what it is.
    """

    def __init__(self, stream: BinaryIO, start: int = 0, end: int | None = None) -> None:
        super().__init__(start)
        self.damage = ""
        self._stream, self._end, self.is_layer = stream, end, isinstance(stream, Layer)
        if not self.is_layer and end is None:
            self._end = stream.seek(0, io.SEEK_END)
        stream.seek(start)
        self._read_to = start
        self._rewinds = 0

    def _more(self) -> bytes:
        count = _BLOCK_BYTES if self._end is None else min(_BLOCK_BYTES, self._end - self._read_to)
        try:
            block = self._stream.read(count) if count > 0 else b""
        except BadCompressionError as error:
            self.damage, block = str(error), b""
        self._read_to += len(block)
        return block

    def left(self) -> int | None:
        """Bytes up to the end of a file; None of a Layer, whose end nobody knows."""
        return None if self._end is None else self._end - self.position

    def seek(self, position: int) -> bool:
        """To an offset, forward or back; False where a Layer was begun again too often to do it once more."""
        if self._base <= position <= self._base + len(self._buffer):
            self._at = position - self._base
            return True
        if self.is_layer and position < self._read_to:
            self._rewinds += 1
            if self._rewinds > _MAX_REWINDS:
                return False
        self._read_to = self._stream.seek(position)
        self._buffer.clear()
        self._base, self._at = self._read_to, 0
        return True

    def skip(self, count: int) -> int:
        """Passes over up to `count` bytes, without reading them where it can."""
        left = self.left()
        if self.is_layer or left is None:
            return super().skip(count)
        count = min(count, left)
        self.seek(self.position + count)
        return count


class GzipMemberView(ByteView):
    """The content of the gzip member that begins at a file's position; the file then stands behind what was read.

    Raises BadCompressionError for damage and for a file that ends inside the member, ExpansionError for a bomb.
    """

    def __init__(self, file: FileView) -> None:
        super().__init__()
        self._file, self._start, self._made = file, file.position, 0
        self._fed = _FIRST_BLOCK_BYTES
        self._decompressor = zlib.decompressobj(wbits=31)

    def _more(self) -> bytes:
        while not self._decompressor.eof:
            # A small member takes a small block: what it leaves of it is copied.
            block, self._fed = self._file.peek(self._fed), _BLOCK_BYTES
            if not block:
                raise BadCompressionError("the file ends inside a record")
            try:
                content = self._decompressor.decompress(block, _MAX_CONTENT_BLOCK)
            except zlib.error as error:
                raise BadCompressionError(str(error)) from None
            left = len(self._decompressor.unconsumed_tail) + len(self._decompressor.unused_data)
            self._file.skip(len(block) - left)
            self._made += len(content)
            check_expansion(self._made, self._file.position - self._start)
            if content:
                return content
        return b""


class ZstdFrameView(ByteView):
    """The content of the zstd frame that begins at a file's position; the file then stands behind the frame.

    `dictionary` is the skippable frame with the dictionary that a .warc.zst file begins with, or nothing.
    """

    def __init__(self, file: FileView, dictionary: bytes = b"") -> None:
        super().__init__()
        start = file.position
        length = zstd_frame_length(file)
        frame = file.take(length)
        self._compressed, self._made = len(frame), 0
        if len(frame) < length:
            file.seek(start)
            raise BadCompressionError("the file ends inside a record")
        self._reader = ZstdReader(io.BytesIO(dictionary + frame))

    def _more(self) -> bytes:
        try:
            content = self._reader.read(_MAX_CONTENT_BLOCK)
        except OSError as error:
            raise BadCompressionError(str(error)) from None
        self._made += len(content)
        check_expansion(self._made, self._compressed)
        return content


def zstd_frame_length(file: FileView) -> int:
    """Bytes of the frame at a file's position, from the headers of its blocks (RFC 8878, 3.1).

    Raises BadCompressionError for what is no frame, and for one of more than 64 MiB.
    """
    head = file.peek(18)
    if is_zstd_skippable(head):
        return 8 + int.from_bytes(head[4:8], "little")
    if len(head) < 6:
        raise BadCompressionError("the file ends inside a record")
    length = _zstd_header_length(head)
    for _ in range(_MAX_ZSTD_BLOCKS):
        size, is_last = _zstd_block(file.peek_at(length, 3))
        length += size
        if is_last:
            return length + 4 * (head[4] >> 2 & 1)  # a check sum
        if length > _MAX_ZSTD_FRAME:
            break
    raise BadCompressionError(f"a zstd frame of more than {_MAX_ZSTD_FRAME} bytes")


def starts_zstd_frame(head: bytes) -> bool:
    """Whether the header of a zstd frame is followed by that of a block."""
    if len(head) < 18:
        return False
    length = _zstd_header_length(head)
    try:
        _zstd_block(head[length : length + 3])
    except BadCompressionError:
        return False
    return True


def _zstd_header_length(head: bytes) -> int:
    flags = head[4]
    single_segment = flags >> 5 & 1
    return 5 + (1 - single_segment) + (0, 1, 2, 4)[flags & 3] + (single_segment, 2, 4, 8)[flags >> 6]


def _zstd_block(header: bytes) -> tuple[int, bool]:
    """(bytes of a block with its header, whether it is the last of its frame)."""
    bits = int.from_bytes(header, "little")
    kind, size = bits >> 1 & 3, bits >> 3
    if len(header) < 3 or kind == 3 or size > _MAX_ZSTD_BLOCK_BYTES:
        raise BadCompressionError("a zstd frame is damaged or cut short")
    return 3 + (1 if kind == 1 else size), bool(bits & 1)
