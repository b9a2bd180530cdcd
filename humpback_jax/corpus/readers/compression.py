"""Compressed bytes: which codec they are in, and their content in bounded memory, as far as it goes."""

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from typing import Any, BinaryIO, Literal, cast

import brotli
from fastwarc.stream_io import BrotliReader, ZstdReader

Codec = Literal["gzip", "zstd", "bzip2", "xz", "brotli"]
BodyCodec = Codec | Literal["deflate"]

# Content beyond this many bytes must not be larger than its compressed form by more than this factor: archives of
# real pages stay below 60, a zip bomb reaches 1,000 with gzip and 30,000 with zstd.
MAX_EXPANSION = 200
FREE_BYTES = 64 << 20

GZIP_MAGIC = b"\x1f\x8b"
_MAGIC: tuple[tuple[bytes, Codec], ...] = (
    (b"\x1f\x8b\x08", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    *((b"BZh%d1AY&" % level, "bzip2") for level in range(1, 10)),
    (b"\xfd7zXZ\0", "xz"),
)
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"  # bytes 2 to 4 of a frame that holds no content but, in .warc.zst, the dictionary
_SALVAGE_BYTES = 256
_XZ_READ_BYTES = 1 << 16
_XZ_MEMORY_BYTES = 256 << 20  # `xz -9` needs 65 MiB
_MAX_BODY_MEMBERS = 64
_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, ValueError)


class BadCompressionError(OSError):
    """Bytes are not what their codec says; what came before them is still content."""


class ExpansionError(OSError):
    """Content is out of all proportion to its compressed form."""


def codec_of(head: bytes) -> Codec | None:
    """The codec of a file by its first bytes; None for content that is not compressed. Brotli has no mark to know."""
    if is_zstd_skippable(head):
        return "zstd"
    return next((codec for magic, codec in _MAGIC if head.startswith(magic)), None)


def is_zstd_skippable(head: bytes) -> bool:
    """Whether a skippable zstd frame begins here."""
    return len(head) >= 4 and 0x50 <= head[0] <= 0x5F and head[1:4] == _ZSTD_SKIPPABLE


def check_expansion(content_bytes: int, compressed_bytes: int) -> None:
    """Raises ExpansionError where so much content cannot honestly come from so few bytes."""
    if content_bytes > FREE_BYTES and content_bytes > MAX_EXPANSION * compressed_bytes:
        raise ExpansionError(f"{content_bytes} bytes of content came from {compressed_bytes} compressed bytes")


class Layer(io.RawIOBase):
    """The content of a compressed stream; reads forward, and back to its start by beginning again.

    Raises BadCompressionError where the stream is damaged or cut, after all that comes before, and ExpansionError.
    """

    def __init__(self, stream: BinaryIO, codec: Codec | Literal["zip"]) -> None:
        self._stream, self._codec = stream, codec
        # Layers may lie inside each other: what counts is the bytes of the file.
        self._file: BinaryIO = stream._file if isinstance(stream, Layer) else stream
        self._begin()

    def _begin(self) -> None:
        self._stream.seek(0)
        self._use(_reader(self._stream, self._codec))

    def _use(self, reader: Any) -> None:
        # Of Python's own readers `read` loses what comes before damage; `read1` gives it.
        self._read = reader.read1 if hasattr(reader, "read1") else reader.read
        self._position = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fills `buffer` from the next content; 0 at the end."""
        try:
            block = self._read(len(buffer))
        except (BadCompressionError, ExpansionError):
            raise
        except _ERRORS as error:
            raise BadCompressionError(f"{self._codec} data is damaged or cut short: {str(error)[:100]}") from None
        self._position += len(block)
        check_expansion(self._position, self._file.tell())
        buffer[: len(block)] = block
        return len(block)

    def tell(self) -> int:
        """Bytes of content read so far."""
        return self._position

    def seek(self, offset: int, whence: int = 0) -> int:
        """To the start of the content; forward seeks read."""
        if whence or offset < 0:
            raise io.UnsupportedOperation("content of a compressed stream is read forward from its start")
        if offset < self._position:
            self._begin()
        while self._position < offset and self.read(min(offset - self._position, 1 << 20)):
            pass
        return self._position


def _reader(stream: BinaryIO, codec: Codec | Literal["zip"]) -> Any:
    match codec:
        case "gzip":
            return gzip.GzipFile(fileobj=stream)
        case "bzip2":
            return bz2.BZ2File(stream)
        case "xz":
            return _XzReader(stream)
        case "zstd":
            return ZstdReader(stream)
        case "brotli":
            return BrotliReader(stream)
    raise ValueError(f"no codec {codec}")


class _XzReader:
    """Like lzma.LZMAFile, but a file cannot ask for gigabytes of memory to be read with."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._decompressor = lzma.LZMADecompressor(memlimit=_XZ_MEMORY_BYTES)
        self._rest = b""

    def read(self, size: int) -> bytes:
        """Up to `size` bytes of content; EOFError where the file ends before it."""
        while True:
            if self._decompressor.eof:
                # Streams may follow each other, with NUL bytes between them.
                self._rest = (self._decompressor.unused_data or self._stream.read(_XZ_READ_BYTES)).lstrip(b"\0")
                if not self._rest:
                    return b""
                self._decompressor = lzma.LZMADecompressor(memlimit=_XZ_MEMORY_BYTES)
            elif self._decompressor.needs_input and not self._rest:
                self._rest = self._stream.read(_XZ_READ_BYTES)
                if not self._rest:
                    raise EOFError("the stream ends too early")
            content = self._decompressor.decompress(self._rest, size)
            self._rest = b""
            if content:
                return content


