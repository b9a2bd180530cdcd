"""The pairs of a run with all that happened to them, and statistics over every one of them, read in one pass.

Texts are kept in memory for a bounded number of pairs only; the statistics are of all.
"""

import dataclasses
import hashlib
import heapq
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from etils import epath

from humpback_jax.files import read_jsonl
from humpback_jax.report.statistics import RoundStatistics, SetStatistics

KEPT = "kept"


@dataclasses.dataclass
class Grade:
    """What one round made of a pair.

    Attributes:
      state: "kept", or the reason why it was dropped.
      score: 1..5, None where it was not rated.
      parsed: whether the number was read from the rationale; None where it was not rated.
      rationale: what the scorer wrote; several are joined.
      probabilities: of the digits 1..5 where the number was forced, else empty.
    """

    state: str = ""
    score: float | None = None
    parsed: bool | None = None
    rationale: str = ""
    probabilities: tuple[float, ...] = ()


@dataclasses.dataclass
class PairRecord:
    """One candidate pair and its way through the rounds; `flaw` is why it never became a candidate, or None."""

    id: str
    instruction: str
    output: str
    source: str
    header: str
    flaw: str | None
    grades: dict[int, Grade]

    @property
    def domain(self) -> str:
        """Host of the page's URL without `www.`, or the file's name."""
        return domain_of(self.source)


@dataclasses.dataclass(frozen=True)
class RunPairs:
    """Pairs of a run.

    Attributes:
      records: with their texts, in the order of the files; a random part of them if there are very many.
      total: number of all pairs.
      sets: statistics of the seed pairs, the candidates, and what each round kept.
      rounds: statistics of each round's ratings.
      scores: score by id, by round.
    """

    records: list[PairRecord]
    total: int
    sets: dict[str, SetStatistics]
    rounds: dict[int, RoundStatistics]
    scores: dict[int, dict[str, float]]


def read_pairs(run_dir: epath.Path, rounds: list[int], limit: int) -> RunPairs:
    """Pairs of the run, at most `limit` of them with texts: those whose ids have the smallest hashes.

    Raises:
      ValueError: a row is damaged; file and line are named.
    """
    sets: dict[str, SetStatistics] = {}
    _add_set(sets, "seed pairs", run_dir / "seeds" / "seed.jsonl")
    counted = _Counted(_base_rows(run_dir, rounds))
    if (run_dir / "augmented" / "pairs.jsonl").exists():
        sets["candidates"] = counted.statistics
    drawn = heapq.nsmallest(limit, counted, key=lambda pair: hashlib.sha256(pair[1]["id"].encode()).digest())
    records = {row["id"]: _record(row) for _, row in sorted(drawn, key=lambda pair: pair[0])}
    by_round, scores = {}, {}
    for t in rounds:
        by_round[t], scores[t] = _read_round(run_dir, t, records)
        _add_set(sets, f"kept in round {t}", run_dir / f"curated{t}" / "curated.jsonl")
    return RunPairs(list(records.values()), counted.number, sets, by_round, scores)


def domain_of(source: str) -> str:
    """Host without `www.`, or the last part of a path; a URL that cannot be read stands for itself."""
    try:
        host = urlsplit(source).hostname
    except ValueError:
        return source
    if host:
        return host.removeprefix("www.")
    return source.rstrip("/").rsplit("/", 1)[-1] or source


class _Counted:
    """(position, row) pairs of an iterator; counts them and adds candidates to the statistics."""

    def __init__(self, rows: Iterator[dict[str, Any]]) -> None:
        self.rows, self.number, self.statistics = rows, 0, SetStatistics()

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for row in self.rows:
            self.number += 1
            if row["flaw"] is None:
                self.statistics.add(row["instruction"], row["output"])
            yield self.number, row


def _base_rows(run_dir: epath.Path, rounds: list[int]) -> Iterator[dict[str, Any]]:
    """Every candidate and rejected candidate once; a run that reuses another's scores has its selections only."""
    pairs = run_dir / "augmented" / "pairs.jsonl"
    if pairs.exists():
        for _, row in read_jsonl(pairs):
            yield row | {"flaw": None}
        for row in _rows(run_dir / "augmented" / "rejected.jsonl"):
            yield row | {"flaw": row["reason"]}
    elif rounds:
        for name in ("curated.jsonl", "dropped.jsonl"):
            for row in _rows(run_dir / f"curated{rounds[0]}" / name):
                yield row | {"flaw": None}


def _rows(path: epath.Path) -> Iterator[dict[str, Any]]:
    if path.exists():
        yield from (row for _, row in read_jsonl(path))


def _record(row: dict[str, Any]) -> PairRecord:
    texts = {key: str(row.get(key) or "") for key in ("instruction", "output", "source", "header")}
    return PairRecord(id=row["id"], flaw=row["flaw"], grades={}, **texts)


def _add_set(sets: dict[str, SetStatistics], name: str, path: epath.Path) -> None:
    if not path.exists():
        return
    statistics = sets.setdefault(name, SetStatistics())
    for _, row in read_jsonl(path):
        statistics.add(row["instruction"], row["output"])


def _read_round(
    run_dir: epath.Path, t: int, records: dict[str, PairRecord]
) -> tuple[RoundStatistics, dict[str, float]]:
    """Statistics and scores of a round; the grades are added to the records."""
    statistics, scores = RoundStatistics(), {}
    for row in _rows(run_dir / f"scores{t}" / "scores.jsonl"):
        statistics.add_rating(row)
        if row["id"] in records:
            records[row["id"]].grades[t] = _grade(row)
    for name in ("curated.jsonl", "dropped.jsonl"):
        for row in _rows(run_dir / f"curated{t}" / name):
            state = row.get("reason", KEPT)
            if row["score"] is not None:
                scores[row["id"]] = row["score"]
                statistics.add_selected(row["score"], len(row["output"]), state == KEPT)
            if row["id"] in records:
                grade = records[row["id"]].grades.setdefault(t, Grade())
                grade.state, grade.score = state, row["score"]
    return statistics, scores


def _grade(row: dict[str, Any]) -> Grade:
    rationales = row.get("rationales")
    if rationales:
        rated = zip(row["ratings"], rationales, strict=True)
        rationale = "\n\n".join(f"[rating {rating:g}] {text}" for rating, text in rated)
    else:
        rationale = row.get("rationale", "")
    return Grade("", row["score"], row["parsed"], rationale, tuple(row.get("probabilities") or ()))
