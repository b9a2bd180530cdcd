"""Jobs: bulk work of a model over many prompts, resumable shard by shard.

A job is an object that knows its model, what to compile, and how an engine turns prompts into rows. `run_job` is what
augmentation, curation, generation and judging share.
"""

import dataclasses
import functools
import itertools
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Annotated, Any, Generic, Protocol

import numpy as np
from etils import epath

from humpback_jax.files import JsonLines, sha256_of_bytes
from humpback_jax.inference.engine import Engine
from humpback_jax.inference.requests import Completion, EngineConfig, Request
from humpback_jax.inference.sampling import SamplingConfig
from humpback_jax.inference.shards import Shards, complete_shards
from humpback_jax.models.dtypes import COMPUTE
from humpback_jax.ranges import NaturalInt, OneOf, PositiveInt, check_fields
from humpback_jax.run_files import SHARDS
from humpback_jax.runtime.console import say
from humpback_jax.runtime.processes import is_leader, process_count, process_index
from humpback_jax.runtime.progress import ProgressReporter, progress_bar
from humpback_jax.stages.items import KEY, JobItems, KeptRows, Prompted, Row
from humpback_jax.stages.model import ModelHandle, spans_hosts
from humpback_jax.stages.stage import plain

Advance = Callable[[int], None]


@dataclasses.dataclass(frozen=True)
class GenerationConfig:
    """How text is generated in bulk.

    Attributes:
      engine: shapes of the compiled programs, `max_new_tokens` among them.
      sampling: the paper's T = 0.7, p = 0.9 by default.
      seed: of the draws.
      shard_size: items per shard file: what a `kill -9` can cost.
      dtype: of activations, and of weights and cache where nothing else is said.
      weight_dtype: `float32`, `bfloat16` or `int8` (one scale per output channel); None: `dtype`.
    """

    engine: EngineConfig = EngineConfig()
    sampling: SamplingConfig = SamplingConfig()
    seed: NaturalInt = 0
    shard_size: PositiveInt = 4096
    dtype: Annotated[str, OneOf(*COMPUTE)] = "bfloat16"
    weight_dtype: Annotated[str, OneOf(*COMPUTE, "int8")] | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def requests(self, items: Sequence[Prompted]) -> list[Request]:
        """One sampled completion per item."""
        limit = self.engine.max_new_tokens
        return [Request(item.id, item.prompt_ids, limit, self.sampling) for item in items]


def longest_prompt(model: ModelHandle, config: GenerationConfig) -> int:
    """Most tokens of a prompt: what the engine takes, and the model's window has room for beside the new tokens."""
    window = model.card.config.max_position_embeddings
    return min(config.engine.max_prompt_length, max(1, window - config.engine.max_new_tokens))


class Job(Protocol):
    """What a model does to prompts."""

    @property
    def model(self) -> ModelHandle:
        """Whose weights the engines load."""

    def identity(self) -> dict[str, Any]:
        """What decides the rows beside model, prompts and generation."""

    def compile(self, engine: Engine, prompt_lengths: Sequence[int]) -> None:
        """Compiles what `run` will call for prompts of these lengths."""

    def run(self, engine: Engine, items: Sequence[Prompted], advance: Advance) -> list[dict]:
        """A row with the `id` of every item, in their order; `advance` counts items as they are done."""


@dataclasses.dataclass(frozen=True)
class Completions:
    """Writes the missing half of pairs, one sampled text per prompt.

    Attributes:
      model: who writes.
      config: how.
      writes: the half that is written, "instruction" or "output"; items bring the other one.
    """

    model: ModelHandle
    config: GenerationConfig
    writes: str

    def identity(self) -> dict[str, Any]:
        """The half that is written."""
        return {"writes": self.writes}

    def compile(self, engine: Engine, prompt_lengths: Sequence[int]) -> None:
        """The programs of generation."""
        engine.compile_generation(prompt_lengths, self.model.stop_ids)

    def run(self, engine: Engine, items: Sequence[Prompted], advance: Advance) -> list[dict]:
        """Pairs, and whether the limit cut what was written."""
        requests = self.config.requests(items)
        completions = engine.generate(requests, self.config.seed, self.model.stop_ids, advance)
        return [self._row(item, completion) for item, completion in zip(items, completions, strict=True)]

    def _row(self, item: Prompted, completion: Completion) -> dict[str, Any]:
        halves = {"instruction": item.given, "output": item.given}
        if completion.token_ids:  # a beginning of ours without more is nothing that the model wrote
            halves[self.writes] = self.model.tokenizer.decode(item.begun_ids + completion.token_ids).strip()
        else:
            halves[self.writes] = ""
        return {"id": item.id} | halves | {"truncated": completion.truncated}


