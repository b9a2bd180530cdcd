"""A segment as rows between the steps: its lines in the files, which are made once, and the small row of its text."""

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from humpback_jax.corpus.pipeline.engine import GroupRows, Row
from humpback_jax.corpus.pipeline.signatures import band_keys

# Data sets that more than one step makes or reads.
BY_ID, BY_TEXT = "by_id", "by_text"

# Orders within the group of a segment's id: the segment as it was cut, that this one is gone, the segment as a step has
# changed it, those it is compared with, and that it is dropped.
SEGMENT, GONE, CHANGED, COMPARED, DROPPED = "0", "1", "2", "3", "4"

ID_CHARS = 20  # of a segment's id
_ID_BITS = 32  # of an id that say which file it is in
_to_json = json.JSONEncoder(ensure_ascii=False).encode


class Indexed(NamedTuple):
    """What the small row of a segment is made of; `place` is that of its page, see `place_of`."""

    id: str
    url: str
    header: str
    text: str
    domain: str
    place: str


def pack(row: Mapping[str, Any], source: Mapping[str, Any]) -> str:
    """The payload of a segment: its line in the segments' file, that in the sources' file, its domain and language."""
    return "\n".join((_to_json(row), _to_json(source), _to_json([row["domain"], row["language"]])))


def unpack(payload: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(the row of the segments' file, the row of the sources' file)."""
    row, source, _ = payload.split("\n")
    return json.loads(row), json.loads(source)


def row_of(payload: str) -> dict[str, Any]:
    """The row of the segments' file."""
    row: dict[str, Any] = json.loads(payload[: payload.index("\n")])
    return row


def place_of(source: Mapping[str, Any]) -> str:
    """Where a segment's page stands, as text in the order of files and records."""
    return f"{source['file']}\t{source['record']:012d}\t{source['start']:015d}"


def file_number(segment_id: str, files: int) -> int:
    """Which of `files` files an id is in: ids are hashes, so equal ranges of them have about equally many."""
    return int(segment_id[: _ID_BITS // 4], 16) * files >> _ID_BITS


def text_hash(text: str) -> str:
    """A short name of a text: 80 bits of its SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def rows_by_text(segments: Sequence[Indexed], kind: str, threshold: float | None) -> Iterator[Row]:
    """Small rows under the names of the texts, in the order of ids and then of places, with the keys of the bands."""
    keys = band_keys([segment.text for segment in segments], threshold) if segments and threshold is not None else None
    for i, segment in enumerate(segments):
        known = _to_json([segment.url, segment.header, segment.domain])
        bands = keys[i].tobytes().hex() if keys is not None else ""
        yield Row(BY_TEXT, text_hash(segment.text), f"{segment.id}\t{segment.place}\t{kind}", f"{bands}\t{known}")


def gone_by_text(segment: Indexed) -> Row:
    """Takes back the row of a segment as it was cut."""
    return Row(BY_TEXT, text_hash(segment.text), f"{segment.id}\t{segment.place}\t{GONE}")


def read_known(payload: str) -> tuple[np.ndarray, str, str, str]:
    """(the keys of the bands, URL, header, domain) of a small row."""
    bands, _, known = payload.partition("\t")
    url, header, domain = json.loads(known)
    return np.frombuffer(bytes.fromhex(bands), np.uint64), url, header, domain


def alive_by_text(rows: GroupRows) -> Iterator[tuple[str, str]]:
    """(id and place, payload) of the small rows of one text that were not taken back."""
    for place, same in itertools.groupby(rows, _without_kind):
        found = [(order[-1], payload) for order, payload in same]
        is_gone = any(kind == GONE for kind, _ in found)
        yield from ((place, payload) for kind, payload in found if kind == CHANGED or not is_gone)


def segments_of(rows: GroupRows) -> list[tuple[str, str]]:
    """(place, payload) of the segments of one id that are alive, in the order of places; none if the id is dropped."""
    found, changed = [], []
    for order, payload in rows:
        kind, _, place = order.partition("\t")
        if kind == SEGMENT:
            found.append((place, payload))
        elif kind == GONE:
            found = []
        elif kind == CHANGED:
            changed.append((place, payload))
        else:
            return []
    return sorted(found + changed)


def split_group(rows: GroupRows) -> tuple[str, GroupRows]:
    """(the payload of an id's segment, the rows of its group that are no segments)."""
    _, payload = next(rows)
    return payload, itertools.dropwhile(_is_segment, rows)


def _is_segment(row: tuple[str, str]) -> bool:
    return row[0] < COMPARED


def _without_kind(row: tuple[str, str]) -> str:
    return row[0].rpartition("\t")[0]


def indexed(row: Mapping[str, Any], place: str) -> Indexed:
    """Of a row of the segments' file."""
    return Indexed(row["id"], row["url"], row["header"], row["text"], row["domain"], place)
