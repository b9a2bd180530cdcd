"""Bulk generation over many items, resumable shard by shard: what augmentation, curation and answering share."""

import contextlib
import dataclasses
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any

from etils import epath

from humpback_jax.inference.engine import Engine, shared_prefix
from humpback_jax.inference.requests import Completion, EngineConfig, Probe, Request
from humpback_jax.inference.sampling import SamplingConfig
from humpback_jax.inference.shards import items_of_process, run_sharded
from humpback_jax.runtime.processes import is_leader, process_count, process_index, stall_seconds
from humpback_jax.runtime.progress import progress_bar
from humpback_jax.stages.model import ModelHandle, spans_hosts


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


@dataclasses.dataclass(frozen=True)
class Prompted:
    """An item and the prompt made from it."""

    id: str
    prompt_ids: tuple[int, ...]


class EnginePool:
    """The engines of a job, loaded when the first shard asks for them; a shard has one of them to itself."""

    def __init__(self, model: ModelHandle, config: GenerationConfig, prefix_ids: tuple[int, ...]) -> None:
        """`prefix_ids` is what all prompts of the job begin with."""
        self._model, self._config, self._prefix_ids = model, config, prefix_ids
        self._engines: list[Engine] = []
        self._idle: queue.SimpleQueue[Engine] = queue.SimpleQueue()

    def load(self, shards: int, prepare: Callable[[Engine], None]) -> int:
        """Loads the weights onto groups of local devices, but no more than there are shards; returns their number.

        `prepare` compiles what an engine will run.
        """
        config = self._config
        self._engines = self._model.engines(config.engine, config.dtype, config.weight_dtype, limit=shards)
        for engine in self._engines:
            engine.job_prefix_ids = self._prefix_ids
        with ThreadPoolExecutor(len(self._engines), thread_name_prefix="compile") as executor:
            list(executor.map(prepare, self._engines))
        for engine in self._engines:
            self._idle.put(engine)
        return len(self._engines)

    @contextlib.contextmanager
    def engine(self) -> Iterator[Engine]:
        """An engine that no other thread uses."""
        engine = self._idle.get()
        try:
            yield engine
        finally:
            self._idle.put(engine)

    def use(self) -> dict[str, float]:
        """Row-step efficiency and padding waste over all engines; what was not measured is left out."""
        stats = [engine.stats for engine in self._engines]
        row_steps, prefilled = sum(s.steps * s.slots for s in stats), sum(s.prefill_tokens for s in stats)
        use = {}
        if row_steps:
            use["row_step_efficiency"] = round(sum(s.kept for s in stats) / row_steps, 4)
        if prefilled:
            use["padding_waste"] = round(1.0 - sum(s.prompt_tokens for s in stats) / prefilled, 4)
        return use


def run_job(
    folder: epath.Path,
    model: ModelHandle,
    items: Sequence[Prompted],
    config: GenerationConfig,
    process: Callable[[Engine, Sequence[Prompted], Callable[[int], None]], list[dict]],
    prepare: Callable[[Engine, Sequence[int]], None],
    description: str,
    unit: str,
    figures: dict[str, Any] | None = None,
) -> dict[str, dict]:
    """Rows of `process` by item id, made in shards under FOLDER/shards.

    Items are taken in order of prompt length, so that a batch wastes little padding; the order is a function of the
    items alone. The weights are loaded only when a shard is missing, onto as many groups of local devices as there are
    shards to make; a shard is the work of one engine, so its bytes do not depend on their number. Several processes
    share the shards; each returns all rows. Where one copy of the weights spans hosts, all make every shard together.
    `prepare` gets an engine and the lengths of all prompts, and compiles what `process` will run.
    `figures` receives how well the engines of this process were used.
    """
    ordered = sorted(items, key=lambda item: (len(item.prompt_ids), item.id))
    together = spans_hosts(config.engine)
    index, count = (0, 1) if together else (process_index(), process_count())
    # Of all prompts, not of a shard's: every shard computes the same wherever it is made.
    prefix_ids = shared_prefix([item.prompt_ids for item in ordered])
    lengths = [len(item.prompt_ids) for item in ordered]
    pool, lock, stop = EnginePool(model, config, prefix_ids), threading.Lock(), threading.Event()
    own = items_of_process(len(ordered), config.shard_size, index, count)
    of_many = f" (process {index} of {count})" if count > 1 else ""
    with progress_bar(description + of_many, own, unit, show=is_leader()) as bar:

        def advance(number: int) -> None:
            if stop.is_set():
                raise CancelledError("another shard failed")
            with lock:
                bar.advance(number, **pool.use())

        def shard(members: Sequence[Prompted]) -> list[dict]:
            with pool.engine() as engine:
                return process(engine, members, advance)

        rows = run_sharded(
            folder / "shards",
            ordered,
            config.shard_size,
            shard,
            on_skip=bar.advance,
            start=lambda shards: pool.load(shards, lambda engine: prepare(engine, lengths)),
            stop=stop,
            process_index=index,
            process_count=count,
            writes=is_leader() if together else True,
            stall_seconds=stall_seconds(),
        )
        by_id = {row["id"]: row for row in rows}
    if figures is not None:
        figures.update(pool.use())
    return by_id


def completion_programs(model: ModelHandle, probe_width: int | None = None) -> Callable[[Engine, Sequence[int]], None]:
    """`prepare` of a job whose `process` calls `complete`; with probes, `probe_width` is their number of candidates."""
    return lambda engine, lengths: engine.compile_generation(lengths, model.stop_ids, probe_width)


def complete(
    engine: Engine,
    model: ModelHandle,
    items: Sequence[Prompted],
    config: GenerationConfig,
    advance: Callable[[int], None],
    probe: Callable[[Completion], Probe | None] | None = None,
) -> list[Completion]:
    """One sampled completion per item, in the order of the items; for `probe` see `Engine.generate`."""
    limit = config.engine.max_new_tokens
    requests = [Request(item.id, item.prompt_ids, limit, config.sampling) for item in items]
    return engine.generate(requests, config.seed, model.stop_ids, advance, probe)


def split_too_long(items: Sequence[Prompted], limit: int) -> tuple[list[Prompted], set[str]]:
    """Items whose prompt has at most `limit` tokens, and the ids of the others."""
    fitting = [item for item in items if len(item.prompt_ids) <= limit]
    return fitting, {item.id for item in items} - {item.id for item in fitting}


def count_rejected(rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Number of rows per value of `reason`, sorted by reason."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["reason"]] = counts.get(row["reason"], 0) + 1
    return dict(sorted(counts.items()))
