"""What the stages of a recipe have to do, counted in items and tokens before any of it is run.

Lengths come from the recipe's own files where they are there; else from `Lengths`, whose figures are the paper's.
"""

import dataclasses
import math
import os
import statistics
from typing import Any, Literal

from humpback_jax import run_files
from humpback_jax.align import Recipe, prompts_of
from humpback_jax.curation.twins import KINDS
from humpback_jax.data.pairs import read_pairs
from humpback_jax.stages.finetune import FinetuneConfig
from humpback_jax.stages.jobs import GenerationConfig
from humpback_jax.stages.prefer import PreferenceConfig
from humpback_jax.stages.sampled_pairs import CURATED_INSTRUCTIONS, SEED_INSTRUCTIONS
from humpback_jax.stages.sources import local_path

SEEDS, HELDOUT = 3200, 256  # pairs in the paper, where a recipe's files are not there


@dataclasses.dataclass(frozen=True)
class Lengths:
    """Assumed sizes of texts, used where nothing can be counted.

    Attributes:
      chars_per_token: of English under LLaMA's tokenizer (the curated pairs: 1,663 characters are 442 tokens).
      seed_instruction_chars, seed_output_chars: of a seed pair (paper, Table 2).
      instruction_chars: of a written instruction (paper, Table 2, all of A).
      rationale_tokens: of a rating with its reasons; the engine's limit cuts it.
      kept_fraction: of rated pairs that reach the score (paper: 41,821 of 502,133).
      packing_fill: share of a packed row that holds tokens.
    """

    chars_per_token: float = 3.76
    seed_instruction_chars: float = 148.0
    seed_output_chars: float = 1072.0
    instruction_chars: float = 134.0
    rationale_tokens: float = 120.0
    kept_fraction: float = 0.0833
    packing_fill: float = 0.9


LENGTHS = Lengths()


@dataclasses.dataclass(frozen=True)
class StageWork:
    """The work of a stage.

    Attributes:
      name: as its folder in a run directory is called.
      kind: `train`, `prefer` (train on pairs of answers), `generate` (write something), or `score` (read the logits of
        one forward pass).
      items: examples per run of the stage, segments, or pairs.
      prompt_tokens: per item that go through the model at once, without what all items share; trained ones are these.
      new_tokens: per item that are written one by one.
      shared_tokens: of the head that all prompts share, computed once.
      updates: of training.
      microbatches: per update.
      config: how the recipe trains or generates here.
    """

    name: str
    kind: Literal["train", "prefer", "generate", "score"]
    items: int
    prompt_tokens: float
    new_tokens: float = 0.0
    shared_tokens: float = 0.0
    updates: int = 0
    microbatches: int = 0
    config: Any = None

    @property
    def trains(self) -> bool:
        """A model is trained."""
        return self.kind in ("train", "prefer")

    @property
    def tokens(self) -> float:
        """Tokens that go through the model."""
        return self.items * (self.prompt_tokens + self.new_tokens)


def recipe_work(recipe: Recipe, num_segments: int | None = None) -> list[StageWork]:
    """The stages that `align` runs and that cost anything, in the order of the algorithm.

    Args:
      recipe: the recipe.
      num_segments: segments of the corpus; default: what the recipe keeps at most.

    Raises:
      ValueError: neither gives a number of segments.
    """
    segments = num_segments or recipe.segments.corpus.num_segments
    if segments is None:
        raise ValueError("the recipe names no CorpusConfig.num_segments; give --segments")
    counted = _RecipeWork(recipe, segments)
    whole = recipe.scored_run is None  # else pairs and ratings are those of another run
    work = [counted.backward_model(), counted.augmented(), counted.seed_model()] if whole else []
    for t in recipe.new_rounds:
        if whole:
            work.append(counted.scores(t))
            work += [counted.curator(t)] if recipe.curator else []
        work.append(counted.round_model(t))
    work += [counted.arm_model(arm) for arm in recipe.arms]
    if recipe.preference is not None:
        work += counted.preference(recipe.preference)
    if recipe.seeds.heldout_path:
        work.append(counted.evaluation())
    return work


@dataclasses.dataclass(frozen=True)
class _Pairs:
    """How many pairs there are, and tokens of a mean instruction and output."""

    count: int
    instruction: float
    output: float

    @property
    def tokens(self) -> float:
        return self.instruction + self.output


