"""The corpus stage: input files to `segments.jsonl` and `corpus_report.json`, every record and candidate counted."""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from etils import epath

from humpback_jax.corpus import filters
from humpback_jax.corpus.html import read_html, read_plain_text
from humpback_jax.corpus.inputs import InputFile, list_inputs
from humpback_jax.corpus.pages import Page, RejectedRecord, read_pages
from humpback_jax.files import PathLike, write_json, write_jsonl
from humpback_jax.run_files import CORPUS_REPORT, SEGMENTS
from humpback_jax.runtime.console import say
from humpback_jax.runtime.progress import ProgressReporter, progress_bar

DAMAGE = frozenset({"truncated_warc", "damaged_warc", "not_a_warc", "unknown_file", "empty_file"})

_MAX_PROBLEMS = 100
_BYTES_PER_UNIT = 1000


@dataclasses.dataclass(frozen=True)
class CorpusConfig:
    """What becomes a segment. Lengths are in characters of the segment's text.

    The paper gives the length bounds (600 to 3,000) and says that the header and repetition filters exist; it gives
    neither the n-gram size nor the threshold nor the whole word list, and does not say whether the header is part of
    the text. A segment is repetitive if two of its sentences of `min_sentence_words` words or more have `ngram`-gram
    sets of Jaccard similarity `jaccard_threshold` or more. `max_segments` keeps the first N in input order.
    `max_page_bytes` bounds the memory one page can take.
    """

    min_chars: int = 600
    max_chars: int = 3000
    include_header: bool = False
    ngram: int = 3
    jaccard_threshold: float = 0.8
    min_sentence_words: int = 6
    max_segments: int | None = None
    max_page_bytes: int = 8_000_000
    navigation_phrases: tuple[str, ...] = filters.NAVIGATION_PHRASES
    navigation_headers: tuple[str, ...] = filters.NAVIGATION_HEADERS

    def __post_init__(self) -> None:
        if not 0 < self.min_chars <= self.max_chars:
            raise ValueError(f"expected 0 < min_chars <= max_chars, found {self.min_chars} and {self.max_chars}")
        for name in ("ngram", "min_sentence_words", "max_page_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, found {getattr(self, name)}")
        if not self.jaccard_threshold > 0:
            raise ValueError(f"jaccard_threshold must be above 0 (over 1 is off), found {self.jaccard_threshold}")
        if self.max_segments is not None and self.max_segments < 1:
            raise ValueError(f"max_segments must be at least 1 or None, found {self.max_segments}")


@dataclasses.dataclass(frozen=True)
class Segment:
    """A portion of a page that may serve as the answer of a pair."""

    url: str
    header: str
    text: str

    @property
    def id(self) -> str:
        """Stable name: a hash of URL, header and text."""
        return hashlib.sha256("\0".join((self.url, self.header, self.text)).encode()).hexdigest()[:20]

    def to_row(self) -> dict[str, str]:
        """The line of `segments.jsonl`."""
        return {"id": self.id} | dataclasses.asdict(self)


@dataclasses.dataclass
class CorpusReport:
    """Counts of a run. A candidate is a header with its section.

    Attributes:
      pages: records that are pages.
      segments: candidates that are kept.
      rejected_records, rejected_segments: all others by reason.
      problems: names the damaged inputs, the first 100 of them.
    """

    pages: int = 0
    segments: int = 0
    rejected_records: Counter[str] = dataclasses.field(default_factory=Counter)
    rejected_segments: Counter[str] = dataclasses.field(default_factory=Counter)
    problems: list[str] = dataclasses.field(default_factory=list)

    @property
    def records(self) -> int:
        """All records, pages or not."""
        return self.pages + self.rejected_records.total()

    @property
    def candidates(self) -> int:
        """All candidates, kept or not."""
        return self.segments + self.rejected_segments.total()

    @property
    def readable(self) -> bool:
        """Whether there was any record besides damage: an archive without segments is not a broken one."""
        return bool(self.pages or self.rejected_records.keys() - DAMAGE)

    def reject_record(self, file: InputFile, record: RejectedRecord) -> None:
        """Counts a record that is no page."""
        self.rejected_records[record.reason] += 1
        if record.detail and len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(f"{file.name}: {record.reason} at byte {record.position}: {record.detail}")

    def to_dict(self) -> dict[str, object]:
        """The same as plain JSON values, reasons in alphabetical order."""
        return {
            "records": self.records,
            "pages": self.pages,
            "rejected_records": dict(sorted(self.rejected_records.items())),
            "candidates": self.candidates,
            "segments": self.segments,
            "rejected_segments": dict(sorted(self.rejected_segments.items())),
            "problems": self.problems,
        }


