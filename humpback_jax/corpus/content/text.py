"""Pieces of inline text to the lines of a block.

A piece is text of the page or one of the marks below. A mark is a NUL and a letter; the page's own NULs are gone before
parsing, so no page can write one.
"""

import re
from collections.abc import Sequence

BREAK = "\0b"  # <br>
GAP = "\0g"  # between boxes that style sheets usually set apart: a space, unless a sign follows or one is there already
SPAN_GAP = "\0h"  # after a named span: a space where it ends a word in small letters and a capital follows
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
_GAP_RUN = re.compile(r"((?:\0[gh])+)")
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
    text = " ".join(text.split())
    return text if text.isprintable() else " ".join(text.translate(_UNPRINTABLE).split())


def _no_marks(text: str) -> str:
    return _MARKS.sub("", text) if "\0" in text else text


def _resolve_marks(text: str) -> str:
    """Text without marks but BREAK."""
    if STRUCK in text:
        text = _without_struck(text).replace(STRUCK, "").replace(STRUCK_END, "")
    if GAP in text or SPAN_GAP in text:
        text = _with_gaps(text)
    if NEXT_ITEM in text:
        text = _ITEMS.sub("; ", _FIRST_ITEM.sub("", text))
    return text


def _with_gaps(text: str) -> str:
    """A space for each run of gaps between two words, nothing for the others."""
    parts = _GAP_RUN.split(text)
    before = parts[0][-3:]
    for index in range(1, len(parts), 2):
        after = parts[index + 1]
        is_word_end = bool(before) and "\0" not in before[-2:] and not before[-1].isspace()
        if after and is_word_end and _is_gap(before, after[0], GAP in parts[index]):
            parts[index] = before = " "
        else:
            parts[index] = ""
        before = (before + after)[-3:]
    return "".join(parts)


def _is_gap(before: str, first: str, is_between_boxes: bool) -> bool:
    if is_between_boxes:
        if before[-1] in _OPENING or not (first.isalnum() or first in "([“‘«"):
            return False
        return not (_CJK.match(before[-1]) and _CJK.match(first))
    last = before[-1]
    ends_word = len(before) == 3 and before[:2].isalpha() and before[:2].islower()
    return first.isupper() and ends_word and (last.islower() or last.isdigit() or last in ".!?…")


def _without_struck(text: str) -> str:
    """Drops struck-out text beside other text; a paragraph that is struck out as a whole stays.

    (An <s> that is never closed strikes out the rest of the page, paragraph by paragraph.)
    """
    rest = _STRUCK_TEXT.sub("", text)
    return rest if _MARKS.sub("", rest).replace(BREAK, "").strip() else text
