"""Evaluation prompts in training texts: found by 13-grams of words, or whole where a prompt is shorter.

GPT-3 (appendix C) also takes 13-grams of normalised words. Shared by the filter of the corpus stage, which looks for a
short prompt anywhere in a segment, and by `humpback evaluate decontaminate`, for which a short prompt overlaps only
where it is the whole of an instruction.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from etils import epath

from humpback_jax.corpus.filters.words import PhraseIndex, ngrams, words
from humpback_jax.files import PathLike, read_json_values, read_text

NGRAM = 13
TEXT_KEYS = ("instruction", "question", "prompt", "turns")


class PromptIndex:
    """Finds evaluation prompts in texts.

    Attributes:
      number: how many prompts there are.
      without_words: names of those that have neither letter nor digit: these are not found.
    """

    def __init__(self, prompts: Mapping[str, Sequence[str]], n: int = NGRAM) -> None:
        """`prompts`: the texts of each by name, one for each turn."""
        self.number = len(prompts)
        self._n = n
        self._long: dict[tuple[str, ...], set[str]] = {}
        self._whole: dict[tuple[str, ...], set[str]] = {}
        without_words = []
        for name, texts in prompts.items():
            turns = [each for each in map(words, texts) if each]
            if not turns:
                without_words.append(name)
            for turn in turns:
                for gram in ngrams(turn, n):
                    self._long.setdefault(gram, set()).add(name)
                if len(turn) < n:
                    self._whole.setdefault(tuple(turn), set()).add(name)
        self.without_words = tuple(without_words)
        self._short = PhraseIndex(self._whole)

    def find(self, text: str) -> set[str]:
        """Names of the prompts of which the text holds n words in a row, or, if they have fewer, all words."""
        found = words(text)
        return self._with_long(found) | self._short.find(found)

    def find_whole(self, text: str) -> set[str]:
        """As `find`, but a prompt of fewer than n words must be the whole text."""
        found = words(text)
        return self._with_long(found) | self._whole.get(tuple(found), set())

    def _with_long(self, text_words: list[str]) -> set[str]:
        return set().union(*(self._long[gram] for gram in ngrams(text_words, self._n) if gram in self._long))


def read_prompts(path: PathLike) -> dict[str, tuple[str, ...]]:
    """The prompt of every item of an evaluation file by id, as its turns, most often one.

    Reads AlpacaEval, benchmarks, Vicuna, MT-Bench, Koala, strings; a file named .txt, gzipped or not, has one a line.

    Raises:
      ValueError: a record has none of the known keys, or there is no prompt at all.
    """
    if epath.Path(path).name.removesuffix(".gz").endswith(".txt"):
        rows: list[Any] = [line for line in read_text(path).splitlines() if line.strip()]
    else:
        rows = read_json_values(path)
    prompts: dict[str, tuple[str, ...]] = {}
    for number, row in enumerate(rows):
        value = next((row[key] for key in TEXT_KEYS if key in row), None) if isinstance(row, dict) else row
        turns = tuple(map(str, value)) if isinstance(value, list) else (value,) if isinstance(value, str) else None
        if turns is None:
            raise ValueError(f"{path}: record {number} has none of {', '.join(TEXT_KEYS)}; expected an evaluation set")
        name = row.get("id") if isinstance(row, dict) else None
        prompts[f"{number}" if name is None or str(name) in prompts else str(name)] = turns
    if not prompts:
        raise ValueError(f"{path} holds no prompt; expected an evaluation set")
    return prompts


def prompt_index(paths: Iterable[PathLike]) -> PromptIndex:
    """What finds the prompts of these files; a prompt is called FILE:ID.

    Raises:
      ValueError: as `read_prompts`, or a file of which no prompt has a word to look for.
    """
    prompts: dict[str, tuple[str, ...]] = {}
    for path in paths:
        read = read_prompts(path)
        if not any(words(turn) for turns in read.values() for turn in turns):
            raise ValueError(f"decontaminate: no prompt of {path} has a letter or digit to look for; drop the file")
        prompts |= {f"{epath.Path(path).name}:{name}": turns for name, turns in read.items()}
    return PromptIndex(prompts)
