"""Texts as words to compare by, and sequences of words found in them, in any case and whatever stands between."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence

# Scripts that write no spaces between words: Thai, Lao, Burmese, Khmer, kana, Han. There every character is a word.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
_ASCII_WORD = re.compile(r"[a-z0-9]+")
# Soft hyphens, zero-width characters, marks of direction: nobody sees them.
_UNSEEN = re.compile("[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")


def words(text: str) -> list[str]:
    """The runs of letters and digits of a text, folded: case, width, ligatures and composed accents make no difference.

    Underscores and all other signs separate words; in scripts that write no spaces every character is one.
    """
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    return _WORD.findall(unicodedata.normalize("NFKC", _UNSEEN.sub("", text)).casefold())


def ngrams(sequence: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    """The n-grams of a sequence of words in order; none of a shorter one."""
    return zip(*(sequence[start:] for start in range(n)), strict=False)


class PhraseIndex:
    """Finds named sequences of words in a text, in time linear in its length however many there are."""

    def __init__(self, phrases: Mapping[tuple[str, ...], Iterable[str]] | None = None) -> None:
        """`phrases`: the names of each sequence of words, which must not be empty."""
        self._by_start: dict[tuple[str, ...], dict[tuple[str, ...], Iterable[str]]] = {}
        for phrase, names in (phrases or {}).items():
            self._by_start.setdefault(phrase[:2], {})[phrase] = names

    def find(self, text_words: Sequence[str]) -> set[str]:
        """The names of all phrases that stand in the text."""
        found = set[str]()
        if not self._by_start:
            return found
        for position in range(len(text_words)):
            pair = tuple(text_words[position : position + 2])
            for start in {pair, pair[:1]}:
                for phrase, names in self._by_start.get(start, {}).items():
                    if tuple(text_words[position : position + len(phrase)]) == phrase:
                        found.update(names)
        return found

    def find_in(self, text: str) -> set[str]:
        """The names of all phrases that stand in the text; its words are not looked for where there are no phrases."""
        return self.find(words(text)) if self._by_start else set()
