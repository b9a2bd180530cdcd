"""How much of a segment is symbols, links or list items: figures between 0 and 1, and the thresholds on them."""

import re
import unicodedata
from collections.abc import Iterable

# What ordinary text is made of: letters, digits, spaces and the punctuation of sentences. The rest are symbols.
_SYMBOL = re.compile(r"[^\w\s.,;:!?'\"()\-‐-―‘-„…«»،؛؟。、，．！？：；（）「」『』・।॥¿¡]|_")
_USUAL_ASCII = bytes(code for code in range(128) if not _SYMBOL.match(chr(code)))
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
_SENTENCE_END = re.compile(r"[.!?…।][\s\"')\]»”’]|[.!?…।]$")
_UNSPACED_END = re.compile(r"[。！？]")
_LEAST_WORDS = 5


def symbol_density(text: str) -> float:
    """The share of characters that are neither letters, digits, combining marks, spaces nor usual punctuation."""
    if not text:
        return 0.0
    count = len(text.encode("ascii", "ignore").translate(None, _USUAL_ASCII))
    if not text.isascii():
        symbols = _SYMBOL.findall("".join(_NOT_ASCII.findall(text)))
        count += len(symbols) - sum(map(_is_mark, symbols))
    return count / len(text)


def _is_mark(character: str) -> bool:
    """Combining marks: vowel signs of Indic and other scripts are letters to their readers."""
    return unicodedata.category(character).startswith("M")


def share(part: int, whole: int) -> float:
    """Characters of a part by those of the whole, at most 1; 0 of nothing."""
    return min(part / whole, 1.0) if whole else 0.0


def list_share(blocks: Iterable[tuple[str, str]]) -> float:
    """Of blocks (kind, text), the share of characters that stand in list items without a sentence.

    Steps and tips are lists of sentences, and good answers; names, links and keywords are not.
    """
    counted = [(len(text), kind == "item" and not _has_sentence(text)) for kind, text in blocks]
    return share(sum(n for n, is_bare in counted if is_bare), sum(n for n, _ in counted))


def _has_sentence(text: str) -> bool:
    """Whether something ends as a sentence does after five words or more, or anywhere in scripts without spaces."""
    after = text.split(maxsplit=_LEAST_WORDS)
    if len(after) > _LEAST_WORDS and _SENTENCE_END.search(after[-1]):
        return True
    return _UNSPACED_END.search(text) is not None


def over(value: float, threshold: float | None) -> bool:
    """Whether a figure is above its threshold, which may be off (None)."""
    return threshold is not None and value > threshold
