"""Tables: which hold data, which lay out a page and which lay out code; the columns of their cells."""

import re
from typing import Literal

from selectolax.lexbor import LexborNode

from humpback_jax.corpus.content.lists import parse_integer
from humpback_jax.corpus.content.visibility import Attributes, read_names

TableKind = Literal["data", "layout", "code"]

# Pages ask for 10^15 columns. A cell spans no more columns than the row with the most cells has cells.
MAX_ROWSPAN = 1000
MAX_COLUMNS = 200
MAX_SPANNED_CELLS = 20_000  # of a table; further spans are taken for 1

_REPEATED_CHARS = 80  # a longer cell is not repeated in the rows that it spans
_LONG_CELL = 600  # characters of text that hardly any cell of data has
_MAX_SCANNED = 5_000  # nodes, for line numbers

_LAYOUT_PARTS = frozenset(
    ("table", "h1", "h2", "h3", "h4", "h5", "h6", "form", "article", "section", "main", "nav", "aside", "iframe")
)
_BLOCK_PARTS = frozenset(("ul", "ol", "dl", "pre", "blockquote", "p", "div", "hr", "figure"))
_CODE_CELL = re.compile(
    r"(?<![a-z])(?:blob-code|hljs-ln-code|line-content|code-line|rouge-code|line-code|codeline)(?![a-z])"
)
_KEEPS_SPACES = re.compile(r"white-space\s*:\s*(?:pre|break-spaces)")
_NUMBER = re.compile(r"\s*[0-9]{1,6}\s*")
_INDENTED = re.compile(r"(?:[ \xa0]{2,}|\t)[^\s]")


class Scan:
    """What one look over a table's cells has found; it ends at a nested table."""

    def __init__(self) -> None:
        self.layout = self.has_header_cells = self.has_blocks = self.has_pre = False
        self.code_cells = self.gutters = self.numbers = self.indented = 0
        self.rows = self.cells = self.widest = self.longest = 0


def look_at_table(table: LexborNode, attributes: Attributes) -> tuple[TableKind, int]:
    """(how to read a table, cells of its longest row). Looks at each node once, however tables are nested."""
    scan = _scan(table)
    return _kind(scan, attributes), scan.widest


def _kind(scan: Scan, attributes: Attributes) -> TableKind:
    if not scan.has_pre and _lays_out_code(scan):
        return "code"
    if scan.layout or attributes.get("role") in ("presentation", "none"):
        return "layout"
    if scan.has_header_cells:
        return "layout" if scan.has_pre or (scan.has_blocks and scan.longest > 3 * _LONG_CELL) else "data"
    if scan.gutters or scan.has_pre or scan.longest > _LONG_CELL:
        return "layout"
    if scan.has_blocks:
        return "data" if scan.rows > 1 and scan.widest > 1 and scan.cells > scan.rows else "layout"
    return "data"


def _lays_out_code(scan: Scan) -> bool:
    if scan.code_cells or (scan.gutters and scan.rows == scan.gutters):
        return True
    return scan.rows > 1 and scan.numbers == scan.rows and scan.indented > 0 and scan.widest == 2


def _scan(table: LexborNode) -> Scan:
    scan = Scan()
    width = length = 0
    in_title = True  # before the first cell or in a header cell
    cell_begins = False
    rest: list[LexborNode | None] = []
    node = table.child
    while node is not None or rest:
        if node is None:
            node = rest.pop()
            continue
        tag = node.tag
        if tag == "-text":
            text = node.text_content or ""
            if width:
                length += len(text)
                scan.longest = max(scan.longest, length)
                if cell_begins and width == 1 and _NUMBER.fullmatch(text):
                    scan.numbers += 1
                elif cell_begins and width == 2 and _INDENTED.match(text):
                    scan.indented += 1
            cell_begins = False
            node = node.next
            continue
        if tag == "tr":
            scan.rows += 1
            width = 0
        elif tag in ("td", "th"):
            width += 1
            length = 0
            cell_begins = True
            in_title = tag == "th"
            scan.cells += 1
            scan.widest = max(scan.widest, width)
            _look_at_cell(scan, tag, node.attributes)
        elif tag in _LAYOUT_PARTS:
            scan.layout = scan.layout or tag == "table" or not (in_title and tag[0] == "h")
            if tag == "table":
                break
        elif tag == "pre":
            scan.has_pre = True
        elif tag in _BLOCK_PARTS:
            scan.has_blocks = True
        elif tag in ("caption", "thead"):
            scan.has_header_cells = True
        rest.append(node.next)
        node = node.child
    return scan


