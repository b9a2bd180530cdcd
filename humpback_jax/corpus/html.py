"""HTML to readable text blocks and the sections that its headers open.

A section is the paper's "sub-tree rooted at a header node" (section 1, step 0b): all that follows a header up to the
next header of the same or a higher level, lower-level headers and their text included. Real pages wrap headers and
content in boxes of different depth, so sections are found in document order with a stack of open levels, not among DOM
siblings. A header inside <main> or <article> ends with that element at the latest: what follows is page furniture.
"""

import dataclasses
import itertools
import math
import re
from collections.abc import Callable
from typing import Any

from resiliparse.parse.html import ELEMENT, HTMLTree, traverse_dom

_HEADER_LEVEL = {f"h{level}": level for level in range(1, 7)}
_SCOPES = frozenset(("article", "main"))
_INVISIBLE = frozenset(
    (
        *("head", "script", "style", "noscript", "template", "title", "meta", "link", "nav", "footer", "aside", "menu"),
        *("svg", "math", "canvas", "iframe", "object", "embed", "audio", "video", "map", "dialog", "rp"),
        *("select", "datalist", "button", "input", "textarea", "progress", "meter"),
    )
)
_INVISIBLE_ROLES = frozenset(
    (
        *("navigation", "banner", "contentinfo", "search", "complementary", "menu", "menubar", "toolbar", "tablist"),
        *("dialog", "alertdialog"),
    )
)
_BLOCKS = frozenset(
    (
        *("html", "body", "address", "article", "section", "main", "header", "hgroup", "div", "center", "p", "hr"),
        *("pre", "blockquote", "figure", "figcaption", "details", "summary", "form", "fieldset", "legend"),
        *("ul", "ol", "dir", "li", "dl", "dt", "dd"),
        *("table", "caption", "thead", "tbody", "tfoot", "tr", "td", "th"),
    )
)
_ENDS_OPEN_HEADER = frozenset(
    ("p", "ul", "ol", "dl", "table", "pre", "blockquote", "section", "article", "main", "form")
)
_LISTS = frozenset(("ul", "ol", "dir"))
_LAYOUT_TABLE = "table, h1, h2, h3, h4, h5, h6, pre, ul, ol, dl, form, article, section"

