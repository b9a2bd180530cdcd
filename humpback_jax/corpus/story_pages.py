"""Pages with every block coloured by what became of it, as one page to open in a browser; and one in the terminal."""

import collections
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from humpback_jax.corpus.explain import KEPT, TRIMMED, PageStory, SectionStory
from humpback_jax.corpus.reasons import corpus_words
from humpback_jax.corpus.show import printable
from humpback_jax.corpus.stats import TEMPLATES
from humpback_jax.display.page import page_environment, render_page
from humpback_jax.files import PathLike, write_atomically

MAX_BLOCKS = 1_500  # of a page
MAX_BLOCK_CHARS = 1_200
_IN_NO_SECTION = "in_no_section"
# By what became of a block: the kind of its reason, for the words.
_KINDS = {"furniture": "block", "rejected": "segment", "kept": "outcome", _IN_NO_SECTION: "outcome"}
_FATES = {
    "kept": ("Kept", "part of a segment"),
    _IN_NO_SECTION: ("In no section", "content, but before the first header or in no section of its own"),
}


def write_story_page(stories: Sequence[PageStory], title: str, settings: dict[str, Any], path: PathLike) -> None:
    """Every page with its blocks, and a legend by reason that shows and hides them."""
    pages = [_shown_page(story, settings) for story in stories]
    counts = collections.Counter((block["fate"], block["reason"]) for page in pages for block in page["blocks"])
    legend = [
        {"fate": fate, "reason": reason, "count": count} | _words(fate, reason, settings)
        for (fate, reason), count in counts.most_common()
    ]
    page = render_page(
        page_environment(TEMPLATES),
        "pages.html.j2",
        ("base.css", "corpus.css"),
        ("corpus.js", "theme.js"),
        title=title,
        pages=pages,
        legend=legend,
    )
    write_atomically(path, page.encode("utf-8", errors="replace"))


def _shown_page(story: PageStory, settings: dict[str, Any]) -> dict[str, Any]:
    """What the template needs of a page: long texts and very long pages are cut."""
    blocks = [
        {"text": block.text[:MAX_BLOCK_CHARS], "is_cut": len(block.text) > MAX_BLOCK_CHARS, "kind": block.kind}
        | {"fate": block.fate, "reason": block.reason or block.fate}
        | _words(block.fate, block.reason, settings)
        for block in story.blocks()
    ]
    label, why = corpus_words("outcome", story.trace.outcome, settings)
    return {
        "url": story.url,
        "place": f"{story.file}, record {story.record}",
        "outcome": label,
        "why": why,
        "kept": sum(section.is_kept for section in story.sections),
        "sections": [_shown_section(section, settings) for section in story.sections],
        "blocks": blocks[:MAX_BLOCKS],
        "more": max(len(blocks) - MAX_BLOCKS, 0),
    }


def _shown_section(story: SectionStory, settings: dict[str, Any]) -> dict[str, Any]:
    label, why = verdict_words(story, settings)
    header = story.trace.section.header or "(no header)"
    return {"header": header, "chars": story.trace.chars, "kept": story.is_kept, "label": label, "why": why}


def verdict_words(story: SectionStory, settings: dict[str, Any]) -> tuple[str, str]:
    """(label, why) of what became of a section."""
    if story.verdict == KEPT:
        return "Kept", story.trace.kept_as.replace("_", " ")
    if story.verdict == TRIMMED:
        return "Kept, trimmed", f"without what its site repeats: {story.detail}"
    label, why = corpus_words("segment", story.verdict, settings)
    return label, f"{why} ({story.detail})" if story.detail else why


def _words(fate: str, reason: str, settings: dict[str, Any]) -> dict[str, str]:
    label, why = _FATES.get(fate) or corpus_words(_KINDS[fate], reason, settings)
    return {"label": label, "why": why}


def print_story(story: PageStory, settings: dict[str, Any], blocks: bool) -> None:
    """A page in the terminal: what it came to, its sections, its furniture; with `blocks`, every block."""
    console = Console()
    label, why = corpus_words("outcome", story.trace.outcome, settings)
    console.print(Text(printable(story.url), style="bold"))
    console.print(Text(printable(f"{story.file}, record {story.record}: {label}: {why}")))
    if story.sections:
        table = Table("section", "characters", "became", "why", title="Sections", title_justify="left")
        for section in story.sections:
            cells = _shown_section(section, settings)
            header = "  " * max(section.trace.section.level - 1, 0) + cells["header"]
            style = "green" if section.is_kept else ""
            texts = (header[:80], f"{cells['chars']:,}", cells["label"], cells["why"])
            table.add_row(*(Text(printable(text), style=style) for text in texts))
        console.print(table)
    furniture = collections.Counter(reason for reason in story.trace.reasons if reason)
    if furniture:
        counted = ", ".join(f"{corpus_words('block', name)[0]} {n}" for name, n in furniture.most_common())
        console.print(Text(f"Blocks that are no content: {counted}"))
    for block in story.blocks() if blocks else ():
        label = _words(block.fate, block.reason, settings)["label"]
        line = f"[{label}] {' '.join(block.text.split())[:160]}"
        console.print(Text(printable(line), style="green" if block.fate == "kept" else "dim"))


def story_values(story: PageStory) -> dict[str, Any]:
    """The same as plain values."""
    return {
        "url": story.url,
        "file": story.file,
        "record": story.record,
        "outcome": story.trace.outcome,
        "sections": [
            {
                "header": section.trace.section.header,
                "characters": section.trace.chars,
                "verdict": section.verdict,
                "detail": section.detail,
                "kept_as": section.trace.kept_as,
                "scores": section.trace.scores,
            }
            for section in story.sections
        ],
        "blocks": [
            {"text": block.text, "kind": block.kind, "fate": block.fate, "reason": block.reason}
            for block in story.blocks()
        ],
    }
