"""WACZ: a zip file with web archives in its folder `archive/`."""

import errno
import re
import struct
import zipfile
from collections.abc import Iterator
from typing import BinaryIO, cast

from humpback_jax.corpus.readers.archive_heads import ArchiveKind
from humpback_jax.corpus.readers.archives import read_archive
from humpback_jax.corpus.readers.compression import Layer
from humpback_jax.corpus.readers.records import RawRecord, RejectedRecord

_ARCHIVE_NAME = re.compile(r"\.(w?arc|wet)(\.\w+)?$", re.IGNORECASE)
_ARC_NAME = re.compile(r"\.arc(\.\w+)?$", re.IGNORECASE)
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_ZIP_ERRORS = (
    *(zipfile.BadZipFile, NotImplementedError, RuntimeError, struct.error),
    *(ValueError, LookupError, OverflowError, EOFError),
)


class _EntryLayer(Layer):
    """The content of a compressed entry of a zip file."""

    def __init__(self, stream: BinaryIO, container: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
        self._container, self._entry = container, entry
        super().__init__(stream, "zip")

    def _begin(self) -> None:
        self._use(self._container.open(self._entry))


def read_zip(stream: BinaryIO, max_record_bytes: int, size: int) -> Iterator[RawRecord | RejectedRecord]:
    """The records of all archives in a zip file, in the order of its folder.

    WACZ files store archives as they are, so that records stand at bytes of the zip file itself; records of an entry
    that is compressed once more share the file's bytes. A zip file without archives is an `unknown_file`, what is wrong
    with an entry a `damaged_zip`.
    """
    try:
        container = zipfile.ZipFile(stream)
    except (*_ZIP_ERRORS, OSError) as error:
        # An offset that lies before the file's start is the zip file's fault, not the disk's.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        yield RejectedRecord("damaged_zip", 0, str(error)[:160], size)
        return
    entries = [entry for entry in container.infolist() if _ARCHIVE_NAME.search(entry.filename)]
    if sum(entry.compress_size for entry in entries) > size:
        yield RejectedRecord("damaged_zip", 0, "the zip file's entries lie over each other", size)
        return
    if not entries:
        yield RejectedRecord("unknown_file", 0, "a zip file without archives (WARC, ARC) in it", size)
    for entry in entries:
        try:
            yield from _entry_records(stream, container, entry, max_record_bytes, size)
        except (*_ZIP_ERRORS, OSError) as error:
            if isinstance(error, OSError) and error.errno != errno.EINVAL:
                raise
            yield RejectedRecord(
                "damaged_zip", min(max(0, entry.header_offset), size), f"{entry.filename}: {str(error)[:160]}", size
            )


def _entry_records(
    stream: BinaryIO, container: zipfile.ZipFile, entry: zipfile.ZipInfo, max_record_bytes: int, size: int
) -> Iterator[RawRecord | RejectedRecord]:
    kind: ArchiveKind = "arc" if _ARC_NAME.search(entry.filename) else "warc"
    if entry.flag_bits & 1:
        raise zipfile.BadZipFile("the entry is encrypted")
    if entry.compress_type == zipfile.ZIP_STORED:
        start = _stored_start(stream, entry)
        if start > size:
            raise zipfile.BadZipFile("the entry lies behind the end of the file")
        yield from read_archive(stream, kind, max_record_bytes, start, min(start + entry.file_size, size), size)
    else:
        content = cast(BinaryIO, _EntryLayer(stream, container, entry))
        yield from read_archive(content, kind, max_record_bytes, size=size)


def _stored_start(stream: BinaryIO, entry: zipfile.ZipInfo) -> int:
    """Where the bytes of a stored entry begin: behind its local header, whose length only the header itself says."""
    stream.seek(entry.header_offset)
    magic, name_length, extra_length = _LOCAL_HEADER.unpack(stream.read(_LOCAL_HEADER.size))
    if magic != b"PK\x03\x04":
        raise zipfile.BadZipFile("no entry begins where the zip file's index says")
    return entry.header_offset + _LOCAL_HEADER.size + name_length + extra_length
