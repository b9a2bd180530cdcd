"""Self-augmentation (paper, section 2.2): M_yx writes the instruction that each web segment answers."""

from collections.abc import Mapping, Sequence

from humpback_jax.corpus.segment_files import read_segments
from humpback_jax.files import PathLike, sha256_of_file, write_jsonl
from humpback_jax.prompts.prompts import Prompts
from humpback_jax.run_files import PAIRS, REJECTED
from humpback_jax.runtime.processes import is_leader
from humpback_jax.stages.jobs import Completions, GenerationConfig, Prompted, count_rejected, run_job, split_too_long
from humpback_jax.stages.model import ModelHandle
from humpback_jax.stages.stage import Stage, StageResult, begin_stage


def augment(
    directory: PathLike, backward_model: ModelHandle, segments: Stage, prompts: Prompts, config: GenerationConfig
) -> Stage:
    """Writes the candidate pairs A: DIRECTORY/pairs.jsonl, and rejected.jsonl with a reason per row.

    A segment is rejected when its prompt is longer than the engine's (`prompt_too_long`), and when its instruction is
    empty (`empty_instruction`) or was cut by the limit (`truncated`).
    """
    settings = {
        "generation": config,
        "backward_template": prompts.backward_template,
        "chat_format": backward_model.chat_format.name,
    }
    inputs = {"model": backward_model.sha256, "segments": segments.outputs["segments"]}
    claim = begin_stage(directory, settings, inputs, shared=True)
    if claim.finished:
        return claim.stage

    rows = list(read_segments(segments.directory))
    items = [Prompted(row["id"], backward_model.prompt_ids(prompts.backward(row["text"]))) for row in rows]
    fitting, _ = split_too_long(items, config.engine.max_prompt_length)
    job = Completions(backward_model, config, "instruction", given={row["id"]: row["text"] for row in rows})
    written = run_job(claim.folder, job, fitting, config, "augment", "segments")
    pairs, rejected = _usable_and_rejected(rows, written.rows)
    reasons = count_rejected(rejected)
    if not pairs:
        raise ValueError(
            f"{claim.folder}: none of {len(rows)} segments got a usable instruction ({reasons}); train M_yx longer, "
            "or raise EngineConfig.max_new_tokens and EngineConfig.prompt_buckets of augmentation"
        )
    if not is_leader():
        return claim.finish(None)
    write_jsonl(claim.folder / PAIRS, pairs)
    write_jsonl(claim.folder / REJECTED, rejected)
    counts = {"in": len(rows), "out": len(pairs), "rejected": reasons}
    return claim.finish(StageResult(counts, {"pairs": sha256_of_file(claim.folder / PAIRS)}, written.figures))


def _usable_and_rejected(segments: Sequence[dict], written: Mapping[str, dict]) -> tuple[list[dict], list[dict]]:
    """Candidate pairs, and rejected ones with their reasons; a segment without a row did not fit the engine."""
    pairs, rejected = [], []
    for segment in segments:
        row = written.get(segment["id"])
        pair = {
            "id": segment["id"],
            "instruction": row["instruction"] if row else "",
            "output": segment["text"],
            "source": segment["url"],
            "header": segment["header"],
        }
        reason = _rejection_reason(row)
        if reason is None:
            pairs.append(pair)
        else:
            rejected.append({"reason": reason} | pair)
    return pairs, rejected


def _rejection_reason(row: dict | None) -> str | None:
    if row is None:
        return "prompt_too_long"
    if row["truncated"]:
        return "truncated"
    return None if row["instruction"] else "empty_instruction"
