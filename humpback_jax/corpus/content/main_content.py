"""Which blocks of a page are its content, and why the others are not.

The order of the steps is the method:

1. what boxes say of themselves: tags, roles, class and id names (boxes.py);
2. headers that introduce furniture, with all that stands under them (phrases.py);
3. short lines that are bylines, buttons, notices or credits (short_lines.py); links and lists of links;
4. headlines of other pages: several linked headers in a row, each with a short text;
5. the main stretch: the box that holds the prose that is left; what stands outside, before and after it is dropped;
6. headers with nothing left under them.
"""

import itertools
from collections import Counter
from collections.abc import Sequence

from humpback_jax.corpus.content.blocks import Block, PageBlocks
from humpback_jax.corpus.content.boxes import BoxSums, box_reasons, box_sums, prose_chars
from humpback_jax.corpus.content.main_stretch import refuse_outside
from humpback_jax.corpus.content.phrases import header_reason, names_reason, speaks_of_privacy
from humpback_jax.corpus.content.short_lines import MAX_LINE, line_reason

_MAX_LINKS = 0.6  # share of a block's or a list's characters that may be in links
_MAX_TITLE = 80  # characters of a line that may stand as a header without being one
_MAX_TEASER = 400  # characters under a linked header that may be a teaser of another page
_LEAST_TEASERS = 3
_MAX_WORK = 20  # blocks looked at under headers for each block of a page, which bounds the time of hostile ones
_MAX_PRIVACY = 0.3  # share of a page's prose on cookies and personal data, over which the page is about that
# Under these the rest of the box goes, prose or not; under the others an article may go on.
_TO_THE_END = frozenset(("comments", "reviews", "references", "not_found", "paywall", "author_box", "cookie_notice"))

_SENTENCE_ENDS = (".", "!", "?", ",", ";", '"', "”", "。")

_NO_LINES = frozenset(("row", "term", "code"))  # what stands in tables and before definitions is never a button
# What is a button as a line of its own ("Search", "Sign up for the beta") may be a step or a choice in a list.
_MAY_BE_ITEMS = frozenset(("navigation", "newsletter", "comments", "ornament"))

_LINKS = frozenset(("link", "link_list", "headlines"))

Reasons = list[str | None]


def furniture_reasons(page: PageBlocks) -> Reasons:
    """For every block of a page: None for content, else in a word what it is instead."""
    blocks, boxes = page.blocks, page.boxes
    if not blocks:
        return []
    prose = prose_chars(blocks)
    sums = box_sums(blocks, boxes, prose)
    of_box = box_reasons(blocks, boxes, sums, prose)
    reasons = [of_box[block.box] for block in blocks]
    if len(boxes) == 1:
        _refuse_menus_of_plain_text(blocks, reasons)
    _refuse_privacy_notices(page, prose, reasons)
    _refuse_under_headers(page, sums, prose, reasons)
    _refuse_lines(blocks, reasons)
    _refuse_link_lists(blocks, reasons)
    _refuse_teasers(blocks, reasons)
    refuse_outside(page, prose, reasons)
    _refuse_bare_headers(page, sums, reasons)
    return reasons


def _refuse_privacy_notices(page: PageBlocks, prose: Sequence[int], reasons: Reasons) -> None:
    """Paragraphs on cookies and personal data, with the boxes that hold little else, unless the page is about that."""
    blocks = page.blocks
    if not speaks_of_privacy("\n".join(blocks[index].text for index, size in enumerate(prose) if size)):
        return
    notices = [index for index, size in enumerate(prose) if size and speaks_of_privacy(blocks[index].text)]
    if not notices or sum(prose[index] for index in notices) > _MAX_PRIVACY * sum(prose):
        return
    in_box, on_privacy = Counter[int](), Counter[int]()
    for index, block in enumerate(blocks):
        in_box[block.box] += prose[index]
    for index in notices:
        on_privacy[blocks[index].box] += prose[index]
    boxes = {box for box, size in on_privacy.items() if 2 * size > in_box[box]}
    for index, block in enumerate(blocks):
        if reasons[index] is None and (block.box in boxes or index in notices):
            reasons[index] = "cookie_notice"


def _refuse_under_headers(page: PageBlocks, sums: BoxSums, prose: Sequence[int], reasons: Reasons) -> None:
    blocks, boxes = page.blocks, page.boxes
    article: set[int] = set()  # the boxes around the prose so far
    work = _MAX_WORK * len(blocks)
    index = 0
    while index < len(blocks) and work > 0:
        block = blocks[index]
        if prose[index]:
            article.add(boxes[block.box].parent)
        if reasons[index] is None and (block.level or _may_be_title(block)):
            reason, is_certain = header_reason(block.text.lstrip(" -"))
            is_header = block.level or (is_certain and (block.bold_only or reason not in _TO_THE_END))
            if reason and is_header:
                end = _end_of_section(page, sums, prose, index, reason, article)
                work -= end - index
                is_page = reason not in _TO_THE_END and 2 * sum(prose[index:end]) > sums.prose[0]
                if is_page:
                    index += 1
                    continue
                if is_certain or _is_poor(blocks, prose, index + 1, end):
                    reasons[index:end] = [old or reason for old in reasons[index:end]]
                    index = end
                    continue
        index += 1