class _RecipeWork:
    """The work of every stage of a recipe, each method named like the stage."""

    def __init__(self, recipe: Recipe, segments: int) -> None:
        self.recipe = recipe
        self.prompts = prompts_of(recipe)
        self.seeds = self._read(recipe.seeds.path, recipe.seeds.limit or SEEDS, recipe.seeds.limit)
        corpus = recipe.segments.corpus
        instruction = min(_tokens(LENGTHS.instruction_chars), _limit(recipe.augmentation))
        self.web = _Pairs(segments, instruction, _tokens((corpus.min_chars + corpus.max_chars) / 2))

    def backward_model(self) -> StageWork:
        tokens = self.seeds.tokens + _tokens(len(self.prompts.backward_template))
        return self._training(run_files.BACKWARD_STAGE, self.recipe.backward, self.seeds.count, tokens)

    def augmented(self) -> StageWork:
        shared, items = _tokens(len(self.prompts.backward_template)), self.web.count * self.recipe.candidates
        written, config = self.web.instruction, self.recipe.augmentation
        return StageWork(run_files.AUGMENTED_STAGE, "generate", items, self.web.output, written, shared, config=config)

    def seed_model(self) -> StageWork:
        name = run_files.MODEL_STAGE.format(t=0)
        return self._training(name, self.recipe.seed_model, *self._with_ratings(self.seeds.count, self.seeds.tokens))

    def scores(self, t: int) -> StageWork:
        curation, rubric = self.recipe.curation, _tokens(len(self.prompts.rating_template))
        expected = curation.mode == "expected"
        return StageWork(
            run_files.SCORES_STAGE.format(t=t),
            "score" if expected else "generate",
            self.web.count * self.recipe.candidates * (curation.samples if curation.mode == "sampled" else 1),
            self.web.tokens + self._questions() + self._read_again(self.web),
            0.0 if expected else min(LENGTHS.rationale_tokens, _limit(curation.generation)),
            rubric,
            config=curation.generation,
        )

    def curator(self, t: int) -> StageWork:
        """Readings of seed pairs and their broken twins, rated as pairs are."""
        assert self.recipe.curator is not None
        examples = min(self.recipe.curator.originals, self.seeds.count) * (1 + len(KINDS))
        tokens = self.seeds.tokens + self._questions() + self._read_again(self.seeds)
        return dataclasses.replace(
            self.scores(t), name=run_files.CURATOR_STAGE.format(t=t), items=examples, prompt_tokens=tokens
        )

    def _questions(self) -> float:
        """Tokens of a checklist's questions, which are read after every pair."""
        return float(sum(_tokens(len(question)) for question in self.prompts.rubric.questions))

    def _read_again(self, pairs: "_Pairs") -> float:
        """Tokens of the two short readings of a pair that give a curator its signals."""
        if self.recipe.curator is None:
            return 0.0
        curation = self.recipe.curation
        head, tail = min(pairs.output, curation.head_tokens), min(pairs.output, curation.tail_tokens)
        return pairs.instruction + 2 * head + tail

    def arm_model(self, arm: str) -> StageWork:
        """As long as the last round's, on other pairs."""
        name = run_files.ARM_MODEL_STAGE.format(t=self.recipe.rounds, arm=arm)
        return dataclasses.replace(self.round_model(self.recipe.rounds), name=name)

    def round_model(self, t: int) -> StageWork:
        sets = {"seed": self.seeds, "web": dataclasses.replace(self.web, count=self._kept())}
        trained = [sets[source] for source in self.recipe.sources]
        examples = sum(pairs.count for pairs in trained)
        mean = sum(pairs.count * pairs.tokens for pairs in trained) / max(examples, 1)
        return self._training(
            run_files.MODEL_STAGE.format(t=t), self.recipe.forward, *self._with_ratings(examples, mean)
        )

    def _kept(self) -> int:
        """Pairs of A(t)."""
        selection = self.recipe.selection
        fraction = LENGTHS.kept_fraction if selection.keep_fraction is None else selection.keep_fraction
        return min(round(self.web.count * fraction), selection.sample or self.web.count)

    def _with_ratings(self, examples: int, tokens: float) -> tuple[int, float]:
        """(examples, mean tokens) with the recipe's examples of rating beside these."""
        ratings = self.recipe.rating_examples
        each = _tokens(len(self.prompts.rating_template)) + self.seeds.tokens
        return examples + ratings, (examples * tokens + ratings * each) / max(examples + ratings, 1)

    def preference(self, config: PreferenceConfig) -> list[StageWork]:
        """Answers, their ratings, and training on a pair for every instruction: as if none were left out."""
        sampling, t = config.sampling, self.recipe.rounds
        known = {SEED_INSTRUCTIONS: self.seeds.count, CURATED_INSTRUCTIONS: self._kept()}
        asked = known.get(sampling.instructions, SEEDS)
        asked = min(asked, sampling.limit or asked)
        written = min(self.seeds.output, _limit(sampling.generation))
        instruction, items = self.seeds.instruction, asked * sampling.answers
        sampled = StageWork(
            run_files.SAMPLED_STAGE.format(t=t), "generate", items, instruction, written, config=sampling.generation
        )
        rating = sampling.rating
        rated = StageWork(
            run_files.SAMPLED_SCORES_STAGE.format(t=t),
            "score" if rating.mode == "expected" else "generate",
            items * (rating.samples if rating.mode == "sampled" else 1),
            instruction + written,
            0.0 if rating.mode == "expected" else min(LENGTHS.rationale_tokens, _limit(rating.generation)),
            _tokens(len(self.prompts.rating_template)),
            config=rating.generation,
        )
        pairs, name = round(asked * (1 - config.heldout)), run_files.PREFERRED_STAGE.format(t=t)
        trained = self._training(name, config.training, pairs, 2 * (instruction + written))
        return [sampled, rated, dataclasses.replace(trained, kind="prefer")]

    def evaluation(self) -> StageWork:
        """Likelihoods of the held-out pairs under every model, and instructions by those that write backwards."""
        assert self.recipe.seeds.heldout_path is not None
        heldout = self._read(self.recipe.seeds.heldout_path, HELDOUT)
        config, whole = self.recipe.evaluation.generation, self.recipe.scored_run is None
        scoring = len(self.recipe.new_rounds) + (2 if whole else 1) + len(self.recipe.arms)  # base, M_0, M_1, …
        scoring += self.recipe.preference is not None
        writing = 2 if whole else 0  # base and M_yx
        prompt = heldout.output + _tokens(len(self.prompts.backward_template))
        models = scoring + writing
        return StageWork(
            run_files.EVALUATION_STAGE,
            "generate" if writing else "score",
            heldout.count * models,
            (scoring * heldout.tokens + writing * prompt) / models,
            writing * min(heldout.instruction, _limit(config)) / models,
            config=config,
        )

    def _read(self, path: str, assumed: int, limit: int | None = None) -> _Pairs:
        """Pairs of a file, counted where it is there; `assumed`: how many there are where it is not."""
        path = local_path(path)
        if not os.path.exists(path):
            chars = LENGTHS.seed_instruction_chars, LENGTHS.seed_output_chars
            return _Pairs(assumed, *map(_tokens, chars))
        pairs = read_pairs(path, limit=limit).pairs
        instruction = statistics.fmean(len(pair.instruction) for pair in pairs)
        output = statistics.fmean(len(pair.output) for pair in pairs)
        return _Pairs(len(pairs), _tokens(instruction), _tokens(output))

    def _training(self, name: str, config: FinetuneConfig, examples: int, tokens: float) -> StageWork:
        """Updates of a training run on so many examples of so many tokens."""
        batches = config.batches
        tokens = min(tokens, batches.row_length)
        updates, batch = config.steps_for(examples, examples * tokens)
        per_update = batch / tokens if batches.batch_unit == "tokens" else batch
        fill = LENGTHS.packing_fill
        rows = per_update * tokens / batches.row_length / fill if batches.packing else per_update
        microbatches = math.ceil(math.ceil(rows) / batches.rows_per_microbatch)
        items = round(updates * per_update)
        return StageWork(name, "train", items, tokens, updates=updates, microbatches=microbatches, config=config)


def _tokens(chars: float) -> float:
    return chars / LENGTHS.chars_per_token


def _limit(config: GenerationConfig) -> float:
    return float(config.engine.max_new_tokens)
