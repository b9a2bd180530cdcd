"""Short lines that stand beside an article: who wrote it and when, buttons, notices, credits of pictures.

A line is compared word by word with tables, which costs a few microseconds; regular expressions for all that is in them
would cost more than reading the page.
"""

import functools
import re

from humpback_jax.corpus.content.line_phrases import (
    BEFORE_WRITERS,
    BETWEEN_NAMES,
    COUNTED,
    LABELS,
    MONTHS,
    PICTURE_SOURCES,
    SAYS,
    SHARE_WORDS,
    STARTS,
    TIME_WORDS,
    WEEKDAYS,
    WHOLE_LINES,
)
from humpback_jax.corpus.content.phrases import header_words, phrase_table

MAX_LINE = 240  # characters; a longer block is judged by what stands around it
_MAX_BUTTON = 80  # characters
_SENTENCE_ENDS = (".", "!", "?", "。")
# These are labels and imprints: a sentence that begins alike ("Copyright law protects authors.") is something else.
_NO_SENTENCES = frozenset(("navigation", "footer"))
_MAX_LABEL = 40  # characters before a colon
_MAX_DATE_WORDS = 24
_MAX_SHARE_WORDS = 16
_MAX_BYLINE = 120  # characters

_REASON_OF_LINE, _REASON_OF_START, _REASON_OF_LABEL = map(phrase_table, (WHOLE_LINES, STARTS, LABELS))
_LONGEST_START = max(len(start.split()) for start in _REASON_OF_START)
_START_WORDS = frozenset(start.split()[0] for start in _REASON_OF_START)
_SHARE = frozenset(SHARE_WORDS.split())
_DATES = frozenset((MONTHS + WEEKDAYS + TIME_WORDS).split())
_MONTHS = frozenset(MONTHS.split())
_COUNTED = {word: reason for reason, words in COUNTED.items() for word in words.split()}
_RETRIEVED = re.compile(r'[^.!?"“]{1,40}["“]https?://\S+["”]$')  # 'Retrieved from "https://…"'
_NUMBER = re.compile(
    r"\d{1,4}(?:st|nd|rd|th|er|º|ª|min|h|am|pm|k)?(?:[./:h年월月-]\d{1,4}[日일년年月월.]?){0,3}(?:am|pm|z)?"
)
_BY, _LINKING = frozenset(BEFORE_WRITERS.split()), frozenset(BETWEEN_NAMES.split())
_CREDITS = frozenset(PICTURE_SOURCES.split())
_BESIDE_CREDITS = (
    "photo",
    "image",
    "picture",
    "foto",
    "file",
    "credit",
    "via ",
    "courtesy",
    "©",
    "/",
    "(",
    "by ",
    "bild",
)
# A word that gives a line away wherever it stands, with the phrase that must be there.
_ANYWHERE = {
    "reserved": ("rights reserved", "footer"),
    "vorbehalten": ("rechte vorbehalten", "footer"),
    "réservés": ("droits réservés", "footer"),
    "reservados": ("derechos reservados", "footer"),
    "riservati": ("diritti riservati", "footer"),
    "copyright": ("is subject to copyright", "footer"),
    "reproduced": ("may be reproduced", "footer"),
    "affiliate": ("affiliate", "advertisement"),
    "unsubscribe": ("unsubscribe", "newsletter"),
    "newsletter": ("newsletter", "newsletter"),
    "newsletters": ("newsletters", "newsletter"),
    "inbox": ("your inbox", "newsletter"),
    "recaptcha": ("recaptcha", "footer"),
    "commons": ("creative commons", "footer"),
    "disqus": ("disqus", "comments"),
    "retweet": ("retweet", "share_bar"),
}
_TELLING = frozenset(_ANYWHERE) | _CREDITS
_SAYS = frozenset(SAYS.split())
_EDGES = ".,:;!?()[]{}|/\\-–—•·*#@'\"’“”«»›‹→←↑…©+&"


@functools.lru_cache(maxsize=1 << 16)
def line_reason(line: str) -> str | None:
    """What a line of at most MAX_LINE characters is, if it is one of these kinds and nothing else."""
    plain = header_words(line)
    if not plain:
        return None if any(map(str.isalnum, line)) else "ornament"
    if reason := _REASON_OF_LINE.get(plain):
        return None if line[0] in "\"“„«‘'" else reason
    words = plain.split()
    if words[0] in _START_WORDS:
        is_sentence = line.endswith(_SENTENCE_ENDS) or len(line) > _MAX_BUTTON
        for count in range(1, _LONGEST_START + 1):
            reason = _REASON_OF_START.get(" ".join(words[:count]))
            if reason and not (is_sentence and reason in _NO_SENTENCES):
                return reason
    label, colon, rest = line.partition(":")
    is_label = colon and len(label) <= _MAX_LABEL and not rest.startswith("//")
    if is_label and (reason := _REASON_OF_LABEL.get(header_words(label))):
        return reason
    tokens = [token for word in line.lower().split() if (token := word.strip(_EDGES))]
    return _telling_reason(line, tokens) or _listed_reason(line, tokens) or _named_reason(line, tokens)


