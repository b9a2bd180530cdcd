"""The sections of a page's content: the sub-trees of its headers, or pieces cut at paragraphs where it has none.

A section is the paper's "sub-tree rooted at a header node" (section 1, step 0b): all content that follows a header up
to the next header of the same or a higher level, lower-level headers and their text included. Furniture is gone before
sections are cut, so it neither stands in a section nor makes one too long.

A section that is too long gives way to the sections in it. What stands before the first of those is a section of its
own, and neighbours among them that are too short for themselves are put together. A stretch of text without headers is
cut into pieces, at paragraphs, of about the same length; under a header the first of them is a section, since the
others answer nothing that the header asks, and on a page without headers all are.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Literal

from humpback_jax.corpus.content.blocks import PageBlocks
from humpback_jax.corpus.content.titles import header_levels, page_header

Nested = Literal["outermost", "innermost", "all"]
CutBy = Literal["header", "paragraphs"]
LongSections = Literal["beginning", "pieces"]

_TRAILING = 2  # blocks of furniture that may follow the last section of a page that was cut short


@dataclasses.dataclass(frozen=True, slots=True)
class Section:
    """A header and the blocks under it.

    Attributes:
      header: its text; of a page without headers, its title.
      level: of the header, 1 to 6; 0 where the header is the page's title.
      blocks: indices of the content blocks, in order; the header itself is not among them.
      cut_by: "header": from a header to the next; "paragraphs": a piece, cut at the bounds of paragraphs.
      open_at_end: nothing follows it on the page: of a page that was cut short, its end is missing.
      header_block: index of the header's block, None where there is none.
    """

    header: str
    level: int
    blocks: tuple[int, ...]
    cut_by: CutBy
    open_at_end: bool = False
    header_block: int | None = None


@dataclasses.dataclass(slots=True)
class _Part:
    """A header, the text right under it (`lead`) and the parts under its lower-level headers; indices of blocks."""

    header: int | None
    level: int
    lead: list[int] = dataclasses.field(default_factory=list)
    parts: list["_Part"] = dataclasses.field(default_factory=list)
    chars: int = 0  # of the whole part, its own header not included


def cut_sections(
    page: PageBlocks,
    reasons: Sequence[str | None],
    min_chars: int,
    max_chars: int,
    without_headers: bool = True,
    long_sections: LongSections = "beginning",
) -> list[Section]:
    """All sections of the blocks whose reason is None, in document order; the outer one before those in it.

    Sections of fewer than `min_chars` or more than `max_chars` characters are among them: the caller counts them.
    Pieces and neighbours put together have min_chars to max_chars characters where the text allows it; with
    `without_headers=False` only sections that a header opens are returned. `long_sections` says what becomes of a
    stretch without headers under a header: its "beginning" is a section, or all its "pieces" are.
    """
    content = [index for index, reason in enumerate(reasons) if reason is None]
    if not content:
        return []
    levels = header_levels(page, content)
    root = _tree(page, content, levels)
    title = page_header(page, content, levels)
    end = content[-1] if len(reasons) - 1 - content[-1] <= _TRAILING else len(reasons)
    if page.blocks[content[-1]].level:
        end = len(reasons)
    cutter = _Cutter(page, min_chars, max_chars, without_headers, long_sections, title, end)
    return list(cutter.sections(root))


def choose_nested(sections: Sequence[Section], nested: Nested = "outermost") -> list[bool]:
    """For each of the sections that passed all filters whether it is kept: of two that share text one only.

    "outermost": the longer one, unless it is nothing but a list of sections that all passed, such as the questions on a
    page of questions; "innermost": the shorter one; "all": both.
    """
    if nested == "all":
        return [True] * len(sections)
    by_header = {section.header_block: section for section in sections if section.cut_by == "header"}
    order = sorted(range(len(sections)), key=lambda index: len(sections[index].blocks), reverse=nested == "outermost")
    kept, taken = [False] * len(sections), set[int]()
    for index in order:
        if nested == "outermost" and _is_list_of(sections[index], by_header):
            continue
        if taken.isdisjoint(sections[index].blocks):
            taken.update(sections[index].blocks)
            kept[index] = True
    return kept


def empty_sections(page: PageBlocks, reasons: Sequence[str | None]) -> list[Section]:
    """The sections of headers without text, each up to the next header of its level or a higher one, with any or none.

    They are candidates that no filter lets pass. Their text stays in the section around them.
    """
    closed: list[tuple[int, list[int]]] = []
    opened: list[tuple[int, list[int]]] = []
    following = 0
    for index, block in enumerate(page.blocks):
        while following < len(page.empty_headers) and page.empty_headers[following][0] <= index:
            level = page.empty_headers[following][1]
            closed += _pop_from(opened, level)
            opened.append((level, []))
            following += 1
        if block.level:
            closed += _pop_from(opened, block.level)
        if reasons[index] is None:
            for _, blocks in opened:
                blocks.append(index)
    return [Section("", level, tuple(blocks), "header") for level, blocks in (*closed, *opened) if blocks]


def _pop_from(opened: list[tuple[int, list[int]]], level: int) -> list[tuple[int, list[int]]]:
    """Takes what is of this level or below from the end of `opened`, where levels rise."""
    first = len(opened)
    while first and opened[first - 1][0] >= level:
        first -= 1
    popped = opened[first:]
    del opened[first:]
    return popped


def _is_list_of(section: Section, by_header: dict[int | None, Section]) -> bool:
    """Whether a section consists of two or more of the others, header by header."""
    position = count = 0
    while position < len(section.blocks) and (inner := by_header.get(section.blocks[position])) is not None:
        position += 1 + len(inner.blocks)
        count += 1
    return count > 1 and position == len(section.blocks)


def _tree(page: PageBlocks, content: Sequence[int], levels: Sequence[int]) -> _Part:
    root = _Part(None, 0)
    open_parts = [root]
    for index, level in zip(content, levels, strict=True):
        size = len(page.blocks[index].text) + 2
        if level:
            while open_parts[-1].level >= level:
                open_parts.pop()
        for part in open_parts:
            part.chars += size
        if level:
            part = _Part(index, level)
            open_parts[-1].parts.append(part)
            open_parts.append(part)
        else:
            open_parts[-1].lead.append(index)
    return root


def _blocks_of(part: _Part, with_header: bool = False) -> Iterator[int]:
    rest = [part]
    while rest:
        current = rest.pop()
        if current.header is not None and (with_header or current is not part):
            yield current.header
        yield from current.lead
        rest.extend(reversed(current.parts))


class _Cutter:
    def __init__(
        self,
        page: PageBlocks,
        min_chars: int,
        max_chars: int,
        without_headers: bool,
        long_sections: LongSections,
        title: str,
        end: int,
    ) -> None:
        self.page = page
        self.min_chars, self.max_chars = min_chars, max_chars
        self.without_headers = without_headers
        self.long_sections = long_sections
        self.title = title
        self.end = end  # the block that stands last

    def sections(self, root: _Part) -> Iterator[Section]:
        """The sections of all parts in `root`, those of a part after its own."""
        rest = [root]
        while rest:
            part = rest.pop()
            if part.header is not None and (blocks := tuple(_blocks_of(part))):
                yield self._section(part, blocks, "header")
            yield from self._within(part)
            rest.extend(reversed(part.parts))

    def _section(self, part: _Part, blocks: tuple[int, ...], cut_by: CutBy) -> Section:
        header = self.title if part.header is None else self.page.blocks[part.header].text
        return Section(header, part.level, blocks, cut_by, blocks[-1] == self.end, part.header)

    def _within(self, part: _Part) -> Iterator[Section]:
        """What a part gives besides itself and the parts in it: its lead, neighbours put together, pieces."""
        is_long = part.chars > self.max_chars or part.header is None
        lead = part.lead
        size = self._chars(lead)
        if size > self.max_chars or (part.header is None and size >= self.min_chars):
            if self.without_headers:
                pieces = self._pieces(part, lead)
                is_first_enough = part.header is not None and self.long_sections == "beginning"
                yield from itertools.islice(pieces, 1) if is_first_enough else pieces
            lead, size = [], 0
        elif part.parts and part.header is not None and size >= self.min_chars:
            yield self._section(part, tuple(lead), "header")
            lead, size = [], 0
        if not is_long or not self.without_headers or not part.parts:
            return
        run: list[int] = []
        size = 0
        if part.header is not None:
            run, size = list(lead), self._chars(lead)
        for inner in part.parts:
            fits_alone = inner.chars >= self.min_chars
            blocks = [] if fits_alone else list(_blocks_of(inner, with_header=True))
            length = self._chars(blocks)
            if fits_alone or size + length > self.max_chars:
                if size >= self.min_chars:
                    yield self._section(part, tuple(run), "paragraphs")
                run, size = [], 0
            run += blocks
            size += length
        if size >= self.min_chars:
            yield self._section(part, tuple(run), "paragraphs")

    def _chars(self, blocks: Sequence[int]) -> int:
        return sum(len(self.page.blocks[index].text) + 2 for index in blocks)

    def _pieces(self, part: _Part, stretch: Sequence[int]) -> Iterator[Section]:
        """Cuts a stretch into as few pieces of about the same length as fit; lists stay whole if they can."""
        blocks = self.page.blocks
        total = self._chars(stretch)
        count = -(-total // self.max_chars)
        target = total / count
        piece: list[int] = []
        size = done = made = 0
        for unit in self._units(stretch):
            length = sum(len(blocks[index].text) + 2 for index in unit)
            is_full = size >= self.min_chars and done + length / 2 > target * (made + 1)
            if piece and (size + length > self.max_chars or is_full):
                yield self._section(part, tuple(piece), "paragraphs")
                piece, size, made = [], 0, made + 1
            piece += unit
            size += length
            done += length
        is_whole = part.header is not None and not part.parts and not made  # the section itself, which cannot be cut
        if piece and not is_whole:
            yield self._section(part, tuple(piece), "paragraphs")

    def _units(self, stretch: Sequence[int]) -> Iterator[list[int]]:
        """Runs of blocks that belong together: the lines of a list or table, with the line before that ends in ":"."""
        blocks = self.page.blocks
        unit: list[int] = []
        size = 0
        for index in stretch:
            block = blocks[index]
            if unit:
                last = blocks[unit[-1]]
                together = (block.group and block.group == last.group) or last.text.endswith((":", "："))
                if not together or size + len(block.text) > self.max_chars // 2:
                    yield unit
                    unit, size = [], 0
            unit.append(index)
            size += len(block.text) + 2
        if unit:
            yield unit
