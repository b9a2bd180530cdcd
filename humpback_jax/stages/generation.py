"""Bulk generation over many items, resumable shard by shard: what augmentation, curation and answering share."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from etils import epath

from humpback_jax.inference.engine import Engine
from humpback_jax.inference.requests import Completion, EngineConfig, Probe, Request
from humpback_jax.inference.sampling import SamplingConfig
from humpback_jax.inference.shards import run_sharded
from humpback_jax.progress import progress_bar
from humpback_jax.stages.model import ModelHandle


@dataclasses.dataclass(frozen=True)
class GenerationConfig:
    """How text is generated in bulk.

    Attributes:
      engine: shapes of the compiled programs, `max_new_tokens` among them.
      sampling: the paper's T = 0.7, p = 0.9 by default.
      seed: of the draws.
      shard_size: items per shard file: what a `kill -9` can cost.
      dtype: of weights, activations and cache.
    """

    engine: EngineConfig = EngineConfig()
    sampling: SamplingConfig = SamplingConfig()
    seed: int = 0
    shard_size: int = 4096
    dtype: str = "bfloat16"


@dataclasses.dataclass(frozen=True)
class Prompted:
    """An item and the prompt made from it."""

    id: str
    prompt_ids: tuple[int, ...]


def run_job(
    folder: epath.Path,
    model: ModelHandle,
    items: Sequence[Prompted],
    config: GenerationConfig,
    process: Callable[[Engine, Sequence[Prompted], Callable[[int], None]], list[dict]],
    description: str,
    unit: str,
) -> dict[str, dict]:
    """Rows of `process` by item id, made in shards under FOLDER/shards.

    Items are taken in order of prompt length, so that a batch wastes little padding; the order is a function of the
    items alone. The weights are loaded only when a shard is missing.
    """
    ordered = sorted(items, key=lambda item: (len(item.prompt_ids), item.id))
    engines: list[Engine] = []
    with progress_bar(description, len(ordered), unit) as bar:

        def shard(members: Sequence[Prompted]) -> list[dict]:
            if not engines:
                engines.append(model.engine(config.engine, config.dtype))
            return process(engines[0], members, bar.advance)

        rows = run_sharded(folder / "shards", ordered, config.shard_size, shard, on_skip=bar.advance)
        return {row["id"]: row for row in rows}


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
