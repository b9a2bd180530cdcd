"""Self-augmentation (paper, section 2.2): M_yx writes the instruction that each web segment answers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from etils import epath

from humpback_jax.files import PathLike, read_jsonl, sha256_of_file, write_jsonl
from humpback_jax.inference.engine import Engine
from humpback_jax.inference.requests import Completion
from humpback_jax.prompts.prompts import Prompts
from humpback_jax.runtime.processes import is_leader
from humpback_jax.stages.generation import (
    GenerationConfig,
    Prompted,
    complete,
    completion_programs,
    count_rejected,
    run_job,
    split_too_long,
)
from humpback_jax.stages.model import ModelHandle
from humpback_jax.stages.stage import Stage, StageResult, run_stage
from humpback_jax.tokenizers import Tokenizer

PAIRS, REJECTED = "pairs.jsonl", "rejected.jsonl"


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

    def body(folder: epath.Path) -> StageResult | None:
        use: dict[str, Any] = {}
        rows = [row for _, row in read_jsonl(segments.directory / "segments.jsonl")]
        items = [Prompted(row["id"], backward_model.prompt_ids(prompts.backward(row["text"]))) for row in rows]
        fitting, _ = split_too_long(items, config.engine.max_prompt_length)
        texts = {row["id"]: row["text"] for row in rows}

        def write_instructions(
            engine: Engine, members: Sequence[Prompted], advance: Callable[[int], None]
        ) -> list[dict]:
            completions = complete(engine, backward_model, members, config, advance)
            return [_shard_row(c, backward_model.tokenizer, texts) for c in completions]

        programs = completion_programs(backward_model)
        written = run_job(
            folder, backward_model, fitting, config, write_instructions, programs, "augment", "segments", use
        )
        pairs, rejected = _sorted_out(rows, written)
        if not pairs:
            raise ValueError(
                f"{folder}: none of {len(rows)} segments got a usable instruction ({count_rejected(rejected)}); train "
                "M_yx longer, or raise EngineConfig.max_new_tokens and EngineConfig.prompt_buckets of augmentation"
            )
        if not is_leader():
            return None
        write_jsonl(folder / PAIRS, pairs)
        write_jsonl(folder / REJECTED, rejected)
        counts = {"in": len(rows), "out": len(pairs), "rejected": count_rejected(rejected)}
        return StageResult(counts, {"pairs": sha256_of_file(folder / PAIRS)}, use)

    return run_stage(directory, settings, inputs, body, shared=True)


def _shard_row(completion: Completion, tokenizer: Tokenizer, texts: Mapping[str, str]) -> dict[str, Any]:
    """What a shard says of a segment: with its text, so that shards are sets of pairs as they lie."""
    instruction = tokenizer.decode(completion.token_ids).strip()
    text, truncated = texts[completion.id], completion.truncated
    return {"id": completion.id, "instruction": instruction, "output": text, "truncated": truncated}


def _sorted_out(rows: Sequence[dict], written: Mapping[str, dict]) -> tuple[list[dict], list[dict]]:
    """Candidate pairs, and rejected ones with their reasons; what was not written did not fit the engine."""
    pairs, rejected = [], []
    for row in rows:
        own = written.get(row["id"])
        pair = {
            "id": row["id"],
            "instruction": own["instruction"] if own else "",
            "output": row["text"],
            "source": row["url"],
            "header": row["header"],
        }
        reason = _flaw(own) if own else "prompt_too_long"
        if reason is None:
            pairs.append(pair)
        else:
            rejected.append({"reason": reason} | pair)
    return pairs, rejected


def _flaw(row: dict) -> str | None:
    if row["truncated"]:
        return "truncated"
    return None if row["instruction"] else "empty_instruction"
