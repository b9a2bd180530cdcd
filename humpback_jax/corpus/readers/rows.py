"""Rows of JSONL and Parquet files: a URL and the HTML or the text of a page, in columns known by their names."""

import dataclasses
import json
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import pyarrow
import pyarrow.parquet

from humpback_jax.corpus.readers.compression import BadCompressionError, ExpansionError
from humpback_jax.corpus.readers.records import RejectedRecord

URL_COLUMNS = ("url", "uri", "source_url", "page_url", "warc_target_uri", "WARC-Target-URI", "target_uri", "link")
# The first of these that a row has holds its page. Where the name does not say that it is HTML, the content does.
HTML_COLUMNS = ("html", "raw_html", "html_content", "page_html", "content_html")
CONTENT_COLUMNS = ("content", "raw_content", "text", "body", "document", "page_content")
_NESTED_COLUMNS = ("meta", "metadata")
_BATCH_ROWS = 16
# JSON may write one byte of a page as six.
_ESCAPED_BYTES = 6


@dataclasses.dataclass(frozen=True, slots=True)
class Columns:
    """Names of the columns to read; an empty name is found among the usual ones. A dot leads into an object."""

    url: str = ""
    content: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class RawRow:
    """The page of one row; `content_is_html` is None where its name does not say. `url` may be empty."""

    url: str
    content: str | bytes
    content_is_html: bool | None
    position: int
    end: int


class UnknownColumnsError(ValueError):
    """No column of a file is known to hold pages."""

    def __init__(self, names: Iterable[str]) -> None:
        found = ", ".join(sorted(map(str, names))[:20])
        super().__init__(f"no column with pages among {found or 'none'}; name the columns of url and content")


def content_column(names: Iterable[str], columns: Columns) -> str:
    """The name of the column with the pages; UnknownColumnsError for none."""
    names = list(names)
    wanted = (columns.content.split(".")[0],) if columns.content else HTML_COLUMNS + CONTENT_COLUMNS
    found = next((name for name in wanted if name in names), None)
    if found is None:
        raise UnknownColumnsError(names)
    return columns.content or found


def row_page(row: dict[str, Any], columns: Columns, position: int, end: int) -> RawRow | RejectedRecord:
    """The page of a row; UnknownColumnsError where no column holds one."""
    name = content_column(row, columns)
    content = _value(row, name)
    if isinstance(content, bytearray | memoryview):
        content = bytes(content)
    if content is None or content == "":
        return RejectedRecord("empty_body", position, end=end)
    if not isinstance(content, str | bytes):
        return RejectedRecord("bad_row", position, f"column {name} holds {type(content).__name__}, not text", end)
    return RawRow(_url(row, columns), content, True if name in HTML_COLUMNS else None, position, end)


def _url(row: dict[str, Any], columns: Columns) -> str:
    names = (columns.url,) if columns.url else URL_COLUMNS
    places = [row, *(row[name] for name in _NESTED_COLUMNS if isinstance(row.get(name), dict))]
    found = (value for place in places for name in names if isinstance(value := _value(place, name), str) and value)
    return next(found, "")


def _value(row: dict[str, Any], name: str) -> Any:
    if name in row or "." not in name:
        return row.get(name)
    outer, _, rest = name.partition(".")
    inner = row.get(outer)
    return _value(inner, rest) if isinstance(inner, dict) else None


def read_jsonl_rows(
    stream: BinaryIO, columns: Columns, max_page_bytes: int, size: int, start: int = 0, is_packed: bool = False
) -> Iterator[RawRow | RejectedRecord]:
    """The rows of a JSONL stream from a byte on; `size` is that of the file, where a packed file's rows all stand.

    A line that is no object is `bad_row`, an overlong one `page_too_large`, damage of the file `damaged_file`.
    """
    stream.seek(start)
    limit = _ESCAPED_BYTES * max_page_bytes + (1 << 16)
    position = start
    while True:
        first = position
        try:
            line = stream.readline(limit)
            position += len(line)
            is_whole = len(line) < limit or line.endswith(b"\n")
            while line and not line.endswith(b"\n") and not is_whole and (rest := stream.readline(1 << 20)):
                position += len(rest)
                is_whole = rest.endswith(b"\n")
        except (BadCompressionError, ExpansionError) as error:
            reason = "expands_too_far" if isinstance(error, ExpansionError) else "damaged_file"
            yield RejectedRecord(reason, 0 if is_packed else first, str(error), size)
            return
        if not line:
            return
        where = (0, size) if is_packed else (first, position)
        if len(line) >= limit:
            yield RejectedRecord("page_too_large", where[0], end=where[1])
        elif line.strip():
            yield _json_row(line, columns, *where)


def _json_row(line: bytes, columns: Columns, position: int, end: int) -> RawRow | RejectedRecord:
    try:
        row = json.loads(line.removeprefix(b"\xef\xbb\xbf"))
    except (ValueError, RecursionError) as error:
        return RejectedRecord("bad_row", position, f"not JSON: {str(error)[:100]}", end)
    if not isinstance(row, dict):
        return RejectedRecord("bad_row", position, f"expected a JSON object, found {type(row).__name__}", end)
    try:
        return row_page(row, columns, position, end)
    except UnknownColumnsError as error:
        return RejectedRecord("unknown_columns", position, str(error), end)


def read_parquet_rows(
    stream: BinaryIO, columns: Columns, size: int, first_row: int = 0
) -> Iterator[RawRow | RejectedRecord]:
    """The rows of a Parquet file from a row on. A damaged file is one `damaged_file` where reading stops."""
    try:
        file = pyarrow.parquet.ParquetFile(stream)
        names = file.schema_arrow.names
        wanted = {name.split(".")[0] for name in (content_column(names, columns), columns.url, *URL_COLUMNS)}
        kept = [name for name in names if name in wanted or name in _NESTED_COLUMNS]
        for row in _parquet_dicts(file, kept, first_row):
            yield row_page(row, columns, 0, size)
    except UnknownColumnsError as error:
        yield RejectedRecord("unknown_columns", 0, str(error), size)
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        yield RejectedRecord("damaged_file", 0, f"Parquet: {str(error)[:160]}", size)


def _parquet_dicts(file: pyarrow.parquet.ParquetFile, names: list[str], first_row: int) -> Iterator[dict[str, Any]]:
    group, skipped = 0, 0
    while group < file.num_row_groups and skipped + file.metadata.row_group(group).num_rows <= first_row:
        skipped += file.metadata.row_group(group).num_rows
        group += 1
    groups = range(group, file.num_row_groups)
    for batch in file.iter_batches(_BATCH_ROWS, row_groups=list(groups), columns=names, use_threads=False):
        yield from batch.slice(max(0, first_row - skipped)).to_pylist()
        skipped += batch.num_rows