@dataclasses.dataclass(frozen=True)
class Choices:
    """How likely some tokens are after every prompt: one forward pass each, nothing is sampled.

    Attributes:
      model: whose opinion it is.
      candidate_ids: the tokens.
      forced_ids: stand between a prompt and the candidates.
    """

    model: ModelHandle
    candidate_ids: tuple[int, ...]
    forced_ids: tuple[int, ...] = ()

    def identity(self) -> dict[str, Any]:
        """What is asked about."""
        return {"candidates": self.candidate_ids, "forced": self.forced_ids}

    def compile(self, engine: Engine, prompt_lengths: Sequence[int]) -> None:
        """The programs of scoring."""
        engine.compile_scoring([n + len(self.forced_ids) for n in prompt_lengths], len(self.candidate_ids))

    def run(self, engine: Engine, items: Sequence[Prompted], advance: Advance) -> list[dict]:
        """`log_probs` of the candidates."""
        prompts = [(item.id, item.prompt_ids + self.forced_ids) for item in items]
        values = engine.candidate_log_probs(prompts, [self.candidate_ids] * len(items), advance)
        return [{"id": item.id, "log_probs": row.tolist()} for item, row in zip(items, values, strict=True)]


@dataclasses.dataclass(frozen=True)
class JobResult(Generic[Row]):
    """What a job has written, and how well the engines of this process were used."""

    items: JobItems[Row]
    written: JsonLines
    figures: dict[str, Any]

    def joined(self) -> Iterator[tuple[Row, dict | None]]:
        """The rows that the items were made from, in their order, each with what was written for it; see `JobItems`."""
        return self.items.joined(self.written)


def run_job(
    folder: epath.Path,
    job: Job,
    items: JobItems[Row],
    config: GenerationConfig,
    description: str,
    earlier: Sequence[epath.Path] = (),
) -> JobResult[Row]:
    """Runs a job in shards under FOLDER/shards; every one of several processes returns when all shards are there.

    The weights are loaded only when a row is missing, onto as many groups of local devices as there are shards to
    make; a shard is the work of one engine, so its bytes do not depend on their number. Several processes share the
    shards. Where one copy of the weights spans hosts, all make every shard together.

    Rows that the `earlier` folders hold of the same item, model and settings are taken from there.
    """
    together = spans_hosts(config.engine)
    index, count = (0, 1) if together else (process_index(), process_count())
    shards = Shards(folder / SHARDS, items, config.shard_size, index, count, writes=is_leader() or not together)
    of_many = f" (process {index} of {count})" if count > 1 else ""
    keyed = _Keyed(job, _hash_of_job(job, items, config), _kept_rows(earlier if shards.missing else ()))
    with progress_bar(description + of_many, shards.num_items, items.unit, show=is_leader()) as bar:
        bar.advance(shards.num_complete)
        if len(keyed.kept) and not together:
            bar.advance(shards.fill(keyed.ready))
        engines = _load_engines(job, items, config, len(shards.missing))
        progress = _Progress(bar, engines)
        workers = [functools.partial(keyed.run, engine, advance=progress.advance) for engine in engines]
        shards.make(workers, progress.stop)
        shards.wait()
    if keyed.reused and is_leader():
        say(f"{description}: reused {keyed.reused} {items.unit} of an earlier version, new {keyed.new}")
    return JobResult(items, JsonLines(shards.paths), _use(engines) | keyed.figures)


