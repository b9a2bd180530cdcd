"""Self-curation, first half (paper, section 2.3): a model rates every candidate pair 1-5 by the rubric.

A sampled rationale normally ends with `Score: n`. Where it does not, or in mode `expected` for every pair, the text
`Score: ` is forced and the rating is the mean of the distribution over the five digits: every pair gets a number.
"""

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from etils import epath

from humpback_jax.files import PathLike, read_jsonl, sha256_of_file, write_jsonl
from humpback_jax.inference.engine import Engine
from humpback_jax.inference.requests import PROBE_ROOM, Completion, Probe
from humpback_jax.inference.scoring import force_rating, rating_distribution
from humpback_jax.prompts.prompts import Prompts
from humpback_jax.prompts.ratings import SCORE_PREFIX, parse_rating
from humpback_jax.runtime.processes import is_leader
from humpback_jax.stages.augment import PAIRS
from humpback_jax.stages.generation import (
    GenerationConfig,
    Prompted,
    complete,
    completion_programs,
    run_job,
    split_too_long,
)
from humpback_jax.stages.model import ModelHandle
from humpback_jax.stages.stage import Stage, StageResult, plain, run_stage

SCORES = "scores.jsonl"
MODES = ("rationale", "sampled", "expected")


@dataclasses.dataclass(frozen=True)
class CurationConfig:
    """How pairs are rated.

    Attributes:
      mode: `rationale`: sample the reasoning, read its last `Score: n`, force a number where there is none;
        `sampled`: the mean of `samples` such ratings, each with its own draws;
        `expected`: force the number at once, one forward pass per pair.
      generation: engine and sampling of the rationale.
      samples: ratings per pair in mode `sampled`.
    """

    mode: str = "rationale"
    generation: GenerationConfig = GenerationConfig()
    samples: int = 4

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"CurationConfig: unknown mode {self.mode!r}; choose from {', '.join(MODES)}")
        if self.samples < 1:
            raise ValueError(f"CurationConfig: samples={self.samples}; at least one rating per pair is needed")

    @property
    def max_prompt_length(self) -> int:
        """Longest rating prompt in tokens."""
        return self.generation.engine.max_prompt_length - (PROBE_ROOM if self.mode == "expected" else 0)


def curate(directory: PathLike, scorer: ModelHandle, pairs: Stage, prompts: Prompts, config: CurationConfig) -> Stage:
    """Rates every pair of A with `scorer`: DIRECTORY/scores.jsonl, one row per pair in the order of A.

    A row holds `score` in 1..5 and `parsed` (read from the rationale) or the forced distribution. A pair whose rating
    prompt is too long for the engine is rejected and counted.
    """
    settings = {
        "curation": config,
        "rating_template": prompts.rating_template,
        "chat_format": scorer.chat_format.name,
    }
    inputs = {"model": scorer.sha256, "pairs": pairs.outputs["pairs"]}

    def body(folder: epath.Path) -> StageResult | None:
        use: dict[str, Any] = {}
        rows = [row for _, row in read_jsonl(pairs.directory / PAIRS)]
        items = [Prompted(r["id"], scorer.prompt_ids(prompts.rating(r["instruction"], r["output"]))) for r in rows]
        fitting, too_long = split_too_long(items, config.max_prompt_length)

        def rate(engine: Engine, members: Sequence[Prompted], advance: Callable[[int], None]) -> list[dict]:
            return rate_pairs(engine, scorer, members, config, advance)

        programs = rating_programs(scorer, config)
        rated = run_job(folder, scorer, fitting, config.generation, rate, programs, folder.name, "pairs", use)
        if not is_leader():
            return None
        scores = [rated[row["id"]] for row in rows if row["id"] not in too_long]
        write_jsonl(folder / SCORES, scores)
        rejected = {"prompt_too_long": len(too_long)} if too_long else {}
        counts = {"in": len(rows), "out": len(scores), "rejected": rejected}
        return StageResult(counts, {"scores": sha256_of_file(folder / SCORES)}, _figures(scores) | use)

    return run_stage(directory, settings, inputs, body, shared=True)


def rating_programs(scorer: ModelHandle, config: CurationConfig) -> Callable[[Engine, Sequence[int]], None]:
    """Compiles what `rate_pairs` will run for prompts of given lengths."""
    forced = force_rating(scorer.tokenizer.encode, "", SCORE_PREFIX)
    width, room = len(forced.rating_ids), len(forced.prefix_ids)
    if config.mode != "expected":
        return completion_programs(scorer, width)
    return lambda engine, lengths: engine.compile_scoring([length + room for length in lengths], width)


