"""The first step: the pages of a shard to rows of segments, every record and candidate counted."""

import dataclasses
import functools
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from humpback_jax.corpus.config import CorpusConfig
from humpback_jax.corpus.page_segments import PageResult, PageTools, ToolsRecipe
from humpback_jax.corpus.pipeline import repeated
from humpback_jax.corpus.pipeline.engine import AnyRow, Monitor, Row
from humpback_jax.corpus.pipeline.rows import BY_ID, SEGMENT, Indexed, indexed, pack, place_of, rows_by_text
from humpback_jax.corpus.readers.inputs import InputFile
from humpback_jax.corpus.readers.pages import Page, read_pages
from humpback_jax.corpus.readers.records import RejectedRecord

COUNTS = "counts"
CUTTING_FAILED, READING_FAILED = "cutting_failed", "reading_failed"
MAX_PROBLEMS = 100

PageFunction = Callable[[Page, CorpusConfig, PageTools, str], PageResult]

_COUNTERS = ("records", "candidates", "outcomes", "furniture")
_BYTES_PER_SHARD = 16_000_000  # small files are put together up to this
_FILES_PER_SHARD = 500
_SEGMENTS_AT_ONCE = 32  # are signed together; the arrays of more do not stay near the processor


@dataclasses.dataclass(frozen=True)
class Shard:
    """Files that are read one after the other by one worker."""

    files: tuple[InputFile, ...]

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(file.size for file in self.files)


@dataclasses.dataclass
class Counts:
    """What became of records and pages; those of several shards are added.

    Attributes:
      pages: records that are pages.
      records: those that are none, by reason.
      candidates: candidates that are no segment, by reason.
      segments: candidates that are segments of their page.
      outcomes: pages by what they came to.
      furniture: blocks of pages that are no content, by reason.
      problems: damage by file and position, for people; the first so many in the order of the text.
    """

    pages: int = 0
    segments: int = 0
    records: Counter[str] = dataclasses.field(default_factory=Counter)
    candidates: Counter[str] = dataclasses.field(default_factory=Counter)
    outcomes: Counter[str] = dataclasses.field(default_factory=Counter)
    furniture: Counter[str] = dataclasses.field(default_factory=Counter)
    problems: list[str] = dataclasses.field(default_factory=list)

    def reject(self, file: InputFile, record: RejectedRecord) -> None:
        """Counts a record that is no page."""
        self.records[record.reason] += 1
        if record.detail:
            problem = f"{file.name}: {record.reason} at byte {record.position}: {record.detail}"
            self.problems = sorted([*self.problems, problem])[:MAX_PROBLEMS]

    def take(self, result: PageResult) -> None:
        """Counts a page."""
        self.pages += 1
        self.segments += len(result.segments)
        self.outcomes[result.outcome] += 1
        self.candidates.update(result.rejected)
        self.furniture.update(result.furniture)

    def add(self, other: "Counts") -> None:
        """Adds the counts of another shard."""
        self.pages += other.pages
        self.segments += other.segments
        self.records.update(other.records)
        self.candidates.update(other.candidates)
        self.outcomes.update(other.outcomes)
        self.furniture.update(other.furniture)
        self.problems = sorted(self.problems + other.problems)[:MAX_PROBLEMS]

    def to_json(self) -> str:
        """As the payload of a row."""
        return json.dumps(vars(self))

    @classmethod
    def from_json(cls, text: str) -> "Counts":
        """Back from `to_json`."""
        fields = json.loads(text)
        return cls(**fields | {name: Counter(fields[name]) for name in _COUNTERS})


def make_shards(files: Sequence[InputFile]) -> list[Shard]:
    """Every large file a shard of its own, small ones together; a function of the files and their order alone."""
    shards: list[Shard] = []
    pending: list[InputFile] = []
    size = 0
    for file in files:
        if pending and (len(pending) == _FILES_PER_SHARD or size + file.size > _BYTES_PER_SHARD):
            shards.append(Shard(tuple(pending)))
            pending, size = [], 0
        pending.append(file)
        size += file.size
    return [*shards, Shard(tuple(pending))] if pending else shards


def cut_shard(
    shard: Shard, monitor: Monitor, recipe: ToolsRecipe, cut: PageFunction, is_indexed: bool = True
) -> Iterator[AnyRow]:
    """Rows of all segments of a shard, and one row of its counts; no page ends it.

    `is_indexed`: whether the small rows by text are made here, or by a later step.
    """
    counts, tools, numbers, config = Counts(), _load(recipe), itertools.count(), recipe.config
    pending: list[Indexed] = []
    for file in shard.files:
        for page in _read_watched(file, config.max_page_bytes, monitor, numbers, counts):
            result = _cut_watched(page, file, monitor, config, tools, cut)
            if isinstance(result, RejectedRecord):
                counts.reject(file, result)
                continue
            counts.take(result)
            for segment in result.segments:
                row, source = segment.to_rows()
                place = place_of(source)
                yield Row(BY_ID, row["id"], f"{SEGMENT}\t{place}", pack(row, source))
                if config.repeated_on_pages:
                    yield from repeated.edge_rows(row)
                if is_indexed:
                    pending.append(indexed(row, place))
            if len(pending) >= _SEGMENTS_AT_ONCE:
                yield from rows_by_text(pending, SEGMENT, config.near_duplicates)
                pending = []
    yield from rows_by_text(pending, SEGMENT, config.near_duplicates)
    yield Row(COUNTS, "", shard.files[0].name, counts.to_json())


@functools.cache
def _load(recipe: ToolsRecipe) -> PageTools:
    """Once per process."""
    return recipe.load()


@dataclasses.dataclass(frozen=True)
class _NumberedPage:
    number: int
    page: Page


def _read_watched(
    file: InputFile, max_page_bytes: int, monitor: Monitor, numbers: Iterator[int], counts: Counts
) -> Iterator[_NumberedPage]:
    """The pages of a file; a record whose reading hangs or fails ends the file, and is named."""
    records = read_pages(file, max_page_bytes)
    last = 0
    for number in numbers:
        if reason := monitor.reading(number):
            counts.reject(file, RejectedRecord(reason, last, "the rest of the file is left out"))
            return
        try:
            record = next(records, None)
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk or the network, not the content: the same command goes on from here
            detail = f"{type(error).__name__}: {error}; the rest of the file is left out"
            counts.reject(file, RejectedRecord(READING_FAILED, last, detail))
            return
        if record is None:
            return
        last = record.position
        if isinstance(record, RejectedRecord):
            counts.reject(file, record)
        else:
            yield _NumberedPage(number, record)


def _cut_watched(
    numbered: _NumberedPage,
    file: InputFile,
    monitor: Monitor,
    config: CorpusConfig,
    tools: PageTools,
    cut: PageFunction,
) -> PageResult | RejectedRecord:
    """What the page comes to; a page that hangs or fails is no page."""
    page = numbered.page
    if reason := monitor.cutting(numbered.number):
        return RejectedRecord(reason, page.position, page.url)
    try:
        return cut(page, config, tools, file.name)
    except Exception as error:
        return RejectedRecord(CUTTING_FAILED, page.position, f"{page.url}: {type(error).__name__}: {error}")
