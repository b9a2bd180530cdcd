"""Lists of crawl archives (warc.paths.gz) and indexes into them (CDX, CDXJ, JSONL, Parquet)."""

import dataclasses
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow
import pyarrow.parquet
from etils import epath

from humpback_jax.corpus.readers.compression import BadCompressionError, ExpansionError, buffered, codec_of, open_layers
from humpback_jax.corpus.readers.web_file import WebPath

_MAX_LINE_BYTES = 1 << 16
_LIST_NAME = re.compile(r"\.paths\b|\.cdxj?\b|^cdx-|\.(txt|lst|list|jsonl|ndjson)(\.(gz|zst|bz2|xz))?$", re.IGNORECASE)
_ARCHIVE_LINE = re.compile(rb"\S+\.(warc|arc|wet|wat|wacz)(\.\w+)*\s*", re.IGNORECASE)
_CDXJ_LINE = re.compile(rb"\S+ \d{8,17} (\{.*\})\s*")
_CDX_HEADER = re.compile(rb"\s?CDX((?: [A-Za-z])+)\s*")
# Eleven columns without a header line, as in the indexes of older crawls.
_CDX_11 = ["N", "b", "a", "m", "s", "k", "r", "M", "S", "V", "g"]
_NAMES = ("filename", "warc_filename")
_OFFSETS = ("offset", "warc_record_offset")
_LENGTHS = ("length", "warc_record_length")
_PARQUET_COLUMNS = [_NAMES[1], _OFFSETS[1], _LENGTHS[1]]


@dataclasses.dataclass(frozen=True)
class CrawlList:
    """(archive, its ranges of (offset, length) in file order, or None for all of it), and the rows that name none."""

    archives: list[tuple[str, tuple[tuple[int, int], ...] | None]]
    bad_rows: int = 0


def crawl_list(path: epath.Path | WebPath) -> CrawlList | None:
    """What a file lists, if it is a list of archives or an index into them; None for any other file.

    Only files whose names are those of lists are opened.
    """
    if path.name.endswith(".parquet"):
        with path.open("rb") as stream:
            return _parquet_index(stream)
    if not _LIST_NAME.search(path.name):
        return None
    with path.open("rb") as stream:
        codec = codec_of(stream.read(8))
        stream.seek(0)
        content = buffered(open_layers(stream, (codec,))) if codec else stream
        try:
            first = next((line for line in iter(lambda: content.readline(_MAX_LINE_BYTES), b"") if line.strip()), b"")
            content.seek(0)
        except (BadCompressionError, ExpansionError):
            return None
        try:
            return _lines_list(content, first)
        except (BadCompressionError, ExpansionError) as error:
            raise ValueError(f"{path}: the list is damaged ({error}); fetch it again") from error


def _lines_list(content: BinaryIO, first: bytes) -> CrawlList | None:
    if _ARCHIVE_LINE.fullmatch(first):
        names = (line.decode("utf-8", errors="surrogateescape").strip() for line in content)
        return CrawlList([(name, None) for name in names if name])
    header = _CDX_HEADER.fullmatch(first)
    if header:
        content.readline()
        return _grouped(_cdx_row(line, header[1].decode().split()) for line in content if line.strip())
    if _json_row(first):
        return _grouped(_json_row(line) for line in content if line.strip())
    if _cdx_row(first, _CDX_11):
        return _grouped(_cdx_row(line, _CDX_11) for line in content if line.strip())
    return None


Row = tuple[str, int, int]


def _json_row(line: bytes) -> Row | None:
    match = _CDXJ_LINE.fullmatch(line)
    try:
        row = json.loads(match[1] if match else line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict):
        return None
    return _row(_first(row, _NAMES), _first(row, _OFFSETS), _first(row, _LENGTHS))


def _first(row: dict[str, Any], keys: tuple[str, ...]) -> Any:
    return next((row[key] for key in keys if key in row), None)


def _cdx_row(line: bytes, letters: list[str]) -> Row | None:
    values = dict(zip(letters, line.decode("utf-8", errors="surrogateescape").split(), strict=False))
    return _row(values.get("g"), values.get("V"), values.get("S"))


def _row(name: Any, offset: Any, length: Any) -> Row | None:
    if not isinstance(name, str) or not re.search(r"\.w?arc\b", name):
        return None
    try:
        start, size = int(offset), int(length)
    except (TypeError, ValueError):
        return None
    return (name, start, size) if start >= 0 and size > 0 else None


def _parquet_index(stream: BinaryIO) -> CrawlList | None:
    try:
        file = pyarrow.parquet.ParquetFile(stream)
    except (pyarrow.ArrowException, OSError):
        return None
    if not set(_PARQUET_COLUMNS) <= set(file.schema_arrow.names):
        return None
    return _grouped(_parquet_rows(file))


def _parquet_rows(file: pyarrow.parquet.ParquetFile) -> Iterator[Row | None]:
    for batch in file.iter_batches(columns=_PARQUET_COLUMNS, use_threads=False):
        columns = batch.to_pydict()
        for row in zip(*(columns[name] for name in _PARQUET_COLUMNS), strict=True):
            yield _row(*row)


def _grouped(rows: Iterator[Row | None]) -> CrawlList:
    """Rows by archive, archives in the order in which they first appear; the same record is read once."""
    ranges: dict[str, set[tuple[int, int]]] = {}
    bad_rows = 0
    for row in rows:
        if row is None:
            bad_rows += 1
        else:
            ranges.setdefault(row[0], set()).add(row[1:])
    return CrawlList([(name, tuple(sorted(found))) for name, found in ranges.items()], bad_rows)
