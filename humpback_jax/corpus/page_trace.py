"""All that became of one page: every block, every section, and why. `corpus show` and `corpus explain` draw it."""

import dataclasses
from collections.abc import Iterator
from typing import Literal

from humpback_jax.corpus.content.blocks import PageBlocks
from humpback_jax.corpus.content.sections import Section

# What a block came to: part of a kept segment, of a rejected section only, content that is in no section, or furniture.
Fate = Literal["kept", "rejected", "in_no_section", "furniture"]


@dataclasses.dataclass(slots=True)
class SectionTrace:
    """A candidate and what the filters said of it.

    Attributes:
      section: header and blocks.
      chars: length of the text; of one that is far too long or short, only about.
      text: as it is or would be kept; empty where the length already spoke against it.
      reason: why it is no segment, None where it is one.
      detail: what exactly was found: the phrase, the evaluation prompt, the language.
      language: ISO 639 code; empty where it was not looked for or not found.
      scores: figures of the filters by name, of those that were asked.
      kept_as: why it and no other section of the same place was kept; empty where it was not.
    """

    section: Section
    chars: int = 0
    text: str = ""
    reason: str | None = None
    detail: str = ""
    language: str = ""
    scores: dict[str, float] = dataclasses.field(default_factory=dict)
    kept_as: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class BlockTrace:
    """A block and what it came to; `reason` says why it is furniture, or why its outermost section was rejected."""

    text: str
    kind: str
    level: int
    fate: Fate
    reason: str


@dataclasses.dataclass(slots=True)
class PageTrace:
    """A page, block by block and section by section.

    Attributes:
      page: its blocks.
      reasons: of each block, why it is no content, None where it is.
      sections: all candidates in document order, the outer one before those in it.
      outcome: what the page came to: "segments", "no_text", "text_in_scripts", "no_content", "no_section",
        "all_rejected", "truncated", "blocked_domain", "forgotten".
    """

    page: PageBlocks
    reasons: list[str | None]
    sections: list[SectionTrace]
    outcome: str

    def blocks(self) -> Iterator[BlockTrace]:
        """Every block in document order, with what became of it and why."""
        kept: set[int] = set()
        rejected: dict[int, str] = {}
        for section in self.sections:
            mine = section.section.blocks
            header = section.section.header_block
            mine = mine if header is None else (header, *mine)
            if section.reason is None:
                kept.update(mine)
            else:
                for index in mine:
                    rejected.setdefault(index, section.reason)
        for index, (block, reason) in enumerate(zip(self.page.blocks, self.reasons, strict=True)):
            fate: Fate = "in_no_section"
            if reason is not None:
                fate = "furniture"
            elif index in kept:
                fate = "kept"
            elif index in rejected:
                fate, reason = "rejected", rejected[index]
            yield BlockTrace(block.text, block.kind, block.level, fate, reason or "")
