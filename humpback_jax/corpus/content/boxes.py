"""What the elements around a page's blocks hold, and which of them say of themselves that they are furniture."""

import dataclasses
from collections.abc import Sequence

from humpback_jax.corpus.content.blocks import Block, Box
from humpback_jax.corpus.content.phrases import is_slug_of, names_reason

PROSE_CHARS = 80  # a block of so many characters, few of them in links, is prose
_WIDE_PROSE_CHARS = 28  # of Chinese, Japanese or Korean
MAX_PROSE_LINKS = 0.4  # share of the characters of prose that may be in links

_TAG_REASONS = {
    "nav": "navigation",
    "menu": "navigation",
    "search": "navigation",
    "footer": "footer",
    "aside": "sidebar",
    "dialog": "popup",
    "form": "form",
    "header": "site_header",
}
_ROLE_REASONS = {
    **dict.fromkeys(("navigation", "menu", "menubar", "tablist", "directory", "doc-toc", "search"), "navigation"),
    **dict.fromkeys(("contentinfo", "doc-footnote"), "footer"),
    "banner": "site_header",
    "complementary": "sidebar",
    "toolbar": "toolbar",
    **dict.fromkeys(("dialog", "alertdialog", "alert", "tooltip", "status"), "popup"),
    **dict.fromkeys(("doc-bibliography", "doc-endnotes"), "references"),
}
_NEVER = frozenset(("#page", "html", "body", "main"))  # their names speak of the whole page
_CONTENT_TAGS = frozenset(("article", "main"))

# Names lie: "sidebar" may stand on the element around everything, and an <aside> may be the whole page. So what a box
# says of itself is believed only if there is prose enough outside of it.
_LEAST_OUTSIDE = 400  # characters
_LEAST_SHARE_OUTSIDE = 0.15  # of the page's prose, for what tags, roles and plain names say
_WEAK_SHARE_OUTSIDE = 0.6  # for reasons that are often a matter of wording
# A box that holds a title of the first level may be called by these and still be the head of the article.
_NOT_WITH_TITLE = frozenset(
    (
        *("byline", "caption", "tags", "toolbar", "gallery", "site_header", "author_box", "advertisement", "share_bar"),
        "popup",
    )
)
# Often a matter of wording: believed only if most of the page's prose is outside.
_WEAK = _NOT_WITH_TITLE | {"form", "hidden_text", "newsletter", "paywall", "side_column"}
# These are no content even where a page has no other text; only the element around everything may not be called so.
_NEVER_CONTENT = frozenset(("comments", "cookie_notice", "popup", "footer"))
_MAX_SHARE_OF_BLOCKS = 0.9
# Furniture that is short by nature: a box so named that holds more prose than this is something else. Characters.
_MAX_PROSE = {
    **dict.fromkeys(
        ("byline", "tags", "site_name", "toolbar", "gallery", "site_header", "share_bar", "navigation", "hidden_text"),
        300,
    ),
    **dict.fromkeys(("caption", "form"), 600),
    **dict.fromkeys(("popup", "advertisement", "newsletter"), 1500),
}


@dataclasses.dataclass(slots=True)
class BoxSums:
    """Characters of the blocks in each box, those of the boxes in it included.

    Attributes:
      prose: in blocks of prose.
      first: index of the first block in the box.
      last: index of the last block in the box, -1 without one.
      titles: number of headers of the first level.
    """

    prose: list[int]
    first: list[int]
    last: list[int]
    titles: list[int]


def prose_chars(blocks: Sequence[Block]) -> list[int]:
    """For each block its characters if it is prose, else 0."""
    chars = [0] * len(blocks)
    for index, block in enumerate(blocks):
        size = len(block.text)
        if size < _WIDE_PROSE_CHARS or block.level or block.link_chars > size * MAX_PROSE_LINKS:
            continue
        if size >= PROSE_CHARS or (not block.text.isascii() and _has_wide_letters(block.text)):
            chars[index] = size
    return chars


def _has_wide_letters(text: str) -> bool:
    """Chinese, Japanese or Korean says with one sign what takes three letters elsewhere."""
    wide = sum("\u2e80" <= letter < "\ua000" or "\uac00" <= letter < "\ud7b0" for letter in text)
    return 2 * wide > len(text)