def open_layers(stream: BinaryIO, codecs: tuple[Codec, ...]) -> BinaryIO:
    """The content under `codecs`, outermost first; the stream itself where there are none."""
    for codec in codecs:
        stream = cast(BinaryIO, Layer(stream, codec))
    return stream


def buffered(layer: BinaryIO) -> BinaryIO:
    """A layer that can be read by lines."""
    return cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, layer), 1 << 14))


def read_up_to(stream: BinaryIO, limit: int) -> tuple[bytes, bool]:
    """(up to `limit` bytes, whether damage kept the rest away)."""
    content = bytearray()
    try:
        while len(content) < limit and (block := stream.read(min(limit - len(content), 1 << 20))):
            content += block
    except BadCompressionError:
        return bytes(content), True
    return bytes(content), False


def decompress(data: bytes, codec: BodyCodec, limit: int) -> tuple[bytes, bool]:
    """(up to `limit` bytes of the content of a body, whether its end is missing).

    A body that breaks off or is damaged gives what comes before. Raises BadCompressionError where that is nothing.
    """
    try:
        match codec:
            case "gzip":
                return _inflate(data, 31, limit)
            case "deflate":
                return _inflate(data, 15 if _has_zlib_header(data) else -15, limit)
            case "brotli":
                return _unbrotli(data, limit)
            case _:
                return _salvage_stream(io.BytesIO(data), codec, limit)
    except (zlib.error, brotli.error) as error:
        raise BadCompressionError(str(error)) from None


def _has_zlib_header(data: bytes) -> bool:
    """RFC 1950: method 8 and a check sum; many servers send bare deflate data (RFC 1951) under the same name."""
    return len(data) >= 2 and data[0] & 15 == 8 and int.from_bytes(data[:2], "big") % 31 == 0


def _inflate(data: bytes, wbits: int, limit: int) -> tuple[bytes, bool]:
    content = b""
    for _ in range(_MAX_BODY_MEMBERS):
        decompressor = zlib.decompressobj(wbits)
        try:
            content += decompressor.decompress(data, limit - len(content))
        except zlib.error:
            # Bytes that are no further gzip member are ignored, as by browsers; in the first they are damage.
            return (content, False) if content else (_salvage(data, wbits, limit), True)
        if not decompressor.eof:
            return content, len(content) < limit
        data = decompressor.unused_data if wbits == 31 else b""
        if not data or len(content) >= limit:
            return content, False
    return content, True


def _salvage(data: bytes, wbits: int, limit: int) -> bytes:
    """What comes before the damage, to the nearest `_SALVAGE_BYTES` of input."""
    decompressor, content = zlib.decompressobj(wbits), bytearray()
    for start in range(0, len(data), _SALVAGE_BYTES):
        try:
            content += decompressor.decompress(data[start : start + _SALVAGE_BYTES], limit)
        except zlib.error as error:
            if not content:
                raise BadCompressionError(str(error)) from None
            break
        if len(content) >= limit:
            break
    return bytes(content[:limit])


def _unbrotli(data: bytes, limit: int) -> tuple[bytes, bool]:
    decompressor, content = brotli.Decompressor(), bytearray()
    for start in range(0, len(data), _SALVAGE_BYTES):
        piece = data[start : start + _SALVAGE_BYTES]
        try:
            # A small piece may stand for gigabytes, which come out bit by bit.
            while block := decompressor.process(piece, output_buffer_limit=1 << 16):
                content += block
                if len(content) >= limit:
                    return bytes(content[:limit]), False
                piece = b""
        except brotli.error as error:
            if not content:
                raise BadCompressionError(str(error)) from None
            return bytes(content), True
        if decompressor.is_finished():
            return bytes(content), False
    return bytes(content), True


def _salvage_stream(stream: BinaryIO, codec: Codec, limit: int) -> tuple[bytes, bool]:
    content, cut = read_up_to(cast(BinaryIO, Layer(stream, codec)), limit)
    if cut and not content:
        raise BadCompressionError(f"no {codec} data")
    return content, cut
