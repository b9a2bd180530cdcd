"""Self-curation, second half (paper, section 2.3): which of the rated pairs are kept."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from humpback_jax.files import PathLike, in_blocks, read_jsonl, sha256_of_bytes, sha256_of_file
from humpback_jax.run_files import CURATED, DROPPED, PAIRS, SCORES
from humpback_jax.stages.stage import Stage, StageResult, begin_stage, write_by_reason

BLOCK = 4096  # rows that are in memory at a time


@dataclasses.dataclass(frozen=True)
class SelectionConfig:
    """Which rated pairs are kept.

    Attributes:
      min_score: the paper's A_5 is a score of at least 4.5.
      keep_fraction: keep this fraction of A, best first, whatever the absolute scores; `min_score` is then not used.
        Small scorers rate too coarsely for an absolute cut.
      min_instruction_chars, max_instruction_chars: instructions outside are dropped.
      max_copied: largest share of an instruction's words that may stand, in the same order, in a row of its output; an
        instruction that copies its output is dropped. 1.0 switches the test off.
      sample: of all these keep at most so many, drawn by their ids whatever their scores; a smaller sample is part of a
        larger one. For scaling curves.
    """

    min_score: float = 4.5
    keep_fraction: float | None = None
    min_instruction_chars: int = 10
    max_instruction_chars: int = 800
    max_copied: float = 0.8
    sample: int | None = None


def select(directory: PathLike, pairs: Stage, scores: Stage, config: SelectionConfig) -> Stage:
    """Splits A into DIRECTORY/curated.jsonl (A_k) and dropped.jsonl, which has a reason per row."""
    inputs = {"pairs": pairs.outputs["pairs"], "scores": scores.outputs["scores"]}
    claim = begin_stage(directory, {"selection": config}, inputs)
    if claim.finished:
        return claim.stage

    files = pairs.directory / PAIRS, scores.directory / SCORES
    reasons = drop_reasons(_rated(*files), config)
    curated = claim.folder / CURATED
    counts = write_by_reason(curated, claim.folder / DROPPED, zip(reasons, _rated(*files), strict=True))
    return claim.finish(StageResult(counts, {"curated": sha256_of_file(curated)}))


def _rated(pairs: PathLike, scores: PathLike) -> Iterator[dict]:
    """Every pair with its `score`, None where it has none; the scores are in the order of the pairs.

    Raises:
      ValueError: a score has no pair, or stands in another order.
    """
    ratings = (row for _, row in read_jsonl(scores))
    rating = next(ratings, None)
    for _, pair in read_jsonl(pairs):
        if rating is None or rating["id"] != pair["id"]:
            yield pair | {"score": None}
        else:
            yield pair | {"score": rating["score"]}
            rating = next(ratings, None)
    if rating is not None:
        raise ValueError(f"{scores}: {rating['id']!r} is no pair of {pairs}, or out of order; rate the pairs again")


def drop_reasons(rows: Iterable[dict], config: SelectionConfig) -> np.ndarray:
    """Why each pair is dropped, None where it is kept: object [pairs].

    A row is a pair with its `score`, None if unscored. Of every pair its reason, id and score are held.
    """
    columns = [_columns([], config), *(_columns(block, config) for block in in_blocks(rows, BLOCK))]
    reasons, scores, ids = map(np.concatenate, zip(*columns, strict=True))
    if config.keep_fraction is not None:
        sound = _without_reason(reasons)
        best_first = sound[np.lexsort((ids[sound], -scores[sound]))]
        reasons[best_first[round(config.keep_fraction * len(reasons)) :]] = "below_best_fraction"
    if config.sample is not None:
        kept = _without_reason(reasons)
        draws = np.asarray([_draw(name) for name in ids[kept]], "S")
        reasons[kept[np.argsort(draws, kind="stable")][config.sample :]] = "not_sampled"
    return reasons


def _columns(rows: Sequence[dict], config: SelectionConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reasons that depend on a row alone, scores, and ids as UTF-8, whose order is that of the texts."""
    reasons = np.asarray([drop_reason(row, config) for row in rows], object)
    scores = np.asarray([row["score"] for row in rows], np.float64)
    return reasons, scores, np.asarray([row["id"].encode() for row in rows], "S")


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
    if config.keep_fraction is None and row["score"] < config.min_score:
        return "below_min_score"
    return None


def _draw(name: bytes) -> bytes:
    """A place in a random order that depends on the name alone."""
    return sha256_of_bytes(name).encode()


def copied_share(instruction: str, output: str, run: int = 5) -> float:
    """Share of the instruction's runs of `run` words that also stand in the output; 0 for shorter instructions."""
    words, source = instruction.lower().split(), output.lower().split()
    runs = [tuple(words[i : i + run]) for i in range(len(words) - run + 1)]
    present = {tuple(source[i : i + run]) for i in range(len(source) - run + 1)}
    return sum(r in present for r in runs) / len(runs) if runs else 0.0
