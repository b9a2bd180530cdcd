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
            files += [InputFile(file, file.relative_to(path).as_posix(), file.stat().length) for file in below]
        elif path.exists():
            files.append(InputFile(path, path.name, path.stat().length))
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


def file_kind(file: InputFile) -> FileKind:
    """What a file is, from its first bytes; the name decides only where they do not (a damaged archive)."""
    with file.path.open("rb") as stream:
        head = stream.read(_SNIFFED_BYTES)
    if not head:
        return "empty"
    content = content_start(head)
    if content.startswith(b"WARC/") or _ARCHIVE_NAME.search(file.name) or head.startswith(_ZSTD_MAGIC):
        return "warc"
    return "html" if _HTML_NAME.search(file.name) or looks_like_html(content) else "unknown"


def looks_like_html(content: bytes) -> bool:
    """Whether the start of a body has an HTML tag."""
    return _HTML_START.search(content[:_SNIFFED_BYTES].replace(b"\0", b"")) is not None


def content_start(head: bytes) -> bytes:
    """The first bytes of what a file whose first bytes are `head` holds, gzip or not; what is damaged is left out."""
    try:
        return gunzip(head, _SNIFFED_BYTES)
    except zlib.error:
        return b""


def gunzip(data: bytes, limit: int) -> bytes:
    """Up to `limit` bytes of the content of a gzip file's start, other files' as they are; zlib.error for damage."""
    return zlib.decompressobj(wbits=31).decompress(data, limit) if data.startswith(GZIP_MAGIC) else data
