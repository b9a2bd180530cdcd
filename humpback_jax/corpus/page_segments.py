"""A page to its segments: the one place where reading, content, sections and filters meet."""

import dataclasses
from collections import Counter
from urllib.parse import urlsplit

from humpback_jax.corpus.config import CorpusConfig
from humpback_jax.corpus.filters import paper
from humpback_jax.corpus.html import read_html, read_plain_text
from humpback_jax.corpus.readers.pages import Page
from humpback_jax.corpus.segment import Segment


@dataclasses.dataclass(frozen=True)
class ToolsRecipe:
    """What `PageTools` are loaded from: small, picklable, the same in every worker.

    Attributes:
      config: the settings.
      seed_languages: of the seed answers; empty where no seeds are known.
      answer_model: file of the answer-likeness model, where one was trained.
    """

    config: CorpusConfig
    seed_languages: tuple[str, ...] = ()
    answer_model: str | None = None

    def load(self) -> "PageTools":
        """Loads everything; once per worker."""
        return PageTools()


@dataclasses.dataclass(frozen=True)
class PageTools:
    """What is loaded once per worker and used for every page."""


@dataclasses.dataclass(frozen=True)
class PageResult:
    """What a page came to.

    Attributes:
      segments: in document order.
      rejected: candidates that are no segment, by reason; the candidates are these and the segments.
      outcome: "segments", "no_section", "all_rejected".
    """

    segments: tuple[Segment, ...]
    rejected: Counter[str]
    outcome: str


def cut_page(page: Page, config: CorpusConfig, tools: PageTools, file: str = "") -> PageResult:
    """The segments of one page of `file`, on its own: nothing is compared with other pages."""
    content = read_html(page.text) if page.is_html else read_plain_text(page.text)
    segments: list[Segment] = []
    rejected: Counter[str] = Counter()
    domain = domain_of(page.url)
    for section in content.sections:
        # The header is the block before its section, except where it is empty and so no block at all.
        first = section.first - 1 if config.include_header and section.header else section.first
        text = content.text(first, section.end)
        if reason := candidate_reason(section.header, text, config):
            rejected[reason] += 1
        else:
            segments.append(Segment(page.url, section.header, text, domain, file=file, start=page.position))
    outcome = "segments" if segments else "all_rejected" if rejected else "no_section"
    return PageResult(tuple(segments), rejected, outcome)


def candidate_reason(header: str, text: str, config: CorpusConfig) -> str | None:
    """Why a section is no segment, or None; the cheap tests come first."""
    reason = paper.header_reason(header, config.navigation_phrases, config.navigation_headers)
    reason = reason or paper.length_reason(text, config.min_chars, config.max_chars)
    if reason:
        return reason
    repeats = paper.is_repetitive(text, config.ngram, config.jaccard_threshold, config.min_sentence_words)
    return "repetitive" if repeats else None


def domain_of(url: str) -> str:
    """The host of a URL, lower-cased, without `www.`; empty for a file's name."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return ""
    return host.removeprefix("www.")
