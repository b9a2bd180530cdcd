"""Decontamination: which evaluation items share a 13-gram of words with what a model was trained on.

Words are lower-cased runs of letters and digits (GPT-3, appendix C, also takes 13-grams of normalised words). An
evaluation text of fewer words counts as overlapping where a training text holds exactly these words and no others.
"""

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from etils import epath

from humpback_jax.data.pairs import Pair, read_pairs, write_pairs
from humpback_jax.evaluation.judging.winrate import read_annotations
from humpback_jax.files import PathLike

NGRAM = 13
_WORD = re.compile(r"[^\W_]+")
TEXT_KEYS = ("instruction", "question", "prompt", "turns")
EXAMPLES = 3


@dataclasses.dataclass(frozen=True)
class Overlap:
    """Of one training set with one evaluation set: ids of the evaluation items and of the training pairs that share."""

    train: str
    evaluation: str
    evaluation_items: int
    train_pairs: int
    overlapping_items: tuple[str, ...]
    overlapping_pairs: tuple[str, ...]

    @property
    def figures(self) -> dict[str, Any]:
        """Counts and a few ids."""
        return {
            "evaluation_items": self.evaluation_items,
            "overlapping_items": len(self.overlapping_items),
            "train_pairs": self.train_pairs,
            "overlapping_pairs": len(self.overlapping_pairs),
            "examples": list(self.overlapping_items[:EXAMPLES]),
        }


def words(text: str) -> list[str]:
    """Lower-cased words."""
    return _WORD.findall(text.lower())


def ngrams(text: str, n: int) -> Iterator[tuple[str, ...]]:
    """The word n-grams of a text."""
    found = words(text)
    return (tuple(found[i : i + n]) for i in range(len(found) - n + 1))


class EvaluationIndex:
    """The n-grams of an evaluation set, and the whole texts of items too short to have one."""

    def __init__(self, items: Mapping[str, str], n: int = NGRAM) -> None:
        self.n, self.items = n, dict(items)
        self._grams: dict[tuple[str, ...], set[str]] = {}
        self._short: dict[tuple[str, ...], set[str]] = {}
        for name, text in items.items():
            found = list(ngrams(text, n))
            for gram in found:
                self._grams.setdefault(gram, set()).add(name)
            if not found and words(text):
                self._short.setdefault(tuple(words(text)), set()).add(name)

    def matches(self, text: str) -> set[str]:
        """Ids of the items that share an n-gram with a training text, or are that text."""
        found = set(self._short.get(tuple(words(text)), ()))
        for gram in ngrams(text, self.n):
            found |= self._grams.get(gram, set())
        return found


def overlap(pairs: Iterable[Pair], index: EvaluationIndex, names: tuple[str, str]) -> Overlap:
    """Overlap of training pairs (instruction or output) with an evaluation set; `names` are (train, evaluation)."""
    items: set[str] = set()
    overlapping, total = [], 0
    for pair in pairs:
        total += 1
        found = index.matches(pair.instruction) | index.matches(pair.output)
        items |= found
        if found:
            overlapping.append(pair.id)
    return Overlap(*names, len(index.items), total, tuple(sorted(items)), tuple(overlapping))


def read_evaluation_texts(path: PathLike) -> dict[str, str]:
    """The prompt of every item of an evaluation file by id: AlpacaEval, benchmarks, Vicuna, MT-Bench, Koala, strings.

    Raises:
      ValueError: a record has none of the known keys.
    """
    rows = _strings_or_rows(path)
    texts: dict[str, str] = {}
    for number, row in enumerate(rows):
        value = row if isinstance(row, str) else next((row[key] for key in TEXT_KEYS if key in row), None)
        if isinstance(value, list):
            value = "\n".join(map(str, value))
        if not isinstance(value, str):
            raise ValueError(f"{path}: record {number} has none of {', '.join(TEXT_KEYS)}; expected an evaluation set")
        name = row.get("id") if isinstance(row, dict) else None
        texts[f"{number}" if name is None or str(name) in texts else str(name)] = value
    return texts


def _strings_or_rows(path: PathLike) -> list[Any]:
    try:
        return read_annotations(path)
    except ValueError:
        lines = [line for line in epath.Path(path).read_text().splitlines() if line.strip()]
        if all(line.startswith('"') for line in lines):
            return [json.loads(line) for line in lines]
        raise


def report_overlaps(
    train_files: Sequence[PathLike], evaluation: Mapping[str, Mapping[str, str]], n: int = NGRAM
) -> list[Overlap]:
    """Every training set (files in any format of seeds) against every evaluation set, {name: {id: text}}."""
    indices = {name: EvaluationIndex(texts, n) for name, texts in evaluation.items()}
    sets = {str(path): read_pairs(path).pairs for path in train_files}
    return [overlap(pairs, index, (path, name)) for path, pairs in sets.items() for name, index in indices.items()]


def overlap_figures(train_files: Sequence[PathLike], evaluation: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """What is printed with a result: figures by training and evaluation set, or that nobody named the training sets."""
    if not train_files:
        return {"contamination": "not checked: name the training sets with --train"}
    found: dict[str, dict[str, Any]] = {}
    for each in report_overlaps(train_files, evaluation):
        found.setdefault(each.train, {})[each.evaluation] = each.figures
    return {"contamination": found}


def write_clean(path: PathLike, overlaps: Sequence[Overlap], folder: PathLike) -> int:
    """Writes the pairs of a training file that share nothing as FOLDER/NAME.jsonl; returns how many are left."""
    dropped = {name for found in overlaps if found.train == str(path) for name in found.overlapping_pairs}
    kept = [pair for pair in read_pairs(path).pairs if pair.id not in dropped]
    write_pairs(epath.Path(folder) / f"{epath.Path(path).name.split('.')[0]}.jsonl", kept)
    return len(kept)


def training_files(model: PathLike) -> list[str]:
    """Training sets of RUN_DIR/m2 (or its folder `model`), as far as the run has them: seeds and the last selection."""
    folder = epath.Path(model)
    folder = folder.parent if folder.name == "model" else folder
    name, run = folder.name, folder.parent
    found = [run / "seeds" / "seed.jsonl"]
    if name.startswith("m") and name[1:].isdigit() and int(name[1:]):
        found.append(run / f"curated{name[1:]}" / "curated.jsonl")
    return [str(path) for path in found if path.exists()]
