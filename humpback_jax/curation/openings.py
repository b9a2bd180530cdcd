"""How seed instructions begin, by the coarse shape of what they ask for: learned by counting, no list of any language.

A small backward model asks for a Python function where the text explains one. Begun with "What", "How" or "Explain", as
people begin where the answer is prose, it asks for what is there.
"""

import collections
import dataclasses
import hashlib
import math
import re
from collections.abc import Iterable, Mapping

from humpback_jax.curation.text_signals import lines_and_fences
from humpback_jax.data.pairs import Pair

CODE, STEPS, LIST, PROSE = "code", "steps", "list", "prose"
SHAPES = (CODE, STEPS, LIST, PROSE)
_STEP = re.compile(r"\s*\d{1,3}[.)]\s")
_ITEM = re.compile(r"\s*[-*•–]\s")
_FEWEST_LINES = 3  # numbered ones, or items, that make a text a list
_CODE_SHARE = 1 / 3  # of the characters between fences
_FEWEST_SEEDS = 8  # of a shape; openings of fewer are those of all seeds
_LEAST_USED = 2  # times; a word that one seed begins with says nothing
_LONGEST = 20  # characters; where words are not parted by spaces the first is a sentence


def shape_of(text: str) -> str:
    """One of `SHAPES`: code where a third or more is fenced, steps and lists by three such lines, else prose."""
    marked = list(lines_and_fences(text))
    lines, code = [line for line, _ in marked], sum(len(line) for line, fenced in marked if fenced)
    if code and code >= _CODE_SHARE * sum(map(len, lines)):
        return CODE
    if sum(bool(_STEP.match(line)) for line in lines) >= _FEWEST_LINES:
        return STEPS
    return LIST if sum(bool(_ITEM.match(line)) for line in lines) >= _FEWEST_LINES else PROSE


@dataclasses.dataclass(frozen=True)
class Openings:
    """First words of instructions, by shape of the output: each with the number of seed pairs that begin so."""

    of_shape: Mapping[str, Mapping[str, int]]

    def drawn(self, name: str, output: str, number: int) -> list[str]:
        """As many openings for a text, each likely as it is used, none twice until all are: a function of the name.

        Empty strings, which leave the beginning free, where the seeds have no openings.
        """
        words = self.of_shape[shape_of(output)]
        # The order of a weighted draw without replacement: exponential waiting times (Efraimidis and Spirakis, 2006).
        order = sorted(words, key=lambda word: (_waiting_time(f"{name} {word}", words[word]), word)) or [""]
        return [order[i % len(order)] for i in range(number)]


def _waiting_time(name: str, weight: int) -> float:
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
    return -math.log((number + 1) / (2**64 + 1)) / weight


def learn_openings(seeds: Iterable[Pair]) -> Openings:
    """Counts first words of seed instructions, and leaves those that are rarer with a shape than they are in all."""
    by_shape: dict[str, collections.Counter[str]] = {shape: collections.Counter() for shape in SHAPES}
    for pair in seeds:
        by_shape[shape_of(pair.output)][pair.instruction.split(maxsplit=1)[0]] += 1
    total = sum(by_shape.values(), collections.Counter())
    enough = {shape: words if words.total() >= _FEWEST_SEEDS else total for shape, words in by_shape.items()}
    return Openings({shape: _typical(words, total) for shape, words in enough.items()})


def _typical(words: Mapping[str, int], total: collections.Counter[str]) -> dict[str, int]:
    of_shape = sum(words.values())
    return {
        word: count
        for word, count in sorted(words.items())
        if count >= _LEAST_USED and len(word) <= _LONGEST and count * total.total() >= total[word] * of_shape
    }
