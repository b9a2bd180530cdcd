"""What the corpus stage takes: processor time, bytes read, bytes between its steps and bytes kept, from measured rates.

docs/scale.md explains the figures and has them in a table, which a test compares with these.
"""

import dataclasses
from typing import Any

SECONDS_PER_HOUR = 3600


@dataclasses.dataclass(frozen=True)
class CorpusRates:
    """Rates of one core, and sizes of what it works on.

    Attributes:
      megabytes_per_second: of HTML, through everything: reading, content, filters, duplicates, writing (measured).
      html_bytes: of a page as HTML (Common Crawl's mean).
      archive_bytes: of a page in a compressed archive (Common Crawl's mean).
      segments_per_page: that are kept of a page (assumed: the benchmark's articles and manuals give 3.7).
      candidates_per_segment: that go into the group-bys for each that is kept (assumed: a crawl has copies).
      segment_bytes: of a segment in its file, JSON lines (measured).
      shuffled_bytes: of a candidate, by group-by, compressed as they lie between the steps (measured).
    """

    megabytes_per_second: float = 13.7
    html_bytes: float = 150_000.0
    archive_bytes: float = 32_000.0
    segments_per_page: float = 1.0
    candidates_per_segment: float = 1.5
    segment_bytes: float = 2_070.0
    shuffled_bytes: tuple[tuple[str, float], ...] = (
        ("repeated paragraphs", 1_260.0),
        ("copies", 510.0),
        ("near-duplicates", 235.0),
        ("sampling", 125.0),
        ("writing", 1_020.0),
    )


RATES = CorpusRates()


@dataclasses.dataclass(frozen=True)
class CorpusWork:
    """The corpus stage in numbers.

    Attributes:
      pages, segments: in and out.
      html_bytes, archive_bytes: that are read, unpacked and packed.
      core_hours: of processor time.
      shuffled_bytes: between the steps, by group-by.
      segment_bytes: of what is kept.
    """

    pages: int
    segments: int
    html_bytes: float
    archive_bytes: float
    core_hours: float
    shuffled_bytes: dict[str, float]
    segment_bytes: float


def corpus_work(segments: int | None = None, pages: int | None = None, rates: CorpusRates = RATES) -> CorpusWork:
    """The work for so many pages, or for as many as so many segments need.

    Raises:
      ValueError: neither is known.
    """
    if pages is None and segments is None:
        raise ValueError("the corpus stage is counted from pages or from segments; give --pages or --segments")
    if pages is None:
        assert segments is not None
        pages = round(segments / rates.segments_per_page)
    most = round(pages * rates.segments_per_page)
    kept = most if segments is None else min(segments, most)
    candidates = most * rates.candidates_per_segment
    html_bytes = pages * rates.html_bytes
    return CorpusWork(
        pages,
        kept,
        html_bytes,
        pages * rates.archive_bytes,
        html_bytes / (rates.megabytes_per_second * 1e6) / SECONDS_PER_HOUR,
        {name: candidates * size for name, size in rates.shuffled_bytes},
        kept * rates.segment_bytes,
    )


def corpus_line(work: CorpusWork, price_per_core_hour: float | None) -> dict[str, Any]:
    """The same as plain values with its cost."""
    cost = None if price_per_core_hour is None else work.core_hours * price_per_core_hour
    return dataclasses.asdict(work) | {"cost": cost}
