"""What a site says on many pages is none of their content: it is cut from the edges of segments.

A paragraph is repeated if it stands at the edges of segments of several pages of one domain with different company: the
longest other paragraph of the segment is another one. Copies of one page under several addresses have the same company,
and keep their paragraphs: they are duplicates, which a later step counts.
"""

import hashlib
import heapq
from collections.abc import Iterator
from typing import Any

from humpback_jax.corpus.config import CorpusConfig
from humpback_jax.corpus.pipeline.engine import GroupRows, Row
from humpback_jax.corpus.pipeline.rows import COMPARED, SEGMENT, pack, place_of, row_by_text, unpack
from humpback_jax.corpus.pipeline.shuffle import text_hash
from humpback_jax.corpus.segment import Segment

BY_ID, PARAGRAPHS, MARKS, ON_SITE = "by_id", "paragraphs", "marks", "repeated_on_site"
EDGE = 3  # paragraphs from either end that may be cut
MOST = 0.5  # a segment of which more than this share is cut was made of such paragraphs

_BREAK = "\n\n"


def rows_of(segment: Segment) -> Iterator[Row]:
    """The segment by its id, and the paragraphs at its edges by domain and text."""
    row, source = segment.to_row(), segment.to_source_row()
    yield Row(BY_ID, str(row["id"]), f"{SEGMENT}\t{place_of(source)}", pack(row, source))
    _, paragraphs = _paragraphs(row)
    page = text_hash(segment.url)
    longest = heapq.nsmallest(2, set(paragraphs), key=lambda paragraph: (-len(paragraph), paragraph))
    for paragraph in {*paragraphs[:EDGE], *paragraphs[-EDGE:]}:
        company = next((other for other in longest if other != paragraph), "")
        order = f"{page}\t{text_hash(company)}\t{row['id']}"
        yield Row(PARAGRAPHS, _key(segment.domain, paragraph), order)


def mark(key: str, rows: GroupRows, pages: int) -> Iterator[Row]:
    """For every segment that holds a repeated paragraph, a mark under the segment's id."""
    places = [order.split("\t") for order, _ in rows]
    if min(len({page for page, _, _ in places}), len({company for _, company, _ in places})) >= pages:
        for segment in sorted({segment for _, _, segment in places}):
            yield Row(MARKS, segment, f"{COMPARED}\t{key}")


def trim(key: str, rows: GroupRows, config: CorpusConfig) -> Iterator[Row]:
    """The segments of one id without the repeated paragraphs at their edges, by their text; or why they are dropped."""
    payloads, marked = [], set()
    for order, payload in rows:
        kind, _, rest = order.partition("\t")
        if kind == SEGMENT:
            payloads.append((rest, payload))
        else:
            marked.add(rest)
    for place, payload in payloads:
        trimmed = _without(payload, marked, config) if marked else payload
        yield row_by_text(trimmed) if trimmed else Row(ON_SITE, key, place)


def _without(payload: str, marked: set[str], config: CorpusConfig) -> str | None:
    row, source = unpack(payload)
    head, paragraphs = _paragraphs(row)
    first, end = 0, len(paragraphs)
    while first < min(EDGE, end) and _key(row["domain"], paragraphs[first]) in marked:
        first += 1
    while end > max(first, len(paragraphs) - EDGE) and _key(row["domain"], paragraphs[end - 1]) in marked:
        end -= 1
    if (first, end) == (0, len(paragraphs)):
        return payload
    text = _BREAK.join(head + paragraphs[first:end])
    if len(text) < config.min_chars or len(row["text"]) - len(text) > MOST * len(row["text"]):
        return None
    changed = row | {"text": text, "id": Segment(row["url"], row["header"], text).id}
    return pack(changed, source | {"id": changed["id"]})


def _paragraphs(row: dict[str, Any]) -> tuple[list[str], list[str]]:
    """(the header where the text begins with it, the paragraphs after it)."""
    paragraphs = row["text"].split(_BREAK)
    begins_with_header = bool(row["header"]) and paragraphs[0].lstrip("# ") == row["header"]
    return paragraphs[:begins_with_header], paragraphs[begins_with_header:]


def _key(domain: str, paragraph: str) -> str:
    """A name of a paragraph on a site, without its case and spaces."""
    return hashlib.sha256(f"{domain}\0{' '.join(paragraph.casefold().split())}".encode()).hexdigest()[:20]
