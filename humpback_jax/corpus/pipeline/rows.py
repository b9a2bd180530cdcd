"""A segment as a row between the steps: what is written of it, and where its page stands."""

import json
from typing import Any

from humpback_jax.corpus.pipeline.engine import Row
from humpback_jax.corpus.pipeline.shuffle import text_hash
from humpback_jax.corpus.segment import Segment

# Data sets that more than one step reads.
BY_TEXT = "by_text"

# Orders within the group of a segment's id: the segment, those it is compared with, and why it is dropped.
SEGMENT, COMPARED, DROPPED = "0", "1", "2"

_ID_BITS = 32  # of an id that say which file it is in


def pack(row: dict[str, Any], source: dict[str, Any]) -> str:
    """The payload of a segment."""
    return json.dumps([row, source], ensure_ascii=False)


def unpack(payload: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(the row of the segments' file, the row of the sources' file)."""
    row, source = json.loads(payload)
    return row, source


def pack_segment(segment: Segment) -> str:
    """The payload of a segment as it was cut."""
    return pack(segment.to_row(), segment.to_source_row())


def place_of(source: dict[str, Any]) -> str:
    """Where a segment's page stands, as text in the order of files and records."""
    return f"{source['file']}\t{source['record']:012d}\t{source['start']:015d}"


def file_number(segment_id: str, files: int) -> int:
    """Which of `files` files an id is in: ids are hashes, so equal ranges of them have about equally many."""
    return int(segment_id[: _ID_BITS // 4], 16) * files >> _ID_BITS


def row_by_text(payload: str) -> Row:
    """The segment under the name of its text, in the order of ids and then of places."""
    row, source = unpack(payload)
    return Row(BY_TEXT, text_hash(row["text"]), f"{row['id']}\t{place_of(source)}", payload)
