"""Preferences out of a model's own answers: several to every instruction, rated, the best against the worst.

After Self-Rewarding Language Models (Yuan et al., 2024, section 2.3): the model that answers may be the one that rates.
"""

import collections
import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from humpback_jax.curation.curator import Curator
from humpback_jax.data.pairs import Pair, read_prompts
from humpback_jax.data.preferences import Preference, PreferencesReport
from humpback_jax.files import PathLike, read_jsonl, sha256_of_bytes, sha256_of_file
from humpback_jax.inference.requests import EngineConfig
from humpback_jax.prompts.prompts import Prompts
from humpback_jax.ranges import NaturalFloat, OneOf, PathText, PositiveInt, Range, check_fields
from humpback_jax.run_files import PAIRS, PREFERENCES, REJECTED, SCORES
from humpback_jax.runtime.processes import is_leader
from humpback_jax.stages.items import InMemory, JobItems, Prompted, Repeated
from humpback_jax.stages.jobs import Completions, GenerationConfig, JobResult, longest_prompt, run_job
from humpback_jax.stages.model import ModelHandle
from humpback_jax.stages.rating import CurationConfig
from humpback_jax.stages.selection import CURATOR, RATING, Rated, hash_of_curator
from humpback_jax.stages.stage import Identity, Stage, StageResult, begin_stage, plain, write_by_reason

SEED_INSTRUCTIONS, CURATED_INSTRUCTIONS = "seed", "curated"
_ANSWERING = GenerationConfig(engine=EngineConfig(max_new_tokens=512))


@dataclasses.dataclass(frozen=True)
class SampledPairsConfig:
    """How preferences are made of a model's own answers.

    Attributes:
      instructions: `seed`: those of the seed pairs; `curated`: of the last round's curated pairs; else a file of them.
      limit: at most so many instructions, drawn by their ids.
      answers: samples per instruction.
      generation: engine and sampling of the answers.
      rating: how answers are rated, by the model itself unless it names a rater.
      by: what ranks answers: `rating`, or `curator`: its p(good), where the recipe has one.
      margin: how much better the best answer must be rated than the worst, in the unit of what ranks them.
      max_length_ratio: the longer of the two has at most so many times the characters of the other, or another two are
        taken: raters like length, and a model that learns from them writes ever longer.
    """

    instructions: PathText = SEED_INSTRUCTIONS
    limit: PositiveInt | None = None
    answers: Annotated[int, Range(least=2)] = 4
    generation: GenerationConfig = _ANSWERING
    rating: CurationConfig = CurationConfig()
    by: Annotated[str, OneOf(RATING, CURATOR)] = RATING
    margin: NaturalFloat = 0.0
    max_length_ratio: Annotated[float, Range(least=1)] = 2.0

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def curation(self) -> CurationConfig:
        """How answers are rated, with all signals where a curator reads them."""
        return dataclasses.replace(self.rating, signals=self.by == CURATOR)

    def choice(self) -> dict[str, Any]:
        """What decides which answers make a pair."""
        return {name: getattr(self, name) for name in ("by", "margin", "max_length_ratio")}


def instructions_for(
    config: SampledPairsConfig, seeds: Sequence[Pair], curated: Sequence[Pair]
) -> list[dict[str, str]]:
    """`id` and `instruction` of what is answered, each text once; of more than `limit` those whose ids draw first."""
    named = {SEED_INSTRUCTIONS: seeds, CURATED_INSTRUCTIONS: curated}
    pairs = named[config.instructions] if config.instructions in named else read_prompts(config.instructions).pairs
    first = {pair.instruction: pair for pair in reversed(pairs)}
    kept = sorted(first.values(), key=lambda pair: sha256_of_bytes(f"answered {pair.id}".encode()))[: config.limit]
    return [{"id": pair.id, "instruction": pair.instruction} for pair in sorted(kept, key=lambda pair: pair.id)]


