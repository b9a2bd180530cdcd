"""Self-augmentation (paper, section 2.2): M_yx writes the instruction that each web segment answers."""

import collections
import functools
from collections.abc import Iterator

from humpback_jax.corpus.segment_files import shard_paths
from humpback_jax.curation.openings import Openings, learn_openings
from humpback_jax.data.mixture import PairSet
from humpback_jax.files import JsonLines, PathLike, sha256_of_file
from humpback_jax.prompts.prompts import Prompts
from humpback_jax.run_files import PAIRS, REJECTED, SEGMENTS
from humpback_jax.runtime.processes import is_leader
from humpback_jax.stages.items import JobItems, Prompted, Repeated, Rows
from humpback_jax.stages.jobs import Completions, GenerationConfig, JobResult, longest_prompt, run_job
from humpback_jax.stages.model import ModelHandle
from humpback_jax.stages.stage import Identity, Stage, StageResult, begin_stage, write_by_reason

FRAMED = ("a", "1")  # contents that share no token


def augment(
    directory: PathLike,
    backward_model: ModelHandle,
    segments: Stage,
    prompts: Prompts,
    config: GenerationConfig,
    candidates: int = 1,
    steered_by: PairSet | None = None,
) -> Stage:
    """Writes the candidate pairs A: DIRECTORY/pairs.jsonl, and rejected.jsonl with a reason per row.

    A segment is rejected when its prompt is longer than the engine's (`prompt_too_long`), and when its instruction is
    empty (`empty_instruction`) or was cut by the limit (`truncated`). Of several `candidates` per segment each is a
    pair of its own, `ID#0`, `ID#1`, …, with the segment's id under `segment`; the selection keeps one at most. With
    `steered_by` all but the first begin as those seed instructions do whose output has the shape of the segment.
    """
    model, chat_format = backward_model.sha256, backward_model.chat_format.name
    seeds = None if steered_by is None else steered_by.sha256
    cut = segments.outputs["segments"]
    identity = augmented_identity(model, cut, chat_format, prompts, config, candidates, seeds)
    claim = begin_stage(directory, *identity, shared=True, replaces=True)
    if claim.finished:
        return claim.stage

    rows: Rows[dict] = JsonLines(shard_paths(segments.directory, SEGMENTS))
    rows = Repeated(rows, candidates) if candidates > 1 else rows
    openings = None if steered_by is None else learn_openings(steered_by.read())
    prompted = functools.partial(_prompted, backward_model, prompts, openings, candidates)
    frames = backward_model.all_prompt_ids([prompts.backward(text) for text in FRAMED])
    items = JobItems(rows, prompted, longest_prompt(backward_model, config), "segments", frames)
    job = Completions(backward_model, config, "instruction")
    written = run_job(claim.folder, job, items, config, "augment", claim.earlier)
    if not any(reason is None for reason, _ in _candidates(written, candidates)):
        reasons = dict(
            sorted(collections.Counter(str(reason) for reason, _ in _candidates(written, candidates)).items())
        )
        raise ValueError(
            f"{claim.folder}: none of {items.number} segments got a usable instruction ({reasons}); train M_yx longer, "
            "or raise EngineConfig.max_new_tokens and EngineConfig.prompt_buckets of augmentation"
        )
    if not is_leader():
        return claim.finish(None)
    counts = write_by_reason(claim.folder / PAIRS, claim.folder / REJECTED, _candidates(written, candidates))
    figures = written.figures if openings is None else written.figures | {"openings": openings.of_shape}
    return claim.finish(StageResult(counts, {"pairs": sha256_of_file(claim.folder / PAIRS)}, figures))


def augmented_identity(
    model: str,
    segments: str,
    chat_format: str,
    prompts: Prompts,
    config: GenerationConfig,
    candidates: int,
    seeds: str | None,
) -> Identity:
    """What decides A, with the hashes of M_yx, of the segments and, where they steer candidates, of the seed pairs."""
    settings = {"generation": config, "backward_template": prompts.backward_template, "chat_format": chat_format}
    settings |= {"candidates": candidates} if candidates > 1 else {}
    settings |= {} if seeds is None else {"steered": True}
    return settings, {"model": model, "segments": segments} | ({} if seeds is None else {"seeds": seeds})


def _prompted(
    model: ModelHandle, prompts: Prompts, openings: Openings | None, candidates: int, segments: list[dict]
) -> list[Prompted]:
    all_ids = model.all_prompt_ids([prompts.backward(segment["text"]) for segment in segments])
    items = []
    for segment, ids in zip(segments, all_ids, strict=True):
        opening = "" if openings is None else _opening(segment, openings, candidates)
        begun = model.begun_ids(opening) if opening else ()
        items.append(Prompted(segment["id"], ids + begun, segment["text"], begun_ids=begun))
    return items


def _opening(segment: dict, openings: Openings, candidates: int) -> str:
    """How the instruction of a numbered segment begins; empty for the first candidate, which is free."""
    name, _, number = segment["id"].rpartition("#")
    return ["", *openings.drawn(name, segment["text"], candidates - 1)][int(number)]


def _candidates(written: JobResult[dict], candidates: int) -> Iterator[tuple[str | None, dict]]:
    """A pair of every segment, and the reason why it is rejected."""
    for segment, row in written.joined():
        pair = {
            "id": segment["id"],
            "instruction": row["instruction"] if row else "",
            "output": segment["text"],
            "source": segment["url"],
            "header": segment["header"],
        }
        if candidates > 1:
            pair["segment"] = segment["id"].rpartition("#")[0]
        yield _rejection_reason(row), pair


def _rejection_reason(row: dict | None) -> str | None:
    if row is None:
        return "prompt_too_long"
    if row["truncated"]:
        return "truncated"
    return None if row["instruction"] else "empty_instruction"
