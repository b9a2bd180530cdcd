"""What becomes a segment: every setting of the corpus stage that can change a byte of it."""

import dataclasses
import math
import typing
from collections.abc import Iterable
from typing import Any

from humpback_jax.corpus.filters.language_codes import check_languages
from humpback_jax.corpus.filters.paper import NAVIGATION_HEADERS, NAVIGATION_PHRASES

SEED_LANGUAGES = "seeds"
NESTED = ("outermost", "innermost", "all")
LONG_SECTIONS = ("beginning", "pieces")

_KIND_WORDS = {int: "a whole number", float: "a number", bool: "True or False", str: "a text", type(None): "None"}


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

    min_chars: int = 600
    max_chars: int = 3000
    include_header: bool = False
    ngram: int = 3
    jaccard_threshold: float = 0.8
    min_sentence_words: int = 6
    max_page_bytes: int = 8_000_000
    url_column: str = ""
    content_column: str = ""
    crawl_root: str = ""
    navigation_phrases: tuple[str, ...] = NAVIGATION_PHRASES
    navigation_headers: tuple[str, ...] = NAVIGATION_HEADERS
    nested: str = "outermost"
    sections_without_headers: bool = True
    long_sections: str = "beginning"
    markdown: bool = False
    languages: tuple[str, ...] = (SEED_LANGUAGES,)
    min_language_probability: float | None = 0.5
    max_link_density: float | None = 0.4
    max_symbol_density: float | None = 0.2
    max_list_share: float | None = 0.8
    min_answer_likeness: float | None = None
    mask_personal_data: bool = False
    blocked_domains: tuple[str, ...] = ()
    blocked_phrases: tuple[str, ...] = ()
    decontaminate: tuple[str, ...] = ()
    near_duplicates: float | None = 0.65
    repeated_on_pages: int = 3
    num_segments: int | None = None
    max_per_domain: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _checked_kind(field.name, field.type, getattr(self, field.name)))
        if not 0 < self.min_chars <= self.max_chars:
            raise ValueError(f"expected 0 < min_chars <= max_chars, found {self.min_chars} and {self.max_chars}")
        for name in ("ngram", "min_sentence_words", "max_page_bytes", "num_segments", "max_per_domain"):
            _check_range(name, getattr(self, name), 1)
        for name in ("repeated_on_pages", "seed"):
            _check_range(name, getattr(self, name), 0)
        for name in ("min_language_probability", "max_link_density", "max_symbol_density", "max_list_share"):
            _check_range(name, getattr(self, name), 0, 1)
        _check_range("min_answer_likeness", self.min_answer_likeness, 0, 1)
        for name in ("jaccard_threshold", "near_duplicates"):
            if (value := getattr(self, name)) is not None and value <= 0:
                raise ValueError(f"{name} must be above 0, found {value}")
        _check_range("near_duplicates", self.near_duplicates, 0, 1)
        for name, choices in (("nested", NESTED), ("long_sections", LONG_SECTIONS)):
            if (value := getattr(self, name)) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, found {value!r}")
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


def _checked_kind(name: str, kind: Any, value: Any) -> Any:
    """The value as its field declares it, a list as a tuple; ValueError names the setting and what was expected."""
    if typing.get_origin(kind) is tuple:
        if isinstance(value, str) or not isinstance(value, Iterable):
            raise ValueError(f"{name} takes several texts, found {value!r}; write ({value!r},)")
        value = tuple(value)
        if wrong := [each for each in value if not isinstance(each, str) or not each.strip()]:
            raise ValueError(f"{name} takes texts that are not empty, found {wrong[0]!r}")
        return value
    kinds = typing.get_args(kind) or (kind,)
    allowed = (*kinds, int) if float in kinds else kinds
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in kinds) or value != value:
        raise ValueError(f"{name} takes {' or '.join(_KIND_WORDS[each] for each in kinds)}, found {value!r}")
    return value


def _check_range(name: str, value: float | None, least: float, most: float = math.inf) -> None:
    if value is not None and not least <= value <= most:
        bounds = f"at least {least:g}" if most == math.inf else f"from {least:g} to {most:g}"
        raise ValueError(f"{name} must be {bounds}, found {value}")
