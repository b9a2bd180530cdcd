"""How much of a segment is symbols, links or list items: figures between 0 and 1, and the thresholds on them."""

import re
import unicodedata
from collections.abc import Iterable

# What ordinary text is made of: letters, digits, spaces and the punctuation of sentences. The rest are symbols.
_ORDINARY = re.compile(r"[^\W_]+|[\s.,;:!?'\"()\-‐-―‘-„…«»،؛؟。、！？：；（）「」『』・।॥¿¡]+")


def symbol_density(text: str) -> float:
    """The share of characters that are neither letters, digits, combining marks, spaces nor usual punctuation."""
    if not text:
        return 0.0
    rest = _ORDINARY.sub("", text)
    marks = 0 if rest.isascii() else sum(_is_mark(character) for character in rest)
    return (len(rest) - marks) / len(text)


def _is_mark(character: str) -> bool:
    """Combining marks: vowel signs of Indic and other scripts are letters to their readers."""
    return unicodedata.category(character).startswith("M")


def share(part: int, whole: int) -> float:
    """Characters of a part by those of the whole, at most 1; 0 of nothing."""
    return min(part / whole, 1.0) if whole else 0.0


def list_share(blocks: Iterable[tuple[str, int]]) -> float:
    """Of blocks (kind, number of characters), the share of characters that stand in list items."""
    counted = list(blocks)
    return share(sum(n for kind, n in counted if kind == "item"), sum(n for _, n in counted))


def over(value: float, threshold: float | None) -> bool:
    """Whether a figure is above its threshold, which may be off (None)."""
    return threshold is not None and value > threshold
