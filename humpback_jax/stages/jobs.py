"""Jobs: bulk work of a model over many prompts, resumable shard by shard.

A job is an object that knows its model, what to compile, and how an engine turns prompts into rows. `run_job` is what
augmentation, curation, generation and judging share.
"""

import collections
import dataclasses
import functools
import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any, Protocol

from etils import epath

from humpback_jax.inference.engine import Engine, shared_prefix
from humpback_jax.inference.requests import Completion, EngineConfig, Request
from humpback_jax.inference.sampling import SamplingConfig
from humpback_jax.inference.shards import Shards
from humpback_jax.run_files import SHARDS
from humpback_jax.runtime.processes import is_leader, process_count, process_index
from humpback_jax.runtime.progress import ProgressReporter, progress_bar
from humpback_jax.stages.model import ModelHandle, spans_hosts

Advance = Callable[[int], None]


@dataclasses.dataclass(frozen=True)
class Prompted:
    """An item and the prompt made from it."""

    id: str
    prompt_ids: tuple[int, ...]


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
    seed: int = 0
    shard_size: int = 4096
    dtype: str = "bfloat16"
    weight_dtype: str | None = None

    def requests(self, items: Sequence[Prompted]) -> list[Request]:
        """One sampled completion per item."""
        limit = self.engine.max_new_tokens
        return [Request(item.id, item.prompt_ids, limit, self.sampling) for item in items]


class Job(Protocol):
    """What a model does to prompts."""

    @property
    def model(self) -> ModelHandle:
        """Whose weights the engines load."""

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
      writes: the half that is written, "instruction" or "output".
      given: the other half by item id.
    """

    model: ModelHandle
    config: GenerationConfig
    writes: str
    given: Mapping[str, str]

    def compile(self, engine: Engine, prompt_lengths: Sequence[int]) -> None:
        """The programs of generation."""
        engine.compile_generation(prompt_lengths, self.model.stop_ids)

    def run(self, engine: Engine, items: Sequence[Prompted], advance: Advance) -> list[dict]:
        """Pairs, and whether the limit cut what was written."""
        requests = self.config.requests(items)
        return [self._row(c) for c in engine.generate(requests, self.config.seed, self.model.stop_ids, advance)]

    def _row(self, completion: Completion) -> dict[str, Any]:
        halves = {"instruction": self.given[completion.id], "output": self.given[completion.id]}
        halves[self.writes] = self.model.tokenizer.decode(completion.token_ids).strip()
        return {"id": completion.id} | halves | {"truncated": completion.truncated}


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

    def compile(self, engine: Engine, prompt_lengths: Sequence[int]) -> None:
        """The programs of scoring."""
        engine.compile_scoring([n + len(self.forced_ids) for n in prompt_lengths], len(self.candidate_ids))

    def run(self, engine: Engine, items: Sequence[Prompted], advance: Advance) -> list[dict]:
        """`log_probs` of the candidates."""
        prompts = [(item.id, item.prompt_ids + self.forced_ids) for item in items]
        values = engine.candidate_log_probs(prompts, [self.candidate_ids] * len(items), advance)
        return [{"id": item.id, "log_probs": row.tolist()} for item, row in zip(items, values, strict=True)]


@dataclasses.dataclass(frozen=True)
class JobResult:
    """Rows by item id, and how well the engines of this process were used."""

    rows: dict[str, dict]
    figures: dict[str, float]


def run_job(
    folder: epath.Path, job: Job, items: Sequence[Prompted], config: GenerationConfig, description: str, unit: str
) -> JobResult:
    """Runs a job in shards under FOLDER/shards; of several processes each returns all rows.

    Items are taken in order of prompt length, so that a batch wastes little padding; the order is a function of the
    items alone. The weights are loaded only when a shard is missing, onto as many groups of local devices as there are
    shards to make; a shard is the work of one engine, so its bytes do not depend on their number. Several processes
    share the shards. Where one copy of the weights spans hosts, all make every shard together.
    """
    ordered = sorted(items, key=lambda item: (len(item.prompt_ids), item.id))
    together = spans_hosts(config.engine)
    index, count = (0, 1) if together else (process_index(), process_count())
    shards = Shards(folder / SHARDS, ordered, config.shard_size, index, count, writes=is_leader() or not together)
    of_many = f" (process {index} of {count})" if count > 1 else ""
    with progress_bar(description + of_many, shards.num_items, unit, show=is_leader()) as bar:
        bar.advance(shards.num_complete)
        engines = _load_engines(job, ordered, config, len(shards.missing))
        progress = _Progress(bar, engines)
        shards.make([functools.partial(job.run, engine, advance=progress.advance) for engine in engines], progress.stop)
        rows = {row["id"]: row for row in shards.rows()}
    return JobResult(rows, _use(engines))


def _load_engines(job: Job, items: Sequence[Prompted], config: GenerationConfig, limit: int) -> list[Engine]:
    """At most `limit` engines, each on a group of local devices, with all programs compiled."""
    if not limit:
        return []
    engines = job.model.engines(config.engine, config.dtype, config.weight_dtype, limit)
    # Of all prompts, not of a shard's: every shard computes the same wherever it is made.
    prefix_ids = shared_prefix([item.prompt_ids for item in items])
    for engine in engines:
        engine.job_prefix_ids = prefix_ids
    lengths = [len(item.prompt_ids) for item in items]
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


def split_too_long(items: Sequence[Prompted], limit: int) -> tuple[list[Prompted], set[str]]:
    """Items whose prompt has at most `limit` tokens, and the ids of the others."""
    fitting = [item for item in items if len(item.prompt_ids) <= limit]
    return fitting, {item.id for item in items} - {item.id for item in fitting}


def count_rejected(rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Number of rows per value of `reason`, sorted by reason."""
    return dict(sorted(collections.Counter(row["reason"] for row in rows).items()))
