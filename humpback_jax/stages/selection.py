"""Self-curation, second half (paper, section 2.3): which of the rated pairs are kept."""

import collections
import dataclasses
import json
import operator
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any

import numpy as np

from humpback_jax.curation.curator import Curator, expected_quality
from humpback_jax.curation.diversity import NONE, k_centre, read_vectors
from humpback_jax.curation.signals import SIGNALS
from humpback_jax.curation.text_signals import copied_share
from humpback_jax.data.pairs import domain_of
from humpback_jax.files import PathLike, in_blocks, read_jsonl, sha256_of_bytes, sha256_of_file
from humpback_jax.ranges import NaturalInt, OneOf, PositiveInt, Range, Share, Text, check_fields
from humpback_jax.run_files import CURATED, DROPPED, PAIRS, SCORES, VECTORS
from humpback_jax.runtime.console import say
from humpback_jax.stages.stage import Identity, Stage, StageResult, begin_stage, plain, write_by_reason

POOL = 2  # of so many times as many pairs as are kept those that differ are chosen
BLOCK = 4096  # rows that are in memory at a time
RATING, CURATOR = "rating", "curator"
PAPER_SCALE = (1.0, 5.0)  # of ratings whose manifest says nothing else
_GATE = re.compile(r"\s*(\w+)\s*(>=|<=)\s*([+-]?\d+(?:\.\d+)?)\s*")
_LATER_FIELDS = ("by", "min_p_good", "gates", "length_bins", "max_per_domain")


@dataclasses.dataclass(frozen=True)
class SelectionConfig:
    """Which rated pairs are kept.

    Attributes:
      by: what ranks the pairs: `rating`, or `curator`: its p(good).
      min_score: on the rubric's scale; the paper's A_5 is a score of at least 4.5 of 5. Not used with `keep_fraction`,
        or by `curator`.
      min_p_good: by `curator`, keep what is at least so likely to be good.
      keep_fraction: keep this fraction of A, best first, whatever the absolute scores. Small scorers rate too coarsely
        for an absolute cut. Ties at the cut are decided by the ids.
      gates: conditions on single signals that every kept pair must meet, such as `fit >= 0` or `copy <= 0.5`.
      length_bins: `keep_fraction` is kept of each of so many bins of equal size by the length of the output, so that
        the cut prefers no length.
      max_per_domain: at most so many pairs of one site; the next best of others come in for the rest.
      min_instruction_chars, max_instruction_chars: instructions outside are dropped.
      max_copied: largest share of an instruction's words that may stand, in the same order, in a row of its output; an
        instruction that copies its output is dropped. 1.0 switches the test off.
      sample: of all these keep at most so many, drawn by their ids whatever their scores; a smaller sample is part of a
        larger one. For scaling curves.
    """

    min_score: Annotated[float, Range(0)] = 4.5
    keep_fraction: Annotated[float, Range(above=0, most=1)] | None = None
    min_instruction_chars: NaturalInt = 10
    max_instruction_chars: PositiveInt = 800
    max_copied: Share = 0.8
    sample: PositiveInt | None = None
    by: Annotated[str, OneOf(RATING, CURATOR)] = RATING
    min_p_good: Share | None = None
    gates: tuple[Text, ...] = ()
    length_bins: PositiveInt = 1
    max_per_domain: PositiveInt | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.min_instruction_chars > self.max_instruction_chars:
            raise ValueError(
                f"SelectionConfig.min_instruction_chars is {self.min_instruction_chars}, above max_instruction_chars = "
                f"{self.max_instruction_chars}: every pair would be dropped"
            )
        for gate in self.gates:
            _parse_gate(gate)

    @property
    def by_min_score(self) -> bool:
        """Whether an absolute rating decides."""
        return self.by == RATING and self.keep_fraction is None

    def check_scale(self, low: float, high: float) -> None:
        """ValueError where `min_score` decides and ratings, which go from `low` to `high`, cannot be on both sides."""
        if self.by_min_score and not low <= self.min_score <= high:
            raise ValueError(
                f"SelectionConfig.min_score is {self.min_score:g}, and by this rubric ratings go from {low:g} to "
                f"{high:g}; give a bound on that scale, or keep a share: SelectionConfig.keep_fraction"
            )

    @property
    def needs_signals(self) -> bool:
        """Whether ratings alone do not decide."""
        return self.by == CURATOR or bool(self.gates)

    def identity(self) -> dict[str, Any]:
        """What decides the selection; fields that came later are named where they are used."""
        defaults = plain(SelectionConfig())
        return {k: v for k, v in plain(self).items() if k not in _LATER_FIELDS or v != defaults[k]}