def rate_pairs(
    engine: Engine,
    scorer: ModelHandle,
    items: Sequence[Prompted],
    config: CurationConfig,
    advance: Callable[[int], None],
) -> list[dict]:
    """Rows with a rating for every item."""
    if config.mode == "expected":
        return _expected_ratings(engine, scorer, items, advance)
    if config.mode == "sampled":
        return _sampled_ratings(engine, scorer, items, config, advance)
    return _rationale_ratings(engine, scorer, items, config, advance)


def _sampled_ratings(
    engine: Engine,
    scorer: ModelHandle,
    items: Sequence[Prompted],
    config: CurationConfig,
    advance: Callable[[int], None],
) -> list[dict]:
    """The mean of several ratings per item; `parsed` if all of them were read from their rationales."""
    numbers = range(config.samples)
    samples = [dataclasses.replace(item, id=f"{item.id}#{number}") for item in items for number in numbers]
    done = 0

    def advance_items(count: int) -> None:
        nonlocal done
        done, before = done + count, done
        advance(done // config.samples - before // config.samples)

    rated = _rationale_ratings(engine, scorer, samples, config, advance_items)
    rows = []
    for place, item in enumerate(items):
        own = rated[place * config.samples : (place + 1) * config.samples]
        ratings = [row["score"] for row in own]
        row = {"id": item.id, "score": round(statistics.fmean(ratings), 6), "parsed": all(r["parsed"] for r in own)}
        rows.append(row | {"ratings": ratings, "rationales": [r["rationale"] for r in own]})
    return rows


def _rationale_ratings(
    engine: Engine,
    scorer: ModelHandle,
    items: Sequence[Prompted],
    config: CurationConfig,
    advance: Callable[[int], None],
) -> list[dict]:
    """One sampled rationale per item; where it ends without a number, the number is forced after it."""
    read = lambda completion: scorer.tokenizer.decode(completion.token_ids).strip()  # noqa: E731

    def probe(completion: Completion) -> Probe | None:
        rationale = read(completion)
        if parse_rating(rationale) is not None:
            return None
        forced = force_rating(scorer.tokenizer.encode, rationale, f"\n{SCORE_PREFIX}" if rationale else SCORE_PREFIX)
        return Probe(forced.prefix_ids, forced.rating_ids)

    rows = []
    for completion in complete(engine, scorer, items, config.generation, advance, probe):
        rationale = read(completion)
        row: dict[str, Any] = {"id": completion.id, "score": parse_rating(rationale), "parsed": True}
        if completion.probe_log_probs is not None:
            row |= _forced_row(completion.probe_log_probs)
        rows.append(row | {"rationale": rationale})
    return rows


def _expected_ratings(
    engine: Engine, scorer: ModelHandle, items: Sequence[Prompted], advance: Callable[[int], None]
) -> list[dict]:
    """One forward pass per item: the distribution over the digits where the answer begins with `Score: `."""
    forced = force_rating(scorer.tokenizer.encode, "", SCORE_PREFIX)
    prompts = [(item.id, item.prompt_ids + forced.prefix_ids) for item in items]
    log_probs = engine.candidate_log_probs(prompts, [forced.rating_ids] * len(items), advance)
    return [{"id": item.id} | _forced_row(row) | {"rationale": ""} for item, row in zip(items, log_probs, strict=True)]


def _forced_row(log_probs: Sequence[float]) -> dict[str, Any]:
    distribution = rating_distribution(np.asarray(log_probs))
    return {"score": distribution.expected, "parsed": False} | plain(distribution)


def _figures(scores: Sequence[dict]) -> dict[str, Any]:
    """Rates of parsed and forced ratings, mean, and a histogram of the rounded score."""
    if not scores:
        return {}
    histogram = {str(rating): 0 for rating in range(1, 6)}
    for row in scores:
        histogram[str(int(row["score"] + 0.5))] += 1
    parsed = sum(row["parsed"] for row in scores)
    return {
        "parsed": parsed,
        "forced": len(scores) - parsed,
        "unscored": 0,
        "mean_score": round(statistics.fmean(row["score"] for row in scores), 4),
        "histogram": histogram,
    }
