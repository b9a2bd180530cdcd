"""Inference with the aligned model: prompts carry both tags, as the paper found best (section 4.3)."""

from collections.abc import Sequence

from humpback_jax.files import PathLike, read_jsonl, sha256_of_bytes, sha256_of_file, write_jsonl
from humpback_jax.prompts.prompts import BOTH_TAGS, Prompts
from humpback_jax.run_files import ANSWERS
from humpback_jax.runtime.processes import is_leader
from humpback_jax.stages.items import InMemory, JobItems, Prompted
from humpback_jax.stages.jobs import Completions, GenerationConfig, run_job
from humpback_jax.stages.model import ModelHandle
from humpback_jax.stages.stage import Stage, StageResult, begin_stage


def read_instructions(prompts: Sequence[str], prompts_file: PathLike | None) -> list[tuple[str, str]]:
    """(id, instruction) of prompts given as text and of the rows of a JSON-lines file.

    Raises:
      ValueError: there is none, or a row (named by file and line) has no text under `instruction`.
    """
    instructions = [(f"prompt-{number}", text) for number, text in enumerate(prompts, start=1)]
    for number, row in read_jsonl(prompts_file) if prompts_file else ():
        if not isinstance(row.get("instruction"), str):
            raise ValueError(f"{prompts_file}:{number}: no text under 'instruction'")
        instructions.append((str(row.get("id", f"line-{number}")), row["instruction"]))
    if not instructions:
        raise ValueError("nothing to answer: give prompts on the command line, or --prompts_file")
    return instructions


def generate(
    directory: PathLike,
    model: ModelHandle,
    instructions: Sequence[tuple[str, str]],
    prompts: Prompts,
    config: GenerationConfig,
    tags: Sequence[str] = BOTH_TAGS,
) -> Stage:
    """Answers (id, instruction) pairs in resumable shards: DIRECTORY/answers.jsonl.

    An answer that the limit cut is kept and marked `truncated`; an instruction that does not fit is rejected.
    """
    settings = {"generation": config, "tags": list(tags), "chat_format": model.chat_format.name, "prompts": prompts}
    inputs = {"model": model.sha256, "instructions": sha256_of_bytes(repr(list(instructions)).encode())}
    claim = begin_stage(directory, settings, inputs, shared=True)
    if claim.finished:
        return claim.stage

    all_ids = model.all_prompt_ids([prompts.tagged(text, tags) for _, text in instructions])
    prompted = [Prompted(name, ids, text) for (name, text), ids in zip(instructions, all_ids, strict=True)]
    items = JobItems(InMemory(prompted), list, config.engine.max_prompt_length, "prompts")
    written = run_job(claim.folder, Completions(model, config, "output"), items, config, "generate")
    if not is_leader():
        return claim.finish(None)
    answers = claim.folder / ANSWERS
    write_jsonl(answers, (row for _, row in written.joined() if row is not None))
    return claim.finish(StageResult(items.counts, {"answers": sha256_of_file(answers)}, written.figures))
