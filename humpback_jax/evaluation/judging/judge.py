"""The judge stage: two files of outputs in, AlpacaEval annotations and a win rate out; resumable."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath
from scipy.special import expit

from humpback_jax.endpoints import UNPAID, Endpoint, EndpointConfig, Journal, ask_all
from humpback_jax.evaluation.judging.comparisons import (
    Contest,
    Judgment,
    judged_figures,
    to_annotations,
)
from humpback_jax.evaluation.judging.verdicts import parse_verdict
from humpback_jax.evaluation.records import write_records
from humpback_jax.files import PathLike, read_json, sha256_of_file
from humpback_jax.prompts.prompts import packaged_template
from humpback_jax.run_files import ANNOTATIONS, IDENTITY, JUDGMENTS, MANIFEST
from humpback_jax.runtime.processes import is_leader
from humpback_jax.runtime.progress import progress_bar
from humpback_jax.stages.items import InMemory, JobItems, Prompted
from humpback_jax.stages.jobs import Choices, GenerationConfig, run_job
from humpback_jax.stages.model import ModelHandle
from humpback_jax.stages.stage import Claim, Stage, StageResult, begin_stage

TEMPLATE = "judge.txt"


def judge_by_endpoint(directory: PathLike, contest: Contest, config: EndpointConfig) -> Stage:
    """Judges a contest by an OpenAI-compatible endpoint: DIRECTORY/annotations.json.

    Where DIRECTORY holds judgments of the same judge, only questions that it lacks are asked: more rows, or more room
    for replies, cost no more than what is new.

    Raises:
      ValueError: the key is not set, the folder was begun with another judge, or the first questions fail alike.
      OSError: the endpoint cannot be reached, keeps failing or refuses the key; what it said is kept.
    """
    template = packaged_template(TEMPLATE)
    asked = {"contest": contest.sha256, "parameters": config.parameters, "replies": config.replies}
    _reopen(epath.Path(directory), asked)
    claim = begin_stage(directory, {"endpoint": config.deciding, "template": template}, {})
    if claim.finished:
        return claim.stage

    questions, journal = contest.questions(template), Journal(claim.folder / JUDGMENTS)
    endpoint = Endpoint(config, parse_verdict)
    with progress_bar(f"judge {config.model}", len(questions), "judgments") as bar:
        answers = ask_all(endpoint, questions, journal, bar.advance)
    judgments = {name: Judgment(answer.verdict, answer.reason, answer.raw) for name, answer in answers.items()}
    costs = {"retries": dict(sorted(endpoint.retries.items())), "usage_of_this_run": dict(endpoint.usage)}
    return _finish(claim, contest, judgments, config.model, costs | {"asked": asked})


def _reopen(folder: epath.Path, asked: dict[str, Any]) -> None:
    """Makes a finished folder one to go on in where other things are asked now, or some were refused; one in which
    nothing was said yet, one to begin."""
    manifest, journal = folder / MANIFEST, folder / JUDGMENTS
    if manifest.exists():
        figures = read_json(manifest)["figures"]
        if "asked" in figures and (figures["asked"] != asked or figures["failed"].keys() & set(UNPAID)):
            manifest.unlink()
    elif (folder / IDENTITY).exists() and not (journal.exists() and journal.stat().length):
        (folder / IDENTITY).unlink()


def judge_by_model(directory: PathLike, contest: Contest, model: ModelHandle, config: GenerationConfig) -> Stage:
    """Judges a contest by a local model: which of the letters A and B it finds more likely as its answer.

    No text is sampled. Questions that do not fit the engine have no verdict and are counted.
    """
    template = packaged_template(TEMPLATE)
    settings = {"generation": config, "template": template, "chat_format": model.chat_format.name}
    claim = begin_stage(directory, settings, {"contest": contest.sha256, "judge": model.sha256}, shared=True)
    if claim.finished:
        return claim.stage

    forced_ids, letters = letter_ids(model)
    questions = contest.questions(template)
    prompted = [Prompted(name, (*model.prompt_ids(text), *forced_ids)) for name, text in questions.items()]
    items = JobItems(InMemory(prompted), list, config.engine.max_prompt_length, "judgments")
    judged = run_job(claim.folder, Choices(model, letters), items, config, "judge")
    if not is_leader():
        return claim.finish(None)
    judgments = {
        item.id: _of_log_probs(row["log_probs"]) if row else Judgment(None, "prompt_too_long")
        for item, row in judged.joined()
    }
    return _finish(claim, contest, judgments, str(model.path), {})


def letter_ids(model: ModelHandle) -> tuple[tuple[int, ...], tuple[int, int]]:
    """(ids that the answers "A" and "B" begin with, the two ids after them); ValueError where there are none."""
    a, b = (model.chat_format.answer_ids(letter, model.tokenizer) for letter in "AB")
    for place, letters in enumerate(zip(a, b, strict=False)):
        if letters[0] != letters[1]:
            return tuple(a[:place]), letters
    raise ValueError(f"the tokenizer of {model.path} does not tell A from B; choose another judge")


def _of_log_probs(values: Sequence[float]) -> Judgment:
    a, b = values
    if not (math.isfinite(a) and math.isfinite(b)):
        return Judgment(None, "not_a_number", [repr(a), repr(b)])
    return Judgment("tie" if a == b else "A" if a > b else "B", None, list(values), float(expit(a - b)))


def _finish(
    claim: Claim, contest: Contest, judgments: Mapping[str, Judgment], judge: str, costs: dict[str, Any]
) -> Stage:
    annotations = to_annotations(contest, judgments, judge)
    write_records(claim.folder / ANNOTATIONS, annotations)
    figures = judged_figures(annotations, contest.missing) | costs
    rejected = figures["failed"] | ({"missing_output": contest.missing} if contest.missing else {})
    counts = {"in": len(annotations) + contest.missing, "out": figures["n_total"], "rejected": rejected}
    return claim.finish(StageResult(counts, {"annotations": sha256_of_file(claim.folder / ANNOTATIONS)}, figures))
