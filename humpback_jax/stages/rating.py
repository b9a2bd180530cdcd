"""Self-curation, first half (paper, section 2.3): a model rates every candidate pair 1-5 by the rubric.

A sampled rationale normally ends with `Score: n`. Where it does not, or in mode `expected` for every pair, the text
`Score: ` is forced and the rating is the mean of the distribution over what the rubric lets be said: every pair gets a
number. Of a checklist the pair is read once and every question after it; the rating is the sum of the probabilities of
yes.
"""

import array
import dataclasses
import functools
import statistics
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, TypeGuard

import numpy as np
from etils import epath
from rich.markup import escape

from humpback_jax.curation.diversity import K_CENTRE, NONE, vector_of_text, write_vectors
from humpback_jax.curation.signals import SIGNALS, constant_signals
from humpback_jax.endpoints import EndpointConfig
from humpback_jax.files import JsonLines, PathLike, read_jsonl, sha256_of_file, write_jsonl
from humpback_jax.inference.engine import Engine, shared_prefix
from humpback_jax.inference.requests import PROBE_ROOM, Branch, Completion, Probe
from humpback_jax.inference.scoring import ForcedRating, force_rating, rating_distribution
from humpback_jax.prompts.prompts import Prompts
from humpback_jax.prompts.rubrics import Rubric
from humpback_jax.prompts.scales import PAPER_SCALE
from humpback_jax.ranges import NaturalInt, OneOf, PathText, PositiveInt, check_fields
from humpback_jax.run_files import PAIRS, SCORES, VECTORS
from humpback_jax.runtime.console import say
from humpback_jax.runtime.processes import is_leader
from humpback_jax.stages.endpoint_ratings import endpoint_ratings
from humpback_jax.stages.items import JobItems, Prompted, Rows
from humpback_jax.stages.jobs import Advance, Choices, GenerationConfig, Job, longest_prompt, run_job
from humpback_jax.stages.model import ModelHandle
from humpback_jax.stages.readings import READINGS, Readings
from humpback_jax.stages.stage import Identity, Stage, StageResult, begin_stage, plain

FRAMED = ("a", "1")  # contents that share no token
NOT_SELF_ALIGNMENT = "not self-alignment"
EXPECTED = "expected"
MODES = ("rationale", "sampled", EXPECTED)
MOST_BARS = 11  # of a histogram


@dataclasses.dataclass(frozen=True)
class CurationConfig:
    """How pairs are rated.

    Attributes:
      mode: `rationale`: sample the reasoning, read its last `Score: n`, force a number where there is none;
        `sampled`: the mean of `samples` such ratings, each with its own draws;
        `expected`: force the number at once, one forward pass per pair.
      generation: engine and sampling of the rationale.
      samples: ratings per pair in mode `sampled`.
      signals: also measure every other signal of the pair (`curation/signals.py`), by two short readings more.
      head_tokens, tail_tokens: how much of an answer these readings see.
      rater: a model, named as every model is, that rates and reads in the place of M_{t-1}. That is no
        self-alignment, and the manifest, the terminal and the report say so.
      endpoint: a model behind an OpenAI-compatible endpoint that writes rationales (mode `rationale`) in the place of
        M_{t-1}, which still gives the other signals; no self-alignment either. A pair without a rating is rejected.
      diversity: `k_centre`: of twice as many pairs as are kept, the best ones, those are kept that differ most by the
        hidden states that the scorer has of them. Needs a curator, whose readings give these.
    """

    mode: Annotated[str, OneOf(*MODES)] = "rationale"
    generation: GenerationConfig = GenerationConfig()
    samples: PositiveInt = 4
    signals: bool = False
    head_tokens: PositiveInt = 32
    tail_tokens: NaturalInt = 16
    rater: PathText | None = None
    endpoint: EndpointConfig | None = None
    diversity: Annotated[str, OneOf(NONE, K_CENTRE)] = NONE

    def __post_init__(self) -> None:
        check_fields(self)
        if self.endpoint is not None and (self.mode != "rationale" or self.rater is not None):
            raise ValueError(
                "CurationConfig.endpoint writes rationales, alone: set CurationConfig.mode = 'rationale' and no .rater"
            )

    def identity(self) -> dict[str, Any]:
        """What decides the rows beside the model: settings of the signals only where they are measured."""
        names = ["mode", "generation", "samples"]
        names += ["signals", "head_tokens", "tail_tokens"] if self.signals else []
        deciding = {name: plain(getattr(self, name)) for name in names}
        return deciding if self.endpoint is None else deciding | {"endpoint": self.endpoint.deciding}

    @property
    def foreign_rater(self) -> str | None:
        """Who rates in the place of M_{t-1}, if anyone."""
        return self.rater if self.endpoint is None else f"{self.endpoint.model} at {self.endpoint.base_url}"

    @property
    def max_prompt_length(self) -> int:
        """Longest rating prompt in tokens."""
        return self.generation.engine.max_prompt_length - (PROBE_ROOM if self.mode == EXPECTED else 0)

    def check_rubric(self, rubric: Rubric) -> None:
        """ValueError where the rubric is a checklist, which has no rationale, and the mode asks for one."""
        if rubric.questions and self.mode != EXPECTED:
            raise ValueError(
                f"the rubric is a checklist of {len(rubric.questions)} questions, whose probabilities are the rating, "
                f"and CurationConfig.mode is {self.mode!r}; set it to {EXPECTED!r}, or give another rubric"
            )