def sample_answers(
    directory: PathLike,
    model: ModelHandle,
    instructions: Sequence[dict[str, str]],
    prompts: Prompts,
    config: SampledPairsConfig,
    tags: Sequence[str],
) -> Stage:
    """Several answers to every instruction, each as a pair `ID#0`, `ID#1`, …: DIRECTORY/pairs.jsonl.

    In rejected.jsonl are answers to prompts that are too long, those that the limit cut, and empty ones.

    Raises:
      ValueError: no answer is left.
    """
    identity = sampled_identity(model.sha256, hash_of(instructions), model.chat_format.name, prompts, config, tags)
    claim = begin_stage(directory, *identity, shared=True, replaces=True)
    if claim.finished:
        return claim.stage
    rows = Repeated(InMemory(instructions), config.answers)
    prompted = functools.partial(_prompted, model, prompts, tuple(tags))
    items = JobItems(rows, prompted, longest_prompt(model, config.generation), "answers")
    job = Completions(model, config.generation, "output")
    written = run_job(claim.folder, job, items, config.generation, claim.folder.name, claim.earlier)
    if not is_leader():
        return claim.finish(None)
    counts = write_by_reason(claim.folder / PAIRS, claim.folder / REJECTED, _answered(written))
    if not counts["out"]:
        raise ValueError(
            f"{claim.folder}: none of {counts['in']} answers is whole ({counts['rejected']}); raise "
            "EngineConfig.max_new_tokens and EngineConfig.prompt_buckets of SampledPairsConfig.generation"
        )
    return claim.finish(StageResult(counts, {"pairs": sha256_of_file(claim.folder / PAIRS)}, written.figures))


def sampled_identity(
    model: str, instructions: str, chat_format: str, prompts: Prompts, config: SampledPairsConfig, tags: Sequence[str]
) -> Identity:
    """What decides the answers, with the hashes of model and instructions."""
    settings = {"generation": config.generation, "answers": config.answers, "chat_format": chat_format}
    return settings | {"tags": list(tags), "prompts": prompts.tag_texts(tags)}, {
        "model": model,
        "instructions": instructions,
    }


def hash_of(instructions: Sequence[dict[str, str]]) -> str:
    """Of ids and texts."""
    return sha256_of_bytes(repr([(each["id"], each["instruction"]) for each in instructions]).encode())


def _prompted(model: ModelHandle, prompts: Prompts, tags: Sequence[str], rows: list[dict]) -> list[Prompted]:
    all_ids = model.all_prompt_ids([prompts.tagged(row["instruction"], tags) for row in rows])
    return [Prompted(row["id"], ids, row["instruction"]) for row, ids in zip(rows, all_ids, strict=True)]


def _answered(written: JobResult[dict]) -> Iterator[tuple[str | None, dict]]:
    for row, answer in written.joined():
        pair = {"id": row["id"], "instruction": row["instruction"], "output": answer["output"] if answer else ""}
        yield _fault(answer), pair | {"source": "sampled", "of": row["id"].rpartition("#")[0]}


def _fault(answer: dict | None) -> str | None:
    if answer is None:
        return "prompt_too_long"
    if answer["truncated"]:
        return "truncated"
    return None if answer["output"] else "empty_answer"


def pair_answers(
    directory: PathLike, answers: Stage, scores: Stage, config: SampledPairsConfig, curator: Curator | None = None
) -> Stage:
    """The best answer of every instruction against the worst: DIRECTORY/preferences.jsonl, and rejected.jsonl.

    What is counted is the instruction; see `best_and_worst` for the reasons.

    Raises:
      ValueError: no instruction gives a pair, as where a rater gives everything the same.
    """
    if config.by == CURATOR and curator is None:
        raise ValueError("SampledPairsConfig.by is 'curator', and the recipe has none; set Recipe.curator")
    ranking = curator if config.by == CURATOR else None
    weights = None if ranking is None else hash_of_curator(ranking)
    identity = paired_identity(answers.outputs["pairs"], scores.outputs["scores"], config, weights)
    claim = begin_stage(directory, *identity, replaces=True)
    if claim.finished:
        return claim.stage
    rated = list(Rated(answers.directory / PAIRS, scores.directory / SCORES, ranking))
    of_instruction: dict[str, list[dict]] = {row["of"]: [] for _, row in read_jsonl(answers.directory / REJECTED)}
    for row in rated:
        of_instruction.setdefault(row["of"], []).append(row)
    found = [_pair_of(name, rows, config) for name, rows in sorted(of_instruction.items())]
    counts = write_by_reason(claim.folder / PREFERENCES, claim.folder / REJECTED, found)
    if not counts["out"]:
        raise ValueError(f"{claim.folder}: {_no_pair(counts, rated, config)}")
    figures = _figures([row for reason, row in found if reason is None])
    return claim.finish(StageResult(counts, {"preferences": sha256_of_file(claim.folder / PREFERENCES)}, figures))


