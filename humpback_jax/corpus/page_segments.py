"""A page to its segments: the one place where reading, content, sections and filters meet, read from top to bottom.

`explain_page` does the work and remembers all of it; `cut_page` keeps the segments and the counts.
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import cast
from urllib.parse import urlsplit

from humpback_jax.corpus.config import CorpusConfig
from humpback_jax.corpus.content.blocks import PageBlocks
from humpback_jax.corpus.content.html import read_html, read_plain_text
from humpback_jax.corpus.content.main_content import furniture_reasons
from humpback_jax.corpus.content.scripts import has_text_in_scripts
from humpback_jax.corpus.content.sections import (
    LongSections,
    Nested,
    Section,
    choose_nested,
    cut_sections,
    empty_sections,
)
from humpback_jax.corpus.filters import answer_likeness, density, paper
from humpback_jax.corpus.filters.blocklists import domain_key, is_blocked_domain, phrase_index, read_entries
from humpback_jax.corpus.filters.contamination import PromptIndex, prompt_index
from humpback_jax.corpus.filters.language import LanguageFinder, language_reason
from humpback_jax.corpus.filters.personal_data import mask_personal_data
from humpback_jax.corpus.filters.words import PhraseIndex
from humpback_jax.corpus.forgotten import Forgotten
from humpback_jax.corpus.page_trace import PageTrace, SectionTrace
from humpback_jax.corpus.readers.pages import Page
from humpback_jax.corpus.segment import Segment

_LITTLE_TEXT = 200  # characters of content: a page that has no more may have its text in its scripts
_WITHOUT_SENTENCES = ("code", "row")  # kinds of blocks
_DIGITS = 3  # of the scores that a segment records


@dataclasses.dataclass(frozen=True)
class PageTools:
    """What is loaded once per worker and used for every page.

    Attributes:
      languages: what segments may be in; empty for all.
      finder: finds the language of a text.
      blocked_domains: as `domain_key` writes them.
      blocked_phrases: finds phrases that no segment may hold.
      prompts: finds evaluation prompts, where there are any to be found.
      answers: scores how much a text is like the seed answers, where such a model is there already.
      forgotten: pages that are left out.
    """

    languages: frozenset[str] = frozenset()
    finder: LanguageFinder = dataclasses.field(default_factory=LanguageFinder)
    blocked_domains: frozenset[str] = frozenset()
    blocked_phrases: PhraseIndex = dataclasses.field(default_factory=PhraseIndex)
    prompts: PromptIndex | None = None
    answers: answer_likeness.AnswerModel | None = None
    forgotten: Forgotten = Forgotten()


@dataclasses.dataclass(frozen=True)
class ToolsRecipe:
    """What `PageTools` are loaded from: small, picklable, hashable, the same in every worker.

    Attributes:
      config: the settings.
      seed_languages: of the seed answers; empty where no seeds are known.
      answer_model: file of the answer-likeness model, where one is there already: a build trains it on the segments
        that come out of this step, and scores them then; who explains a page of a finished corpus names it.
    """

    config: CorpusConfig
    seed_languages: tuple[str, ...] = ()
    answer_model: str | None = None
    forgotten: Forgotten = Forgotten()

    def load(self) -> PageTools:
        """Reads all files; once per worker, and once before the work begins, so that what is missing is named then.

        Raises:
          FileNotFoundError: a file that a setting names does not exist.
          ValueError: a file is not what its setting takes.
        """
        config = self.config
        config.file_hashes()
        return PageTools(
            languages=config.wanted_languages(self.seed_languages),
            blocked_domains=frozenset(map(domain_key, read_entries(config.blocked_domains))) - {""},
            blocked_phrases=phrase_index(read_entries(config.blocked_phrases)),
            prompts=prompt_index(config.decontaminate) if config.decontaminate else None,
            answers=answer_likeness.load(self.answer_model) if self.answer_model is not None else None,
            forgotten=self.forgotten,
        )


@dataclasses.dataclass(frozen=True)
class PageResult:
    """What a page came to.

    Attributes:
      segments: in document order.
      rejected: candidates that are no segment, by reason; the candidates are these and the segments.
      outcome: "segments", "no_text", "text_in_scripts", "no_content", "no_section", "all_rejected", "truncated",
        "blocked_domain", "forgotten".
      furniture: blocks that are no content, by reason.
    """

    segments: tuple[Segment, ...]
    rejected: Counter[str]
    outcome: str
    furniture: Counter[str] = dataclasses.field(default_factory=Counter)


def cut_page(page: Page, config: CorpusConfig, tools: PageTools, file: str = "") -> PageResult:
    """The segments of one page of `file`, on its own: nothing is compared with other pages."""
    trace = explain_page(page, config, tools, file)
    domain = domain_of(page.url)
    segments, rejected = [], Counter[str]()
    for found in trace.sections:
        if found.reason is not None:
            rejected[found.reason] += 1
            continue
        header = mask_personal_data(found.section.header)[0] if config.mask_personal_data else found.section.header
        segments.append(
            Segment(
                url=page.url,
                header=header,
                text=found.text,
                domain=domain,
                cut_by=found.section.cut_by,
                language=found.language,
                scores=found.scores,
                kept_as=found.kept_as,
                file=file,
                record=page.record,
                start=page.position,
                end=page.end,
            )
        )
    furniture = Counter(reason for reason in trace.reasons if reason is not None)
    return PageResult(tuple(segments), rejected, trace.outcome, furniture)


def explain_page(page: Page, config: CorpusConfig, tools: PageTools, file: str = "") -> PageTrace:
    """Everything that becomes of a page of `file`, block by block and section by section."""
    if tools.forgotten.holds(page.url, file):
        return PageTrace(PageBlocks([], []), [], [], "forgotten")
    if is_blocked_domain(domain_of(page.url), tools.blocked_domains):
        return PageTrace(PageBlocks([], []), [], [], "blocked_domain")
    blocks = read_html(page.text) if page.is_html else read_plain_text(page.text)
    reasons = furniture_reasons(blocks)
    refused = _refuse_under_headers(blocks, reasons, config)
    if None not in reasons and not refused:
        return PageTrace(blocks, reasons, [], _outcome(page, blocks, reasons, []))

    long_sections = cast(LongSections, config.long_sections)
    sections = cut_sections(
        blocks, reasons, config.min_chars, config.max_chars, config.sections_without_headers, long_sections
    )
    found = [
        SectionTrace(section, chars=len(blocks.text(section.blocks)), reason="navigation_header") for section in refused
    ]
    found += [
        SectionTrace(section, chars=len(blocks.text(section.blocks)), reason="empty_header")
        for section in (empty_sections(blocks, reasons) if blocks.empty_headers else ())
    ]
    language = blocks.language
    for section in sections:
        if page.truncated and section.open_at_end:
            found.append(SectionTrace(section, reason="truncated"))
            continue
        found.append(_judge(section, blocks, language, config, tools))
        if tools.prompts is not None and found[-1].reason is None:
            _find_prompts_around(found[-1], blocks, reasons, tools.prompts)
        if found[-1].reason == "other_language":
            language = found[-1].language  # found by a close look, which the sections after it are spared
    _choose(found, config.nested)
    found.sort(key=_place)
    return PageTrace(blocks, reasons, found, _outcome(page, blocks, reasons, found))


def _outcome(page: Page, blocks: PageBlocks, reasons: list[str | None], found: Sequence[SectionTrace]) -> str:
    """What a page came to, in a word."""
    if any(each.reason is None for each in found):
        return "segments"
    chars = sum(len(block.text) for block, reason in zip(blocks.blocks, reasons, strict=True) if reason is None)
    if page.is_html and chars < _LITTLE_TEXT and has_text_in_scripts(page.text):
        return "text_in_scripts"
    if not blocks.blocks:
        return "no_text"
    if found:
        return "truncated" if page.truncated else "all_rejected"
    return "no_section" if None in reasons else "no_content"


def _refuse_under_headers(page: PageBlocks, reasons: list[str | None], config: CorpusConfig) -> list[Section]:
    """Sections whose header says that they are furniture; their blocks become furniture too.

    So they are no part of the section around them. Where such a section is most of the page, the header says little
    ("Sign up for a library card" over all that there is to know about it), and it is left to be judged as a section.
    """
    blocks = page.blocks
    chars = [0 if reason else len(block.text) for block, reason in zip(blocks, reasons, strict=True)]
    total = sum(chars)
    refused = []
    headers = [index for index, block in enumerate(blocks) if block.level]
    end = 0
    for place, index in enumerate(headers):
        if index < end:
            continue
        block = blocks[index]
        if paper.header_reason(block.text, config.navigation_phrases, config.navigation_headers) != "navigation_header":
            continue
        following = place + 1
        while following < len(headers) and blocks[headers[following]].level > block.level:
            following += 1
        end = headers[following] if following < len(headers) else len(blocks)
        if 2 * sum(chars[index + 1 : end]) > total:
            end = index + 1
            continue
        inside = tuple(i for i in range(index + 1, end) if reasons[i] is None)
        refused.append(Section(block.text, block.level, inside, "header", header_block=index))
        for i in (index, *inside):
            reasons[i] = reasons[i] or "navigation_header"
    return refused


def _find_prompts_around(
    found: SectionTrace, page: PageBlocks, reasons: list[str | None], prompts: PromptIndex
) -> None:
    """Rejects a section that holds a part of an evaluation prompt, of which other lines were taken for furniture.

    So the furniture inside it and right around it is searched with it.
    """
    inside = found.section.blocks
    first, end = _place(found)[0], inside[-1] + 1
    while first > 0 and reasons[first - 1] is not None:
        first -= 1
    while end < len(reasons) and reasons[end] is not None:
        end += 1
    if end - first > len(inside) and (names := prompts.find(page.text(range(first, end)))):
        found.reason, found.detail = "contaminated", ", ".join(sorted(names))


def _judge(section: Section, page: PageBlocks, language: str, config: CorpusConfig, tools: PageTools) -> SectionTrace:
    """A section with the first reason against it, if any; the cheap filters come first.

    `language` is what the page says that it is in, or what a section before this one was in.
    """
    found = SectionTrace(section)
    indices = section.blocks
    if config.include_header and section.header_block is not None:
        indices = (section.header_block, *indices)
    inside = [page.blocks[index] for index in indices]
    chars = sum(len(block.text) for block in inside)
    found.chars = chars + 2 * max(len(inside) - 1, 0)
    if section.header_block is not None:
        found.reason = paper.header_reason(section.header, config.navigation_phrases, config.navigation_headers)
    if not found.reason and chars > config.max_chars:
        found.reason = "too_long"
    if found.reason:
        return found

    text = page.text(indices, markdown=config.markdown)
    found.chars = len(text)
    found.scores = {
        "link_density": density.share(sum(block.link_chars for block in inside), chars),
        "list_share": density.list_share((block.kind, block.text) for block in inside),
    }
    found.reason = paper.length_reason(text, config.min_chars, config.max_chars)
    sentences = "\n".join(block.text for block in inside if block.kind not in _WITHOUT_SENTENCES)
    found.reason = found.reason or _text_reason(text, sentences, language, found, config, tools)
    if not found.reason and tools.prompts and (prompts := tools.prompts.find(f"{section.header}\n{text}")):
        found.reason, found.detail = "contaminated", ", ".join(sorted(prompts))
    found.scores = {name: round(score, _DIGITS) for name, score in found.scores.items()}
    if not found.reason and config.mask_personal_data:
        text, masked = mask_personal_data(text)
        found.scores["masked"] = masked.total()
        found.reason = paper.length_reason(text, config.min_chars, config.max_chars)
    found.text = text
    return found


def _text_reason(
    text: str, sentences: str, declared: str, found: SectionTrace, config: CorpusConfig, tools: PageTools
) -> str | None:
    """The first reason against a text of the right length; what was measured is remembered in `found`.

    `sentences` is the text without its code and tables, whose lines may well be alike.
    """
    scores = found.scores
    if density.over(scores["link_density"], config.max_link_density):
        return "link_density"
    if density.over(scores["list_share"], config.max_list_share):
        return "only_lists"
    scores["symbol_density"] = density.symbol_density(text)
    if density.over(scores["symbol_density"], config.max_symbol_density):
        return "symbol_density"
    language = tools.finder.find(text, tools.languages, declared)
    found.language = language.code
    scores["language_probability"] = language.probability
    if reason := language_reason(language, tools.languages, config.min_language_probability):
        found.detail = language.code
        return reason
    if paper.is_repetitive(sentences, config.ngram, config.jaccard_threshold, config.min_sentence_words):
        return "repetitive"
    if phrases := tools.blocked_phrases.find_in(f"{found.section.header}\n{text}"):
        found.detail = min(phrases)
        return "blocked_phrase"
    if tools.answers is not None:
        scores["answer_likeness"] = tools.answers.score(text)
        if config.min_answer_likeness is not None and scores["answer_likeness"] < config.min_answer_likeness:
            return "low_answer_likeness"
    return None


def _choose(found: Sequence[SectionTrace], nested: str) -> None:
    """Of sections that fit and lie in each other, one is kept; all that are kept say why."""
    fitting = [each for each in found if each.reason is None]
    kept = choose_nested([each.section for each in fitting], cast(Nested, nested))
    owners: dict[int, SectionTrace] = {}
    for each, is_kept in zip(fitting, kept, strict=True):
        if is_kept:
            owners |= dict.fromkeys(each.section.blocks, each)
            each.kept_as = "cut_at_paragraphs" if each.section.cut_by == "paragraphs" else "whole_section"
    for each, is_kept in zip(fitting, kept, strict=True):
        if not is_kept:
            each.reason = "nested"
            for owner in {id(owners[i]): owners[i] for i in each.section.blocks if i in owners}.values():
                is_around = nested == "outermost" and len(each.section.blocks) > len(owner.section.blocks)
                owner.kept_as = "one_of_a_list" if is_around else f"{nested}_of_nested"


def _place(found: SectionTrace) -> tuple[int, int]:
    """Where a section begins; of those that begin together the outer one is first."""
    section = found.section
    first = section.blocks[0] if section.blocks else section.header_block or 0
    return (first if section.header_block is None else section.header_block), -len(section.blocks)


def domain_of(url: str) -> str:
    """The host of a URL, lower-cased, without `www.`; empty for a file's name."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return ""
    return host.removeprefix("www.")
