"""The readable text of a page as blocks in document order, each with what its markup tells about it."""

import dataclasses
import re
from collections.abc import Iterable, Sequence
from typing import Literal

_BACKTICKS = re.compile(r"`{3,}")
_EMPHASIS_SIGNS = re.compile(r"[*\n]")

BlockKind = Literal["header", "paragraph", "item", "row", "code", "quote", "term", "caption"]


@dataclasses.dataclass(slots=True)
class Box:
    """An element that may hold blocks; the first box of a page is the page itself and its own parent.

    Attributes:
      parent: index of the box around it.
      tag: lower-case tag.
      role: the first ARIA role, lower-case; empty without one.
      names: class, id, itemprop and data-testid, lower-case, separated by spaces.
    """

    parent: int
    tag: str
    role: str = ""
    names: str = ""


@dataclasses.dataclass(slots=True)
class Block:
    """A paragraph, header, list item, table row or code block, with its text as a reader sees it.

    Attributes:
      text: never empty, without control characters; list items begin with their marker.
      kind: what it is.
      level: 1 to 6 of a header, else 0.
      group: neighbours of one non-zero group stand on adjacent lines.
      box: index of the innermost box.
      link_chars: characters of `text` inside links, at most len(text).
      links: number of links.
      bold_only: all of the text is bold, or larger than the text around it.
      font_size: of the smallest text in it, on the scale of <font size>, 1 to 7; 3 is normal.
      controls: number of buttons and input fields, whose labels are no text of the block.
      images: number of pictures.
      dates: number of <time> elements.
      names: class and id of the inline elements in it, lower-case, separated by spaces.
      cells: of a table row, the text of each cell.
      code_spans: the pieces of inline code in `text`, in order.
      language: of code, the programming language that the markup names.
    """

    text: str
    kind: BlockKind = "paragraph"
    level: int = 0
    group: int = 0
    box: int = 0
    link_chars: int = 0
    links: int = 0
    bold_only: bool = False
    font_size: int = 3
    controls: int = 0
    images: int = 0
    dates: int = 0
    names: str = ""
    cells: tuple[str, ...] = ()
    language: str = ""
    code_spans: tuple[str, ...] = ()


@dataclasses.dataclass(slots=True)
class PageBlocks:
    """All that is visible on a page, its furniture included.

    Attributes:
      blocks: in document order.
      boxes: in document order, so that a box comes after the box around it; boxes[0] is the page.
      title: text of <title>, empty without one.
      language: what <html lang> says, empty where it says nothing.
      empty_headers: (index of the block after it, level) of each header without text, which is no block.
    """

    blocks: list[Block]
    boxes: list[Box]
    title: str = ""
    language: str = ""
    empty_headers: list[tuple[int, int]] = dataclasses.field(default_factory=list)

    def text(self, indices: Iterable[int] | None = None, *, markdown: bool = False) -> str:
        """The blocks of `indices` (in order; all by default) as one text, plain or as Markdown.

        A blank line stands between blocks, one line break inside a list or table.
        """
        blocks = self.blocks if indices is None else [self.blocks[index] for index in indices]
        texts = _markdown_texts(blocks, self.boxes) if markdown else [block.text for block in blocks]
        parts: list[str] = []
        group = 0
        for block, text in zip(blocks, texts, strict=True):
            if parts:
                parts.append("\n" if block.group and block.group == group else "\n\n")
            parts.append(text)
            group = block.group
        return "".join(parts)


def _markdown_texts(blocks: Sequence[Block], boxes: Sequence[Box]) -> list[str]:
    """Each block as Markdown; the first row of a table brings the rule under it."""
    quoted: list[bool] = []
    for box in boxes:
        quoted.append(box.tag == "blockquote" or (bool(quoted) and quoted[box.parent]))
    columns: dict[int, int] = {}
    for block in blocks:
        if block.kind == "row":
            columns[block.group] = max(columns.get(block.group, 0), len(block.cells))
    texts: list[str] = []
    group = 0
    for block in blocks:
        text = _markdown(block, columns.get(block.group, 0), is_first_row=block.group != group)
        texts.append("\n".join(f"> {line}".rstrip() for line in text.split("\n")) if quoted[block.box] else text)
        group = block.group
    return texts


def _markdown(block: Block, columns: int, *, is_first_row: bool) -> str:
    if block.kind == "code":
        return _fenced(block.text, block.language)
    if block.kind == "row":
        cells = [cell.replace("|", "\\|") for cell in block.cells]
        row = _with_code_spans(f"| {' | '.join(cells + [''] * (columns - len(cells)))} |", block.code_spans)
        return f"{row}\n|{' --- |' * columns}" if is_first_row else row
    text = _with_code_spans(block.text, block.code_spans)
    if block.kind == "header":
        return f"{'#' * block.level} {text}"
    is_title = block.bold_only and block.kind == "paragraph" and not _EMPHASIS_SIGNS.search(text)
    return f"**{text}**" if is_title else text


def _fenced(code: str, language: str) -> str:
    """Code between fences, which stand as far in as the code does in a list."""
    margin = " " * min((len(line) - len(line.lstrip(" ")) for line in code.split("\n") if line), default=0)
    fence = "`" * max(3, 1 + max(map(len, _BACKTICKS.findall(code)), default=0))
    return f"{margin}{fence}{language}\n{code}\n{margin}{fence}"


def _with_code_spans(text: str, spans: Iterable[str]) -> str:
    parts: list[str] = []
    begin = 0
    for span in spans:
        found = text.find(span, begin) if "`" not in span else -1
        if found >= 0:
            parts += (text[begin:found], "`", span, "`")
            begin = found + len(span)
    return "".join([*parts, text[begin:]])
