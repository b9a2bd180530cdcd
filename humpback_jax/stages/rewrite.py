"""Rewriting (back-and-forth translation, Nguyen et al., 2024): M_t makes an answer of the text of a kept pair.

A rewriting is taken where it passes every check, else the text stays: it uses the text's words and no number that is
not there, and M_t gives it no lower rating and no lower fit than the text.
"""

import collections
import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from humpback_jax.curation.faithful import unfaithful_reason
from humpback_jax.files import JsonLines, PathLike, sha256_of_file, write_jsonl
from humpback_jax.prompts.prompts import Prompts, fill_template, packaged_template
from humpback_jax.ranges import Range, Share, check_fields
from humpback_jax.run_files import CURATED, READ_AGAIN, REWRITINGS, WRITTEN
from humpback_jax.runtime.console import say
from humpback_jax.runtime.processes import is_leader
from humpback_jax.stages.items import InMemory, JobItems, Prompted
from humpback_jax.stages.jobs import Completions, GenerationConfig, JobResult, longest_prompt, run_job
from humpback_jax.stages.model import ModelHandle
from humpback_jax.stages.rating import CurationConfig, rating_items, ratings_job
from humpback_jax.stages.stage import Identity, Stage, StageResult, begin_stage

REWRITTEN = "rewritten"
TEMPLATE = "rewriting.txt"
_BEFORE, _AFTER = "#before", "#after"


@dataclasses.dataclass(frozen=True)
class RewritingConfig:
    """Which rewritings are taken.

    Attributes:
      least_kept: least share of a rewriting's runs of two words that the text has.
      most_fit_lost: how much lower its fit may be, in nats per token.
      most_rating_lost: how much lower its rating may be.
    """

    least_kept: Share = 0.4
    most_fit_lost: Annotated[float, Range(0)] = 0.0
    most_rating_lost: Annotated[float, Range(0)] = 0.0

    def __post_init__(self) -> None:
        check_fields(self)


def rewrite(
    directory: PathLike,
    model: ModelHandle,
    curated: Stage,
    prompts: Prompts,
    generation: GenerationConfig,
    curation: CurationConfig,
    config: RewritingConfig,
) -> Stage:
    """Writes DIRECTORY/curated.jsonl: every pair of `curated` with its text rewritten, or as it was.

    A rewritten pair has its text under `text`. DIRECTORY/rewritings.jsonl has both versions of every pair, and the
    `reason` why the text stayed, None where it did not; `rewritten` in the figures counts them.
    """
    curation = dataclasses.replace(curation, signals=True)
    template = packaged_template(TEMPLATE)
    hashes = {"model": model.sha256, "curated": curated.outputs["curated"]}
    identity = rewritten_identity(hashes, model.chat_format.name, prompts, generation, curation, config)
    claim = begin_stage(directory, *identity, shared=True, replaces=True)
    if claim.finished:
        return claim.stage

    pairs = JsonLines([curated.directory / CURATED])
    prompted = functools.partial(_prompted, model, template)
    items = JobItems(pairs, prompted, longest_prompt(model, generation), "pairs")
    name = claim.folder.name
    written = run_job(claim.folder / WRITTEN, Completions(model, generation, "output"), items, generation, name)
    attempts = list(_attempts(written, config))
    versions = [version for attempt in attempts if attempt.reason is None for version in attempt.versions()]
    read_items = rating_items(InMemory(versions), model, prompts, curation)
    job = ratings_job(model, prompts, dataclasses.replace(curation, endpoint=None))  # M_t reads what it has written
    read = run_job(claim.folder / READ_AGAIN, job, read_items, curation.generation, name)
    if not is_leader():
        return claim.finish(None)
    readings = {row["id"]: row for _, row in read.joined() if row is not None}
    judged = [attempt.judged(readings, config) for attempt in attempts]
    reasons = collections.Counter(REWRITTEN if each.reason is None else each.reason for each in judged)
    write_jsonl(claim.folder / CURATED, (attempt.row(readings) for attempt in judged))
    write_jsonl(claim.folder / REWRITINGS, (attempt.record() for attempt in judged))
    say(f"{name}: {reasons[REWRITTEN]} of {len(judged)} texts were rewritten")
    counts = {"in": len(judged), "out": len(judged), "rejected": {}}
    outputs = {
        "curated": sha256_of_file(claim.folder / CURATED),
        "rewritings": sha256_of_file(claim.folder / REWRITINGS),
    }
    return claim.finish(StageResult(counts, outputs, {"rewritten": dict(sorted(reasons.items()))}))