def _may_be_title(block: Block) -> bool:
    return (
        len(block.text) <= _MAX_TITLE
        and block.kind in ("paragraph", "term", "quote")
        and not block.text.endswith(_SENTENCE_ENDS)
    )


def _end_of_section(
    page: PageBlocks, sums: BoxSums, prose: Sequence[int], header: int, reason: str, article: set[int]
) -> int:
    """The block after the section that a header opens.

    It ends with the box around header and text, or at the next header of its level or a higher one; and where that box
    is the one of the article, with the links, for an article goes on after "Read more".
    """
    blocks, boxes = page.blocks, page.boxes
    box = blocks[header].box
    while box and sums.last[box] <= header:
        box = boxes[box].parent
    end = sums.last[box] + 1
    level = blocks[header].level or 7
    in_article = 2 * sums.prose[box] > sums.prose[0] and reason not in _TO_THE_END
    for index in range(header + 1, end):
        if 0 < blocks[index].level <= level:
            return index
        goes_on = in_article and prose[index] and blocks[index].kind != "item"
        if goes_on and (not blocks[header].level or boxes[blocks[index].box].parent in article):
            return index
    return end


def _is_poor(blocks: Sequence[Block], prose: Sequence[int], first: int, end: int) -> bool:
    """Whether less than half of a stretch is prose."""
    return 2 * sum(prose[first:end]) < sum(len(block.text) for block in blocks[first:end]) or first >= end


def _refuse_lines(blocks: Sequence[Block], reasons: Reasons) -> None:
    for index, block in enumerate(blocks):
        if reasons[index] is not None or block.kind == "code":
            continue
        text = block.text
        if block.kind == "caption":
            reasons[index] = "caption"
        elif not block.level and block.link_chars > len(text) * _MAX_LINKS:
            reasons[index] = "link"
        elif not block.level and len(text) <= MAX_LINE and block.kind not in _NO_LINES:
            reason = line_reason(text.lstrip(" -"))
            if not (block.kind == "item" and reason in _MAY_BE_ITEMS):
                reasons[index] = reason
            if (
                reasons[index] is None
                and block.names
                and len(text) <= _MAX_TITLE
                and not text.endswith((".", "?", "!"))
            ):
                reasons[index] = names_reason(block.names)


def _refuse_link_lists(blocks: Sequence[Block], reasons: Reasons) -> None:
    """Lists and tables that are mostly links go with the items that are none."""
    first = 0
    while first < len(blocks):
        group, end = blocks[first].group, first + 1
        if group:
            while end < len(blocks) and blocks[end].group == group:
                end += 1
            chars = sum(len(block.text) for block in blocks[first:end])
            if sum(block.link_chars for block in blocks[first:end]) > chars * _MAX_LINKS:
                for index in range(first, end):
                    reasons[index] = reasons[index] or "link_list"
        first = end


def _refuse_teasers(blocks: Sequence[Block], reasons: Reasons) -> None:
    """Several headers in a row that are links, each with a short text under it, are headlines of other pages."""
    headers = [index for index, block in enumerate(blocks) if block.level and reasons[index] is None]
    run: list[tuple[int, int]] = []
    for index, following in itertools.pairwise((*headers, len(blocks))):
        block = blocks[index]
        under = sum(len(blocks[i].text) for i in range(index + 1, following) if reasons[i] is None)
        is_teaser = block.link_chars >= 0.8 * len(block.text) and under <= _MAX_TEASER
        if is_teaser:
            run.append((index, following))
        if not is_teaser or following == len(blocks):
            if len(run) >= _LEAST_TEASERS:
                for first, end in run:
                    reasons[first:end] = [old or "headlines" for old in reasons[first:end]]
            run = []


def _refuse_bare_headers(page: PageBlocks, sums: BoxSums, reasons: Reasons) -> None:
    """Headers with no text left: another header of their level follows, or all in the box around them is refused."""
    blocks, boxes = page.blocks, page.boxes
    following = len(blocks)  # the next block of content
    for index in range(len(blocks) - 1, -1, -1):
        if reasons[index] is not None:
            continue
        level = blocks[index].level
        if level:
            box = blocks[index].box
            while box and sums.last[box] <= index:
                box = boxes[box].parent
            is_last = following == len(blocks) or 0 < blocks[following].level <= level
            if is_last or (level > 1 and sums.last[box] < following and reasons[index + 1] in _LINKS):
                reasons[index] = "empty_section"
                continue
        following = index


def _refuse_menus_of_plain_text(blocks: Sequence[Block], reasons: Reasons) -> None:
    """A text without markup shows its menus as runs of short lines."""
    is_short = [
        len(b.text) < 60 and len(b.text.split()) < 9 and not b.text.endswith((".", "!", "?", ":", "。")) for b in blocks
    ]
    first = 1 if blocks[0].level else 0
    while first < len(blocks):
        end = first
        while end < len(blocks) and is_short[end]:
            end += 1
        if end - first >= 3 or (end > first and (end == len(blocks) or first <= 1)):
            reasons[first:end] = ["navigation"] * (end - first)
        first = max(end, first + 1)
