"""Which files a corpus is built from, and what each of them is by its content."""

import dataclasses
import re
import zlib
from collections.abc import Iterator, Sequence
from typing import Literal

from etils import epath

from humpback_jax.files import PathLike

FileKind = Literal["warc", "html", "empty", "unknown"]

GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ARCHIVE_NAME = re.compile(r"\.(warc|wet|wat)(\.|$)", re.IGNORECASE)
_HTML_NAME = re.compile(r"\.x?html?(\.gz)?$", re.IGNORECASE)
_HTML_START = re.compile(rb"<(!doctype\s+html|html|head|body|title|meta|h[1-6]|div|article|main|p)\b", re.IGNORECASE)
_SNIFFED_BYTES = 4096


@dataclasses.dataclass(frozen=True)
class InputFile:
    """A file to read; `name` is its name in reports and the URL of an HTML page, the same on every machine."""

    path: epath.Path
    name: str
    size: int


def list_inputs(inputs: Sequence[PathLike], exclude_dir: PathLike | None = None) -> list[InputFile]:
    """The files behind `inputs`: a file is itself, a folder is every file under it in sorted order.

    `exclude_dir` (where the results go) is left out, so that a second run does not read what the first one wrote.
    Raises FileNotFoundError for a path that does not exist and ValueError where there is nothing to read.
    """
    if not inputs:
        raise ValueError("no input given; pass WARC, WET or HTML files, or folders of them")
    files: list[InputFile] = []
    for path in map(epath.Path, inputs):
        if path.is_dir():
            below = sorted(_files_under(path, epath.Path(exclude_dir) if exclude_dir else None))
            if not below:
                raise ValueError(f"folder {path} has no files; pass WARC, WET or HTML files, or folders of them")
            files.extend(_input_file(file, file.relative_to(path).as_posix()) for file in below)
        elif path.exists():
            files.append(_input_file(path, path.name))
        else:
            raise FileNotFoundError(f"input {path} does not exist; pass WARC, WET or HTML files, or folders of them")
    return files


def _files_under(folder: epath.Path, excluded: epath.Path | None) -> Iterator[epath.Path]:
    folders = [folder]
    while folders:
        for path in folders.pop().iterdir():
            if not path.is_dir():
                yield path
            elif path != excluded:
                folders.append(path)


def _input_file(path: epath.Path, name: str) -> InputFile:
    return InputFile(path, name, path.stat().length)


def file_kind(name: str, head: bytes) -> FileKind:
    """What a file is, from its first bytes; the name decides only where they do not (a damaged archive)."""
    if not head:
        return "empty"
    content = gunzip_start(head) if head.startswith(GZIP_MAGIC) else head
    if content.startswith(b"WARC/"):
        return "warc"
    if _ARCHIVE_NAME.search(name) or head.startswith(_ZSTD_MAGIC):
        return "warc"
    if _HTML_NAME.search(name) or looks_like_html(content):
        return "html"
    return "unknown"


def looks_like_html(content: bytes) -> bool:
    """Whether the start of a body has an HTML tag."""
    return _HTML_START.search(content[:_SNIFFED_BYTES].replace(b"\0", b"")) is not None


def gunzip_start(head: bytes, limit: int = _SNIFFED_BYTES) -> bytes:
    """Up to `limit` bytes of the content of a gzip file whose first bytes are `head`; what is damaged is left out."""
    try:
        return zlib.decompressobj(wbits=31).decompress(head, limit)
    except zlib.error:
        return b""


def read_head(file: InputFile) -> bytes:
    """The first bytes of a file, enough for `file_kind`."""
    with file.path.open("rb") as stream:
        return stream.read(_SNIFFED_BYTES)