def curate(directory: PathLike, scorer: ModelHandle, pairs: Stage, prompts: Prompts, config: CurationConfig) -> Stage:
    """Rates every pair of A with `scorer`: DIRECTORY/scores.jsonl, one row per pair in the order of A.

    A row holds `score` on the rubric's scale and `parsed` (read from the rationale) or the forced distribution. A pair
    whose rating prompt is too long for the engine is rejected and counted.
    """
    identity = scores_identity(scorer.sha256, pairs.outputs["pairs"], scorer.chat_format.name, prompts, config)
    claim = begin_stage(directory, *identity, shared=True, replaces=True)
    if claim.finished:
        return claim.stage
    if rater := config.foreign_rater:
        say(f"[yellow]{claim.folder.name}: {escape(rater)} rates the pairs: {NOT_SELF_ALIGNMENT}[/yellow]")

    rows = JsonLines([pairs.directory / PAIRS])
    items = rating_items(rows, scorer, prompts, config)
    job = ratings_job(scorer, prompts, config, claim.folder, config.diversity != NONE)
    rated = run_job(claim.folder, job, items, config.generation, claim.folder.name, claim.earlier)
    if not is_leader():
        return claim.finish(None)
    scores = claim.folder / SCORES
    vectors: list[np.ndarray] = []
    write_jsonl(scores, _without_vectors((rating for _, rating in rated.joined() if has_rating(rating)), vectors))
    outputs = {"scores": sha256_of_file(scores)}
    if vectors:
        write_vectors(claim.folder / VECTORS, np.stack(vectors))
        outputs["vectors"] = sha256_of_file(claim.folder / VECTORS)
    figures = _figures((rating for _, rating in read_jsonl(scores)), prompts.rubric) | rated.figures
    if rater:
        figures |= {"rater": rater, "note": NOT_SELF_ALIGNMENT}
    if config.signals:
        figures |= _signal_figures(claim.folder.name, [rating["signals"] for _, rating in read_jsonl(scores)])
    counts = rated_counts(items, figures.get("parsed", 0) + figures.get("forced", 0))
    return claim.finish(StageResult(counts, outputs, figures))


def _without_vectors(rows: Iterable[dict], vectors: list[np.ndarray]) -> Iterator[dict]:
    """The rows as scores.jsonl has them; their vectors are added to the list, half a kilobyte each."""
    for row in rows:
        if "vector" in row:
            vectors.append(vector_of_text(row.pop("vector")))
        yield row