def _telling_reason(line: str, tokens: list[str]) -> str | None:
    if line[0] == "©" or line.startswith("(c) "):
        return "footer"
    if line[0] in "↑^" and len(tokens) > 1:
        return "references"  # back to where a note stands in the text
    if line[-1] in '"”' and _RETRIEVED.match(line):
        return "footer"
    if not _TELLING.isdisjoint(tokens):
        lower = line.lower()
        for token in tokens:
            phrase, reason = _ANYWHERE.get(token, ("", None))
            if reason and phrase in lower:
                return reason
        at_end = not _CREDITS.isdisjoint(tokens[-2:]) or line.endswith(")")
        if not _CREDITS.isdisjoint(tokens) and (at_end or len(tokens) <= 12):
            return "caption" if any(mark in lower for mark in _BESIDE_CREDITS) else None
    return None


def _listed_reason(line: str, tokens: list[str]) -> str | None:
    """Dates, share bars, counts, hashtags, edit links: lines that are made of nothing but such words."""
    numbers = sum(token[0].isdigit() for token in tokens)
    if numbers and len(tokens) <= 6:
        kinds = {_COUNTED.get(token) for token in tokens if not token[0].isdigit()}
        for reason in ("reviews", "comments", "navigation"):
            if reason in kinds and kinds <= {reason, "navigation"}:
                return reason
    may_be_date = numbers and len(tokens) <= _MAX_DATE_WORDS and (len(tokens) > 1 or len(tokens[0]) > 4)
    if may_be_date and all(token in _DATES or _NUMBER.fullmatch(token) for token in tokens):
        return "byline" if numbers < len(tokens) or len(tokens) == 1 else "navigation"
    if numbers < len(tokens) <= _MAX_SHARE_WORDS and all(token in _SHARE or token[0].isdigit() for token in tokens):
        return "share_bar"
    if line.startswith("#") and all(word.startswith("#") for word in line.split()) and len(tokens) > 1:
        return "tags"
    if line[0] == "[" and line[-1] == "]" and header_words(line[1:-1]) in _REASON_OF_LINE:
        return "navigation"
    return None


def _named_reason(line: str, tokens: list[str]) -> str | None:
    """Lines with the name of a writer."""
    if not tokens or len(line) > _MAX_BYLINE:
        return None
    if tokens[-1] in _SAYS and line.endswith(":"):
        return "comments"
    if tokens[0] in _BY and _is_byline(line):
        return "byline"
    if len(line) <= _MAX_BYLINE // 2 and tokens[-1][-1].isdigit() and _is_dated_name(line, tokens):
        return "byline"
    return None


def _is_byline(line: str) -> bool:
    """ "By Jane Doe and John Roe, Staff Writer": names, not the start of a sentence."""
    if line.endswith((".", "!", "?", ";")) and len(line) > _MAX_BYLINE // 2:
        return False
    words = [word.strip(_EDGES) for word in line.split()[1:]]
    names = [word for word in words if word and word.lower() not in _LINKING]
    if not names:
        return not words
    capitals = sum(not word[0].islower() for word in names)
    return not names[0][0].islower() and capitals >= 0.7 * len(names)


def _is_dated_name(line: str, tokens: list[str]) -> bool:
    """ "Jane Doe | May 3, 2020": a few capitalised words beside a full date."""
    numbers = [token for token in tokens if _NUMBER.fullmatch(token)]
    is_dated = any(len(number) >= 8 and not number.isdigit() for number in numbers) or (
        len(numbers) >= 2 and not _MONTHS.isdisjoint(tokens) and any(len(number) == 4 for number in numbers)
    )
    if not is_dated:
        return False
    words = [word.strip(_EDGES) for word in line.split()]
    others = [word for word in words if word and word.lower() not in _DATES and not _NUMBER.fullmatch(word.lower())]
    if len(others) == 1 and any(":" in number for number in numbers):
        return True  # the name of a user, in whatever case, with the time of day of a post
    return len(others) <= 5 and all(not word[0].islower() for word in others)
