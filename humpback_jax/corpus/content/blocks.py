"""The readable text of a page as blocks in document order, each with what its markup tells about it."""

import dataclasses
from collections.abc import Iterable
from typing import Literal

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


@dataclasses.dataclass(slots=True)
class PageBlocks:
    """All that is visible on a page, its furniture included.

    Attributes:
      blocks: in document order.
      boxes: in document order, so that a box comes after the box around it; boxes[0] is the page.
      title: text of <title>, empty without one.
      language: what <html lang> says, empty where it says nothing.
    """

    blocks: list[Block]
    boxes: list[Box]
    title: str = ""
    language: str = ""

    def text(self, indices: Iterable[int] | None = None) -> str:
        """The blocks of `indices` (in order; all by default) as one text.

        A blank line stands between blocks, one line break inside a list or table.
        """
        parts: list[str] = []
        group = 0
        blocks = self.blocks
        for block in blocks if indices is None else (blocks[index] for index in indices):
            if parts:
                parts.append("\n" if block.group and block.group == group else "\n\n")
            parts.append(block.text)
            group = block.group
        return "".join(parts)
