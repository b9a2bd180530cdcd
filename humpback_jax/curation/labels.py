"""Pairs that people have labelled: one JSON line each, as `humpback curate label` writes them.

    {"id", "instruction", "output", "labels": {"score": [n, …], "text": [n, …], "fit": [n, …]}}

`score` is 1-5 by the paper's rubric; `text` 0 unusable, 1 polluted or cut, 2 clean; `fit` 0 not answered, 1 partly,
2 answered. Every list has a number per person; `text` and `fit` may be missing.
"""

import dataclasses
import statistics
from collections.abc import Collection
from typing import Any

from humpback_jax.files import PathLike, read_jsonl

GOOD_SCORE = 3.0
SCALES = {"score": (1, 5), "text": (0, 2), "fit": (0, 2)}


@dataclasses.dataclass(frozen=True)
class LabelledPair:
    """A pair and what people said.

    Attributes:
      id: of the pair.
      instruction, output: its texts.
      good: mean score of 3 or more.
      usable: everybody found the text at least polluted and the instruction at least partly answered; None where
        nobody was asked.
    """

    id: str
    instruction: str
    output: str
    good: bool
    usable: bool | None


def read_labels(path: PathLike, known: Collection[str] | None = None) -> list[LabelledPair]:
    """Labelled pairs of a file.

    Args:
      path: JSON lines.
      known: ids that a label may have; None for any.

    Raises:
      ValueError: a row lacks a field or has a number off the scale (named by file and line), an id is unknown or occurs
        twice, or all pairs are of one class.
    """
    pairs: dict[str, LabelledPair] = {}
    for number, row in read_jsonl(path):
        pair = _labelled(row, f"{path}:{number}")
        if pair.id in pairs:
            raise ValueError(f"{path}:{number}: id {pair.id!r} occurs twice; give every pair one row")
        if known is not None and pair.id not in known:
            raise ValueError(
                f"{path}:{number}: no pair of this run has the id {pair.id!r}; labels of other pairs need "
                "`humpback curate calibrate --labels`, which reads their texts"
            )
        pairs[pair.id] = pair
    good = sum(pair.good for pair in pairs.values())
    if good in (0, len(pairs)):
        raise ValueError(
            f"{path}: {good} of {len(pairs)} labelled pairs are good (mean score of {GOOD_SCORE:g} or more); labels of "
            "one class tell nothing apart, so label more"
        )
    return list(pairs.values())


def _labelled(row: dict[str, Any], where: str) -> LabelledPair:
    texts = {key: row.get(key) for key in ("id", "instruction", "output")}
    for key, value in texts.items():
        if not isinstance(value, str):
            raise ValueError(f"{where}: expected a text under {key!r}")
    labels = row.get("labels")
    if not isinstance(labels, dict) or not labels.get("score"):
        raise ValueError(f"{where}: expected `labels` with a list of numbers under 'score'")
    for name, numbers in labels.items():
        low, high = SCALES.get(name, (None, None))
        if low is None or high is None:
            raise ValueError(f"{where}: unknown label {name!r}; the labels are {', '.join(SCALES)}")
        numbers = numbers if isinstance(numbers, list) else [numbers]
        if not numbers or not all(isinstance(n, int | float) and low <= n <= high for n in numbers):
            raise ValueError(f"{where}: {name!r} is {labels[name]!r}; expected numbers from {low} to {high}")
        labels[name] = numbers
    usable = None
    if "text" in labels and "fit" in labels:
        usable = min(labels["text"]) >= 1 and min(labels["fit"]) >= 1
    good = statistics.fmean(labels["score"]) >= GOOD_SCORE
    return LabelledPair(str(row["id"]), row["instruction"], row["output"], good, usable)
