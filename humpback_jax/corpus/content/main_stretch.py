"""The main stretch of a page: the box that holds its prose."""

import itertools
from collections.abc import Sequence

from humpback_jax.corpus.content.blocks import Block, PageBlocks
from humpback_jax.corpus.content.titles import is_named_title

_MAIN_SHARE = 0.7  # of the prose, for a box to be the main stretch
_BETTER = (
    3  # what a box holds outside its best child is content if it has this many times more prose than links and scraps
)
_LEAST_BAD = 40  # characters that a link or scrap counts for, however short it is
_MAX_TEASER = 400  # characters of prose under a header that may be a teaser of another page
_LEAST_TEASERS = 3
_MAX_SCRAP = 60  # characters of a line without an end of a sentence that is taken for a label
_SENTENCE_ENDS = (".", "!", "?", ":", ";", "…", "”", '"', "»", ")", "。", "！", "？", "：", "।", "؟", "’")

Reasons = list[str | None]


def refuse_outside(page: PageBlocks, prose: Sequence[int], reasons: Reasons) -> None:
    """Refuses what stands outside of the main stretch ("outside_main") or around its text ("before_text", …)."""
    blocks, boxes = page.blocks, page.boxes
    if len(boxes) > 1:
        main = _main_box(page, prose, reasons)
        if main:
            _refuse_other_boxes(page, prose, reasons, main)
    content = [index for index in range(len(blocks)) if reasons[index] is None]
    texts = [index for index in content if prose[index] or blocks[index].kind in ("code", "quote")]
    if not texts:
        return
    for index in content:
        if index < texts[0] and _is_scrap(blocks[index]) and not is_named_title(page, blocks[index]):
            reasons[index] = "before_text"
        elif index > texts[-1] and _is_scrap(blocks[index]):
            reasons[index] = "after_text"


def _main_box(page: PageBlocks, prose: Sequence[int], reasons: Reasons) -> int:
    """Goes down from the page to the box that holds the most prose, as long as it leaves only furniture behind."""
    blocks, boxes = page.blocks, page.boxes
    good, bad = [0] * len(boxes), [0] * len(boxes)
    is_teaser = _under_short_headers(page, prose, reasons)
    for index, block in enumerate(blocks):
        size = len(block.text)
        if reasons[index] is None and (prose[index] or (size and block.kind in ("code", "quote"))):
            share = 2 * (2 if block.kind == "item" else 1) * (2 if is_teaser[index] else 1)
            good[block.box] += 2 * size // share
            if is_teaser[index]:
                bad[block.box] += size // 2
        elif not block.level and (reasons[index] or _is_scrap(block)):
            bad[block.box] += max(size, _LEAST_BAD)
    best = [0] * len(boxes)
    for index in range(len(boxes) - 1, 0, -1):
        parent = boxes[index].parent
        good[parent] += good[index]
        bad[parent] += bad[index]
        if not best[parent] or good[index] >= good[best[parent]]:
            best[parent] = index
    main = 0
    while (child := best[main]) and good[child] >= _MAIN_SHARE * good[main]:
        rest_good, rest_bad = good[main] - good[child], bad[main] - bad[child]
        if rest_good > _BETTER * rest_bad:
            break
        main = child
    return main


def _under_short_headers(page: PageBlocks, prose: Sequence[int], reasons: Sequence[str | None]) -> list[bool]:
    """For each block whether it stands under a header with little text, as teasers of other pages do."""
    blocks = page.blocks
    is_teaser = [False] * len(blocks)
    headers = [index for index, block in enumerate(blocks) if block.level]
    run: list[tuple[int, int]] = []
    for index, following in itertools.pairwise((*headers, len(blocks), len(blocks))):
        if index < len(blocks) and sum(prose[index:following]) < _MAX_TEASER:
            run.append((index, following))
            continue
        if len(run) >= _LEAST_TEASERS:
            first, end = run[0][0], run[-1][1]
            is_teaser[first:end] = [True] * (end - first)
        run = []
    return is_teaser


def _refuse_other_boxes(page: PageBlocks, prose: Sequence[int], reasons: Reasons, main: int) -> None:
    """What is outside the main box goes, but for the title and the lead that stand right before it."""
    blocks, boxes = page.blocks, page.boxes
    inside = [False] * len(boxes)
    inside[main] = True
    for index in range(main + 1, len(boxes)):
        inside[index] = inside[boxes[index].parent]
    first = next((index for index, block in enumerate(blocks) if inside[block.box]), 0)
    for index in range(len(blocks)):
        if reasons[index] is None and not inside[blocks[index].box]:
            reasons[index] = "outside_main"
    title = _title_before(page, prose, reasons, first)
    if title is not None:
        places = ("outside_main", reasons[title])
        for index in range(title, first):
            if reasons[index] in places and (index == title or prose[index]):
                reasons[index] = None


def _title_before(page: PageBlocks, prose: Sequence[int], reasons: Reasons, first: int) -> int | None:
    """The highest of the headers before the main box, the last of those.

    A title in the header of the site counts only where the main box does not begin with one of its own.
    """
    blocks = page.blocks
    own = next((i for i in range(first, len(blocks)) if reasons[i] is None and (blocks[i].level or prose[i])), None)
    has_own = own is not None and blocks[own].level > 0
    places = ("outside_main",) if has_own else ("outside_main", "site_header")
    headers = [index for index in range(first) if blocks[index].level and reasons[index] in places]
    if not headers:
        return None
    highest = min(page.blocks[index].level for index in headers)
    return max(index for index in headers if page.blocks[index].level == highest)


def _is_scrap(block: Block) -> bool:
    return (
        block.kind == "paragraph"
        and not block.level
        and len(block.text) <= _MAX_SCRAP
        and not block.text.endswith(_SENTENCE_ENDS)
        and not block.bold_only
    )
