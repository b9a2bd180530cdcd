"""The corpus stage: input files to segments and `corpus_report.json`, every record and candidate counted."""

import dataclasses
import hashlib
import operator
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from etils import epath

from humpback_jax.corpus.config import CorpusConfig
from humpback_jax.corpus.page_segments import PageTools, ToolsRecipe, cut_page
from humpback_jax.corpus.readers.inputs import InputFile, list_inputs
from humpback_jax.corpus.readers.pages import read_pages
from humpback_jax.corpus.readers.records import DAMAGE, RejectedRecord
from humpback_jax.corpus.segment import Segment
from humpback_jax.corpus.segment_files import remove_shards, write_segments
from humpback_jax.files import PathLike, write_json
from humpback_jax.run_files import CORPUS_REPORT, SEGMENTS
from humpback_jax.runtime.console import say
from humpback_jax.runtime.progress import ProgressReporter, progress_bar

_MAX_PROBLEMS = 100
_BYTES_PER_UNIT = 1000


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
    (folder / CORPUS_REPORT).unlink(missing_ok=True)
    remove_shards(folder, SEGMENTS)
    report = CorpusReport()
    with progress_bar("corpus", sum(file.size for file in files) // _BYTES_PER_UNIT, "kB", show=show_progress) as bar:
        segments = sorted(_unique_segments(files, config, report, bar), key=operator.attrgetter("id"))
        write_segments(folder, (segment.to_row() for segment in segments), len(segments))
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
    tools: PageTools = ToolsRecipe(config).load()
    for file in files:
        for record in read_pages(file, config.max_page_bytes):
            _advance(bar, bytes_before + record.position, report)
            if isinstance(record, RejectedRecord):
                report.reject_record(file, record)
                continue
            report.pages += 1
            result = cut_page(record, config, tools, file.name)
            report.rejected_segments.update(result.rejected)
            for segment in result.segments:
                if reason := _reason_among(segment, seen, report.segments, config.num_segments):
                    report.rejected_segments[reason] += 1
                else:
                    report.segments += 1
                    yield segment
        bytes_before += file.size
        _advance(bar, bytes_before, report)


def _reason_among(segment: Segment, seen: set[bytes], kept: int, num_segments: int | None) -> str | None:
    """Why a segment cannot join those kept so far, or None; remembers its text."""
    digest = hashlib.sha256(segment.text.encode()).digest()[:16]
    if digest in seen:
        return "duplicate"
    seen.add(digest)
    return "over_num_segments" if num_segments is not None and kept >= num_segments else None


def _advance(bar: ProgressReporter, bytes_read: int, report: CorpusReport) -> None:
    bar.advance(max(bytes_read // _BYTES_PER_UNIT - bar.done, 0), pages=report.pages, segments=report.segments)


def _reasons(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {number}" for reason, number in sorted(counts.items())) or "none"
