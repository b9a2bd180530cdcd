"""Why a page gave what it gave: its blocks, its sections, and what the whole corpus made of the segments it offered."""

import dataclasses
import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etils import epath

from humpback_jax.corpus.config import CorpusConfig
from humpback_jax.corpus.filters import answer_likeness
from humpback_jax.corpus.forgotten import KINDS, forget_entries
from humpback_jax.corpus.page_segments import PageTools, ToolsRecipe, cut_page, explain_page
from humpback_jax.corpus.page_trace import BlockTrace, PageTrace, SectionTrace
from humpback_jax.corpus.readers.inputs import InputFile, list_inputs
from humpback_jax.corpus.readers.pages import Page, read_pages
from humpback_jax.corpus.readers.rows import Columns
from humpback_jax.corpus.segment import Segment
from humpback_jax.corpus.segment_files import read_segments, read_shards
from humpback_jax.corpus.show import draw
from humpback_jax.files import PathLike, read_json
from humpback_jax.run_files import ANSWER_MODEL, CORPUS_MANIFEST, DUPLICATES, SOURCES

KEPT, DUPLICATE, NEAR_DUPLICATE, TRIMMED = "kept", "duplicate", "near_duplicate", "trimmed"
NOT_SAMPLED, REPEATED, UNLIKE = "not_sampled", "repeated_on_site", "low_answer_likeness"
SCORE = "answer_likeness"
PAGES_READ = 5_000  # of which some are drawn to be shown


@dataclasses.dataclass(frozen=True)
class Corpus:
    """A corpus folder with what is needed to cut its pages again.

    Attributes:
      folder: where it is.
      config: the settings it was built with.
      files: its inputs, as they are now.
      tools: what the settings load.
      answers: what told answers from segments when it was built, where that was asked for.
    """

    folder: epath.Path
    config: CorpusConfig
    files: list[InputFile]
    tools: PageTools
    answers: answer_likeness.AnswerModel | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """The settings by name, for the words of reasons."""
        return dataclasses.asdict(self.config) | {"languages": sorted(self.tools.languages)}


@dataclasses.dataclass(frozen=True)
class SectionStory:
    """A section and what became of it in the end.

    Attributes:
      trace: what the filters of the page said.
      verdict: `kept`, `trimmed` (kept without paragraphs that its site repeats), or a reason.
      detail: what exactly; of a duplicate the segment that was kept, and how like it is.
    """

    trace: SectionTrace
    verdict: str
    detail: str = ""

    @property
    def is_kept(self) -> bool:
        return self.verdict in (KEPT, TRIMMED)


@dataclasses.dataclass(frozen=True)
class PageStory:
    """A page with all that became of it; `file` is its input by name, `record` its ordinal there."""

    url: str
    file: str
    record: int
    trace: PageTrace
    sections: list[SectionStory]

    def blocks(self) -> Iterator[BlockTrace]:
        """Every block; one whose segments were all dropped after the page was cut has the reason of the first."""
        later: dict[int, str] = {}
        kept: set[int] = set()
        for story in self.sections:
            if story.is_kept:
                kept.update(story.trace.section.blocks)
            elif story.trace.reason is None:
                later |= dict.fromkeys(story.trace.section.blocks, story.verdict)
        for index, block in enumerate(self.trace.blocks()):
            is_dropped = block.fate == "kept" and index in later and index not in kept
            yield dataclasses.replace(block, fate="rejected", reason=later[index]) if is_dropped else block


def open_corpus(folder: PathLike, inputs: Sequence[PathLike] = ()) -> Corpus:
    """The corpus of a folder; `inputs` where its pages have been moved since.

    Raises:
      FileNotFoundError: the folder is no complete corpus, or its inputs are not where they were.
    """
    manifest = epath.Path(folder) / CORPUS_MANIFEST
    if not manifest.exists():
        raise FileNotFoundError(
            f"{folder} has no {CORPUS_MANIFEST}; give a folder that `humpback corpus build` finished"
        )
    values = read_json(manifest)
    config = CorpusConfig(**values["config"])
    columns = Columns(config.url_column, config.content_column)
    given = inputs or values["given"]
    files = list_inputs(given, exclude_dir=folder, crawl_root=config.crawl_root, columns=columns)
    rows = values.get("forgotten", ())
    forgotten = forget_entries(*([row[kind] for row in rows if kind in row] for kind in KINDS))
    tools = ToolsRecipe(config, tuple(values["seed_languages"]), forgotten=forgotten).load()
    model = epath.Path(folder) / ANSWER_MODEL
    is_scored = config.min_answer_likeness is not None and model.exists()
    return Corpus(epath.Path(folder), config, files, tools, answer_likeness.load(model) if is_scored else None)