def _look_at_cell(scan: Scan, tag: str, attributes: Attributes) -> None:
    if tag == "th":
        scan.has_header_cells = True
    if not attributes:
        return
    names = attributes.get("class")
    if "data-line-number" in attributes or (names and read_names(names).gutter):
        scan.gutters += 1
    elif (names and _CODE_CELL.search(names.lower())) or _KEEPS_SPACES.search(attributes.get("style") or ""):
        scan.code_cells += 1


def is_numbering(node: LexborNode) -> bool:
    """Whether an element holds nothing but numbers, such as the line numbers beside code."""
    rest: list[LexborNode | None] = []
    inside = node.child
    for _ in range(_MAX_SCANNED):
        while inside is None and rest:
            inside = rest.pop()
        if inside is None:
            return True
        if inside.tag == "-text":
            text = (inside.text_content or "").strip().rstrip(".:|")
            if text and not text.replace("\n", "").replace(" ", "").isdecimal():
                return False
            inside = inside.next
        else:
            rest.append(inside.next)
            inside = inside.child
    return False


class Grid:
    """The rows of a data table, with cells in their columns whatever spans what.

    A cell is repeated in the rows that it spans, so that each row says what it is about, unless it is long; in further
    columns that it spans stands nothing.
    """

    def __init__(self, widest: int) -> None:
        self._most_columns = min(widest, MAX_COLUMNS)
        self._row: list[str] = []
        self._below: dict[int, tuple[int, str]] = {}  # column: (rows still to fill, text)
        self._colspan = self._rowspan = 1
        self._spanned = 0

    def open_cell(self, attributes: Attributes) -> None:
        """Begins the next cell of the row."""
        self._fill()
        self._colspan = self._rowspan = 1
        if attributes and self._spanned < MAX_SPANNED_CELLS:
            self._colspan = _span(attributes.get("colspan"), self._most_columns)
            self._rowspan = _span(attributes.get("rowspan"), MAX_ROWSPAN)

    def close_cell(self, text: str) -> None:
        """Ends it."""
        for number in range(self._colspan):
            column = len(self._row)
            if number and column >= MAX_COLUMNS:
                break
            if self._rowspan > 1:
                repeated = text if not number and len(text) <= _REPEATED_CHARS else ""
                self._below[column] = (self._rowspan - 1, repeated)
            self._row.append("" if number else text)
        self._spanned += self._colspan - 1

    def end_row(self) -> tuple[str, ...]:
        """The cells of the row, empty ones at its end left out."""
        has_cells = bool(self._row)
        self._fill()
        cells, self._row = self._row if has_cells else [], []
        while cells and not cells[-1]:
            cells.pop()
        return tuple(cells)

    def end_rows(self) -> None:
        """No cell spans the end of a <tbody>."""
        self._below.clear()

    def _fill(self) -> None:
        while len(self._row) in self._below and self._spanned < MAX_SPANNED_CELLS:
            column = len(self._row)
            left, text = self._below.pop(column)
            if left > 1:
                self._below[column] = (left - 1, text)
            self._row.append(text)
            self._spanned += 1


def _span(value: str | None, most: int) -> int:
    if not value or value == "1":
        return 1
    digits = value.strip()
    if digits.isascii() and digits.isdecimal():
        return max(1, most if len(digits) > 6 else min(int(digits), most))
    return max(1, min(parse_integer(value, 1), most))


def row_text(cells: tuple[str, ...]) -> str:
    """A row as one line."""
    return " | ".join(cells).rstrip()
