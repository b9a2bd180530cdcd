"""Pieces of inline text to the lines of a block.

A piece is text of the page or one of the marks below. A mark is a NUL and a letter; the page's own NULs are gone before
parsing, so no page can write one.
"""

import re
from collections.abc import Sequence

BREAK = "\0b"  # <br>
LINE_START = "\0o"  # a block-level box inside preformatted text opens
LINE_END = "\0c"  # and closes
STRUCK = "\0s"  # struck-out text begins
STRUCK_END = "\0t"
NEXT_ITEM = "\0i"  # a list item in a cell

_UNPRINTABLE = {
    **dict.fromkeys([*range(0x09), 0x0B, *range(0x0E, 0x20), *range(0x7F, 0xA0)]),
    **dict.fromkeys([0xAD, 0x034F, 0x061C, 0x180E, 0x200B, 0x200E, 0x200F, *range(0x202A, 0x202F)]),
    **dict.fromkeys([*range(0x2060, 0x2070), 0xFEFF, *range(0xFFF9, 0xFFFD), *range(0xFFFE, 0x10000)]),
    **dict.fromkeys(range(0xFDD0, 0xFDF0)),
    **dict.fromkeys(range(0xE000, 0xF900)),  # private use: the pictures of icon fonts
    0x2028: "\n",
    0x2029: "\n",
}
_CJK = re.compile("[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]")  # scripts without spaces
_OPENING = frozenset("([{“‘«/-–—#@$€£")
_STRUCK_TEXT = re.compile(r"\0s((?:[^\0]|\0[^st])*)\0t")
_MARKS = re.compile(r"\0[^b]")
_FIRST_ITEM = re.compile(r"\A\s*\0i")
_ITEMS = re.compile(r"[\s;]*\0i\s*")
_LINE_EDGES = re.compile(r"(?:\0[oc])+")
_LINE_FEED_BETWEEN_BOXES = re.compile(r"(?<=\0c)[ \t]*\r?\n[ \t]*(?=\0o|\Z)")
_MANY_BREAKS = re.compile(r"\n{3,}")


def clean(text: str) -> str:
    """Without control, formatting and private-use characters; joiners stay, for emoji and scripts need them."""
    return text if text.isprintable() else text.translate(_UNPRINTABLE)


def is_gap(before: str, after: str, *, between_boxes: bool) -> bool:
    """Whether a space belongs between two pieces of text that style sheets may set apart.

    Args:
      before, after: the pieces, which have no space where they meet.
      between_boxes: whether a box begins or ends here that is usually set apart, such as a link beside a link: then two
        words are two. Otherwise only a word in small letters or a number ends where a capital follows.
    """
    last, first = before[-1:], after[:1]
    if not last.strip() or not first.strip() or before[0] == "\0":
        return False
    if between_boxes:
        if last in _OPENING or not (first.isalnum() or first in "([“‘«"):
            return False
        return not (_CJK.match(last) and _CJK.match(first))
    word = before[-3:-1]
    ends_word = last.islower() or last.isdigit() or last in ".!?…"
    return first.isupper() and ends_word and word.isalpha() and word.islower()


def one_line(pieces: Sequence[str]) -> str:
    """Inline text as one line with single spaces."""
    text = "".join(pieces)
    if "\0" in text:
        text = _resolve_marks(text).replace(BREAK, " ")
    return _single_spaced(text)


def paragraph_text(pieces: Sequence[str]) -> str:
    """Inline text with single spaces and the line breaks of <br>; two in a row make an empty line."""
    text = "".join(pieces)
    if "\0" not in text:
        return _single_spaced(text)
    text = _resolve_marks(text)
    if BREAK not in text:
        return _single_spaced(text)
    lines = [_single_spaced(line) for line in text.split(BREAK)]
    return _MANY_BREAKS.sub("\n\n", "\n".join(lines)).strip("\n")


def code_text(pieces: Sequence[str]) -> str:
    """Preformatted text: line breaks and indentation kept, trailing spaces and outer empty lines dropped.

    Boxes inside begin and end a line, and a line feed between two of them is theirs.
    """
    text = "".join(pieces)
    if LINE_END in text:
        text = _LINE_FEED_BETWEEN_BOXES.sub("", text)
        parts = _LINE_EDGES.split(text)
        text = "".join(
            part if index == len(parts) - 1 or not part or part.endswith(("\n", BREAK)) else part + "\n"
            for index, part in enumerate(parts)
        )
    text = text.replace(BREAK, "\n").replace("\r\n", "\n").replace("\r", "\n").replace("\xa0", " ")
    text = "\n".join(
        clean(line.replace("\t", "\v")).replace("\v", "\t").rstrip() for line in _no_marks(text).split("\n")
    )
    return _MANY_BREAKS.sub("\n\n", text).strip("\n")


def _single_spaced(text: str) -> str:
    if text.isprintable() and "  " not in text:
        return text.strip(" ")  # the space is the only white space that can be printed
    text = " ".join(text.split())
    return text if text.isprintable() else " ".join(text.translate(_UNPRINTABLE).split())


def _no_marks(text: str) -> str:
    return _MARKS.sub("", text) if "\0" in text else text


def _resolve_marks(text: str) -> str:
    """Text without marks but BREAK."""
    if STRUCK in text:
        text = _without_struck(text).replace(STRUCK, "").replace(STRUCK_END, "")
    if NEXT_ITEM in text:
        text = _ITEMS.sub("; ", _FIRST_ITEM.sub("", text))
    return text


def _without_struck(text: str) -> str:
    """Drops struck-out text beside other text; a paragraph that is struck out as a whole stays.

    (An <s> that is never closed strikes out the rest of the page, paragraph by paragraph.)
    """
    rest = _STRUCK_TEXT.sub("", text)
    return rest if _MARKS.sub("", rest).replace(BREAK, "").strip() else text