def find_page(corpus: Corpus, url: str) -> tuple[Page, InputFile]:
    """A page by its URL: where its segments say that it stands, or else by reading the inputs until it comes.

    Raises:
      ValueError: no input has it.
    """
    sources = read_shards(corpus.folder, SOURCES)
    rows = zip(read_segments(corpus.folder), sources, strict=True)
    names = {source["file"] for row, source in rows if row["url"] == url}
    files = sorted(corpus.files, key=lambda file: file.name not in names)
    for file in files:
        for page in read_pages(file, corpus.config.max_page_bytes):
            if isinstance(page, Page) and page.url == url:
                return page, file
    raise ValueError(f"none of the {len(files)} inputs of {corpus.folder} has a page {url}; see `sources-*` for some")


def draw_pages(corpus: Corpus, count: int, seed: int) -> list[tuple[Page, InputFile]]:
    """`count` pages, of the first PAGES_READ of the inputs in a random order; equal seeds draw the same."""
    rng = random.Random(seed)
    files = list(corpus.files)
    rng.shuffle(files)
    pages = ((page, file) for file in files for page in _pages(corpus, file))
    return draw(itertools.islice(pages, PAGES_READ), count, rng)


def _pages(corpus: Corpus, file: InputFile) -> Iterator[Page]:
    for page in read_pages(file, corpus.config.max_page_bytes):
        if isinstance(page, Page):
            yield page


def explain_pages(corpus: Corpus, pages: Sequence[tuple[Page, InputFile]]) -> list[PageStory]:
    """What became of every page, in two passes over the segments and duplicates of the folder for all together."""
    traces = [explain_page(page, corpus.config, corpus.tools, file.name) for page, file in pages]
    cut = [cut_page(page, corpus.config, corpus.tools, file.name).segments for page, file in pages]
    ids = {segment.id for segments in cut for segment in segments}
    places = {(segment.url, segment.header) for segments in cut for segment in segments}
    kept: dict[str, Mapping[str, Any]] = {}
    for row in read_segments(corpus.folder):
        if row["id"] in ids or (row["url"], row["header"]) in places:
            kept[row["id"]] = row
    dropped = [row for row in read_shards(corpus.folder, DUPLICATES) if row["dropped"] in ids or _is_at(row, places)]
    stories = []
    for (page, file), trace, segments in zip(pages, traces, cut, strict=True):
        offered = iter(segments)
        sections = [
            SectionStory(found, found.reason, found.detail)
            if found.reason is not None
            else _verdict(found, next(offered), kept, dropped, corpus)
            for found in trace.sections
        ]
        stories.append(PageStory(page.url, file.name, page.record, trace, sections))
    return stories


def _is_at(row: Mapping[str, Any], places: set[tuple[str, str]]) -> bool:
    return (row["url"], row["header"]) in places


def _verdict(
    trace: SectionTrace,
    segment: Segment,
    kept: Mapping[str, Mapping[str, Any]],
    dropped: Sequence[Mapping[str, Any]],
    corpus: Corpus,
) -> SectionStory:
    """What the steps over the whole corpus made of a segment.

    A segment that a site's repeated paragraphs were cut from has another id; it is known by its place.
    """
    if corpus.answers is not None:
        trace.scores[SCORE] = round(corpus.answers.score(segment.text), 3)
    if segment.id in kept:
        return SectionStory(trace, KEPT)
    place = segment.url, segment.header
    for row in kept.values():
        if (row["url"], row["header"]) == place and row["text"] in segment.text:
            return SectionStory(trace, TRIMMED, f"{len(segment.text) - len(row['text'])} characters less")
    for row in sorted(dropped, key=lambda row: row["dropped"] != segment.id):
        if row["dropped"] == segment.id or (row["url"], row["header"]) == place:
            reason = DUPLICATE if row["similarity"] >= 1 else NEAR_DUPLICATE
            return SectionStory(trace, reason, f"{row['similarity']:.2f} like {row['kept']}")
    least = corpus.config.min_answer_likeness
    if least is not None and trace.scores.get(SCORE, 0.0) < least:
        return SectionStory(trace, UNLIKE, f"{trace.scores[SCORE]:g}" if SCORE in trace.scores else "")
    is_sampled = corpus.config.num_segments is not None or corpus.config.max_per_domain is not None
    return SectionStory(trace, NOT_SAMPLED if is_sampled else REPEATED)
