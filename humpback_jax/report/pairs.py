"""The pairs of a run with all that happened to them, and statistics over every one of them, read in one pass.

Texts are kept in memory for a bounded number of pairs only; the statistics are of all.
"""

import dataclasses
import hashlib
import heapq
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from etils import epath

from humpback_jax import run_files
from humpback_jax.curation.curator import Curator
from humpback_jax.curation.features import FEATURES
from humpback_jax.curation.signals import SIGNALS
from humpback_jax.data.pairs import domain_of
from humpback_jax.report.run_data import RunData, read_rows
from humpback_jax.report.statistics import RoundStatistics, SetStatistics
from humpback_jax.report.why import KEPT, why_sentence


@dataclasses.dataclass
class Verdict:
    """What one round made of a pair.

    Attributes:
      state: "kept", or the reason why it was dropped.
      rating: on the rubric's scale, None where it was not rated.
      parsed: whether the number was read from the rationale; None where it was not rated.
      rationale: what the scorer wrote; several are joined.
      probabilities: of what may be said, from the worst to the best, where the number was forced, else empty.
      signals: in the order of SIGNALS, nan where one is missing; empty where none was measured.
      p_good: what the curator thinks of it; None without one.
      why: why it was kept or dropped, in a sentence.
    """

    state: str = ""
    rating: float | None = None
    parsed: bool | None = None
    rationale: str = ""
    probabilities: tuple[float, ...] = ()
    signals: tuple[float, ...] = ()
    p_good: float | None = None
    why: str = ""


@dataclasses.dataclass
class PairRecord:
    """One pair and its way through the rounds; `rejected` is the reason why it never became a candidate, or None."""

    id: str
    instruction: str
    output: str
    source: str
    header: str
    rejected: str | None
    verdicts: dict[int, Verdict]

    @property
    def domain(self) -> str:
        """Host of the page's URL without `www.`, or the file's name."""
        return domain_of(self.source)

    def state(self, t: int) -> str:
        """What became of it in a round: "kept", a reason, or "" where nothing has been decided."""
        if self.rejected is not None:
            return self.rejected
        return self.verdicts[t].state if t in self.verdicts else ""


@dataclasses.dataclass(frozen=True)
class RunPairs:
    """Pairs of a run.

    Attributes:
      records: with their texts, in the order of the files; a random part of them if there are very many.
      total: number of all pairs.
      sets: statistics of the seed pairs, the candidates, and what each round kept.
      rounds: statistics of each round's ratings.
    """

    records: list[PairRecord]
    total: int
    sets: dict[str, SetStatistics]
    rounds: dict[int, RoundStatistics]


def read_pairs(run: RunData, limit: int) -> RunPairs:
    """Pairs of the run, at most `limit` of them with texts: those whose ids have the smallest hashes.

    Raises:
      ValueError: a row is damaged; file and line are named.
    """
    run_dir, rounds = run.run_dir, run.rounds
    counted = _Counted(_base_rows(run_dir, rounds))
    drawn = heapq.nsmallest(limit, counted, key=lambda pair: hashlib.sha256(pair[1]["id"].encode()).digest())
    records = {row["id"]: _record(row) for _, row in sorted(drawn, key=lambda pair: pair[0])}
    statistics = {t: _read_round(run_dir, t, records) for t in rounds}
    for t in rounds:
        if statistics[t].has_signals:
            _explain(records.values(), t, statistics[t].cut, run.curators.get(t), run.selection_settings(t))
    files = {
        "seed pairs": run_dir / run_files.SEEDS_STAGE / run_files.SEED_PAIRS,
        "candidates": run_dir / run_files.AUGMENTED_STAGE / run_files.PAIRS,
    }
    curated = {t: run_dir / run_files.CURATED_STAGE.format(t=t) for t in rounds}
    files |= {f"kept in round {t}": folder / run_files.CURATED for t, folder in curated.items()}
    sets = {
        name: counted.statistics if name == "candidates" else _set_statistics(path)
        for name, path in files.items()
        if path.exists()
    }
    return RunPairs(list(records.values()), counted.number, sets, statistics)


class _Counted:
    """(position, row) pairs of an iterator; counts them and adds candidates to the statistics."""

    def __init__(self, rows: Iterator[dict[str, Any]]) -> None:
        self.rows, self.number, self.statistics = rows, 0, SetStatistics()

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for row in self.rows:
            self.number += 1
            if row["rejected"] is None:
                self.statistics.add(row["instruction"], row["output"])
            yield self.number, row