_BREAK = "\0"  # stands for <br> until a block is finished; the page's own NULs are removed before parsing
_MAX_INDENT = 12
_MAX_MARK_PARTS = 8
_HIDDEN_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_LINK_MARKS = frozenset(("¶", "#", "§", "🔗", "[edit]"))
_CITATION_MARK = re.compile(r"\[[^\]]{1,20}\]")
_UNPRINTABLE = {
    **dict.fromkeys([*range(0x01, 0x09), 0x0B, *range(0x0E, 0x20), *range(0x7F, 0x85), *range(0x86, 0xA0)]),
    **dict.fromkeys([0xAD, 0x200B, 0x200E, 0x200F, 0x2060, 0xFEFF, *range(0x202A, 0x202F)]),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, list item, code block or table row; neighbours of one non-zero `group` stand on adjacent lines."""

    text: str
    group: int = 0


@dataclasses.dataclass(slots=True)
class Section:
    """A header and the range of blocks under it: `blocks[first:end]`, its own text not included.

    `end` is known once the section has ended; `depth` is the number of <main> and <article> elements it lies in.
    """

    level: int
    header: str
    first: int
    end: int
    depth: int = 0


@dataclasses.dataclass(frozen=True)
class PageText:
    """The visible text of a page in document order, with the sections its headers open, in order of the headers."""

    blocks: tuple[Block, ...]
    sections: tuple[Section, ...]

    def text(self, first: int = 0, end: int | None = None) -> str:
        """The blocks of a range as one text: a blank line between blocks, one line break inside a list or table."""
        parts: list[str] = []
        group = 0
        for block in self.blocks[first:end]:
            if parts:
                parts.append("\n" if block.group and block.group == group else "\n\n")
            parts.append(block.text)
            group = block.group
        return "".join(parts)


def read_html(markup: str) -> PageText:
    """Parses a page, however broken, as browsers do, and returns its text; cost is linear in its size."""
    tree = HTMLTree.parse(markup.replace("\0", ""))
    reader = _Reader()
    if tree.document is not None:
        traverse_dom(tree.document, reader.enter, reader.leave)
    return reader.finish()


def read_plain_text(text: str) -> PageText:
    """A WET record: there is no markup, so the whole page is one section under its first line, which is its title."""
    lines = [" ".join(line.translate(_UNPRINTABLE).replace("\0", "").split()) for line in text.splitlines()]
    blocks = tuple(Block(line, group=1) for line in lines if line)
    sections = (Section(1, blocks[0].text, 1, len(blocks)),) if len(blocks) > 1 else ()
    return PageText(blocks, sections)


def _is_invisible(node: Any) -> bool:
    tag = node.tag
    if tag in ("#document", "#text", "html", "body"):
        return False
    if tag in _INVISIBLE or node.type != ELEMENT:
        return True
    if node.has_attribute("hidden") or node.getattr("role") in _INVISIBLE_ROLES:
        return True
    style = node.getattr("style")
    return node.getattr("aria-hidden") == "true" or bool(style and _HIDDEN_STYLE.search(style))


@dataclasses.dataclass
class _OpenList:
    ordered: bool
    number: int
    indent: int
    marker_width: int = 0
    marker: str = ""

    def open_item(self) -> None:
        self.marker = f"{self.number}. " if self.ordered else "- "
        self.marker_width = len(self.marker)
        self.number += 1


class _Reader:
    """Turns opening and closing tags and text into blocks and sections; `traverse_dom` calls `enter` and `leave`."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.sections: list[Section] = []
        self._open_sections: list[Section] = []  # those of `sections` that have not ended
        self._hidden_depth = math.inf  # of the invisible node entered last
        self._scope_depth = 0  # how many <main> and <article> elements are open
        self._inline: list[str] = []
        self._marks: list[int] = []  # where each open <a> or <sup> began in _inline
        self._header: int | None = None  # level of the header being collected
        self._header_has_text = False
        self._pre_depth = 0
        self._lists: list[_OpenList] = []
        self._tables: list[bool] = []  # of each open table: holds data, not layout
        self._row: list[str] = []
        self._groups = itertools.count(1)
        self._list_group = self._table_group = self._term_group = 0

    def enter(self, context: Any) -> None:
        node = context.node
        if context.depth > self._hidden_depth:
            return
        self._hidden_depth = context.depth if _is_invisible(node) else math.inf
        if node.tag == "#text":
            self._add_text(node.value or "")
        elif context.depth < self._hidden_depth:
            self._open(node.tag, node)
            if node.first_child is None:  # such a node is not left
                self._close(node.tag)

    def leave(self, context: Any) -> None:
        if context.depth < self._hidden_depth:
            self._close(context.node.tag)

    def _add_text(self, text: str) -> None:
        self._inline.append(text)
        if self._header is not None and not self._header_has_text:
            self._header_has_text = not text.isspace()

    def _open(self, tag: str, node: Any) -> None:
        if tag == "br":
            self._inline.append(_BREAK)
        elif tag in ("a", "sup"):
            self._marks.append(len(self._inline))
        elif tag in _HEADER_LEVEL:
            self._flush()
            self._header, self._header_has_text = _HEADER_LEVEL[tag], False
        elif tag in _BLOCKS:
            self._open_block(tag, node)

    def _close(self, tag: str) -> None:
        if tag in ("a", "sup"):
            self._close_mark(tag)
        elif tag in _HEADER_LEVEL:
            self._flush()
        elif tag in _BLOCKS:
            self._close_block(tag)

    def finish(self) -> PageText:
        self._flush()
        self._end_sections(lambda level, depth: True)
        return PageText(tuple(self.blocks), tuple(self.sections))

    def _open_block(self, tag: str, node: Any) -> None:
        in_header = self._header is not None and not (tag in _ENDS_OPEN_HEADER and self._header_has_text)
        if in_header or (self._in_data_table() and tag not in ("tr", "td", "th", "caption")):
            self._inline.append(" ")
            return
        if self._pre_depth and tag != "pre":
            self._inline.append(_BREAK)
            return
        self._flush()
        if tag == "pre":
            self._pre_depth += 1
        elif tag in _LISTS:
            self._open_list(tag, node)
        elif tag == "li" and self._lists:
            self._lists[-1].open_item()
        elif tag == "table":
            self._open_table(node)
        elif tag == "dt":
            self._term_group = next(self._groups)
        elif tag in _SCOPES:
            self._scope_depth += 1

    def _close_block(self, tag: str) -> None:
        if self._header is not None:
            self._inline.append(" ")
        elif tag == "table" and self._tables:
            self._flush()
            self._end_row()
            self._tables.pop()
        elif self._in_data_table():
            self._close_cell(tag)
        elif self._pre_depth and tag != "pre":
            self._inline.append(_BREAK)
        else:
            self._flush()
            self._leave(tag)

    def _leave(self, tag: str) -> None:
        if tag == "pre":
            self._pre_depth = max(self._pre_depth - 1, 0)
        elif tag in _LISTS and self._lists:
            self._lists.pop()
        elif tag == "li" and self._lists:
            self._lists[-1].marker = ""
        elif tag == "dl":
            self._term_group = 0
        elif tag in _SCOPES:
            self._end_sections(lambda level, depth: depth >= self._scope_depth)
            self._scope_depth -= 1

    def _open_list(self, tag: str, node: Any) -> None:
        if not self._lists:
            self._list_group = next(self._groups)
        outer = self._lists[-1] if self._lists else None
        indent = min(outer.indent + outer.marker_width, _MAX_INDENT) if outer else 0
        start = node.getattr("start") or "1"
        number = int(start) if re.fullmatch(r"-?\d{1,6}", start) and start.isascii() else 1
        self._lists.append(_OpenList(tag == "ol", number, indent))

    def _open_table(self, node: Any) -> None:
        is_data = node.getattr("role") != "presentation" and node.query_selector(_LAYOUT_TABLE) is None
        self._tables.append(is_data)
        self._table_group = next(self._groups)

    def _in_data_table(self) -> bool:
        return bool(self._tables) and self._tables[-1]

    def _close_cell(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._row.append(_collapse(self._inline))
            self._inline.clear()
        elif tag == "tr":
            self._end_row()
        elif tag == "caption":
            self._flush()
        else:
            self._inline.append(" ")

    def _end_row(self) -> None:
        cells, self._row = self._row, []
        while cells and not cells[-1]:
            cells.pop()
        if any(cells):
            self.blocks.append(Block(" | ".join(cells).strip(), self._table_group))

    def _close_mark(self, tag: str) -> None:
        """Drops permalink signs and citation numbers: they point somewhere and say nothing."""
        begin = self._marks.pop() if self._marks else len(self._inline)
        if self._pre_depth or not 0 < len(self._inline) - begin <= _MAX_MARK_PARTS:
            return
        text = "".join(self._inline[begin:]).strip()
        if text in _LINK_MARKS or (tag == "sup" and _CITATION_MARK.fullmatch(text)):
            del self._inline[begin:]

    def _flush(self) -> None:
        """Ends the block being collected, if any."""
        if self._header is not None:
            level, self._header = self._header, None
            header = _collapse(self._inline)
            self._inline.clear()
            self._begin_section(level, header)
            return
        if not self._inline:
            return
        text = _code_text(self._inline) if self._pre_depth else _paragraph_text(self._inline)
        self._inline.clear()
        if not text:
            return
        if self._lists:
            self._emit_item(text)
        else:
            self.blocks.append(Block(text, self._term_group))
            # The first block of a definition stands right under its term, the next ones apart.
            if self._term_group and len(self.blocks) > 1 and self.blocks[-2].group == self._term_group:
                self._term_group = 0

    def _begin_section(self, level: int, header: str) -> None:
        self._end_sections(lambda open_level, depth: open_level >= level)
        if self._lists:  # a card in a list: its header stands in for the list marker
            self._lists[-1].marker, self._lists[-1].marker_width, self._lists[-1].indent = "", 0, 0
        if header:
            self.blocks.append(Block(header))
        section = Section(level, header, len(self.blocks), len(self.blocks), self._scope_depth)
        self._open_sections.append(section)
        self.sections.append(section)

    def _end_sections(self, ends: Callable[[int, int], bool]) -> None:
        """Ends the innermost open sections for which `ends(level, scope depth)` holds."""
        while self._open_sections and ends(self._open_sections[-1].level, self._open_sections[-1].depth):
            self._open_sections.pop().end = len(self.blocks)

    def _emit_item(self, text: str) -> None:
        current = self._lists[-1]
        margin = " " * (current.indent + current.marker_width)
        lines = text.split("\n")
        first = " " * current.indent + current.marker if current.marker else margin
        current.marker = ""
        rest = [margin + line if line else "" for line in lines[1:]]
        self.blocks.append(Block("\n".join([first + lines[0], *rest]), self._list_group))


def _collapse(inline: list[str]) -> str:
    """Inline text as one line with single spaces."""
    return " ".join("".join(inline).replace(_BREAK, " ").translate(_UNPRINTABLE).split())


def _paragraph_text(inline: list[str]) -> str:
    """Inline text with single spaces and the line breaks of <br>; two in a row make an empty line."""
    lines = [" ".join(line.split()) for line in "".join(inline).translate(_UNPRINTABLE).split(_BREAK)]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")


def _code_text(inline: list[str]) -> str:
    """Preformatted text: line breaks and indentation kept, trailing spaces and outer empty lines dropped."""
    text = "".join(inline).replace("\r\n", "\n").replace("\xa0", " ").replace(_BREAK, "\n").translate(_UNPRINTABLE)
    lines = [line.rstrip() for line in text.split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")