def has_rating(row: dict | None) -> TypeGuard[dict]:
    """Whether a pair was rated: its prompt was short enough, and the endpoint, if one was asked, gave a rating."""
    return row is not None and row["score"] is not None


def rated_counts(items: JobItems[dict], rated: int) -> dict[str, Any]:
    """Counts of a stage that has `rated` of its items."""
    counts = items.counts
    without = {"no_rating": counts["out"] - rated} if counts["out"] > rated else {}
    return counts | {"out": rated, "rejected": counts["rejected"] | without}


def scores_identity(model: str, pairs: str, chat_format: str, prompts: Prompts, config: CurationConfig) -> Identity:
    """What decides the scores, with the hashes of scorer and pairs."""
    settings: dict[str, Any] = {
        "curation": config.identity(),
        "rating_template": prompts.rating_template,
        "chat_format": chat_format,
    }
    if config.signals:
        settings["prompts"] = signal_texts(prompts)
    if config.diversity != NONE:
        settings["vectors"] = True
    return settings, {"model": model, "pairs": pairs}


def signal_texts(prompts: Prompts) -> dict[str, str]:
    """The texts that the signals read beside the rubric."""
    return {name: text for name, text in plain(prompts).items() if name != "rating_template"}


def rating_items(rows: Rows[dict], scorer: ModelHandle, prompts: Prompts, config: CurationConfig) -> JobItems[dict]:
    """Pairs, rows with `id`, `instruction` and `output`, as items of a rating job."""
    frames = rating_prompts(scorer, prompts, [(text, text) for text in FRAMED])
    room = max((len(tail) for tail in question_tails(scorer, prompts)), default=0)
    window = max(1, scorer.card.config.max_position_embeddings - room)
    longest = min(config.max_prompt_length, longest_prompt(scorer, config.generation), window)
    return JobItems(rows, functools.partial(_prompted, scorer, prompts), longest, "pairs", frames)


def _prompted(scorer: ModelHandle, prompts: Prompts, pairs: list[dict]) -> list[Prompted]:
    texts = [(pair["instruction"], pair["output"]) for pair in pairs]
    all_ids = rating_prompts(scorer, prompts, texts)
    return [Prompted(pair["id"], ids, pair=text) for pair, text, ids in zip(pairs, texts, all_ids, strict=True)]


def rating_prompts(scorer: ModelHandle, prompts: Prompts, pairs: Sequence[tuple[str, str]]) -> list[tuple[int, ...]]:
    """The rating prompt of each (instruction, output); of a checklist what its questions share.

    Raises:
      ValueError: a question of a checklist has other tokens after this pair than after others.
    """
    questions = prompts.rubric.questions
    if not questions:
        return scorer.all_prompt_ids([prompts.rating(*pair) for pair in pairs])
    tail = question_tails(scorer, prompts)[0]
    all_ids = scorer.all_prompt_ids([prompts.rating(*pair, questions[0]) for pair in pairs])
    if any(ids[-len(tail) :] != tail for ids in all_ids):
        raise ValueError(
            "the tokenizer joins a question of the rubric with what stands before it; begin a line with {question}"
        )
    return [ids[: -len(tail)] for ids in all_ids]


def question_tails(scorer: ModelHandle, prompts: Prompts) -> list[tuple[int, ...]]:
    """What follows a pair in the prompt of each question of a checklist; empty for other rubrics."""
    questions = prompts.rubric.questions
    if not questions:
        return []
    # Other questions besides, so that one alone has a tail as well.
    asked = scorer.all_prompt_ids([prompts.rating(FRAMED[0], FRAMED[0], each) for each in (*questions, *FRAMED)])
    shared = len(shared_prefix(asked))
    return [ids[shared:] for ids in asked[: len(questions)]]