def _base_rows(run_dir: epath.Path, rounds: list[int]) -> Iterator[dict[str, Any]]:
    """Every candidate and rejected candidate once; a run that reuses another's ratings has its selections only."""
    folder = run_dir / run_files.AUGMENTED_STAGE
    if (folder / run_files.PAIRS).exists():
        yield from (row | {"rejected": None} for row in read_rows(folder / run_files.PAIRS))
        yield from (row | {"rejected": row["reason"]} for row in read_rows(folder / run_files.REJECTED))
    elif rounds:
        yield from (row | {"rejected": None} for row in _selection(run_dir, rounds[0]))


def _selection(run_dir: epath.Path, t: int) -> Iterator[dict[str, Any]]:
    """What a round kept, then what it dropped."""
    for name in (run_files.CURATED, run_files.DROPPED):
        yield from read_rows(run_dir / run_files.CURATED_STAGE.format(t=t) / name)


def _record(row: dict[str, Any]) -> PairRecord:
    texts = {key: str(row.get(key) or "") for key in ("instruction", "output", "source", "header")}
    return PairRecord(id=row["id"], rejected=row["rejected"], verdicts={}, **texts)


def _set_statistics(path: epath.Path) -> SetStatistics:
    statistics = SetStatistics()
    for row in read_rows(path):
        statistics.add(row["instruction"], row["output"])
    return statistics


def _read_round(run_dir: epath.Path, t: int, records: dict[str, PairRecord]) -> RoundStatistics:
    """Statistics of a round; the records learn its verdicts."""
    statistics = RoundStatistics()
    for row in read_rows(run_dir / run_files.SCORES_STAGE.format(t=t) / run_files.SCORES):
        statistics.add_rating(row)
        if row["id"] in records:
            records[row["id"]].verdicts[t] = _verdict(row)
    for row in _selection(run_dir, t):
        state = row.get("reason", KEPT)
        if row["score"] is not None:
            statistics.add_selected(row, state == KEPT)
        if row["id"] in records:
            verdict = records[row["id"]].verdicts.setdefault(t, Verdict())
            verdict.state, verdict.rating, verdict.p_good = state, row["score"], row.get("p_good")
            verdict.signals = _signal_values(row.get("signals"))
    return statistics


def _signal_values(signals: Mapping[str, float] | None) -> tuple[float, ...]:
    """Values in the order of SIGNALS: tuples, as a mapping for each of many pairs takes three times the memory."""
    return () if signals is None else tuple(signals.get(name, math.nan) for name in SIGNALS)


def _explain(
    records: Iterable[PairRecord],
    t: int,
    cut: float | None,
    curator: Curator | None,
    settings: Mapping[str, Any],
) -> None:
    """Gives every verdict of a round its sentence."""
    verdicts = [record.verdicts[t] for record in records if t in record.verdicts]
    measured = [
        None if verdict.p_good is None else dict(zip(SIGNALS, verdict.signals, strict=False)) for verdict in verdicts
    ]
    for verdict, contributions in zip(verdicts, contributions_of(measured, curator), strict=True):
        rank = verdict.rating if contributions is None else verdict.p_good
        verdict.why = why_sentence(verdict.state, rank, cut, contributions, settings)


def contributions_of(
    rows: Sequence[Mapping[str, float] | None], curator: Curator | None
) -> list[dict[str, float] | None]:
    """What each feature adds to the logit of each row of signals; None for None, and where a signal is missing."""
    found: list[dict[str, float] | None] = [None] * len(rows)
    if curator is None:
        return found
    needed = [FEATURES[name].signal for name in curator.scales]
    whole = {i: row for i, row in enumerate(rows) if row and all(math.isfinite(row.get(n, math.nan)) for n in needed)}
    for i, terms in zip(whole, curator.terms(list(whole.values())).tolist(), strict=True):
        found[i] = dict(zip(curator.scales, terms, strict=True))
    return found


def _verdict(row: dict[str, Any]) -> Verdict:
    rationale = row.get("rationale", "")
    if row.get("rationales"):
        rated = zip(row["ratings"], row["rationales"], strict=True)
        rationale = "\n\n".join(f"[rating {rating:g}] {text}" for rating, text in rated)
    return Verdict("", row["score"], row["parsed"], rationale, tuple(row.get("probabilities") or ()))
