"""Files of instructions, outputs and annotations as AlpacaEval and others write them: read into rows."""

import gzip
import json
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from humpback_jax.files import PathLike, write_atomically

GZIP_MAGIC = b"\x1f\x8b"


def read_records(path: PathLike) -> list[dict[str, Any]]:
    """The rows of a JSON file, gzipped or not: a list of objects, JSON lines, or one object of columns.

    Raises:
      ValueError: the file is none of these.
    """
    rows = read_json_values(path)
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise ValueError(f"{path}: record {number} is {type(row).__name__}; expected an object")
    return rows


def read_outputs(path: PathLike, limit: int | None = None) -> list[dict[str, Any]]:
    """Rows with an `instruction` (instructions.json, or the model_outputs.json of any model).

    Raises:
      ValueError: a row has no instruction.
    """
    rows = read_records(path)
    for number, row in enumerate(rows):
        if not isinstance(row.get("instruction"), str):
            raise ValueError(f"{path}: record {number} has no text under 'instruction'")
    return rows[:limit]


def write_records(path: PathLike, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows as the indented JSON list that AlpacaEval's tools write."""
    write_atomically(path, json.dumps(rows, indent=2, ensure_ascii=False) + "\n")


def read_json_values(path: PathLike) -> list[Any]:
    """As `read_records`, but the values may be anything, such as strings."""
    data = epath.Path(path).read_bytes()
    try:
        text = (gzip.decompress(data) if data.startswith(GZIP_MAGIC) else data).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not gzipped or plain UTF-8 text ({error}); get this file again") from error
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        try:
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        except json.JSONDecodeError:
            raise ValueError(f"{path} is neither JSON nor JSON lines ({error}); get this file again") from error
    if isinstance(value, dict):
        columns = bool(value) and all(isinstance(column, dict | list) for column in value.values())
        return _rows_of_columns(value) if columns else [value]  # or JSON lines with a single line
    if not isinstance(value, list):
        raise ValueError(f"{path} holds {type(value).__name__}; expected a list of annotations")
    return value


def _rows_of_columns(columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    """{column: {row: value}} or {column: [value]}, as pandas writes them, as one object per row."""
    by_row = {name: c if isinstance(c, dict) else dict(enumerate(c)) for name, c in columns.items()}
    index = list(dict.fromkeys(row for column in by_row.values() for row in column))
    return [{name: column.get(row) for name, column in by_row.items()} for row in index]
