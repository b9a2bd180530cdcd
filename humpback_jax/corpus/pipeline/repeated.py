"""What a site says on many pages is none of their content: it is cut from the edges of segments.

A paragraph is repeated if it stands at the edges of segments of several pages of one domain with different company: the
longest other paragraph of the segment is another one. Copies of one page under several addresses have the same company,
and keep their paragraphs: they are duplicates, which a later step counts.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from humpback_jax.corpus.config import CorpusConfig
from humpback_jax.corpus.pipeline.engine import GroupRows, NumberedRows, Row, number_text
from humpback_jax.corpus.pipeline.rows import (
    BY_ID,
    CHANGED,
    COMPARED,
    GONE,
    SEGMENT,
    gone_by_text,
    indexed,
    pack,
    rows_by_text,
    text_hash,
    unpack,
)
from humpback_jax.corpus.segment import Segment

PARAGRAPHS, MARKS, ON_SITE, TAKEN_BACK = "paragraphs", "marks", "repeated_on_site", "taken_back"
EDGE = 3  # paragraphs from either end that may be cut
MOST = 0.5  # a segment of which more than this share is cut was made of such paragraphs

_BREAK = "\n\n"
_ID_BYTES = 10


def edge_rows(row: Mapping[str, Any]) -> Iterator[NumberedRows]:
    """The paragraphs at the edges of a segment by domain and text: with them their page, their company, the segment."""
    _, paragraphs = _paragraphs(row["header"], row["text"])
    page = text_hash(row["url"])
    longest, second = _two_longest(paragraphs)
    edges = dict.fromkeys(paragraphs[:EDGE] + paragraphs[-EDGE:] if len(paragraphs) > EDGE else paragraphs)
    keys = [_key(row["domain"], paragraph) for paragraph in edges if paragraph != longest]
    if keys:
        yield NumberedRows(PARAGRAPHS, _numbers(keys), f"{page}\t{text_hash(longest)}\t{row['id']}")
    if longest in edges:
        key = _key(row["domain"], longest)
        yield NumberedRows(PARAGRAPHS, _numbers([key]), f"{page}\t{text_hash(second)}\t{row['id']}")


def _numbers(keys: Sequence[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(keys), "<u8")


def mark(key: str, rows: GroupRows, pages: int) -> Iterator[Row]:
    """For every segment that holds a repeated paragraph, a mark under the segment's id.

    Until enough pages and companies are known, 10 bytes are held for each segment; those that follow pass through.
    """
    seen_pages, seen_company, held = set[str](), set[str](), bytearray()
    is_repeated = False
    for order, _ in rows:
        page, company, segment = order.split("\t")
        if is_repeated:
            yield Row(MARKS, segment, f"{COMPARED}\t{key}")
            continue
        seen_pages |= {page} if len(seen_pages) < pages else set()
        seen_company |= {company} if len(seen_company) < pages else set()
        held += bytes.fromhex(segment)
        is_repeated = min(len(seen_pages), len(seen_company)) >= pages
        if is_repeated:
            yield from (Row(MARKS, name, f"{COMPARED}\t{key}") for name in _names(held))


def _names(held: bytes | bytearray) -> Iterator[str]:
    return (held[i : i + _ID_BYTES].hex() for i in range(0, len(held), _ID_BYTES))


def trim(key: str, rows: GroupRows, config: CorpusConfig, is_indexed: bool) -> Iterator[Row]:
    """The segments of a marked id without the repeated paragraphs at their edges, or why they are dropped.

    What was cut is taken back then; a segment that nothing is cut from stays as it is, without a row.
    """
    payloads, marked = [], set()
    for order, payload in rows:
        kind, _, rest = order.partition("\t")
        if kind == SEGMENT:
            payloads.append((rest, payload))
        else:
            marked.add(rest)
    for place, payload in payloads if marked else ():
        row, source = unpack(payload)
        text = _without(row, marked)
        if text == row["text"]:
            return
        yield Row(TAKEN_BACK, key, f"{GONE}\t{place}")
        if is_indexed:
            yield gone_by_text(indexed(row, place))
        if len(text) < config.min_chars or len(row["text"]) - len(text) > MOST * len(row["text"]):
            yield Row(ON_SITE, key, place)
            continue
        changed = row | {"text": text, "id": Segment(row["url"], row["header"], text).id}
        yield Row(BY_ID, changed["id"], f"{CHANGED}\t{place}", pack(changed, source | {"id": changed["id"]}))
        if is_indexed:
            yield from rows_by_text([indexed(changed, place)], CHANGED, config.near_duplicates)


def _without(row: Mapping[str, Any], marked: set[str]) -> str:
    """The text without the marked paragraphs at its edges."""
    head, paragraphs = _paragraphs(row["header"], row["text"])
    first, end = 0, len(paragraphs)
    while first < min(EDGE, end) and _name(row["domain"], paragraphs[first]) in marked:
        first += 1
    while end > max(first, len(paragraphs) - EDGE) and _name(row["domain"], paragraphs[end - 1]) in marked:
        end -= 1
    return _BREAK.join(head + paragraphs[first:end])


def _paragraphs(header: str, text: str) -> tuple[list[str], list[str]]:
    """(the header where the text begins with it, the paragraphs after it)."""
    paragraphs = text.split(_BREAK)
    begins_with_header = bool(header) and paragraphs[0].lstrip("# ") == header
    return paragraphs[:begins_with_header], paragraphs[begins_with_header:]


def _two_longest(paragraphs: Sequence[str]) -> tuple[str, str]:
    """The longest and the next, empty where there is none; of equally long ones the first in the order of texts."""
    longest, second = [*sorted(sorted(set(paragraphs)), key=len, reverse=True)[:2], "", ""][:2]
    return longest, second


def _key(domain: str, paragraph: str) -> bytes:
    """A number for a paragraph on a site, without its case and spaces, as its 8 bytes."""
    said = f"{domain}\0{' '.join(paragraph.casefold().split())}"
    return hashlib.sha256(said.encode()).digest()[:8]


def _name(domain: str, paragraph: str) -> str:
    return number_text(int.from_bytes(_key(domain, paragraph), "little"))