def _hash_of_job(job: Job, items: JobItems, config: GenerationConfig) -> str:
    """Of all that decides a row beside its item: how many of them make a shard does not."""
    generation = plain(config)
    del generation["shard_size"]
    values = {"kind": type(job).__name__, "job": job.identity(), "generation": generation}
    values |= {"model": job.model.sha256, "stop": job.model.stop_ids, "prefix": items.prefix_ids}
    return sha256_of_bytes(json.dumps(plain(values), sort_keys=True).encode())


def _kept_rows(earlier: Sequence[epath.Path]) -> KeptRows:
    return KeptRows([path for folder in earlier for path in complete_shards(folder / SHARDS)])


class _Keyed:
    """A job whose rows have the key of what they were made from, and are made only where they are not at hand."""

    def __init__(self, job: Job, name: str, kept: KeptRows) -> None:
        self._job, self._name, self.kept = job, name, kept
        self._lock, self.reused, self.new = threading.Lock(), 0, 0

    @property
    def figures(self) -> dict[str, int]:
        """How many rows were reused, where there was anything to reuse."""
        return {"reused": self.reused, "new": self.new} if len(self.kept) else {}

    def ready(self, items: Sequence[Prompted]) -> list[dict] | None:
        """The rows of these items where all are at hand."""
        rows = self._find(items)
        if None in rows:
            return None
        self._count(len(rows), 0)
        return [row for row in rows if row is not None]

    def run(self, engine: Engine, items: Sequence[Prompted], advance: Advance) -> list[dict]:
        """A row for every item, in their order."""
        rows = self._find(items)
        missing = [item for item, row in zip(items, rows, strict=True) if row is None]
        advance(len(items) - len(missing))
        made = iter(self._job.run(engine, missing, advance) if missing else [])
        self._count(len(items) - len(missing), len(missing))
        paired = zip(items, rows, strict=True)
        return [next(made) | {KEY: item.key(self._name)} if row is None else row for item, row in paired]

    def _find(self, items: Sequence[Prompted]) -> list[dict | None]:
        return self.kept.find([item.key(self._name) for item in items]) if len(self.kept) else [None] * len(items)

    def _count(self, reused: int, new: int) -> None:
        with self._lock:
            self.reused, self.new = self.reused + reused, self.new + new


def _load_engines(job: Job, items: JobItems, config: GenerationConfig, limit: int) -> list[Engine]:
    """At most `limit` engines, each on a group of local devices, with all programs compiled."""
    if not limit:
        return []
    engines = job.model.engines(config.engine, config.dtype, config.weight_dtype, limit)
    for engine in engines:
        # Of all prompts, not of a shard's: every shard computes the same wherever it is made.
        engine.job_prefix_ids = items.prefix_ids
    lengths = np.unique(items.lengths).tolist()
    with ThreadPoolExecutor(len(engines), thread_name_prefix="compile") as executor:
        list(executor.map(job.compile, engines, itertools.repeat(lengths)))
    return engines


class _Progress:
    """What all engines of a job have done, on one bar; where one fails, the others stop at their next report."""

    def __init__(self, bar: ProgressReporter, engines: Sequence[Engine]) -> None:
        self._bar, self._engines = bar, engines
        self._lock, self.stop = threading.Lock(), threading.Event()

    def advance(self, number: int) -> None:
        if self.stop.is_set():
            raise CancelledError("another shard failed")
        with self._lock:
            self._bar.advance(number, **_use(self._engines))


def _use(engines: Sequence[Engine]) -> dict[str, float]:
    """Row-step efficiency and padding waste over all engines; what was not measured is left out."""
    stats = [engine.stats for engine in engines]
    row_steps, prefilled = sum(s.steps * s.slots for s in stats), sum(s.prefill_tokens for s in stats)
    use = {}
    if row_steps:
        use["row_step_efficiency"] = round(sum(s.kept for s in stats) / row_steps, 4)
    if prefilled:
        use["padding_waste"] = round(1.0 - sum(s.prompt_tokens for s in stats) / prefilled, 4)
    return use
