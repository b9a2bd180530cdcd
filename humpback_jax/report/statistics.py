"""Figures of the report: ratings, how sure and how consistent the scorer is, lengths, diversity."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from humpback_jax.report.why import RANK_REASONS

DISTINCT_SAMPLE = 1000
NEAREST = 3  # pairs that are shown on each side of the cut
NEAREST_ROOM = 1024  # candidates for them that are held


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
    """Ratings of one round, and what the curator made of them.

    Attributes:
      kept, dropped: ratings of the pairs that were kept and of those that were not.
      ratings: both, by id.
      p_good: by id, what the curator thinks of the pairs; empty where the scores alone decide.
      kept_ids: the pairs that were kept.
      has_signals: whether any pair was rated with signals.
      last_kept, first_dropped: rows of the selection on both sides of the cut, those nearest to it first.
      lengths: characters of their texts, in the same order.
      parsed: ratings that were read from a rationale.
      rated: all ratings.
      confidences: probability of the likeliest digit, one per forced rating.
      digit_sums: probabilities of what may be said, from the worst to the best, summed over the forced ratings.
      spreads: standard deviation of the ratings of a pair that was rated several times.
    """

    kept: list[float] = dataclasses.field(default_factory=list)
    dropped: list[float] = dataclasses.field(default_factory=list)
    ratings: dict[str, float] = dataclasses.field(default_factory=dict)
    p_good: dict[str, float] = dataclasses.field(default_factory=dict)
    kept_ids: set[str] = dataclasses.field(default_factory=set)
    has_signals: bool = False
    last_kept: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    first_dropped: list[dict[str, Any]] = dataclasses.field(default_factory=list)
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
            probabilities = np.asarray(row["probabilities"])
            self.digit_sums = probabilities + (self.digit_sums if len(self.confidences) > 1 else 0.0)
        if row.get("ratings"):
            self.spreads.append(float(np.std(row["ratings"])))

    def add_selected(self, row: dict[str, Any], kept: bool) -> None:
        """Counts one row of the selection that has a rating."""
        (self.kept if kept else self.dropped).append(row["score"])
        self.ratings[row["id"]] = row["score"]
        self.lengths.append(len(row["output"]))
        self.has_signals |= "signals" in row
        if row.get("p_good") is not None:
            self.p_good[row["id"]] = row["p_good"]
        if kept:
            self.kept_ids.add(row["id"])
        if kept or row["reason"] in RANK_REASONS:
            nearest = self.last_kept if kept else self.first_dropped
            nearest.append(row)
            if len(nearest) > NEAREST_ROOM:
                nearest[:] = _nearest(nearest, kept)

    def nearest(self, kept: bool) -> list[dict[str, Any]]:
        """Rows of the pairs nearest to the cut, of those that were kept or of those whose rank was too low."""
        return _nearest(self.last_kept if kept else self.first_dropped, kept)

    @property
    def ranks(self) -> dict[str, float]:
        """What ranked the pairs, by id: p(good), or the score where there is no curator."""
        return self.p_good or self.ratings

    @property
    def cut(self) -> float | None:
        """The lowest rank that was kept; None where nothing was."""
        ranks = self.ranks
        return min((ranks[name] for name in self.kept_ids), default=None)

    @property
    def digit_means(self) -> np.ndarray:
        """Mean probability of what may be said over the forced ratings; five zeros where there is none."""
        return self.digit_sums / max(1, len(self.confidences))

    @property
    def length_correlation(self) -> float | None:
        """Spearman correlation of rating and length of the text; None where it is not defined."""
        return spearman(list(self.ratings.values()), self.lengths)


def _nearest(rows: Sequence[dict[str, Any]], kept: bool) -> list[dict[str, Any]]:
    """The NEAREST rows with the lowest ranks of the kept, the highest of the dropped."""
    sign = 1 if kept else -1
    return sorted(rows, key=lambda row: (sign * _rank(row), row["id"]))[:NEAREST]


def _rank(row: dict[str, Any]) -> float:
    return row["score"] if row.get("p_good") is None else row["p_good"]


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How two rounds agree.

    Attributes:
      before, after: the rounds.
      scores, p_good: rank correlation of each over the pairs that both rounds have; None where it is not defined.
      came, left: ids that only the later round kept, and that only the earlier one did, by the later round's rank.
      pairs: rated by both.
    """

    before: int
    after: int
    scores: float | None
    p_good: float | None
    came: list[str]
    left: list[str]
    pairs: int


def round_agreements(rounds: Mapping[int, RoundStatistics]) -> list[Agreement]:
    """Agreement of every two rounds that follow each other."""
    return [_agreement(a, b, rounds[a], rounds[b]) for a, b in itertools.pairwise(sorted(rounds))]


def _agreement(before: int, after: int, old: RoundStatistics, new: RoundStatistics) -> Agreement:
    def best_first(names: set[str]) -> list[str]:
        return sorted(names, key=lambda name: (-new.ranks.get(name, -1.0), name))

    came, left = best_first(new.kept_ids - old.kept_ids), best_first(old.kept_ids - new.kept_ids)
    shared = len(old.ratings.keys() & new.ratings.keys())
    scores, p_good = _shared_spearman(old.ratings, new.ratings), _shared_spearman(old.p_good, new.p_good)
    return Agreement(before, after, scores, p_good, came, left, shared)


def _shared_spearman(old: Mapping[str, float], new: Mapping[str, float]) -> float | None:
    both = [(value, new[name]) for name, value in old.items() if name in new]
    return spearman([x for x, _ in both], [y for _, y in both])


def spearman(left: Sequence[float], right: Sequence[float]) -> float | None:
    """Spearman's rank correlation; None under 3 values or where one side is constant."""
    if len(left) < 3 or min(left) == max(left) or min(right) == max(right):
        return None
    return float(stats.spearmanr(left, right).statistic)