def box_sums(blocks: Sequence[Block], boxes: Sequence[Box], prose: Sequence[int]) -> BoxSums:
    """Sums over the blocks of each box and the boxes in it."""
    count = len(boxes)
    sums = BoxSums([0] * count, [len(blocks)] * count, [-1] * count, [0] * count)
    prose_of, first, last, titles = sums.prose, sums.first, sums.last, sums.titles
    for index, block in enumerate(blocks):
        box = block.box
        if last[box] < 0:
            first[box] = index
        last[box] = index
        prose_of[box] += prose[index]
        if block.level == 1:
            titles[box] += 1
    for index in range(count - 1, 0, -1):
        end = last[index]
        if end >= 0:
            parent = boxes[index].parent
            prose_of[parent] += prose_of[index]
            titles[parent] += titles[index]
            if end > last[parent]:
                last[parent] = end
            if first[index] < first[parent]:
                first[parent] = first[index]
    return sums


def box_reasons(
    blocks: Sequence[Block], boxes: Sequence[Box], sums: BoxSums, prose_of_block: Sequence[int]
) -> list[str | None]:
    """For each box why all in it is furniture, or None where its blocks have to be looked at."""
    own = _own_reasons(blocks, boxes, sums)
    total = sums.prose[0] - _prose_that_is_never_content(boxes, own, sums)
    reasons: list[str | None] = [None] * len(boxes)
    for index in range(1, len(boxes)):
        box = boxes[index]
        if inherited := reasons[box.parent]:
            reasons[index] = inherited
        elif reason := own[index]:
            prose = sums.prose[index]
            is_believed = total - prose >= _least_outside(reason, total) or not prose
            if reason in _NEVER_CONTENT and not sums.titles[index]:
                is_believed = sums.last[index] - sums.first[index] + 1 < _MAX_SHARE_OF_BLOCKS * len(blocks)
            by_markup = box.tag in _TAG_REASONS or box.role in _ROLE_REASONS
            is_head = sums.titles[index] and reason in _NOT_WITH_TITLE and not by_markup
            is_short = prose <= _MAX_PROSE.get(reason, prose) or by_markup
            if is_believed and not is_head and is_short:
                reasons[index] = reason
    if total and not any(prose for box, prose in zip(blocks, prose_of_block, strict=True) if not reasons[box.box]):
        # All there is to read are comments: this is a forum, and they are what it is about.
        reasons = [None if reason == "comments" else reason for reason in reasons]
    return reasons


def _own_reasons(blocks: Sequence[Block], boxes: Sequence[Box], sums: BoxSums) -> list[str | None]:
    """What each box that holds a block says of itself."""
    own: list[str | None] = [None] * len(boxes)
    in_content = [False] * len(boxes)
    for index in range(1, len(boxes)):
        box = boxes[index]
        in_content[index] = in_content[box.parent] or box.tag in _CONTENT_TAGS
        if sums.last[index] >= 0:
            own[index] = _own_reason(box, in_content[index], blocks[sums.first[index]])
    return own


def _prose_that_is_never_content(boxes: Sequence[Box], own: Sequence[str | None], sums: BoxSums) -> int:
    """Characters of prose in footers and navigation: an <aside> beside nothing else is the whole page."""
    inside = [False] * len(boxes)
    chars = 0
    for index in range(1, len(boxes)):
        box = boxes[index]
        by_markup = own[index] in ("footer", "navigation") and (box.tag in _TAG_REASONS or box.role in _ROLE_REASONS)
        inside[index] = inside[box.parent] or by_markup
        if by_markup and not inside[box.parent]:
            chars += sums.prose[index]
    return chars


def _least_outside(reason: str, total: int) -> float:
    share = _WEAK_SHARE_OUTSIDE if reason in _WEAK else _LEAST_SHARE_OUTSIDE
    return max(total * share, min(_LEAST_OUTSIDE, total * _WEAK_SHARE_OUTSIDE))


def _own_reason(box: Box, in_content: bool, first: Block) -> str | None:
    tag = box.tag
    if tag in _NEVER:
        return None
    reason = _ROLE_REASONS.get(box.role) or _TAG_REASONS.get(tag)
    # The <header> of an article holds its title and lead; the bylines in it are found one by one.
    if reason and not (tag == "header" and in_content):
        return reason
    if not box.names or tag == "article":
        return None
    reason = names_reason(box.names)
    # The id of a section is often its title once more ("sharing-with-others"): that says what it is about.
    return None if reason and first.level and is_slug_of(box.names, first.text) else reason
