"""Figures of the report: ratings, how sure and how consistent the scorer is, lengths, diversity."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

DISTINCT_SAMPLE = 1000


class SetStatistics:
    """Lengths and diversity of a set of pairs. Lengths are in characters."""

    def __init__(self) -> None:
        self.instruction_lengths: list[int] = []
        self.output_lengths: list[int] = []
        self.openings: Counter[str] = Counter()
        self._distinct: set[int] = set()
        self._bigrams: Counter[tuple[str, str]] = Counter()

    def add(self, instruction: str, output: str) -> None:
        words = instruction.lower().split()
        if len(self) < DISTINCT_SAMPLE:
            self._bigrams.update(itertools.pairwise(words))
        self.instruction_lengths.append(len(instruction))
        self.output_lengths.append(len(output))
        self.openings[" ".join(words[:2])] += 1
        self._distinct.add(hash(" ".join(words)))

    def __len__(self) -> int:
        return len(self.instruction_lengths)

    def summary(self) -> dict[str, Any]:
        """Mean, standard deviation and median of both lengths, and diversity.

        `distinct_instructions` is the share of instructions that no other one repeats word for word, in 0..1;
        `distinct_2` (Li et al. 2016) is different word pairs / word pairs of the first DISTINCT_SAMPLE instructions.
        """
        described = {
            f"{name}_{label}": round(float(measure(lengths)), 1) if len(self) else 0.0
            for name, lengths in (("instruction", self.instruction_lengths), ("output", self.output_lengths))
            for label, measure in (("mean", np.mean), ("sd", np.std), ("median", np.median))
        }
        distinct = {
            "distinct_instructions": round(len(self._distinct) / max(1, len(self)), 4),
            "distinct_2": round(len(self._bigrams) / max(1, self._bigrams.total()), 4),
        }
        return {"pairs": len(self)} | described | distinct


@dataclasses.dataclass
class RoundStatistics:
    """Ratings of one round.

    Attributes:
      kept, dropped: ratings of the pairs that were kept and of those that were not.
      ratings: both, by id.
      lengths: characters of their texts, in the same order.
      parsed: ratings that were read from a rationale.
      rated: all ratings.
      confidences: probability of the likeliest digit, one per forced rating.
      digit_sums: probabilities of the digits 1..5 summed over the forced ratings.
      spreads: standard deviation of the ratings of a pair that was rated several times.
    """

    kept: list[float] = dataclasses.field(default_factory=list)
    dropped: list[float] = dataclasses.field(default_factory=list)
    ratings: dict[str, float] = dataclasses.field(default_factory=dict)
    lengths: list[int] = dataclasses.field(default_factory=list)
    parsed: int = 0
    rated: int = 0
    confidences: list[float] = dataclasses.field(default_factory=list)
    digit_sums: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(5))
    spreads: list[float] = dataclasses.field(default_factory=list)

    def add_rating(self, row: dict[str, Any]) -> None:
        """Counts one row of scores.jsonl."""
        self.rated += 1
        self.parsed += bool(row["parsed"])
        if row.get("probabilities"):
            self.confidences.append(max(row["probabilities"]))
            self.digit_sums += np.asarray(row["probabilities"])
        if row.get("ratings"):
            self.spreads.append(float(np.std(row["ratings"])))

    def add_selected(self, row: dict[str, Any], kept: bool) -> None:
        """Counts one row of the selection that has a rating."""
        (self.kept if kept else self.dropped).append(row["score"])
        self.ratings[row["id"]] = row["score"]
        self.lengths.append(len(row["output"]))

    @property
    def digit_means(self) -> np.ndarray:
        """Mean probability of the digits 1..5 over the forced ratings; zeros where there is none."""
        return self.digit_sums / max(1, len(self.confidences))

    @property
    def length_correlation(self) -> float | None:
        """Spearman correlation of rating and length of the text; None where it is not defined."""
        return spearman(list(self.ratings.values()), self.lengths)


def spearman(left: Sequence[float], right: Sequence[float]) -> float | None:
    """Spearman's rank correlation; None under 3 values or where one side is constant."""
    if len(left) < 3 or min(left) == max(left) or min(right) == max(right):
        return None
    return float(stats.spearmanr(left, right).statistic)
