"""Rows of large JSON-lines files by what stands in them, without reading all of them as JSON.

A line is looked at as bytes; only those that are wanted are parsed. A file is mapped, not held.
"""

import json
import mmap
import pathlib
import re
from collections.abc import Collection, Iterator
from typing import Any

from humpback_jax.files import PathLike, jsonl_line

_ID = b'{"id": "'


def rows_with(path: PathLike, text: str) -> Iterator[dict[str, Any]]:
    """The rows of a file whose line holds a text, as JSON spells it."""
    needle = jsonl_line({"": text})[6:-3].encode(errors="surrogatepass")
    with _mapped(path) as lines:
        place = lines.find(needle)
        while place >= 0:
            start, end = lines.rfind(b"\n", 0, place) + 1, lines.find(b"\n", place)
            end = len(lines) if end < 0 else end
            yield json.loads(lines[start:end])
            place = lines.find(needle, end)


def rows_of_ids(path: PathLike, ids: Collection[str]) -> Iterator[dict[str, Any]]:
    """The rows of these segments or of their pairs `ID#k`; the id is the first key of a line."""
    wanted = {name.encode() for name in ids}
    with pathlib.Path(path).open("rb") as lines:
        for line in lines:
            name = _first_id(line)
            if name in wanted or (b"#" in name and name.partition(b"#")[0] in wanted):
                yield json.loads(line)


def rows_of_values(path: PathLike, key: str, values: Collection[str]) -> Iterator[dict[str, Any]]:
    """The rows whose key, wherever it stands on the line, has one of these texts."""
    pattern = re.compile(rb'"%s": ("(?:[^"\\]|\\.)*")' % re.escape(key).encode())
    wanted = {jsonl_line({"": value})[5:-2].encode(errors="surrogatepass") for value in values}
    with pathlib.Path(path).open("rb") as lines:
        for line in lines:
            match = pattern.search(line)
            if match is not None and match[1] in wanted:
                yield json.loads(line)


def _first_id(line: bytes) -> bytes:
    if line.startswith(_ID):
        return line[len(_ID) : line.index(b'"', len(_ID))]
    row = json.loads(line) if line.strip() else {}
    return str(row.get("id", "")).encode()


def _mapped(path: PathLike) -> Any:
    """The bytes of a file as one object, which is closed when the block ends."""
    file = pathlib.Path(path)
    if not file.exists() or not file.stat().st_size:
        return mmap.mmap(-1, 1)
    with file.open("rb") as stream:
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