def _parse_gate(gate: str) -> tuple[str, Any, float]:
    """Signal, comparison and bound of `NAME >= NUMBER`."""
    match = _GATE.fullmatch(gate)
    if match is None or match[1] not in SIGNALS:
        raise ValueError(
            f"SelectionConfig.gates: {gate!r} is no condition; write `SIGNAL >= NUMBER` or `SIGNAL <= NUMBER` with one "
            f"of {', '.join(SIGNALS)}"
        )
    return match[1], operator.ge if match[2] == ">=" else operator.le, float(match[3])


def select(
    directory: PathLike,
    pairs: Stage,
    scores: Stage,
    config: SelectionConfig,
    curator: Curator | None = None,
    diversity: str = NONE,
) -> Stage:
    """Splits A into DIRECTORY/curated.jsonl (A_k) and dropped.jsonl, which has a reason per row.

    With `diversity` the pairs differ from one another, see `CurationConfig.diversity`.

    Raises:
      ValueError: nothing is kept (a histogram says where the pairs are), or a signal that decides is missing.
    """
    if config.by == CURATOR and curator is None:
        raise ValueError("SelectionConfig.by is 'curator', and the recipe has none; set Recipe.curator")
    weights = hash_of_curator(curator) if config.by == CURATOR and curator is not None else None
    if diversity != NONE and "vectors" not in scores.outputs:
        raise ValueError(
            f"{scores.directory} has no {VECTORS}, by which pairs differ; rate the pairs with "
            f"CurationConfig.diversity = {diversity!r}"
        )
    hashes = pairs.outputs["pairs"], scores.outputs["scores"]
    vectors = None if diversity == NONE else scores.outputs["vectors"]
    identity = curated_identity(*hashes, config, weights, vectors)
    claim = begin_stage(directory, *identity, replaces=True)
    if claim.finished:
        return claim.stage

    low, high = scores.manifest.get("figures", {}).get("scale", PAPER_SCALE)
    config.check_scale(low, high)
    if config.by_min_score and config.min_score < (low + high) / 2:
        say(
            f"[yellow]{claim.folder.name}: SelectionConfig.min_score = {config.min_score:g} keeps what is rated below "
            f"the middle of the scale, {low:g} to {high:g}[/yellow]"
        )
    files = pairs.directory / PAIRS, scores.directory / SCORES
    rated = Rated(*files, curator if config.by == CURATOR else None)
    reasons = drop_reasons(rated, config, read_vectors(scores.directory / VECTORS) if vectors else None)
    if all(reason is not None for reason in reasons):
        raise ValueError(f"{claim.folder}: no pair is kept; {_where_pairs_are(rated, reasons, config, (low, high))}")
    curated = claim.folder / CURATED
    counts = write_by_reason(curated, claim.folder / DROPPED, zip(reasons, rated, strict=True))
    figures = _expected(rated, reasons) if config.by == CURATOR else {}
    if figures:
        say(_in_words(claim.folder.name, figures["expected"]))
    return claim.finish(StageResult(counts, {"curated": sha256_of_file(curated)}, figures))


def curated_identity(
    pairs: str, scores: str, config: SelectionConfig, curator: str | None, vectors: str | None = None
) -> Identity:
    """What decides a selection, with the hashes of pairs, scores and, where they are used, of curator and vectors."""
    used = {"curator": curator, "vectors": vectors}
    inputs = {"pairs": pairs, "scores": scores} | {name: value for name, value in used.items() if value is not None}
    return {"selection": config.identity()}, inputs


def hash_of_curator(curator: Curator) -> str:
    """Of its weights, however they were learned."""
    return sha256_of_bytes(json.dumps(plain(curator), sort_keys=True).encode())


def _expected(rows: Iterable[dict], reasons: np.ndarray) -> dict[str, Any]:
    """Precision and recall that the curator promises, before anything is trained on what is kept."""
    probabilities = np.asarray([row["p_good"] or 0.0 for row in rows])
    kept = np.asarray([reason is None for reason in reasons])
    return {"expected": expected_quality(probabilities, kept)}


def _in_words(name: str, expected: dict[str, dict[str, float]]) -> str:
    parts = [f"{key} {each['value']:.2f} [{each['low']:.2f}, {each['high']:.2f}]" for key, each in expected.items()]
    return f"{name}: of the kept pairs the curator expects {', '.join(parts)}".replace("[", "\\[")


