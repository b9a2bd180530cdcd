"""What becomes a segment: every setting of the corpus stage that can change a byte of it."""

import dataclasses
from collections.abc import Iterable
from typing import Annotated

from humpback_jax.corpus.filters.language_codes import check_languages
from humpback_jax.corpus.filters.paper import NAVIGATION_HEADERS, NAVIGATION_PHRASES
from humpback_jax.ranges import (
    NaturalInt,
    OneOf,
    PathText,
    PositiveFloat,
    PositiveInt,
    Range,
    Share,
    Text,
    check_fields,
)

SEED_LANGUAGES = "seeds"
NESTED = ("outermost", "innermost", "all")
LONG_SECTIONS = ("beginning", "pieces")


@dataclasses.dataclass(frozen=True)
class CorpusConfig:
    """What becomes a segment. Lengths are in characters of the segment's text. None switches a threshold off.

    The paper gives the length bounds (600 to 3,000) and says that the header and repetition filters exist; it gives
    neither the n-gram size nor the threshold nor the whole word list, and does not say whether the header is part of
    the text. Entries of `blocked_domains` and `blocked_phrases` may be "@FILE": a text file with one entry per line.

    Attributes:
      min_chars, max_chars: bounds of the length, both included. On.
      include_header: the header is the first line of the text. Off.
      ngram, jaccard_threshold, min_sentence_words: a segment is repetitive if two of its sentences of
        `min_sentence_words` words or more have `ngram`-gram sets of Jaccard similarity `jaccard_threshold` or more;
        lines of code and rows of tables are no sentences. On; a threshold above 1 is off.
      navigation_phrases, navigation_headers: a header that holds one of the phrases, or is one of the headers,
        introduces page furniture. On; the text under it is no segment and no part of one.
      max_page_bytes: bounds the memory that one page can take.
      url_column, content_column: of JSONL and Parquet files; empty for the usual names (url, html, text, …). A dot
        leads into an object.
      crawl_root: where the archives of crawl lists and indexes lie: a folder, gs://…, s3://… or https://…; empty for
        the folder of the list if they are there, else Common Crawl's server.
      nested: of nested sections that both fit, which is kept: "outermost", "innermost" or "all".
      sections_without_headers: a page without any header is cut at paragraphs. On.
      long_sections: of a section that is too long and has no lower headers, "beginning" is its first paragraphs, and
        "pieces" are all of it, cut at paragraphs.
      markdown: the text has Markdown's marks for headers, code, lists and tables. Off.
      languages: ISO 639-1 codes, of which a page must be in one; "seeds" stands for those of the seed pairs, and is no
        filter where there are none; empty is off. On ("seeds").
      min_language_probability: below it, the identifier's word does not count and the segment is rejected as
        `uncertain_language`. On, low: only text that is hardly language.
      max_link_density: most characters inside links, as a fraction. On.
      max_symbol_density: most characters that are neither letters, digits, spaces nor usual punctuation, as a
        fraction. On, high: code has up to 0.15.
      max_list_share: most characters in list items that hold no sentence, as a fraction. On.
      min_answer_likeness: least score, 0 to 1, of a linear model that tells seed answers from segments. Off.
      mask_personal_data: email addresses, phone numbers and the like are replaced by a name in brackets. Off.
      blocked_domains: hosts, with everything below them. None.
      blocked_phrases: a segment with one of them, as whole words in any case, is rejected. None.
      decontaminate: files of evaluation prompts; a segment that holds one of them is rejected. None.
      near_duplicates: Jaccard similarity of pairs of words from which two segments are duplicates. On; None: only
        segments of the same text are.
      repeated_on_pages: a paragraph at the edges of a site's segments that stands on so many of its pages is cut.
        On; 0 is off.
      num_segments: so many segments are drawn from all, uniformly over domains; None keeps all.
      max_per_domain: most segments of one domain. Off.
      seed: of everything drawn at random.
    """

    min_chars: PositiveInt = 600
    max_chars: PositiveInt = 3000
    include_header: bool = False
    ngram: PositiveInt = 3
    jaccard_threshold: PositiveFloat = 0.8
    min_sentence_words: PositiveInt = 6
    max_page_bytes: PositiveInt = 8_000_000
    url_column: str = ""
    content_column: str = ""
    crawl_root: str = ""
    navigation_phrases: tuple[Text, ...] = NAVIGATION_PHRASES
    navigation_headers: tuple[Text, ...] = NAVIGATION_HEADERS
    nested: Annotated[str, OneOf(*NESTED)] = "outermost"
    sections_without_headers: bool = True
    long_sections: Annotated[str, OneOf(*LONG_SECTIONS)] = "beginning"
    markdown: bool = False
    languages: tuple[Text, ...] = (SEED_LANGUAGES,)
    min_language_probability: Share | None = 0.5
    max_link_density: Share | None = 0.4
    max_symbol_density: Share | None = 0.2
    max_list_share: Share | None = 0.8
    min_answer_likeness: Share | None = None
    mask_personal_data: bool = False
    blocked_domains: tuple[Text, ...] = ()
    blocked_phrases: tuple[Text, ...] = ()
    decontaminate: tuple[PathText, ...] = ()
    near_duplicates: Annotated[float, Range(above=0, most=1)] | None = 0.65
    repeated_on_pages: NaturalInt = 3
    num_segments: PositiveInt | None = None
    max_per_domain: PositiveInt | None = None
    seed: NaturalInt = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.min_chars > self.max_chars:
            raise ValueError(f"expected min_chars <= max_chars, found {self.min_chars} and {self.max_chars}")
        check_languages(code for code in self.languages if code != SEED_LANGUAGES)

    def wanted_languages(self, seed_languages: Iterable[str]) -> frozenset[str]:
        """The languages that are kept; empty for all, as where "seeds" is named and no seeds are known."""
        of_seeds = frozenset(seed_languages)
        if SEED_LANGUAGES not in self.languages:
            return frozenset(self.languages)
        return of_seeds | (frozenset(self.languages) - {SEED_LANGUAGES}) if of_seeds else frozenset()

    def file_hashes(self) -> dict[str, str]:
        """SHA-256 by path of every file that a setting names: they decide what is kept, as the settings do.

        Raises:
          FileNotFoundError: one does not exist; the setting is named.
        """
        from humpback_jax.corpus.filters.blocklists import FILE_MARK, hash_of_setting  # opens files: not for --help

        named = [("decontaminate", path) for path in self.decontaminate]
        for name in ("blocked_domains", "blocked_phrases"):
            marked = (entry for entry in getattr(self, name) if entry.startswith(FILE_MARK))
            named += [(name, entry.removeprefix(FILE_MARK)) for entry in marked]
        return {path: hash_of_setting(name, path) for name, path in named}
