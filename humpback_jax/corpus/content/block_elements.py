"""Block-level elements: headers, paragraphs, lists, tables and code. Each method opens an element of a kind and says
what to do when it ends.
"""

from collections.abc import Callable
from typing import Any

from selectolax.lexbor import LexborNode

from humpback_jax.corpus.content.lists import open_list, parse_integer
from humpback_jax.corpus.content.tables import Grid, TableKind, look_at_table, row_text
from humpback_jax.corpus.content.text import LINE_END, LINE_START, NEXT_ITEM, one_line
from humpback_jax.corpus.content.visibility import (
    Attributes,
    language_of,
    language_of_names,
    names_of,
    read_names,
    read_style,
    role_of,
)
from humpback_jax.corpus.content.writer import BlockWriter

# What is done when an element ends: a method and its argument.
Closing = tuple[Callable[[Any], None], Any]
SKIP: Closing = (print, None)  # the element is left out, or read already

_BOX_TAGS = frozenset(
    (
        *("html", "body", "address", "article", "section", "main", "header", "footer", "nav", "aside", "menu"),
        *("search", "div", "center", "figure", "details", "form", "fieldset", "dialog", "frameset", "template"),
        *("ul", "ol", "dir", "dl", "table", "td", "th", "blockquote", "noscript"),
    )
)
_ENDS_OPEN_HEADER = frozenset(
    ("p", "ul", "ol", "dl", "table", "pre", "blockquote", "section", "article", "main", "form", "nav", "aside")
)
_HEADERS = frozenset(("h1", "h2", "h3", "h4", "h5", "h6"))
_LABEL_NODES = 40
_LANGUAGE_BOXES = 3


