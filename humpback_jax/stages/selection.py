"""Self-curation, second half (paper, section 2.3): which of the rated pairs are kept."""

import dataclasses

from etils import epath

from humpback_jax.files import PathLike, read_jsonl, sha256_of_bytes, sha256_of_file, write_jsonl
from humpback_jax.stages.augment import PAIRS
from humpback_jax.stages.generation import count_rejected
from humpback_jax.stages.rating import SCORES
from humpback_jax.stages.stage import Stage, StageResult, run_stage

CURATED, DROPPED = "curated.jsonl", "dropped.jsonl"


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

    def body(folder: epath.Path) -> StageResult:
        rows = [row for _, row in read_jsonl(pairs.directory / PAIRS)]
        ratings = {row["id"]: row["score"] for _, row in read_jsonl(scores.directory / SCORES)}
        reasons = {row["id"]: flaw_of(row, ratings.get(row["id"]), config) for row in rows}
        if config.keep_fraction is not None:
            room = round(config.keep_fraction * len(rows))
            sound = [row["id"] for row in rows if reasons[row["id"]] is None]
            best = sorted(sound, key=lambda name: (-ratings[name], name))
            reasons |= dict.fromkeys(best[room:], "below_best_fraction")
        if config.sample is not None:
            kept = [name for name, reason in reasons.items() if reason is None]
            reasons |= dict.fromkeys(sorted(kept, key=_draw)[config.sample :], "not_sampled")
        curated, dropped = [], []
        for row in rows:
            rated = row | {"score": ratings.get(row["id"])}
            if reasons[row["id"]] is None:
                curated.append(rated)
            else:
                dropped.append({"reason": reasons[row["id"]]} | rated)
        write_jsonl(folder / CURATED, curated)
        write_jsonl(folder / DROPPED, dropped)
        counts = {"in": len(rows), "out": len(curated), "rejected": count_rejected(dropped)}
        return StageResult(counts, {"curated": sha256_of_file(folder / CURATED)})

    return run_stage(directory, {"selection": config}, inputs, body)


def _draw(name: str) -> str:
    """A place in a random order that depends on the name alone."""
    return sha256_of_bytes(name.encode())


def flaw_of(pair: dict, score: float | None, config: SelectionConfig) -> str | None:
    """Why a pair is dropped whatever the others are, or None."""
    length = len(pair["instruction"])
    if score is None:
        return "unscored"
    if length < config.min_instruction_chars:
        return "instruction_too_short"
    if length > config.max_instruction_chars:
        return "instruction_too_long"
    if config.max_copied < 1.0 and copied_share(pair["instruction"], pair["output"]) > config.max_copied:
        return "instruction_copies_output"
    if config.keep_fraction is None and score < config.min_score:
        return "below_min_score"
    return None


def copied_share(instruction: str, output: str, run: int = 5) -> float:
    """Share of the instruction's runs of `run` words that also stand in the output; 0 for shorter instructions."""
    words, source = instruction.lower().split(), output.lower().split()
    runs = [tuple(words[i : i + run]) for i in range(len(words) - run + 1)]
    present = {tuple(source[i : i + run]) for i in range(len(source) - run + 1)}
    return sum(r in present for r in runs) / len(runs) if runs else 0.0
