"""What serves as the headers of a page's content, where <h1> to <h6> say too little."""

import re
from collections.abc import Sequence

from humpback_jax.corpus.content.blocks import Block, PageBlocks

_MAX_TITLE = 120  # characters
_MAX_STYLED_SHARE = 0.4  # of the blocks: where more look like titles, none is one
_STYLED = re.compile(
    r"(?<![a-z])(?:title|titre|titel|titolo|titulo|heading|headline|header|question|subhead|subtitle)(?![a-z])"
)
_SENTENCE_ENDS = (".", ",", ";", "…", "。", "،")
_NORMAL_SIZE = 3
# What stands between a page's title and the name of its site.
_SITE = re.compile(r"\s+[|•·»«–—-]\s+|\s+::\s+")


def header_levels(page: PageBlocks, content: Sequence[int]) -> list[int]:
    """For each block of `content` the level of the section it opens, 0 if it opens none.

    Where the content has no header but its title, lines that are bold, larger or named a title stand for headers, one
    level below the lowest there is.
    """
    levels = [page.blocks[index].level for index in content]
    headers = [position for position, level in enumerate(levels) if level]
    if len(headers) > 1 or (headers and headers[0] > len(content) // 2):
        return levels
    styled = [position for position in range(len(content) - 1) if _is_styled_title(page, content, position)]
    if styled and len(styled) <= _MAX_STYLED_SHARE * len(content):
        sizes = sorted({_size(page, content[position]) for position in styled}, reverse=True)
        lowest = max(levels, default=0)
        for position in styled:
            levels[position] = min(lowest + 1 + sizes.index(_size(page, content[position])), 6)
    return levels


def page_header(page: PageBlocks, content: Sequence[int], levels: Sequence[int]) -> str:
    """The header of text that stands under none: the page's title without the name of the site, or its first header."""
    title = page.title.strip()
    headers = [page.blocks[index].text for index, level in zip(content, levels, strict=True) if level]
    for header in headers[:3]:
        if header and header in title:
            return header
    parts = [part for part in _SITE.split(title) if part.strip()]
    if parts:
        return max(parts[0], parts[-1], key=len) if len(parts[0]) < len(parts[-1]) // 2 else parts[0]
    return headers[0] if headers else ""


def _is_styled_title(page: PageBlocks, content: Sequence[int], position: int) -> bool:
    block = page.blocks[content[position]]
    text = block.text
    if (
        block.level
        or block.kind != "paragraph"
        or len(text) > _MAX_TITLE
        or text.endswith(_SENTENCE_ENDS)
        or "\n" in text
    ):
        return False
    if not any(letter.isalpha() for letter in text):
        return False
    following = page.blocks[content[position + 1]]
    if following.kind == "paragraph" and len(following.text) <= len(text):
        return False
    return block.bold_only or block.font_size > _NORMAL_SIZE or is_named_title(page, block)


def is_named_title(page: PageBlocks, block: Block) -> bool:
    """Whether class or id of a block say that it is a title."""
    return bool(_STYLED.search(page.boxes[block.box].names) or _STYLED.search(block.names))


def _size(page: PageBlocks, index: int) -> int:
    return page.blocks[index].font_size