class BlockElements:
    """What is open around the place that is being read, and the blocks written so far."""

    def __init__(self) -> None:
        self.out = BlockWriter()
        self._table: TableKind | None = None  # how the innermost table is read
        self._grid = Grid(1)
        self._table_group = self._header_level = 0
        self._header_break = 0  # where a box inside the open header begins, after some text
        self._code_cells: list[str] = []  # of the open row of a table that lays out code
        self._header = 0  # a number for each header, to see whether the open one still is the one that ends
        self._outline_level = 0  # of the last header outside <details>
        self._details = 0
        self._hgroup: str = ""  # "open" in a header group, "titled" after its first header

    def open_block(self, tag: str, attributes: Attributes, node: LexborNode | None = None) -> Closing:
        """An element that stands on lines of its own."""
        out = self.out
        if out.mode != "flow":
            closing = self._open_in_line(tag, attributes)
            if closing is not None:
                return closing
        if out.inline or out.counted:
            out.flush()
        out.line_group = 0
        state = (out.box, out.kind, out.emphasis, out.size)
        if attributes:
            out.open_box(tag, role_of(attributes) if "role" in attributes else "", names_of(attributes))
            if "style" in attributes:
                style = read_style(attributes["style"] or "")
                self._emphasise(style.bold, style.size)
        elif tag in _BOX_TAGS:
            out.open_box(tag, "", "")
        return self._end_block, state

    def _open_in_line(self, tag: str, attributes: Attributes) -> Closing | None:
        """A block inside a header, a cell or code; None where it ends the header."""
        out = self.out
        if out.mode == "code":
            names = attributes.get("class") if attributes else None
            out.inline.append(LINE_START)
            if names and read_names(names).line:
                return self._end_code_line, len(out.inline)
            return out.inline.append, LINE_END
        if out.mode == "header":
            if not out.is_blank():
                if tag in _ENDS_OPEN_HEADER:
                    self._end_header(self._header)
                    return None
                self._header_break = self._header_break or len(out.inline)
            out.inline.append(" ")
            return out.inline.append, " "
        out.inline.append(NEXT_ITEM if tag == "li" else " ")
        return out.inline.append, " "

    def _end_block(self, state: tuple[int, Any, int, int]) -> None:
        out = self.out
        if out.inline or out.counted:
            out.flush()
        out.line_group = 0
        out.box, out.kind, out.emphasis, out.size = state

    def _emphasise(self, bold: bool, size: int | None) -> None:
        if size is not None:
            self.out.emphasis += size > 3
            self.out.size = size
        self.out.emphasis += bold

    def _end_code_line(self, begin: int) -> None:
        inline = self.out.inline
        if len(inline) == begin:
            inline.append("\n")  # an empty line
        inline.append(LINE_END)

    def open_header(self, tag: str, attributes: Attributes, node: LexborNode) -> Closing:
        """h1 to h6, or an element that says that it is a header; in a cell or in code it is a paragraph."""
        out = self.out
        if out.mode == "header" and not out.is_blank():
            self._end_header(self._header)
        if out.mode in ("cell", "code") or self._hgroup == "titled":
            return self.open_block("p", attributes)
        level = int(tag[1]) if tag[1:].isdecimal() else 2
        if attributes and "aria-level" in attributes:
            level = min(max(parse_integer(attributes["aria-level"], level), 1), 6)
        if self._hgroup:
            self._hgroup = "titled"
        if not self._details:
            self._outline_level = level
        return self._begin_header(tag, level, attributes)

    def _begin_header(self, tag: str, level: int, attributes: Attributes) -> Closing:
        out = self.out
        if out.mode == "flow":
            out.end_paragraph()
        state = (out.box, out.kind, out.emphasis, out.size)
        if attributes:
            out.open_box(tag, role_of(attributes), names_of(attributes))
        out.mode = "header"
        self._header_break = 0
        self._header += 1
        self._header_level = level
        return self._close_header, (self._header, state)

    def _close_header(self, closing: tuple[int, tuple[int, Any, int, int]]) -> None:
        header, state = closing
        self._end_header(header)
        if self.out.mode == "flow":
            self._end_block(state)

    def _end_header(self, header: int) -> None:
        """Writes the open header, if it is that one."""
        if self.out.mode == "header" and header == self._header:
            self.out.end_header(self._header_level, self._header_break)
            self.out.mode = "flow"

    def open_summary(self, tag: str, attributes: Attributes, node: LexborNode) -> Closing:
        """The title of collapsed text, one level below the headers around."""
        if self.out.mode != "flow" or label_of(node)[1]:
            return self.open_block(tag, attributes)
        return self._begin_header(tag, self._level_inside(), attributes)

    def _level_inside(self) -> int:
        """The level of a title of collapsed text, below the header that stands over it."""
        return min(self._outline_level + max(self._details, 1), 6)

    def open_details(self, tag: str, attributes: Attributes, node: LexborNode) -> Closing:
        self._details += 1
        return self._end_details, self.open_block(tag, attributes)

    def _end_details(self, closing: Closing) -> None:
        self._details -= 1
        closing[0](closing[1])

    def open_header_group(self, tag: str, attributes: Attributes, node: LexborNode) -> Closing:
        outer, self._hgroup = self._hgroup, "open"
        return self._end_header_group, (outer, self.open_block(tag, attributes))

    def _end_header_group(self, state: tuple[str, Closing]) -> None:
        self._hgroup, closing = state
        closing[0](closing[1])

    def open_dialog(self, tag: str, attributes: Attributes, node: LexborNode) -> Closing:
        return self.open_block(tag, attributes) if attributes and "open" in attributes else SKIP

    def open_kind(self, tag: str, attributes: Attributes, node: LexborNode) -> Closing:
        """A block whose text is of a kind of its own."""
        if tag == "dt" and self.out.mode == "flow" and _has_button(node):
            return self._begin_header(tag, self._level_inside(), attributes)  # opens the answer that follows
        closing = self.open_block(tag, attributes)
        if self.out.mode == "flow":
            if tag == "blockquote":
                self.out.kind = "quote"
            elif tag == "dt":
                self._open_term()
            else:
                self.out.kind = "caption"
        return closing

    def _open_term(self) -> None:
        """Terms that share a definition stand on adjacent lines."""
        out = self.out
        out.kind = "term"
        last = out.blocks[-1] if out.blocks else None
        if last is None or last.kind != "term" or last.group != out.term_group:
            out.term_group = out.new_group()

    def open_definitions(self, tag: str, attributes: Attributes, node: LexborNode) -> Closing:
        return self._end_definitions, self.open_block(tag, attributes)

    def _end_definitions(self, closing: Closing) -> None:
        closing[0](closing[1])
        self.out.term_group = 0

    def open_list(self, tag: str, attributes: Attributes, node: LexborNode) -> Closing:
        out = self.out
        closing = self.open_block(tag, attributes)
        if out.mode != "flow":
            return closing
        if not out.lists:
            out.list_group = out.new_group()
        items = _number_of_items(node) if attributes and "reversed" in attributes else 0
        out.lists.append(open_list(tag, attributes or {}, items, out.lists[-1] if out.lists else None))
        return self._end_list, closing

    def _end_list(self, closing: Closing) -> None:
        closing[0](closing[1])
        if self.out.lists:
            self.out.lists.pop()

    def open_item(self, tag: str, attributes: Attributes, node: LexborNode) -> Closing:
        closing = self.open_block(tag, attributes)
        if self.out.mode != "flow" or not self.out.lists:
            return closing
        self.out.kind = "item"
        self.out.lists[-1].open_item(attributes.get("value") if attributes else None)
        return self._end_item, closing

    def _end_item(self, closing: Closing) -> None:
        closing[0](closing[1])
        if self.out.lists:
            self.out.lists[-1].marker = ""

    def open_code(self, tag: str, attributes: Attributes, node: LexborNode) -> Closing:
        closing = self.open_block(tag, attributes)
        if self.out.mode != "flow":
            return closing
        self.out.mode = "code"
        self.out.language = language_of(attributes) or self._language_around()
        return self._end_code, closing

    def _language_around(self) -> str:
        """The programming language that one of the boxes right around names."""
        boxes, box = self.out.boxes, self.out.box
        for _ in range(_LANGUAGE_BOXES):
            if language := language_of_names(boxes[box].names):
                return language
            box = boxes[box].parent
        return ""

    def _end_code(self, closing: Closing) -> None:
        self.out.flush()
        self.out.drop_line_numbers()
        self.out.mode = "flow"
        closing[0](closing[1])

    # Tables

    def open_table(self, tag: str, attributes: Attributes, node: LexborNode) -> Closing:
        """A table of data, whose rows become blocks, or of layout, whose cells are boxes."""
        out = self.out
        closing = self.open_block(tag, attributes)
        outer = self._table
        if out.mode != "flow":
            return closing
        self._table, widest = look_at_table(node, attributes or {})
        if self._table == "data":
            out.mode = "cell"
            self._grid = Grid(widest)
            self._table_group = out.new_group()
        elif self._table == "code":
            out.mode = "code"
            out.language = language_of(attributes)
        return self._end_table, (outer, closing)

    def _end_table(self, state: tuple[TableKind | None, Closing]) -> None:
        outer, closing = state
        if self._table == "data":
            self.out.reset()
        elif self._table == "code":
            self.out.flush()
        self.out.mode = "flow"
        self._table = outer
        closing[0](closing[1])

    def open_row(self, tag: str, attributes: Attributes, node: LexborNode) -> Closing:
        if self.out.mode == "cell" and self._table == "data":
            return self._end_row, None
        if self._table == "code" and self.out.mode == "code":
            inline = self.out.inline
            while inline and inline[-1].isspace():
                inline.pop()
            inline.append(LINE_START)
            self._code_cells = []
            return self._end_code_row, len(inline)
        return self.open_block(tag, attributes)

    def _end_row(self, _: None) -> None:
        cells = self._grid.end_row()
        if any(cells):
            self.out.write(row_text(cells), "row", group=self._table_group, cells=cells)
        self.out.reset()

    def open_cell(self, tag: str, attributes: Attributes, node: LexborNode) -> Closing:
        out = self.out
        if out.mode == "cell" and self._table == "data":
            self._grid.open_cell(attributes)
            return self._end_cell, len(out.inline)
        if out.mode == "code" and self._table == "code":
            return self._end_code_cell, len(out.inline)
        return self.open_block(tag, attributes)

    def _end_cell(self, begin: int) -> None:
        self._grid.close_cell(one_line(self.out.inline[begin:]))

    def _end_code_cell(self, begin: int) -> None:
        inline = self.out.inline
        if self._code_cells or not "".join(inline[begin:]).strip().isdecimal():  # otherwise the number of the line
            self._code_cells += inline[begin:]
        del inline[begin:]

    def _end_code_row(self, begin: int) -> None:
        self.out.inline[begin:] = [*(self._code_cells or ["\n"]), LINE_END]

    def open_row_group(self, tag: str, attributes: Attributes, node: LexborNode) -> Closing | None:
        if self._table == "data" and self.out.mode == "cell":
            self._grid.end_rows()
            return None
        return None if self.out.mode == "code" else self.open_block(tag, attributes)

    def open_caption(self, tag: str, attributes: Attributes, node: LexborNode) -> Closing:
        if self.out.mode != "cell":
            return self.open_kind(tag, attributes, node)
        return self._end_caption, None

    def _end_caption(self, _: None) -> None:
        text = one_line(self.out.inline)
        if text:
            self.out.write(text, "caption", group=0)
        self.out.reset()


def _has_button(node: LexborNode) -> bool:
    child = node.child
    while child is not None and (child.tag == "-text" or child.tag == "-comment"):
        child = child.next
    return child is not None and child.tag == "button"


def _number_of_items(node: LexborNode) -> int:
    count = 0
    child = node.child
    while child is not None:
        count += child.tag == "li"
        child = child.next
    return count


def label_of(node: LexborNode) -> tuple[str, bool]:
    """(text of a small element, whether it holds a header); looks at the first nodes only."""
    parts: list[str] = []
    rest: list[LexborNode | None] = []
    inside = node.child
    for _ in range(_LABEL_NODES):
        while inside is None and rest:
            inside = rest.pop()
        if inside is None:
            break
        tag = inside.tag
        if tag == "-text":
            parts.append(inside.text_content or "")
        elif tag in _HEADERS or (inside.attributes or {}).get("role") == "heading":
            return "", True
        rest.append(inside.next)
        inside = inside.child
    return one_line(parts), False
