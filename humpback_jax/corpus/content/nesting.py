"""Limits to markup whose tree costs more than its size: elements that nest too deep, tags with too many attributes."""

import re

MAX_DEPTH = 512  # as Chromium
MAX_OPEN_FORMATTING = 16  # of <b>, <font> and the like that are never closed: a browser opens them again in every block

# Below these a page costs less than the search. (A page of N tags takes N * N / 2 steps at worst.)
_MANY_TAGS = 10_000
_MANY_UNCLOSED = 1_500

# A tag of so many characters has attributes by the thousand, each of which is compared with all before.
_LONG_TAG = re.compile(r"(<[a-zA-Z][^<>]{20000})[^<>]+")
_ANGLE = re.compile("[<>]")
_WINDOW = 10_000  # characters; such a tag fills one at least

_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9:_-]*)")
_FORMATTING = frozenset(
    ("a", "b", "big", "code", "em", "font", "i", "nobr", "s", "small", "strike", "strong", "tt", "u")
)
_WITHOUT_DEPTH = frozenset(
    (
        *(
            "area",
            "base",
            "br",
            "col",
            "embed",
            "hr",
            "img",
            "input",
            "link",
            "meta",
            "param",
            "source",
            "track",
            "wbr",
        ),
        *("p", "li", "dt", "dd", "tr", "td", "th", "thead", "tbody", "tfoot", "option", "optgroup", "rp", "rt"),
        *("html", "head", "body", "colgroup", "frame", "script", "style", "title", "textarea", "h1", "h2", "h3", "h4"),
        *("h5", "h6"),
    )
)
_SEARCHED_BACK = 64  # open elements, for the one that a tag closes


def limit_nesting(markup: str) -> str:
    """The markup with line breaks in place of elements that nest too deep; nearly always the markup as it is.

    Tags of thousands of attributes lose those after the first.
    """
    if _has_crowded_tag(markup):
        markup = _LONG_TAG.sub(_with_few_attributes, markup)
    tags = markup.count("<")
    if tags < _MANY_UNCLOSED or (tags < _MANY_TAGS and _closes(markup, (tags - _MANY_UNCLOSED) // 2 + 1)):
        return markup
    parts: list[str] = []
    copied = 0
    opened: list[str] = []
    formatting = 0
    for match in _TAG.finditer(markup):
        tag = match.group(2).lower()
        if tag in _WITHOUT_DEPTH:
            continue
        if match.group(1):
            for name in _closed(opened, tag):
                formatting -= name in _FORMATTING
        elif len(opened) >= MAX_DEPTH or (tag in _FORMATTING and formatting >= MAX_OPEN_FORMATTING):
            parts.append(markup[copied : match.start()])
            parts.append("<wbr" if tag in _FORMATTING else "<br")
            copied = match.end()
        else:
            opened.append(tag)
            formatting += tag in _FORMATTING
    return "".join([*parts, markup[copied:]]) if parts else markup


def _closes(markup: str, least: int) -> bool:
    """Whether at least so many tags close an element; for most pages the first part tells."""
    for begin in range(0, len(markup), _WINDOW):
        least -= markup.count("</", begin, begin + _WINDOW + 1)
        if least <= 0:
            return True
    return False


def _has_crowded_tag(markup: str) -> bool:
    """Whether a tag of 20,000 characters or more may have too many attributes."""
    begin = 0
    while begin < len(markup) - _WINDOW:
        end = begin + _WINDOW
        if markup.find(">", begin, end) < 0 and markup.find("<", begin, end) < 0:
            following = _ANGLE.search(markup, end)
            end = following.start() if following else len(markup)
            first = markup.rfind("<", 0, begin)
            if first > markup.rfind(">", 0, begin) and markup.count("=", first, end) > _MANY_UNCLOSED:
                return True
        begin = end
    return False


def _with_few_attributes(tag: re.Match[str]) -> str:
    """The beginning of a tag with too many attributes; a single long one, such as a picture in a link, stays."""
    return tag.group(1) if tag.group().count("=") > _MANY_UNCLOSED else tag.group()


def _closed(opened: list[str], tag: str) -> list[str]:
    """Takes the elements that </tag> closes from `opened`; none where no such element is open."""
    for back in range(1, min(len(opened), _SEARCHED_BACK) + 1):
        if opened[-back] == tag:
            closed = opened[-back:]
            del opened[-back:]
            return closed
    return []
