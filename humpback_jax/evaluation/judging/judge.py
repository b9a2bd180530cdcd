"""The judge stage: two files of outputs in, AlpacaEval annotations and a win rate out; resumable."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from humpback_jax.evaluation.judging.comparisons import (
    ORDERS,
    Comparison,
    Judgment,
    judge_prompt,
    judge_template,
    judged_figures,
    judgment_id,
    pair_outputs,
    to_annotations,
)
from humpback_jax.evaluation.judging.endpoint import Endpoint, EndpointConfig, Journal, ask_all
from humpback_jax.evaluation.records import read_outputs
from humpback_jax.files import PathLike, sha256_of_bytes, sha256_of_file, write_atomically
from humpback_jax.runtime.processes import is_leader
from humpback_jax.runtime.progress import progress_bar
from humpback_jax.stages.jobs import Choices, GenerationConfig, Prompted, run_job, split_too_long
from humpback_jax.stages.model import ModelHandle
from humpback_jax.stages.stage import Stage, StageResult, begin_stage

ANNOTATIONS, JOURNAL = "annotations.json", "judgments.jsonl"


@dataclasses.dataclass(frozen=True)
class Contest:
    """What is judged: comparisons, the names of baseline and model, and how many outputs were missing."""

    comparisons: tuple[Comparison, ...]
    names: tuple[str, str]
    missing: int = 0

    @property
    def sha256(self) -> str:
        """Hash of everything the judge sees."""
        rows = [dataclasses.astuple(comparison) for comparison in self.comparisons]
        return sha256_of_bytes(json.dumps([rows, self.names, self.missing]).encode())

    def questions(self, template: str) -> dict[str, str]:
        """Prompts by question id: both orders of every comparison that has something to judge."""
        return {
            judgment_id(comparison, order): judge_prompt(template, comparison, order)
            for comparison in self.comparisons
            if not comparison.identical
            for order in ORDERS
        }


def read_contest(outputs: PathLike, baseline: PathLike, limit: int | None = None, partial: bool = False) -> Contest:
    """The contest of two files of outputs, of the first `limit` instructions of the baseline; see `make_contest`."""
    base, model = read_outputs(baseline, limit), read_outputs(outputs)
    if limit is not None:
        wanted = {row["instruction"] for row in base}
        model = [row for row in model if row["instruction"] in wanted]
    return make_contest(model, base, partial, (str(baseline), str(outputs)))


def make_contest(
    model: Sequence[Mapping[str, Any]],
    base: Sequence[Mapping[str, Any]],
    partial: bool = False,
    fallback_names: tuple[str, str] = ("baseline", "model"),
) -> Contest:
    """Matches outputs of a model with a baseline's; see `pair_outputs`. Rows without a generator have other names."""
    comparisons, missing = pair_outputs(base, model, partial)
    names = [str(rows[0].get("generator") or name) for rows, name in zip((base, model), fallback_names, strict=True)]
    return Contest(tuple(comparisons), (names[0], names[1]), missing)


def judge_by_endpoint(directory: PathLike, contest: Contest, config: EndpointConfig) -> Stage:
    """Judges a contest by an OpenAI-compatible endpoint: DIRECTORY/annotations.json.

    Raises:
      ValueError: the key is not set, or the folder was begun with another judge or other outputs.
      OSError: the endpoint cannot be reached, keeps failing or refuses the key; what it said is kept.
    """
    template = judge_template()
    claim = begin_stage(directory, {"endpoint": config.deciding, "template": template}, {"contest": contest.sha256})
    if claim.finished:
        return claim.stage

    questions, journal = contest.questions(template), Journal(claim.folder / JOURNAL)
    endpoint = Endpoint(config)
    with progress_bar(f"judge {config.model}", len(questions), "judgments") as bar:
        judgments = ask_all(endpoint, questions, journal, bar.advance)
    costs = {"retries": dict(sorted(endpoint.retries.items())), "usage_of_this_run": dict(endpoint.usage)}
    return claim.finish(_result(claim.folder, contest, judgments, config.model, costs))


def judge_by_model(directory: PathLike, contest: Contest, model: ModelHandle, config: GenerationConfig) -> Stage:
    """Judges a contest by a local model: which of the letters A and B it finds more likely as its answer.

    No text is sampled. Questions that do not fit the engine have no verdict and are counted.
    """
    template = judge_template()
    settings = {"generation": config, "template": template, "chat_format": model.chat_format.name}
    claim = begin_stage(directory, settings, {"contest": contest.sha256, "judge": model.sha256}, shared=True)
    if claim.finished:
        return claim.stage

    forced_ids, letters = letter_ids(model)
    questions = contest.questions(template)
    items = [Prompted(name, (*model.prompt_ids(text), *forced_ids)) for name, text in questions.items()]
    fitting, too_long = split_too_long(items, config.engine.max_prompt_length)
    judged = run_job(claim.folder, Choices(model, letters), fitting, config, "judge", "judgments")
    if not is_leader():
        return claim.finish(None)
    judgments = {name: _of_log_probs(row["log_probs"]) for name, row in judged.rows.items()}
    judgments |= {name: Judgment(None, "prompt_too_long") for name in too_long}
    return claim.finish(_result(claim.folder, contest, judgments, str(model.path), {}))


def letter_ids(model: ModelHandle) -> tuple[tuple[int, ...], tuple[int, int]]:
    """(ids that the answers "A" and "B" begin with, the two ids after them); ValueError where there are none."""
    a, b = (model.chat_format.answer_ids(letter, model.tokenizer) for letter in "AB")
    for place, (one, other) in enumerate(zip(a, b, strict=False)):
        if one != other:
            return tuple(a[:place]), (one, other)
    raise ValueError(f"the tokenizer of {model.path} does not tell A from B; choose another judge")


def _of_log_probs(values: Sequence[float]) -> Judgment:
    a, b = values
    if not (math.isfinite(a) and math.isfinite(b)):
        return Judgment(None, "not_a_number", [repr(a), repr(b)])
    verdict = "tie" if a == b else "A" if a > b else "B"
    return Judgment(verdict, None, list(values), 1.0 / (1.0 + math.exp(min(b - a, 700.0))))


def _result(
    folder: epath.Path, contest: Contest, judgments: Mapping[str, Judgment], judge: str, costs: dict[str, Any]
) -> StageResult:
    annotations = to_annotations(contest.comparisons, judgments, contest.names, judge)
    write_atomically(folder / ANNOTATIONS, json.dumps(annotations, indent=2, ensure_ascii=False) + "\n")
    figures = judged_figures(annotations, contest.missing) | costs
    rejected = dict(figures["failed"]) | ({"missing_output": contest.missing} if contest.missing else {})
    counts = {"in": len(annotations) + contest.missing, "out": figures["n_total"], "rejected": rejected}
    return StageResult(counts, {"annotations": sha256_of_file(folder / ANNOTATIONS)}, figures)