def ratings_job(
    scorer: ModelHandle,
    prompts: Prompts,
    config: CurationConfig,
    folder: epath.Path | None = None,
    vectors: bool = False,
) -> Job:
    """The job that rates pairs in the mode of `config`; its items are their rating prompts.

    With `vectors` rows have one beside their signals. What an endpoint replies is kept in the folder.

    Raises:
      ValueError: an endpoint has no folder or no key, or the rubric is a checklist and the mode asks for rationales.
    """
    config.check_rubric(prompts.rubric)
    if config.endpoint is None:
        job = _rating_job(scorer, prompts, config)
    else:
        job = endpoint_ratings(scorer, prompts, config.endpoint, folder)
    if config.signals:
        return WithSignals(job, Readings(scorer, prompts, config.head_tokens, config.tail_tokens, vectors))
    return job


def _rating_job(scorer: ModelHandle, prompts: Prompts, config: CurationConfig) -> Job:
    rubric = prompts.rubric
    if rubric.questions:
        answers = force_rating(scorer.tokenizer.encode, "", "", rubric.answers)
        return ChecklistRatings(scorer, tuple(question_tails(scorer, prompts)), answers)
    if config.mode != EXPECTED:
        return (SampledRatings if config.mode == "sampled" else Ratings)(scorer, config, rubric)
    forced = _forced_after(scorer, "", rubric)
    if len(forced.branches) > 1:
        return BranchedRatings(scorer, forced, rubric)
    return ExpectedRatings(scorer, forced.rating_ids, forced.prefix_ids, rubric=rubric)


@dataclasses.dataclass(frozen=True)
class WithSignals:
    """A rating job whose rows have all other signals as well, under `signals`."""

    ratings: Job
    readings: Readings

    @property
    def model(self) -> ModelHandle:
        """Who rates and reads."""
        return self.ratings.model

    def identity(self) -> dict[str, Any]:
        """That of the rating, and what is read of which texts."""
        read = {"head": self.readings.head_tokens, "tail": self.readings.tail_tokens}
        read |= {"vectors": 1} if self.readings.vectors else {}
        return {"ratings": self.ratings.identity(), "readings": read | signal_texts(self.readings.prompts)}

    def compile(self, engine: Engine, prompt_lengths: Sequence[int]) -> None:
        """The programs of the rating; those of the short readings are made when their lengths are known."""
        self.ratings.compile(engine, prompt_lengths)

    def run(self, engine: Engine, items: Sequence[Prompted], advance: Advance) -> list[dict]:
        """Rows of the rating, each with `signals`."""
        steps = _WholeItems(1 + READINGS, advance)  # a pair counts when it has been rated and read
        rows = self.ratings.run(engine, items, steps.advance)
        common = self.readings.prompts.rubric.common
        ratings = [common(row["score"]) if has_rating(row) else None for row in rows]
        columns = self.readings.columns(engine, items, ratings, steps.advance)
        return [row | each for row, each in zip(rows, columns, strict=True)]


def _signal_figures(name: str, rows: Sequence[dict]) -> dict[str, Any]:
    """Mean of every signal; a signal that tells no pair from another is an alarm, said aloud."""
    means = {signal: round(statistics.fmean(row[signal] for row in rows), 4) for signal in SIGNALS} if rows else {}
    constant = constant_signals(rows)
    if constant:
        say(
            f"[red]{name}: {', '.join(constant)} is the same for all {len(rows)} pairs; it tells nothing apart. "
            "Train it longer, or give another rubric[/red]"
        )
    return {"signals": means, "constant_signals": constant}


