"""Rows of the files that people keep pairs in: JSON lines, JSON, CSV, TSV, Parquet and Arrow, packed or not.

What a file is, is told from its bytes; only CSV and TSV may need their name. A row that cannot be read is given with
the reason, and the file goes on. Damage of the file as a whole is an error.
"""

import csv
import dataclasses
import io
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import pyarrow
import pyarrow.parquet
from etils import epath

from humpback_jax.corpus.readers.charset import BYTE_ORDER_MARKS
from humpback_jax.corpus.readers.compression import Layer, buffered, codec_of
from humpback_jax.files import PathLike, rows_of_columns

EXPECTED = "JSON lines, JSON, CSV, TSV, Parquet or Arrow, also packed with gzip, zstd, bzip2 or xz"
NO_JSON, NO_OBJECT, NOT_UTF8, BAD_CSV = "not_json", "not_an_object", "not_utf8", "bad_csv"
_PACKED_NAMES = re.compile(r"\.(gz|gzip|zst|zstd|bz2|xz)$", re.IGNORECASE)
_DELIMITERS = ",\t;"
_LONGEST_FIELD = 1 << 30
_LINES_LOOKED_AT = 50
_BATCH_ROWS = 256
# Under these a JSON file keeps its rows beside something else, such as the features of a data server's answer.
_WRAPPERS = ("rows", "data", "train", "examples", "records", "samples", "items", "entries", "pairs")
_ESCAPED_BYTES = re.compile("[\udc80-\udcff]")


@dataclasses.dataclass(frozen=True)
class FileRow:
    """A row by its number, as an editor or a spreadsheet counts: what it holds, or why it cannot be read."""

    number: int
    value: dict[str, Any] | None
    reason: str = ""
    detail: str = ""


def read_rows(path: PathLike) -> Iterator[FileRow]:
    """Every row of a file; a row that is no object has a reason instead of a value.

    Raises:
      FileNotFoundError: no such file.
      ValueError: the file is empty, damaged, a folder, or in none of the formats.
    """
    target = epath.Path(path)
    if not target.exists():
        raise FileNotFoundError(f"{path} does not exist; give a file: {EXPECTED}")
    if target.is_dir():
        raise ValueError(f"{path} is a folder; give one file in it: {EXPECTED}")
    number = 0
    try:
        with target.open("rb") as stream:
            for row in _unwrapped(_content_rows(_unpacked(stream, str(path)), str(path))):
                number = row.number
                yield row
    except (OSError, EOFError, pyarrow.ArrowException) as error:
        raise ValueError(f"{path}: damaged after row {number} ({error}); fetch or write the file again") from error


def _unpacked(stream: BinaryIO, path: str) -> BinaryIO:
    """The content of a file under its packing, of which there may be several layers."""
    while codec := codec_of(head := stream.read(8)):
        stream.seek(0)
        stream = buffered(Layer(stream, codec))  # type: ignore[arg-type]
    stream.seek(0)
    if not head:
        raise ValueError(f"{path} is empty; expected {EXPECTED}")
    return stream


def _content_rows(stream: BinaryIO, path: str) -> Iterator[FileRow]:
    head = stream.read(16)
    stream.seek(0)
    if head.startswith((b"PAR1", b"ARROW1", b"\xff\xff\xff\xff")):
        return _table_rows(stream, head)
    if head.startswith(b"PK\x03\x04"):
        raise ValueError(f"{path} is a zip file or a spreadsheet; unpack it, or save it as CSV (UTF-8)")
    for mark, encoding in BYTE_ORDER_MARKS:
        if head.startswith(mark):
            marked = stream.read()[len(mark) :]
            stream = io.BytesIO(marked if encoding == "utf-8" else _decoded(marked, encoding, path).encode())
            break
    return _text_rows(stream, path)


def _decoded(data: bytes, encoding: str, path: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not {encoding.upper()} ({error}); convert the file to UTF-8") from error


def _table_rows(stream: BinaryIO, head: bytes) -> Iterator[FileRow]:
    """Of Parquet and Arrow; they are read by position, so what was packed is unpacked first."""
    source = io.BytesIO(stream.read())
    if head.startswith(b"PAR1"):
        batches: Iterable[Any] = pyarrow.parquet.ParquetFile(source).iter_batches(_BATCH_ROWS)
    elif head.startswith(b"ARROW1"):
        file = pyarrow.ipc.open_file(source)
        batches = (file.get_batch(index) for index in range(file.num_record_batches))
    else:
        batches = pyarrow.ipc.open_stream(source)
    values = itertools.chain.from_iterable(batch.to_pylist() for batch in batches)
    return (FileRow(number, value) for number, value in enumerate(values, start=1))


def _text_rows(stream: BinaryIO, path: str) -> Iterator[FileRow]:
    """Of UTF-8 text: a table by its name or its first line, one JSON value, or JSON lines."""
    start = [line for line in itertools.islice(stream, _LINES_LOOKED_AT) if line.strip()]
    stream.seek(0)
    if not start:
        raise ValueError(f"{path} is empty; expected {EXPECTED}")
    name = _PACKED_NAMES.sub("", path).lower()
    if name.endswith((".csv", ".tsv")) or (not _begins(start[0], b"{[") and _is_header(start[0])):
        return _csv_rows(stream, path)
    if _begins(start[0], b"["):
        values = _json_value(_decoded(stream.read(), "utf-8", path), path)
        return (_object_row(number, value) for number, value in enumerate(values, start=1))
    if not any(_begins(line, b"{") for line in start):
        raise ValueError(f"{path}: none of the formats that are read; expected {EXPECTED}")
    try:
        json.loads(start[0])
    except (ValueError, RecursionError):
        # Objects over several lines, or several on one line; a damaged line makes it JSON lines after all.
        if values := _concatenated(stream.read()):
            return (_object_row(number, value) for number, value in enumerate(values, start=1))
        stream.seek(0)
    return _json_line_rows(stream)


def _begins(line: bytes, characters: bytes) -> bool:
    return line.lstrip()[:1] in {characters[i : i + 1] for i in range(len(characters))}


def _is_header(line: bytes) -> bool:
    """Whether a first line can be that of a table: names without spaces, set apart by one of the delimiters."""
    names = [name.strip(' "') for name in re.split(f"[{_DELIMITERS}]", line.decode("utf-8", "replace").strip())]
    return len(names) > 1 and all(re.fullmatch(r"[\w .-]{1,40}", name) for name in names)


def _json_value(text: str, path: str) -> list[Any]:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{error.lineno}: not valid JSON ({error.msg}); mend this line") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON that can be read ({error}); expected a list of pairs") from error


