"""Collects inline text and writes it as blocks, each with its box and features."""

import itertools
from typing import Literal

from humpback_jax.corpus.content.blocks import Block, BlockKind, Box
from humpback_jax.corpus.content.lists import OpenList
from humpback_jax.corpus.content.text import code_text, is_gap, one_line, paragraph_text
from humpback_jax.corpus.content.visibility import NORMAL_SIZE

# Where text goes: FLOW makes blocks; inside a header or a cell all is one line; inside code boxes are lines.
Mode = Literal["flow", "header", "cell", "code"]

_LARGEST = 7
_LONG_HEADER = 250  # characters
_MAX_NAMES = 8  # of inline elements, kept of a block


class BlockWriter:
    """The blocks written so far and the state of the one that is being collected in `inline`."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.boxes = [Box(0, "#page")]
        self.empty_headers: list[tuple[int, int]] = []  # as of PageBlocks
        self.inline: list[str] = []
        self.mode: Mode = "flow"
        self.kind: BlockKind = "paragraph"
        self.box = 0
        self.lists: list[OpenList] = []
        self.emphasis = 0  # how many open elements make text bold or larger
        self.size = NORMAL_SIZE
        self.language = ""
        self.links: list[int] = []  # where the text of each open link begins in `inline`
        self.names: list[str] = []
        self.code_spans: list[str] = []
        self.controls = self.images = self.dates = 0
        self.counted = False  # whether any of these is set
        self.link_end = -1  # length of `inline` where the last link ended
        self._gap = -1  # length of `inline` where a space may belong before more text
        self._is_gap_between_boxes = False
        self._link_chars = self.link_count = 0
        self._has_plain_text = self._has_bold_text = False
        self._smallest = _LARGEST
        self._groups = itertools.count(1)
        self.list_group = self.term_group = self.line_group = 0

    def new_group(self) -> int:
        """A group that no other blocks have."""
        return next(self._groups)

    def add(self, text: str) -> None:
        """Text of the page, not only spaces."""
        inline = self.inline
        if self._gap == len(inline) > 0 and is_gap(inline[-1], text, between_boxes=self._is_gap_between_boxes):
            inline.append(" ")
        inline.append(text)
        if self.emphasis:
            self._has_bold_text = True
        else:
            self._has_plain_text = True
        if self.size < self._smallest:
            self._smallest = self.size

    def leave_gap(self, *, between_boxes: bool) -> None:
        """A space may belong here; see is_gap."""
        self._is_gap_between_boxes = between_boxes or (self._is_gap_between_boxes and self._gap == len(self.inline))
        self._gap = len(self.inline)

    def open_box(self, tag: str, role: str, names: str) -> None:
        """A box inside the present one; the caller restores `box` when it ends."""
        self.boxes.append(Box(self.box, tag, role, names))
        self.box = len(self.boxes) - 1

    def open_link(self) -> None:
        """What follows is text of a link, up to close_link."""
        self.links.append(len(self.inline))
        self.link_count += 1
        self.counted = True

    def close_link(self) -> str:
        """Ends a link; its text since the last block."""
        pieces = self.inline[self.links.pop() :]
        text = one_line(pieces) if pieces else ""
        if not self.links:
            self._link_chars += len(text)
        return text

    def forget_link(self, text: str) -> None:
        """The link closed last was only a sign, and its text is gone."""
        self.link_count -= 1
        if not self.links:
            self._link_chars -= len(text)

    def is_blank(self) -> bool:
        """Whether the block being collected has no text yet."""
        return not self._has_plain_text and not self._has_bold_text

    def is_emphasised(self) -> bool:
        """Whether the block being collected has text, all of it bold or larger."""
        return self._has_bold_text and not self._has_plain_text

    def flush(self) -> None:
        """Ends the block being collected, if any."""
        if self.inline:
            is_code = self.mode == "code"
            text = code_text(self.inline) if is_code else paragraph_text(self.inline)
            if text:
                self.write(text, "code" if is_code else self.kind)
        self.reset()

    def end_paragraph(self) -> None:
        """Ends the block being collected; the next one does not stand right under it."""
        if self.inline or self.counted:
            self.flush()
        self.line_group = 0

    def reset(self) -> None:
        """Forgets the inline text and its features; open links go on."""
        if self.inline:
            self.inline.clear()
            self._has_plain_text = self._has_bold_text = False
            self._smallest = _LARGEST
            self.link_end = self._gap = -1
            if self.links:
                self.links = [0] * len(self.links)
        if self.counted:
            self._link_chars = self.link_count = self.controls = self.images = self.dates = 0
            self.names = []
            self.code_spans = []
            self.counted = False

    def write(
        self, text: str, kind: BlockKind, level: int = 0, group: int | None = None, cells: tuple[str, ...] = ()
    ) -> None:
        """Writes `text`, which `inline` holds, as a block with the features of `inline`."""
        link_chars = self._link_chars
        if self.links:
            link_chars += len(one_line(self.inline[self.links[0] :]))
        if group is None:
            group, text = self._placed(text)
        self.blocks.append(
            Block(
                text,
                kind,
                level,
                group,
                self.box,
                min(link_chars, len(text)) if link_chars else 0,
                max(self.link_count, len(self.links)) if self.links else self.link_count,
                self._has_bold_text and not self._has_plain_text,
                self._smallest,
                self.controls,
                self.images,
                self.dates,
                " ".join(self.names[:_MAX_NAMES]).lower() if self.names else "",
                cells,
                self.language if kind == "code" else "",
                tuple(self.code_spans) if self.code_spans and kind != "code" else (),
            )
        )

    def _placed(self, text: str) -> tuple[int, str]:
        """(group, text with the marker and margin of a list item)."""
        if self.lists:
            return self.list_group, self.lists[-1].indented(text)
        if self.term_group:
            group = self.term_group
            # The first block of a definition stands right under its term, the next ones apart.
            if self.blocks and self.blocks[-1].group == group and self.kind != "term":
                self.term_group = 0
            return group, text
        return self.line_group, text

    def drop_line_numbers(self) -> None:
        """Drops the block before the last one if it has nothing but numbers, one for each line of this code."""
        if len(self.blocks) > 1 and self.blocks[-1].kind == "code":
            numbers = self.blocks[-2].text.split()
            if len(numbers) == self.blocks[-1].text.count("\n") + 1 > 1 and all(map(str.isdecimal, numbers)):
                del self.blocks[-2]

    def end_header(self, level: int, box_begin: int) -> None:
        """Writes the header collected in `inline`; one without text is only remembered.

        A header that is never closed takes in the text after it: of a long one, what stands before `box_begin`, the
        first box in it, is the header and the rest is text.
        """
        text = one_line(self.inline)
        rest = ""
        if len(text) > _LONG_HEADER and box_begin:
            text, rest = one_line(self.inline[:box_begin]), one_line(self.inline[box_begin:])
        if text and text[-1] == "]" and self.link_count:
            text = self._without_edit_links(text)
        if not text:
            self.empty_headers.append((len(self.blocks), level))
        else:
            if self.lists:
                self.lists[-1].stand_aside()
            self.write(text, "header", level, group=0)
        if rest:
            self.write(rest, "paragraph")
        self.reset()

    def _without_edit_links(self, header: str) -> str:
        """The header without what stands in brackets at its end, such as "[edit | edit source]", if it is all links."""
        begin = header.rfind("[")
        inside = header[begin + 1 : -1]
        signs = sum(not letter.isalnum() for letter in inside)
        if begin <= 0 or not 0 < len(inside) - signs <= self._link_chars <= len(inside):
            return header
        self.link_count = 0
        self._link_chars = 0
        return header[:begin].rstrip()