@dataclasses.dataclass(frozen=True)
class Ratings:
    """One sampled rationale per item; where it ends without a number, the number is forced after it."""

    model: ModelHandle
    config: CurationConfig
    rubric: Rubric

    def identity(self) -> dict[str, Any]:
        """How often a pair is rated, and how."""
        samples = {"samples": self.config.samples} if self.config.mode == "sampled" else {}
        return {"mode": self.config.mode} | samples | self.rubric.how_read

    def compile(self, engine: Engine, prompt_lengths: Sequence[int]) -> None:
        """The programs of generation, and of the probe that forces a number."""
        width = len(_forced_after(self.model, "", self.rubric).rating_ids)
        engine.compile_generation(prompt_lengths, self.model.stop_ids, width)

    def run(self, engine: Engine, items: Sequence[Prompted], advance: Advance) -> list[dict]:
        """Rows with `score`, `parsed` and the `rationale`."""
        generation = self.config.generation
        requests = generation.requests(items)
        completions = engine.generate(requests, generation.seed, self.model.stop_ids, advance, self.probe)
        return [self._row(completion) for completion in completions]

    def probe(self, completion: Completion) -> Probe | None:
        """Asks for a number where a rationale has none."""
        rationale = self._rationale(completion)
        if self.rubric.parse(rationale) is not None:
            return None
        first, *others = _forced_after(self.model, rationale, self.rubric).branches
        return Probe(first.forced_ids, first.candidate_ids, tuple(others))

    def _rationale(self, completion: Completion) -> str:
        return self.model.tokenizer.decode(completion.token_ids).strip()

    def _row(self, completion: Completion) -> dict[str, Any]:
        rationale = self._rationale(completion)
        row: dict[str, Any] = {"id": completion.id, "score": self.rubric.parse(rationale), "parsed": True}
        if completion.probe_log_probs is not None:
            forced = _forced_after(self.model, rationale, self.rubric)
            row |= _forced_row(forced.option_log_probs(np.asarray(completion.probe_log_probs)), self.rubric)
        return row | {"rationale": rationale}


class SampledRatings(Ratings):
    """The mean of several ratings per item, each with its own draws."""

    def run(self, engine: Engine, items: Sequence[Prompted], advance: Advance) -> list[dict]:
        """Rows with the mean `score`; `parsed` if all of them were read from their rationales."""
        count = self.config.samples
        samples = [dataclasses.replace(item, id=f"{item.id}#{number}") for item in items for number in range(count)]
        rated = super().run(engine, samples, _WholeItems(count, advance).advance)
        return [self._mean(item, rated[i * count : (i + 1) * count]) for i, item in enumerate(items)]

    @staticmethod
    def _mean(item: Prompted, rated: Sequence[dict]) -> dict[str, Any]:
        ratings, parsed = [row["score"] for row in rated], all(row["parsed"] for row in rated)
        row = {"id": item.id, "score": round(statistics.fmean(ratings), 6), "parsed": parsed}
        return row | {"ratings": ratings, "rationales": [row["rationale"] for row in rated]}


