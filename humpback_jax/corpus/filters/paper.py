"""Which sections become segments: the paper's filters on header, length and repetition (section 1, step 0b)."""

import functools
import re
from collections.abc import Sequence

# A header that holds one of these anywhere, as whole words in any case, introduces page furniture.
NAVIGATION_PHRASES = (
    *("advertisement", "advertisements", "forum", "forums", "quick link", "quick links", "free newsletter"),
    *("newsletter", "sign up", "sign in", "log in", "subscribe", "site map", "sitemap", "privacy policy"),
    *("cookie policy", "cookie settings", "terms of use", "terms of service", "all rights reserved", "follow us"),
    *("contact us", "about us", "share this", "recent posts", "recent comments", "related posts"),
    *("related articles", "related stories", "popular posts", "most read", "most popular", "latest news"),
    *("more from", "you may also like", "you might also like", "leave a reply", "leave a comment"),
    *("post a comment", "post navigation", "shopping cart", "table of contents"),
)
# A header that is one of these and nothing else does so too; inside a longer header the words mean something.
NAVIGATION_HEADERS = (
    *("about", "archive", "archives", "bibliography", "categories", "comments", "contact", "contents"),
    *("external links", "footnotes", "further reading", "home", "index", "links", "login", "menu", "navigation"),
    *("next", "previous", "references", "register", "related", "search", "see also", "share", "tags", "topics"),
    *("trending",),
)

# Comparing pairs of sentences is quadratic at worst, so a longer text is judged by its first sentences.
MAX_COMPARED_SENTENCES = 400

_MAX_SEARCHED = 50_000  # characters that are searched for every n-gram

_SENTENCE_END = re.compile(r"(?<=[.!?。！？])\s+|\n+")
# As _SENTENCE_END, five times as fast; what stands between has the same words.
_SENTENCE_EDGE = re.compile(r"[.!?。！？\n](?:(?<=\n)|\s)\s*")
_WORD = re.compile(r"\w+")
_ASCII_GAPS = bytes(code if _WORD.match(chr(code)) else ord(" ") for code in range(128)).ljust(256)
_ROUNDING = 1e-6


@functools.lru_cache(maxsize=1 << 16)  # the pages of a site have the same headers
def header_reason(
    header: str,
    phrases: tuple[str, ...] = NAVIGATION_PHRASES,
    headers: tuple[str, ...] = NAVIGATION_HEADERS,
) -> str | None:
    """`empty_header`, `uppercase_header` or `navigation_header`; None for a header that says something."""
    words = _words(header)
    if not words:
        return "empty_header"
    # Scripts without case are neither upper nor lower: only letters that have a lower case count.
    if header.isupper():
        return "uppercase_header"
    spaced = f" {' '.join(words)} "
    if spaced.strip() in headers:
        return "navigation_header"
    # Most headers hold none of the words that phrases begin with.
    begins = not _first_words(phrases).isdisjoint(words)
    return "navigation_header" if begins and any(f" {phrase} " in spaced for phrase in phrases) else None


@functools.lru_cache(maxsize=64)
def _first_words(phrases: tuple[str, ...]) -> frozenset[str]:
    return frozenset(phrase.split(" ")[0] for phrase in phrases)


def _folded(text: str) -> str:
    """Lower case; the same as casefold, which takes three times as long, where all is ASCII."""
    return text.lower() if text.isascii() else text.casefold()


def _words(text: str) -> list[str]:
    """The runs of letters, digits and underscores in lower case."""
    folded = _folded(text)
    if folded.isascii():  # a table and a split take a third of the time of an expression
        return folded.encode().translate(_ASCII_GAPS).decode().split()
    return _WORD.findall(folded)


def length_reason(text: str, min_chars: int, max_chars: int) -> str | None:
    """`too_short` or `too_long`; None for min_chars <= len(text) <= max_chars (characters)."""
    if len(text) < min_chars:
        return "too_short"
    return "too_long" if len(text) > max_chars else None


def sentences(text: str) -> list[str]:
    """Splits at sentence ends and line breaks."""
    return [part for part in _SENTENCE_END.split(text) if part.strip()]


@functools.lru_cache(maxsize=1 << 10)  # sections lie in each other and have the same sentences
def word_ngrams(sentence: str, n: int, min_words: int = 1) -> frozenset[tuple[str, ...]]:
    """The set of n-grams of a sentence's lower-cased words; empty for one of fewer than n or `min_words` words."""
    words = _words(sentence)
    if len(words) < min_words:
        return frozenset()
    return frozenset(zip(*[words[start:] for start in range(n)], strict=False))


def is_repetitive(text: str, n: int, threshold: float, min_words: int) -> bool:
    """Whether two sentences of `text` have n-gram sets of Jaccard similarity |a ∩ b| / |a ∪ b| >= threshold (> 0).

    Sentences of fewer than `min_words` words are left out: lines of code and table cells repeat without harm.
    """
    parts = _SENTENCE_EDGE.split(_folded(text))
    if len(parts) > MAX_COMPARED_SENTENCES:
        parts = sentences(text)[:MAX_COMPARED_SENTENCES]
    before: list[str] = []
    seen = ""  # the words of all sentences before, each sentence on a line
    for sentence in parts:
        words = _words(sentence)
        if len(words) < max(min_words, n):
            continue
        # Nearly every sentence says something new, as its first words show: only the others are compared.
        if before and (len(seen) > _MAX_SEARCHED or _may_be_repeated(words, seen, n, threshold)):
            grams = word_ngrams(sentence, n)
            for other in before:
                others = word_ngrams(other, n)
                common = len(grams & others)
                if common >= threshold * (len(grams) + len(others) - common):
                    return True
        before.append(sentence)
        seen += f" {' '.join(words)} \n"
    return False


def _may_be_repeated(words: Sequence[str], seen: str, n: int, threshold: float) -> bool:
    """Whether a share of at least `threshold` of the n-grams of a sentence may stand in what was seen before it."""
    count = len(words) - n + 1
    most = (1 - threshold) * count + _ROUNDING  # there may be fewer n-grams than places, but not more
    missing: set[str] = set()
    for start in range(count):
        gram = f" {' '.join(words[start : start + n])} "
        if gram not in seen:
            missing.add(gram)
            if len(missing) > most:
                return False
    return True
