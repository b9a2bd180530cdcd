"""Files of instructions, outputs and annotations as AlpacaEval and others write them: read into rows."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from humpback_jax.files import PathLike, read_json_values, write_atomically


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
