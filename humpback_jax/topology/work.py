"""What the stages of a recipe have to do, counted in items and tokens before any of it is run.

Lengths come from the recipe's own files where they are there; else from `Lengths`, whose figures are the paper's.
"""

import dataclasses
import math
import os
import statistics
from typing import Any, Literal

from humpback_jax.align import Recipe
from humpback_jax.data.pairs import read_pairs
from humpback_jax.prompts.prompts import load_prompts
from humpback_jax.stages.finetune import FinetuneConfig
from humpback_jax.stages.sources import BUILTIN, PACKAGE


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


@dataclasses.dataclass(frozen=True)
class StageWork:
    """The work of a stage.

    Attributes:
      name: as its folder in a run directory is called.
      kind: `train`, `generate` (write something), or `score` (read the logits of one forward pass).
      items: examples per run of the stage, segments, or pairs.
      prompt_tokens: per item that go through the model at once, without what all items share; trained ones are these.
      new_tokens: per item that are written one by one.
      shared_tokens: of the head that all prompts share, computed once.
      updates: of training.
      rows: packed rows per update.
    """

    name: str
    kind: Literal["train", "generate", "score"]
    items: int
    prompt_tokens: float
    new_tokens: float = 0.0
    shared_tokens: float = 0.0
    updates: int = 0
    rows: float = 0.0

    @property
    def tokens(self) -> float:
        """Tokens that go through the model."""
        return self.items * (self.prompt_tokens + self.new_tokens)


def recipe_work(recipe: Recipe, num_segments: int | None = None, lengths: Lengths = Lengths()) -> list[StageWork]:
    """The stages that cost anything, in the order of the algorithm.

    Args:
      recipe: the recipe.
      num_segments: segments of the corpus; default: what the recipe keeps at most.
      lengths: of texts.

    Raises:
      ValueError: neither gives a number of segments.
    """
    segments = num_segments or recipe.segments.corpus.max_segments
    if segments is None:
        raise ValueError("the recipe names no CorpusConfig.max_segments; give --segments")
    tokens = lambda chars: chars / lengths.chars_per_token  # noqa: E731
    seeds, instruction, output = _seeds(recipe, lengths)
    corpus = recipe.segments.corpus
    text = tokens((corpus.min_chars + corpus.max_chars) / 2)
    prompts = load_prompts(recipe.prompt_dir)
    pair, written = tokens(instruction + output), min(tokens(lengths.instruction_chars), _limit(recipe.augmentation))
    head = tokens(len(prompts.backward_template))
    work = [
        _training("m_yx", recipe.backward, seeds, pair + head, lengths),
        StageWork("augmented", "generate", segments, text, written, head),
        _training("m0", recipe.seed_model, seeds, pair, lengths),
    ]
    rubric, kept = tokens(len(prompts.rating_template)), lengths.kept_fraction
    if recipe.selection.keep_fraction is not None:
        kept = recipe.selection.keep_fraction
    expected = recipe.curation.mode == "expected"
    samples = recipe.curation.samples if recipe.curation.mode == "sampled" else 1
    reasons = 0.0 if expected else min(lengths.rationale_tokens, _limit(recipe.curation.generation))
    pairs = segments * samples
    for t in recipe.own_rounds:
        kind: Literal["generate", "score"] = "score" if expected else "generate"
        work.append(StageWork(f"scores{t}", kind, pairs, text + written, reasons, rubric))
        curated = min(round(segments * kept), recipe.selection.sample or segments)
        examples = curated * ("web" in recipe.sources) + seeds * ("seed" in recipe.sources)
        mean = (seeds * pair + curated * (text + written)) / (seeds + curated)
        work.append(_training(f"m{t}", recipe.forward, examples, mean, lengths))
    return work


def _limit(config: object) -> float:
    return float(config.engine.max_new_tokens)  # type: ignore[attr-defined]


def _seeds(recipe: Recipe, lengths: Lengths) -> tuple[int, float, float]:
    """(pairs, characters of an instruction, of an output): counted where the file is there."""
    path, limit = recipe.seeds.path, recipe.seeds.limit
    if path.startswith(BUILTIN):
        path = os.fspath(PACKAGE / "quickstart" / path[len(BUILTIN) :])
    if not os.path.exists(path):
        return limit or 3200, lengths.seed_instruction_chars, lengths.seed_output_chars
    pairs = read_pairs(path, limit=limit).pairs
    mean = lambda values: statistics.fmean(map(len, values))  # noqa: E731
    return len(pairs), mean(pair.instruction for pair in pairs), mean(pair.output for pair in pairs)


def _training(name: str, config: FinetuneConfig, examples: int, tokens: float, lengths: Lengths) -> StageWork:
    """Updates of a training run on so many examples of so many tokens."""
    tokens = min(tokens, config.row_length)
    if config.num_steps is None and config.batch_unit == "tokens":
        updates, batch = max(1, round(config.epochs * examples * tokens / config.batch_size)), config.batch_size
    else:
        counted: Any = range(examples)  # examples are only counted
        updates, batch = config.steps_for(counted)
    per_update = batch / tokens if config.batch_unit == "tokens" else batch
    rows = per_update * tokens / config.row_length / lengths.packing_fill if config.packing else per_update
    return StageWork(name, "train", round(updates * per_update), tokens, updates=updates, rows=math.ceil(rows))