def _where_pairs_are(
    rows: Iterable[dict], reasons: np.ndarray, config: SelectionConfig, scale: tuple[float, float]
) -> str:
    """Reasons and a histogram, for a selection that keeps nothing; `scale`: the lowest rating and the highest."""
    by_reason = ", ".join(f"{n} {reason}" for reason, n in collections.Counter(reasons.tolist()).most_common())
    name = "p_good" if config.by == CURATOR else "score"
    values = [row[name] for row in rows if row[name] is not None]
    if not values:
        return f"{by_reason or 'there are no pairs'}"
    counts, edges = np.histogram(values, bins=8, range=(0.0, 1.0) if config.by == CURATOR else scale)
    bins = zip(edges, edges[1:], counts, strict=False)
    histogram = "  ".join(f"{a:.2f}-{b:.2f}: {n}" for a, b, n in bins)
    bound = "min_p_good" if config.by == CURATOR else "min_score"
    return f"{by_reason}. Pairs by {name}: {histogram}. Lower SelectionConfig.{bound}, or keep a share: keep_fraction"


@dataclasses.dataclass(frozen=True)
class Rated:
    """Every pair with its `score`, None where it has none; with `signals` and `p_good` where there are any.

    The scores are in the order of the pairs. Can be read as often as wanted.
    """

    pairs: PathLike
    scores: PathLike
    curator: Curator | None = None

    def __iter__(self) -> Iterator[dict]:
        """Rows; ValueError where a score has no pair, or stands in another order."""
        for block in in_blocks(self._joined(), BLOCK):
            yield from block if self.curator is None else _with_p_good(block, self.curator)

    def _joined(self) -> Iterator[dict]:
        ratings = (row for _, row in read_jsonl(self.scores))
        rating = next(ratings, None)
        for _, pair in read_jsonl(self.pairs):
            if rating is None or rating["id"] != pair["id"]:
                yield pair | {"score": None}
            else:
                yield pair | {key: rating[key] for key in ("score", "signals") if key in rating}
                rating = next(ratings, None)
        if rating is not None:
            raise ValueError(
                f"{self.scores}: {rating['id']!r} is no pair of {self.pairs}, or out of order; rate the pairs again"
            )


def _with_p_good(rows: Sequence[dict], curator: Curator) -> Iterator[dict]:
    """The rows with the curator's probability, None where a pair was not rated."""
    rated = [row for row in rows if row["score"] is not None]
    if missing := [row["id"] for row in rated if "signals" not in row]:
        raise ValueError(f"pair {missing[0]!r} has no signals for the curator; set Recipe.curator and rate A again")
    probabilities = dict(
        zip((row["id"] for row in rated), curator.probabilities([row["signals"] for row in rated]), strict=True)
    )
    for row in rows:
        p_good = probabilities.get(row["id"])
        yield row | {"p_good": None if p_good is None else float(p_good)}


def drop_reasons(rows: Iterable[dict], config: SelectionConfig, vectors: np.ndarray | None = None) -> np.ndarray:
    """Why each pair is dropped, None where it is kept: object [pairs].

    A row is a pair with its `score`, None if unscored. Of every pair its reason, rank, length, domain, id and segment
    are held. With vectors, one of every pair that has a score, those are kept that differ most.
    """
    blocks = [_columns([], config), *(_columns(block, config) for block in in_blocks(rows, BLOCK))]
    reasons, ranks, lengths, domains, ids, segments = map(np.concatenate, zip(*blocks, strict=True))
    _keep_one_per_segment(reasons, ranks, segments, ids)
    columns = _Columns(reasons, ranks, lengths, domains, ids, segments)
    if config.keep_fraction is not None or config.max_per_domain is not None:
        _keep_best(columns, config, 1 if vectors is None else POOL)
    if vectors is not None:
        _keep_different(columns, config, vectors)
    elif config.sample is not None:
        kept = _without_reason(reasons)
        draws = np.asarray([_draw(name) for name in ids[kept]], "S")
        reasons[kept[np.argsort(draws, kind="stable")][config.sample :]] = "not_sampled"
    return reasons


def _keep_one_per_segment(reasons: np.ndarray, ranks: np.ndarray, segments: np.ndarray, ids: np.ndarray) -> None:
    """Writes a reason for every candidate whose segment has a better one; ties are decided by the ids."""
    sound = _without_reason(reasons)
    best_first = sound[np.lexsort((ids[sound], -ranks[sound], segments[sound]))]
    named = segments[best_first]
    repeated = np.flatnonzero(named[1:] == named[:-1]) + 1
    reasons[best_first[repeated[named[repeated] != b""]]] = "not_best_candidate"


