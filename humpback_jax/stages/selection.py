"""Self-curation, second half (paper, section 2.3): which of the rated pairs are kept."""

import dataclasses
from collections.abc import Sequence

from humpback_jax.files import PathLike, read_jsonl, sha256_of_bytes, sha256_of_file, write_jsonl
from humpback_jax.run_files import CURATED, DROPPED, PAIRS, SCORES
from humpback_jax.stages.jobs import count_rejected
from humpback_jax.stages.stage import Stage, StageResult, begin_stage


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

    ratings = {row["id"]: row["score"] for _, row in read_jsonl(scores.directory / SCORES)}
    rows = [row | {"score": ratings.get(row["id"])} for _, row in read_jsonl(pairs.directory / PAIRS)]
    reasons = drop_reasons(rows, config)
    curated = [row for row in rows if reasons[row["id"]] is None]
    dropped = [{"reason": reasons[row["id"]]} | row for row in rows if reasons[row["id"]] is not None]
    write_jsonl(claim.folder / CURATED, curated)
    write_jsonl(claim.folder / DROPPED, dropped)
    counts = {"in": len(rows), "out": len(curated), "rejected": count_rejected(dropped)}
    return claim.finish(StageResult(counts, {"curated": sha256_of_file(claim.folder / CURATED)}))


def drop_reasons(rows: Sequence[dict], config: SelectionConfig) -> dict[str, str | None]:
    """Why each pair is dropped, by id; None where it is kept. A row is a pair with its `score`, None if unscored."""
    reasons = {row["id"]: drop_reason(row, config) for row in rows}
    if config.keep_fraction is not None:
        sound = [row for row in rows if reasons[row["id"]] is None]
        best_first = sorted(sound, key=lambda row: (-row["score"], row["id"]))
        below = best_first[round(config.keep_fraction * len(rows)) :]
        reasons |= {row["id"]: "below_best_fraction" for row in below}
    if config.sample is not None:
        kept = [name for name, reason in reasons.items() if reason is None]
        reasons |= dict.fromkeys(sorted(kept, key=_draw)[config.sample :], "not_sampled")
    return reasons


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


def _draw(name: str) -> str:
    """A place in a random order that depends on the name alone."""
    return sha256_of_bytes(name.encode())


def copied_share(instruction: str, output: str, run: int = 5) -> float:
    """Share of the instruction's runs of `run` words that also stand in the output; 0 for shorter instructions."""
    words, source = instruction.lower().split(), output.lower().split()
    runs = [tuple(words[i : i + run]) for i in range(len(words) - run + 1)]
    present = {tuple(source[i : i + run]) for i in range(len(source) - run + 1)}
    return sum(r in present for r in runs) / len(runs) if runs else 0.0