def _concatenated(data: bytes) -> list[Any]:
    """JSON values that stand one after the other, or nothing where there is anything else."""
    decoder, values, place = json.JSONDecoder(), [], 0
    try:
        text = data.decode()
        while (place := len(text) - len(text[place:].lstrip())) < len(text):
            value, place = decoder.raw_decode(text, place)
            values.append(value)
    except (ValueError, RecursionError):
        return []
    return values


def _object_row(number: int, value: Any) -> FileRow:
    if isinstance(value, dict):
        return FileRow(number, value)
    return FileRow(number, None, NO_OBJECT, f"expected a JSON object, found {type(value).__name__}")


def _json_line_rows(stream: BinaryIO) -> Iterator[FileRow]:
    for number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        try:
            yield _object_row(number, json.loads(line.decode()))
        except UnicodeDecodeError as error:
            yield FileRow(number, None, NOT_UTF8, f"{error.reason} at byte {error.start}")
        except (ValueError, RecursionError) as error:
            yield FileRow(number, None, NO_JSON, str(error))


def _csv_rows(stream: BinaryIO, path: str) -> Iterator[FileRow]:
    """Of a table whose first row names the columns; rows are counted as a spreadsheet does, that one in."""
    csv.field_size_limit(_LONGEST_FIELD)
    text = io.TextIOWrapper(stream, "utf-8", errors="surrogateescape", newline="")
    first = text.readline()
    text.seek(0)
    delimiter = max(_DELIMITERS, key=lambda character: len(next(csv.reader([first], delimiter=character))))
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    names = [name.strip() for name in next(reader)]
    if len(set(names)) < len(names) or not any(names):
        raise ValueError(f"{path}:1: expected the names of the columns, each once, found {first.strip()!r}")
    for number in itertools.count(2):
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield FileRow(number, None, BAD_CSV, f"{error}, up to line {reader.line_num}")
            continue
        if fields:
            yield _csv_row(number, names, fields)


def _csv_row(number: int, names: list[str], fields: list[str]) -> FileRow:
    if len(fields) > len(names):
        return FileRow(number, None, BAD_CSV, f"{len(fields)} fields, {len(names)} columns; quote fields with commas")
    if any(_ESCAPED_BYTES.search(field) for field in fields):
        return FileRow(number, None, NOT_UTF8)
    return FileRow(number, dict(itertools.zip_longest(names, fields)))


def _unwrapped(rows: Iterator[FileRow]) -> Iterator[FileRow]:
    """The rows themselves where a file keeps them in one object, by a name or by columns."""
    first, second = next(rows, None), next(rows, None)
    inner = _rows_inside(first.value) if first is not None and first.value and second is None else []
    if inner:
        rows = (_object_row(number, value) for number, value in enumerate(inner, start=1))
    else:
        rows = itertools.chain((row for row in (first, second) if row is not None), rows)
    for row in rows:
        is_numbered = row.value is not None and "row_idx" in row.value and isinstance(row.value.get("row"), dict)
        yield dataclasses.replace(row, value=row.value["row"]) if is_numbered and row.value else row


def _rows_inside(value: dict[str, Any]) -> list[Any]:
    lists = [value[name] for name in _WRAPPERS if isinstance(value.get(name), list)]
    rows = [each for each in lists if each and all(isinstance(row, dict) for row in each)]
    is_turns = any(row.keys() & {"role", "from"} for each in rows for row in each)
    if len(rows) == 1 and not is_turns:
        return rows[0]
    columns = [column for column in value.values() if isinstance(column, dict | list)]
    texts = [text for c in columns for text in (c.values() if isinstance(c, dict) else c)]
    is_table = len(columns) == len(value) > 1 and len({len(column) for column in columns}) == 1
    return rows_of_columns(value) if is_table and not any(isinstance(text, dict | list) for text in texts) else []