class EmptyCorpusError(ValueError):
    """No segment is left; `report` has the counts."""

    def __init__(self, report: CorpusReport) -> None:
        self.report = report
        super().__init__(
            f"no segment is left of {report.records} records and {report.candidates} candidates "
            f"(records rejected: {_reasons(report.rejected_records)}; candidates rejected: "
            f"{_reasons(report.rejected_segments)}); add pages with headers, or loosen CorpusConfig "
            "(min_chars, max_chars, jaccard_threshold)"
        )


def candidate_reason(header: str, text: str, config: CorpusConfig) -> str | None:
    """Why a section is no segment, or None; the cheap tests come first."""
    reason = filters.header_reason(header, config.navigation_phrases, config.navigation_headers)
    reason = reason or filters.length_reason(text, config.min_chars, config.max_chars)
    if reason:
        return reason
    repeats = filters.is_repetitive(text, config.ngram, config.jaccard_threshold, config.min_sentence_words)
    return "repetitive" if repeats else None


def segments_of_page(page: Page, config: CorpusConfig) -> tuple[list[Segment], Counter[str]]:
    """(segments in document order, number of rejected sections by reason) of one page, on its own: no deduplication."""
    content = read_html(page.text) if page.is_html else read_plain_text(page.text)
    segments: list[Segment] = []
    rejected: Counter[str] = Counter()
    for section in content.sections:
        # The header is the block before its section, except where it is empty and so no block at all.
        first = section.first - 1 if config.include_header and section.header else section.first
        text = content.text(first, section.end)
        reason = candidate_reason(section.header, text, config)
        if reason:
            rejected[reason] += 1
        else:
            segments.append(Segment(page.url, section.header, text))
    return segments, rejected


def build_corpus(
    inputs: Sequence[PathLike], out_dir: PathLike, config: CorpusConfig, *, show_progress: bool = True
) -> CorpusReport:
    """Reads `inputs` (WARC, WET or HTML files, or folders of them) and writes the segments and the report to `out_dir`.

    Pages are read one at a time. The same inputs and config give the same bytes in both files; the report is written
    last, so that its presence means the stage is complete. Damaged inputs are counted and named in the report.
    Raises FileNotFoundError for an input that does not exist, and EmptyCorpusError where no segment is left (both files
    are written then too).
    """
    folder = epath.Path(out_dir)
    files = list_inputs(inputs, exclude_dir=folder)
    for name in (CORPUS_REPORT, SEGMENTS):
        (folder / name).unlink(missing_ok=True)
    report = CorpusReport()
    with progress_bar("corpus", sum(file.size for file in files) // _BYTES_PER_UNIT, "kB", show=show_progress) as bar:
        segments = _unique_segments(files, config, report, bar)
        write_jsonl(folder / SEGMENTS, (segment.to_row() for segment in segments))
    for problem in report.problems:
        say(f"corpus: {problem}")
    write_json(folder / CORPUS_REPORT, report.to_dict())
    if not report.segments:
        raise EmptyCorpusError(report)
    return report


def _unique_segments(
    files: Sequence[InputFile], config: CorpusConfig, report: CorpusReport, bar: ProgressReporter
) -> Iterator[Segment]:
    """All segments in input order; everything read is counted in `report` as it comes."""
    seen: set[bytes] = set()
    bytes_before = 0
    for file in files:
        for record in read_pages(file, config.max_page_bytes):
            _advance(bar, bytes_before + record.position, report)
            if isinstance(record, RejectedRecord):
                report.reject_record(file, record)
                continue
            report.pages += 1
            segments, rejected = segments_of_page(record, config)
            report.rejected_segments.update(rejected)
            for segment in segments:
                if reason := _reason_among(segment, seen, report.segments, config.max_segments):
                    report.rejected_segments[reason] += 1
                else:
                    report.segments += 1
                    yield segment
        bytes_before += file.size
        _advance(bar, bytes_before, report)


def _reason_among(segment: Segment, seen: set[bytes], kept: int, max_segments: int | None) -> str | None:
    """Why a segment cannot join those kept so far, or None; remembers its text."""
    digest = hashlib.sha256(segment.text.encode()).digest()[:16]
    if digest in seen:
        return "duplicate"
    seen.add(digest)
    return "over_max_segments" if max_segments is not None and kept >= max_segments else None


def _advance(bar: ProgressReporter, bytes_read: int, report: CorpusReport) -> None:
    bar.advance(max(bytes_read // _BYTES_PER_UNIT - bar.done, 0), pages=report.pages, segments=report.segments)


def _reasons(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {number}" for reason, number in sorted(counts.items())) or "none"