class _WholeItems:
    """Passes samples, or steps, on as items, `size` of them each."""

    def __init__(self, size: int, advance: Advance) -> None:
        self._size, self._advance, self._samples = size, advance, 0

    def advance(self, number: int) -> None:
        before, self._samples = self._samples, self._samples + number
        self._advance(self._samples // self._size - before // self._size)


@dataclasses.dataclass(frozen=True)
class ExpectedRatings(Choices):
    """One forward pass per item: the distribution over the ratings where the answer begins with `Score: `."""

    rubric: Rubric = dataclasses.field(kw_only=True)

    def identity(self) -> dict[str, Any]:
        """What is asked about."""
        return super().identity() | self.rubric.how_read

    def run(self, engine: Engine, items: Sequence[Prompted], advance: Advance) -> list[dict]:
        """Rows as of a rationale that says nothing."""
        rows = super().run(engine, items, advance)
        return [
            {"id": row["id"]} | _forced_row(np.asarray(row["log_probs"]), self.rubric) | {"rationale": ""}
            for row in rows
        ]


@dataclasses.dataclass(frozen=True)
class BranchedRatings:
    """The same where options begin with one token, as `1` and `10` do: further branches ask what follows it."""

    model: ModelHandle
    forced: ForcedRating
    rubric: Rubric

    def identity(self) -> dict[str, Any]:
        """What is asked about."""
        return {"branches": plain(self.forced.branches)} | self.rubric.how_read

    def compile(self, engine: Engine, prompt_lengths: Sequence[int]) -> None:
        """The programs of branches."""
        engine.compile_branches(prompt_lengths, self.forced.branches)

    def run(self, engine: Engine, items: Sequence[Prompted], advance: Advance) -> list[dict]:
        """Rows as of a rationale that says nothing."""
        values = engine.branch_log_probs([(item.id, item.prompt_ids) for item in items], self.forced.branches, advance)
        found = zip(items, map(self.forced.option_log_probs, values), strict=True)
        return [{"id": item.id} | _forced_row(log_probs, self.rubric) | {"rationale": ""} for item, log_probs in found]


@dataclasses.dataclass(frozen=True)
class ChecklistRatings:
    """The questions of a checklist after every pair, which is read once: the rating is the sum of p(yes).

    Attributes:
      model: whose opinion it is.
      tails: what follows a pair in the prompt of each question.
      answers: how yes and no begin.
    """

    model: ModelHandle
    tails: tuple[tuple[int, ...], ...]
    answers: ForcedRating

    def identity(self) -> dict[str, Any]:
        """What is asked about."""
        return {"branches": plain(self._branches)}

    @property
    def _branches(self) -> list[Branch]:
        """Those of every question, one after another."""
        return [
            Branch((*tail, *branch.forced_ids), branch.candidate_ids)
            for tail in self.tails
            for branch in self.answers.branches
        ]

    def compile(self, engine: Engine, prompt_lengths: Sequence[int]) -> None:
        """The programs of branches."""
        engine.compile_branches(prompt_lengths, self._branches)

    def run(self, engine: Engine, items: Sequence[Prompted], advance: Advance) -> list[dict]:
        """Rows with `score`, from 0 to the number of questions, and the probability of `yes` to each."""
        values = engine.branch_log_probs([(item.id, item.prompt_ids) for item in items], self._branches, advance)
        of_questions = values.reshape(len(items), len(self.tails), len(self.answers.branches), -1)
        return [self._row(item.id, questions) for item, questions in zip(items, of_questions, strict=True)]

    def _row(self, name: str, of_questions: np.ndarray) -> dict[str, Any]:
        yes = [rating_distribution(self.answers.option_log_probs(each), (1, 0)).expected for each in of_questions]
        return {"id": name, "score": round(sum(yes), 6), "parsed": False, "yes": yes, "rationale": ""}


def _forced_after(scorer: ModelHandle, rationale: str, rubric: Rubric) -> ForcedRating:
    announced = f"\n{rubric.announced}" if rationale else rubric.announced
    return force_rating(scorer.tokenizer.encode, rationale, announced, rubric.scale.options)


def _forced_row(log_probs: np.ndarray, rubric: Rubric) -> dict[str, Any]:
    """Of the log-probabilities of the options."""
    distribution = rating_distribution(log_probs, rubric.scale.values)
    return {"score": distribution.expected, "parsed": False} | plain(distribution)


def _figures(ratings: Iterable[dict], rubric: Rubric) -> dict[str, Any]:
    """Rates of parsed and forced ratings, mean, and a histogram of the rounded score; a scale that is not 1 to 5."""
    scores, parsed = array.array("d"), 0
    step = -(-(rubric.high - rubric.low) // (MOST_BARS - 1))
    names = [str(rating) for rating in range(rubric.low, rubric.high + 1, step)]
    bars = [0] * len(names)
    for row in ratings:
        scores.append(row["score"])
        parsed += row["parsed"]
        bars[min(int((row["score"] - rubric.low) / step + 0.5), len(bars) - 1)] += 1
    if not scores:
        return {}
    scale = (
        {} if (rubric.low, rubric.high) == (PAPER_SCALE.low, PAPER_SCALE.high) else {"scale": [rubric.low, rubric.high]}
    )
    return {
        "parsed": parsed,
        "forced": len(scores) - parsed,
        "unscored": 0,
        "mean_score": round(statistics.fmean(scores), 4),
        "histogram": dict(zip(names, bars, strict=True)),
    } | scale