@dataclasses.dataclass(frozen=True)
class _Columns:
    """What is held of every pair; see `drop_reasons`."""

    reasons: np.ndarray  # object
    ranks: np.ndarray  # float64
    lengths: np.ndarray  # int64, characters of the output
    domains: np.ndarray  # bytes
    ids: np.ndarray  # bytes
    segments: np.ndarray  # bytes, empty where there is one candidate per segment

    def of_different_segments(self) -> np.ndarray:
        """One place of every segment."""
        named = np.flatnonzero(self.segments != b"")
        _, first = np.unique(self.segments[named], return_index=True)
        return np.concatenate([np.flatnonzero(self.segments == b""), named[first]])


def _keep_different(columns: _Columns, config: SelectionConfig, vectors: np.ndarray) -> None:
    """Writes a reason for the pairs that resemble others, beginning with the best one; see `k_centre`."""
    sound = _without_reason(columns.reasons)
    room = len(sound) if config.sample is None else config.sample
    if config.keep_fraction is not None:
        room = min(room, round(config.keep_fraction * len(columns.of_different_segments())))
    if len(sound) <= room:
        return
    places = np.cumsum(~np.isnan(columns.ranks)) - 1  # of the pairs' vectors
    best = np.lexsort((columns.ids[sound], -columns.ranks[sound]))[0]
    taken = k_centre(vectors[places[sound]], columns.ids[sound], int(best), room)
    columns.reasons[np.delete(sound, taken)] = "not_different"


def _keep_best(columns: _Columns, config: SelectionConfig, times: int) -> None:
    """Writes reasons for what is below the best fraction of its bin of lengths, and over the cap of its domain.

    The fraction is so many `times` that of the configuration.
    """
    order = np.lexsort((columns.ids, columns.lengths))
    bins = np.empty(len(order), np.int64)
    bins[order] = np.arange(len(order)) * config.length_bins // max(1, len(order))
    fraction = 1.0 if config.keep_fraction is None else min(1.0, times * config.keep_fraction)
    sizes = np.bincount(bins[columns.of_different_segments()], minlength=config.length_bins)
    room = [round(fraction * int(size)) for size in sizes]
    sound = _without_reason(columns.reasons)
    taken: collections.Counter[bytes] = collections.Counter()
    for i in sound[np.lexsort((columns.ids[sound], -columns.ranks[sound]))]:
        if config.max_per_domain is not None and taken[columns.domains[i]] >= config.max_per_domain:
            columns.reasons[i] = "domain_full"
        elif not room[bins[i]]:
            columns.reasons[i] = "below_best_fraction"
        else:
            taken[columns.domains[i]] += 1
            room[bins[i]] -= 1


def _columns(rows: Sequence[dict], config: SelectionConfig) -> tuple[np.ndarray, ...]:
    """Reasons that depend on a row alone, what ranks it, length, domain, and id as UTF-8, whose order is the texts'."""
    name = "p_good" if config.by == CURATOR else "score"
    reasons = np.asarray([drop_reason(row, config) for row in rows], object)
    ranks = np.asarray([row[name] for row in rows], np.float64)
    lengths = np.asarray([len(row["output"]) for row in rows], np.int64)
    domains = np.asarray([domain_of(row["source"]).encode() for row in rows], "S")
    segments = np.asarray([row.get("segment", "").encode() for row in rows], "S")
    return reasons, ranks, lengths, domains, np.asarray([row["id"].encode() for row in rows], "S"), segments


def _without_reason(reasons: np.ndarray) -> np.ndarray:
    return np.flatnonzero([reason is None for reason in reasons])


def drop_reason(row: dict, config: SelectionConfig) -> str | None:
    """Why a pair is dropped whatever the others are, or None."""
    length = len(row["instruction"])
    if row["score"] is None:
        return "unscored"
    if length < config.min_instruction_chars:
        return "instruction_too_short"
    if length > config.max_instruction_chars:
        return "instruction_too_long"
    if config.max_copied < 1.0 and copied_share(row["instruction"], row["output"]) > config.max_copied:
        return "instruction_copies_output"
    for name, compare, bound in map(_parse_gate, config.gates):
        if "signals" not in row:
            raise ValueError(f"pair {row['id']!r} has no signals for the gates; set Recipe.curator and rate A again")
        if not compare(row["signals"][name], bound):
            return f"gate_{name}"
    if config.by == CURATOR:
        return "below_min_p_good" if config.min_p_good is not None and row["p_good"] < config.min_p_good else None
    if config.keep_fraction is None and row["score"] < config.min_score:
        return "below_min_score"
    return None


def _draw(name: bytes) -> bytes:
    """A place in a random order that depends on the name alone."""
    return sha256_of_bytes(name).encode()