def rewritten_identity(
    hashes: dict[str, str],
    chat_format: str,
    prompts: Prompts,
    generation: GenerationConfig,
    curation: CurationConfig,
    config: RewritingConfig,
) -> Identity:
    """What decides the rewritings, with the hashes of `model` and `curated` pairs."""
    settings = {
        "generation": generation,
        "curation": dataclasses.replace(curation, signals=True).identity(),
        "rewriting": config,
        "template": packaged_template(TEMPLATE),
        "prompts": prompts,
        "chat_format": chat_format,
    }
    return settings, hashes


def _prompted(model: ModelHandle, template: str, pairs: list[dict]) -> list[Prompted]:
    users = [fill_template(template, {key: pair[key] for key in ("instruction", "output")}) for pair in pairs]
    all_ids = model.all_prompt_ids(users)
    return [Prompted(pair["id"], ids, pair["instruction"]) for pair, ids in zip(pairs, all_ids, strict=True)]


@dataclasses.dataclass(frozen=True)
class _Attempt:
    """A kept pair, what was made of its text, and why that is not taken, None while nothing speaks against it."""

    pair: dict
    rewriting: str
    reason: str | None

    def versions(self) -> list[dict]:
        """The pair with its text and with the rewriting, to be read side by side."""
        shared = {"instruction": self.pair["instruction"]}
        texts = {_BEFORE: self.pair["output"], _AFTER: self.rewriting}
        return [{"id": f"{self.pair['id']}{name}", "output": text} | shared for name, text in texts.items()]

    def judged(self, readings: Mapping[str, dict], config: RewritingConfig) -> "_Attempt":
        """With a reason where the model's own reading speaks against it."""
        if self.reason is not None:
            return self
        before, after = (readings.get(f"{self.pair['id']}{name}") for name in (_BEFORE, _AFTER))
        reason = None
        if before is None or after is None:
            reason = "unscored"
        elif after["signals"]["fit"] < before["signals"]["fit"] - config.most_fit_lost:
            reason = "lower_fit"
        elif after["signals"]["rating"] < before["signals"]["rating"] - config.most_rating_lost:
            reason = "lower_rating"
        return dataclasses.replace(self, reason=reason)

    def row(self, readings: Mapping[str, dict]) -> dict[str, Any]:
        """The pair that is trained on; a rewritten one keeps its text under `text`."""
        if self.reason is not None:
            return self.pair
        reading = readings[f"{self.pair['id']}{_AFTER}"]
        pair = {key: value for key, value in self.pair.items() if key != "p_good"}  # that is of the text
        return pair | {
            "output": self.rewriting,
            "text": self.pair["output"],
            "score": reading["score"],
            "signals": reading["signals"],
        }

    def record(self) -> dict[str, Any]:
        """Both versions, and the reason."""
        named = {key: self.pair[key] for key in ("id", "instruction")}
        return named | {"text": self.pair["output"], "rewriting": self.rewriting, "reason": self.reason}


def _attempts(written: JobResult[dict], config: RewritingConfig) -> Iterator[_Attempt]:
    """What was written for every pair, with the reason that words alone give."""
    for pair, row in written.joined():
        if row is None:
            yield _Attempt(pair, "", "prompt_too_long")
        elif row["truncated"]:
            yield _Attempt(pair, row["output"], "truncated")
        else:
            reason = unfaithful_reason(row["output"], pair["output"], config.least_kept, pair["instruction"])
            yield _Attempt(pair, row["output"], reason)