def paired_identity(answers: str, scores: str, config: SampledPairsConfig, curator: str | None) -> Identity:
    """What decides the pairs, with the hashes of answers, ratings and, where one ranks them, the curator."""
    inputs = {"answers": answers, "scores": scores}
    return {"choice": config.choice()}, inputs | ({} if curator is None else {"curator": curator})


def best_and_worst(rows: Sequence[dict], config: SampledPairsConfig) -> tuple[str | None, tuple[dict, dict] | None]:
    """The two answers that are farthest apart and may be compared; or why there are none.

    `no_answer` and `one_answer`: so many are whole and rated; `equal_answers`: all say the same; `tie`: all are rated
    the same; `below_margin`; `lengths_differ`: where two are far enough apart, one is too long beside the other.
    """
    name = "p_good" if config.by == CURATOR else "score"
    rated = [row for row in rows if row[name] is not None]
    if len(rated) < 2:
        return ("one_answer" if rated else "no_answer"), None
    if len({_words(row) for row in rated}) < 2:
        return "equal_answers", None
    apart = [
        (better[name] - worse[name], better, worse)
        for better, worse in itertools.permutations(rated, 2)
        if better[name] > worse[name] and _words(better) != _words(worse)
    ]
    far = [each for each in apart if each[0] >= config.margin]
    fair = [each for each in far if _length_ratio(each[1], each[2]) <= config.max_length_ratio]
    if not fair:
        return ("lengths_differ" if far else "below_margin" if apart else "tie"), None
    _, better, worse = max(fair, key=lambda each: (each[0], -_length_ratio(each[1], each[2]), each[1]["id"]))
    return None, (better, worse)


def _words(row: dict) -> str:
    return " ".join(row["output"].split())


def _length_ratio(one: dict, other: dict) -> float:
    lengths = len(one["output"]), len(other["output"])
    return max(lengths) / max(min(lengths), 1)


def _pair_of(name: str, rows: Sequence[dict], config: SampledPairsConfig) -> tuple[str | None, dict]:
    """(why there is no pair, what is written) of an instruction."""
    ranked = "p_good" if config.by == CURATOR else "score"
    reason, pair = best_and_worst(rows, config)
    if pair is None:
        answers = [{"output": row["output"], ranked: row[ranked]} for row in rows]
        return reason, {"id": name, "instruction": rows[0]["instruction"] if rows else "", "answers": answers}
    better, worse = pair
    preference = Preference(name, (better["instruction"],), better["output"], worse["output"], name, "sampled")
    return None, plain(preference) | {"ranks": [better[ranked], worse[ranked]], "by": ranked}


def _no_pair(counts: dict[str, Any], rated: Sequence[dict], config: SampledPairsConfig) -> str:
    """Why nothing is left, and what to change."""
    name = "p_good" if config.by == CURATOR else "score"
    values = collections.Counter(round(row[name], 2) for row in rated if row[name] is not None)
    where = ", ".join(f"{value:g}: {number}" for value, number in sorted(values.items())[:8])
    advice = "lower SampledPairsConfig.margin, or raise max_length_ratio"
    if len(values) == 1:
        advice = (
            "who rates gives every answer the same: rate by mode `expected`, name another rater, or train it longer"
        )
    return (
        f"none of {counts['in']} instructions gives a pair ({counts['rejected']}; answers by {name}: {where}); {advice}"
    )


def _figures(rows: Sequence[dict]) -> dict[str, Any]:
    """Mean ranks and characters of both answers, and the share of pairs whose chosen one is longer."""
    number = len(rows)
    columns = {
        "rank": [row["ranks"] for row in rows],
        "chars": [[len(row["chosen"]), len(row["rejected"])] for row in rows],
    }
    means = {
        f"{side}_{name}": round(sum(pair[place] for pair in pairs) / number, 4)
        for name, pairs in columns.items()
        for place, side in enumerate(("chosen", "rejected"))
    }
    return means | {"chosen_is_longer": round(sum(a > b for a, b in columns["chars"]) / number, 4)}


def read_paired(stage: Stage) -> PreferencesReport:
    """The pairs of a finished stage, and its counts."""
    rows = (row for _, row in read_jsonl(stage.directory / PREFERENCES))
    pairs = [
        Preference(row["id"], tuple(row["turns"]), row["chosen"], row["rejected"], row["of"], row["source"])
        for row in rows
    ]
    return PreferencesReport(tuple(pairs), stage.counts)
