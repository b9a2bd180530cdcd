"""Pairs that people have labelled: one JSON line each, as `humpback curate label` writes them.

    {"id", "instruction", "output", "labels": {"score": [n, …], "text": [n, …], "fit": [n, …]}}

`score` is 1-5 by the paper's rubric; `text` 0 unusable, 1 polluted or cut, 2 clean; `fit` 0 not answered, 1 partly,
2 answered. Every list has a number per person; `text` and `fit` may be missing. Rows are only ever added: where an id
occurs again, the later row replaces the earlier one.
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
    """Labelled pairs of a file; the last row of an id counts, for people may change their minds.

    Args:
      path: JSON lines.
      known: ids that a label may have; None for any.

    Raises:
      ValueError: a row lacks a field or has a number off the scale (named by file and line), an id is unknown or has
        different texts in two rows, or all pairs are of one class.
    """
    pairs = [_labelled(row) for row in last_rows(path, known).values()]
    good = sum(pair.good for pair in pairs)
    if good in (0, len(pairs)):
        raise ValueError(
            f"{path}: {good} of {len(pairs)} labelled pairs are good (mean score of {GOOD_SCORE:g} or more); labels of "
            "one class tell nothing apart, so label more"
        )
    return pairs


def last_rows(path: PathLike, known: Collection[str] | None = None) -> dict[str, dict[str, Any]]:
    """The last row of every id, in the order in which the ids first come; all labels are lists.

    Raises:
      ValueError: as `read_labels`, whatever the classes.
    """
    rows: dict[str, dict[str, Any]] = {}
    for number, row in read_jsonl(path):
        where = f"{path}:{number}"
        row = _checked(row, where)
        earlier = rows.get(row["id"], row)
        if any(row[key] != earlier[key] for key in ("instruction", "output")):
            raise ValueError(
                f"{where}: id {row['id']!r} stands above with another instruction or output; give every pair its own id"
            )
        if known is not None and row["id"] not in known:
            raise ValueError(
                f"{where}: no pair of this run has the id {row['id']!r}; labels of other pairs need "
                "`humpback curate calibrate --labels`, which reads their texts"
            )
        rows[row["id"]] = row
    return rows


def _checked(row: dict[str, Any], where: str) -> dict[str, Any]:
    """The row with a list under every label; ValueError says what is wrong with it."""
    for key in ("id", "instruction", "output"):
        if not isinstance(row.get(key), str):
            raise ValueError(f"{where}: expected a text under {key!r}")
    labels = row.get("labels")
    if not isinstance(labels, dict) or not labels.get("score"):
        raise ValueError(f"{where}: expected `labels` with a list of numbers under 'score'")
    lists = {name: numbers if isinstance(numbers, list) else [numbers] for name, numbers in labels.items()}
    for name, numbers in lists.items():
        low, high = SCALES.get(name, (None, None))
        if low is None or high is None:
            raise ValueError(f"{where}: unknown label {name!r}; the labels are {', '.join(SCALES)}")
        if not numbers or not all(isinstance(n, int | float) and low <= n <= high for n in numbers):
            raise ValueError(f"{where}: {name!r} is {labels[name]!r}; expected numbers from {low} to {high}")
    return row | {"labels": lists}


def _labelled(row: dict[str, Any]) -> LabelledPair:
    labels = row["labels"]
    usable = None
    if "text" in labels and "fit" in labels:
        usable = min(labels["text"]) >= 1 and min(labels["fit"]) >= 1
    good = statistics.fmean(labels["score"]) >= GOOD_SCORE
    return LabelledPair(row["id"], row["instruction"], row["output"], good, usable)
