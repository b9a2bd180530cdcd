"""Inference with the aligned model: prompts carry both tags, as the paper found best (section 4.3)."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

from etils import epath
from rich.markup import escape

from humpback_jax.data.pairs import read_prompts
from humpback_jax.files import PathLike, read_jsonl, sha256_of_bytes, sha256_of_file, write_jsonl
from humpback_jax.prompts.prompts import BOTH_TAGS, Prompts
from humpback_jax.run_files import ANSWERS
from humpback_jax.runtime.console import say
from humpback_jax.runtime.processes import is_leader
from humpback_jax.stages.items import InMemory, JobItems, Prompted
from humpback_jax.stages.jobs import Completions, GenerationConfig, longest_prompt, run_job
from humpback_jax.stages.model import ModelHandle
from humpback_jax.stages.stage import Stage, StageResult, begin_stage, plain

NAMED = 20  # instructions that are too long, in the manifest


def read_instructions(prompts: Sequence[str], prompts_file: PathLike | None) -> list[tuple[str, str]]:
    """(id, instruction) of prompts given as text and of a file, which `read_prompts` reads; what it cannot is said.

    Raises:
      ValueError: there is none.
    """
    instructions = [(f"prompt-{number}", text) for number, text in enumerate(prompts, start=1)]
    if prompts_file:
        report = read_prompts(prompts_file)
        if report.problems:
            say(f"[yellow]{escape(report.summary())}[/yellow]")
        instructions += [(pair.id, pair.instruction) for pair in report.pairs]
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

    An answer that the limit cut is kept and marked `truncated`; an instruction that does not fit is rejected, and named
    with its length in the figures. Where DIRECTORY holds answers to other questions, or to these with other settings,
    they stay, and these are in a folder of DIRECTORY; the stage says which.
    """
    settings = generation_settings(model, prompts, config, tags)
    inputs = {"model": model.sha256, "instructions": sha256_of_bytes(repr(list(instructions)).encode())}
    try:
        claim = begin_stage(directory, settings, inputs, shared=True)
    except ValueError:
        directory = epath.Path(directory) / answers_name(model, instructions, config, tags)
        claim = begin_stage(directory, settings, inputs, shared=True)
    if claim.finished:
        return claim.stage

    all_ids = model.all_prompt_ids([prompts.tagged(text, tags) for _, text in instructions])
    prompted = [Prompted(name, ids, text) for (name, text), ids in zip(instructions, all_ids, strict=True)]
    items = JobItems(InMemory(prompted), list, longest_prompt(model, config), "prompts")
    written = run_job(claim.folder, Completions(model, config, "output"), items, config, "generate")
    if not is_leader():
        return claim.finish(None)
    answers = claim.folder / ANSWERS
    write_jsonl(answers, (row for _, row in written.joined() if row is not None))
    limit = config.engine.max_prompt_length
    too_long = {item.id: len(item.prompt_ids) for item in prompted if len(item.prompt_ids) > limit}
    figures = written.figures | {"too_long": dict(itertools.islice(too_long.items(), NAMED))}
    return claim.finish(StageResult(items.counts, {"answers": sha256_of_file(answers)}, figures))


def generation_settings(
    model: ModelHandle, prompts: Prompts, config: GenerationConfig, tags: Sequence[str]
) -> dict[str, Any]:
    """What decides an answer beside the model and the instruction, as a manifest names it."""
    chat_format = model.chat_format.name
    return plain({"generation": config, "tags": list(tags), "chat_format": chat_format, "prompts": prompts})


def answers_name(
    model: ModelHandle, instructions: Sequence[tuple[str, str]], config: GenerationConfig, tags: Sequence[str]
) -> str:
    """A short name for everything that decides the answers."""
    decides = (model.sha256, model.chat_format.name, tuple(tags), plain(config), list(instructions))
    return sha256_of_bytes(repr(decides).encode())[:12]


def with_options(
    config: GenerationConfig,
    max_new_tokens: int | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    seed: int | None = None,
) -> GenerationConfig:
    """The config with what is not None in the place of its own."""
    sampling = {"temperature": temperature, "top_p": top_p}
    given = {name: value for name, value in sampling.items() if value is not None}
    config = dataclasses.replace(config, sampling=dataclasses.replace(config.sampling, **given))
    if max_new_tokens is not None:
        config = dataclasses.replace(config, engine=dataclasses.replace(config.engine, max_new_tokens=max_new_tokens))
    return config if seed is None else dataclasses.replace(config, seed=seed)


def read_answers(stage: Stage) -> list[dict[str, Any]]:
    """The rows of a finished stage."""
    return [row for _, row in read_jsonl(stage.directory / ANSWERS)]


def check_all_answered(stage: Stage, config: GenerationConfig) -> None:
    """ValueError where instructions were too long to be answered; the first are named with their lengths."""
    rejected = sum(stage.counts["rejected"].values())
    if rejected:
        named = ", ".join(f"{name}: {length} tokens" for name, length in stage.manifest["figures"]["too_long"].items())
        raise ValueError(
            f"{rejected} of {stage.counts['in']} instructions are longer than the {config.engine.max_prompt_length} "
            f"tokens that a prompt may have, with its tags, and were not answered ({named}); shorten them, or raise "
            "the last of answer/EngineConfig.prompt_buckets"
        )
