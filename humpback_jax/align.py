"""Instruction backtranslation, top to bottom: the only file that knows the order of the stages.

    M_yx = finetune(base, seed pairs reversed)             A   = M_yx writes an instruction for every segment
    M_0  = finetune(base, seed pairs)
    for t = 1 … rounds:
        scores(t) = M_{t-1} rates every pair of A          A(t) = the best of A by these scores
        M_t  = finetune(base, seed pairs + A(t))
    arms: M_t again, on seed pairs + as many other pairs of A
    preferred: the last M_t answers, rates its answers, and learns to prefer the best to the worst

With a curator, M_{t-1} also reads seed pairs and their broken twins, and what tells those apart chooses A(t).

Every stage is a folder of the run directory. A complete stage is skipped, a cut-off one goes on where it was, and one
that was begun with other settings or inputs is made again.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Annotated

from etils import epath

from humpback_jax import run_files
from humpback_jax.curation.curator import Curator, CuratorConfig
from humpback_jax.curation.diversity import NONE
from humpback_jax.curation.rating_examples import rating_examples
from humpback_jax.curation.twins import LEAST_BROKEN, drawn
from humpback_jax.data.mixture import PairSet, TrainingMixture
from humpback_jax.data.open_assistant import holds_trees, read_siblings
from humpback_jax.data.pairs import Pair, read_curated
from humpback_jax.data.readers import READERS, SEQIO, read_own_set
from humpback_jax.files import PathLike, jsonl_line, sha256_of_bytes, write_atomically
from humpback_jax.models.config import LlamaConfig
from humpback_jax.partitioning import LogicalAxisRules, MeshShape
from humpback_jax.prompts.prompts import BOTH_TAGS, Prompts, load_prompts
from humpback_jax.prompts.rubrics import RubricConfig
from humpback_jax.ranges import NaturalInt, OneOf, PathText, PositiveInt, Text, check_fields
from humpback_jax.stages.arms import ARMS, draw_arm
from humpback_jax.stages.augment import augment
from humpback_jax.stages.curator import learn, read_curator
from humpback_jax.stages.evaluate import EvaluationConfig, evaluate
from humpback_jax.stages.finetune import FinetuneConfig, finetune
from humpback_jax.stages.generate import answers_name, generate
from humpback_jax.stages.jobs import GenerationConfig
from humpback_jax.stages.model import ModelHandle, open_model, open_named_model
from humpback_jax.stages.prefer import PreferenceConfig, prefer
from humpback_jax.stages.rating import CurationConfig, curate
from humpback_jax.stages.rewrite import REWRITTEN, RewritingConfig, rewrite
from humpback_jax.stages.sampled_pairs import instructions_for, pair_answers, read_paired, sample_answers
from humpback_jax.stages.selection import CURATOR, SelectionConfig, select
from humpback_jax.stages.sources import (
    SeedConfig,
    SegmentsConfig,
    base_model,
    cut_segments,
    local_path,
    read_seeds,
)
from humpback_jax.stages.stage import Stage, finished_stage
from humpback_jax.tokenizers import CHAT_FORMATS
from humpback_jax.training.monitoring import Monitoring

RATING = "rating"  # the set of examples of rating


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A whole alignment run.

    Attributes:
      base: base model: a native model folder, or a name for `humpback weights fetch`.
      seeds: seed pairs, and held-out pairs.
      segments: web pages and how they are cut.
      architecture: the architecture the base must have, or None to take any.
      chat_format: how turns are written; None takes the base model's own.
      prompt_dir: folder with a user's own backward.txt or rating.txt.
      rubric: what the ratings go by.
      rating_examples: of rating, which M_0, M_1, … also learn: seed pairs and broken twins, and ranked replies where
        the seeds are Open Assistant's trees; the curator's twins are of other pairs. 0: none, as in the paper.
      rounds: rounds of self-curation (the paper has 2).
      scored_run: run directory of a complete run whose pairs and scores are taken; then only the last selection, M_t
        and the evaluation are made. For ablations of what M_t is trained on.
      sources: what M_1, M_2, … are trained on: "seed" pairs, the kept "web" pairs, or both (the paper's ablation
        of data sources).
      extra_mixtures: a user's own seqio tasks or mixtures, `MODULE:NAME`, that M_1, M_2, … are trained on besides.
      data_reader: `seqio`, or `direct`: the same examples without TensorFlow.
      seed_tags, web_tags: tags of their instructions in training (paper, section 2.4).
      answer_tags: tags of instructions at inference.
      backward: training of M_yx.
      augmentation: generation of instructions.
      candidates: instructions per segment, of which at most the best is kept.
      steer_candidates: all but the first begin as seed instructions do whose output has the segment's shape (prose,
        steps, list or code).
      seed_model: training of M_0.
      curation: rating.
      curator: how the curator learns what a good pair is; None: ratings alone decide, as in the paper.
      selection: what is kept.
      arms: what M_t of the last round is compared with: `random`, `longest`, as many pairs as A(t) has; `rewritten`,
        A(t) with texts that M_t has made into answers, as `answering` generates.
      rewriting: which of these are taken.
      forward: training of M_1, M_2, ….
      preference: preference learning from the last round's own answers; None: none, as in the paper.
      evaluation: on the held-out pairs.
      answering: generation with the finished model.
      mesh: shape of the training mesh.
      rules: logical axis rules.
    """

    base: PathText
    seeds: SeedConfig
    segments: SegmentsConfig
    architecture: LlamaConfig | None = None
    chat_format: Annotated[str, OneOf(*CHAT_FORMATS)] | None = None
    prompt_dir: PathText | None = None
    rubric: RubricConfig = RubricConfig()
    rating_examples: NaturalInt = 0
    rounds: PositiveInt = 2
    scored_run: PathText | None = None
    sources: tuple[Annotated[str, OneOf("seed", "web")], ...] = ("seed", "web")
    extra_mixtures: tuple[Text, ...] = ()
    data_reader: Annotated[str, OneOf(*READERS)] = SEQIO
    seed_tags: tuple[Annotated[str, OneOf(*BOTH_TAGS)], ...] = ("seed",)
    web_tags: tuple[Annotated[str, OneOf(*BOTH_TAGS)], ...] = ("web",)
    answer_tags: tuple[Annotated[str, OneOf(*BOTH_TAGS)], ...] = BOTH_TAGS
    backward: FinetuneConfig = FinetuneConfig()
    augmentation: GenerationConfig = GenerationConfig()
    candidates: PositiveInt = 1
    steer_candidates: bool = False
    seed_model: FinetuneConfig = FinetuneConfig()
    curation: CurationConfig = CurationConfig()
    curator: CuratorConfig | None = None
    selection: SelectionConfig = SelectionConfig()
    arms: tuple[Annotated[str, OneOf(*ARMS, REWRITTEN)], ...] = ()
    rewriting: RewritingConfig = RewritingConfig()
    forward: FinetuneConfig = FinetuneConfig()
    preference: PreferenceConfig | None = None
    evaluation: EvaluationConfig = EvaluationConfig()
    answering: GenerationConfig = GenerationConfig()
    mesh: MeshShape = MeshShape()
    rules: LogicalAxisRules = LogicalAxisRules()

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.sources:
            raise ValueError(f"Recipe.sources is {self.sources}; give 'seed', 'web' or both")
        if self.steer_candidates and self.candidates == 1:
            raise ValueError(
                "Recipe.steer_candidates steers all candidates but the first, and Recipe.candidates is 1; set that to "
                "2 or more"
            )
        if self.selection.needs_signals and self.curator is None:
            raise ValueError(
                "SelectionConfig.by or .gates asks for signals, which only a run with a curator has; set "
                "Recipe.curator = @CuratorConfig()"
            )
        if self.preference is not None and self.preference.sampling.by == CURATOR and self.curator is None:
            raise ValueError(
                "SampledPairsConfig.by is 'curator', and Recipe.curator is None; bind one of them otherwise"
            )

        if self.curation.diversity != NONE and self.curator is None:
            raise ValueError(
                "CurationConfig.diversity goes by what a curator's readings give; set Recipe.curator = @CuratorConfig()"
            )
        if self.curation.diversity != NONE and self.selection.keep_fraction is None and self.selection.sample is None:
            raise ValueError(
                "CurationConfig.diversity chooses so many pairs that differ, and nothing says how many; set "
                "SelectionConfig.keep_fraction or .sample"
            )

    @property
    def new_rounds(self) -> range:
        """The rounds that this run makes."""
        return range(1 if self.scored_run is None else self.rounds, self.rounds + 1)


class Alignment:
    """One run of the algorithm in one run directory."""

    def __init__(self, recipe: Recipe, run_dir: PathLike, monitoring: Monitoring = Monitoring()) -> None:  # noqa: B008
        self.recipe, self.monitoring = recipe, monitoring
        self.run_dir = epath.Path(run_dir)
        self.prompts: Prompts = prompts_of(recipe)

    def align(self) -> ModelHandle:
        """The algorithm; returns the last model."""
        if self.recipe.scored_run is None:
            self.cut_segments()
            self.train_backward_model()
            self.augment()
            self.train_seed_model()
        for t in self.recipe.new_rounds:
            self.curate(t)
            self.train_round(t)
        for arm in self.recipe.arms:
            self.train_arm(arm)
        if self.recipe.preference is not None:
            self.prefer()
        if self.recipe.seeds.heldout_path:
            self.evaluate()
        return self.last_model()

    @functools.cached_property
    def seeds(self) -> Stage:
        """Seed and held-out pairs, in one format."""
        return read_seeds(self.run_dir / run_files.SEEDS_STAGE, self.recipe.seeds)

    @functools.cached_property
    def base(self) -> ModelHandle:
        """The base model, fetched on first use."""
        return base_model(self.recipe.base, self.recipe.architecture, self.recipe.chat_format)

    def cut_segments(self) -> Stage:
        """Segments of the web pages, in the languages of the seeds."""
        return cut_segments(self.run_dir / run_files.SEGMENTS_STAGE, self.recipe.segments, self.seeds)

    def train_backward_model(self, mixtures: Sequence[str] = ()) -> Stage:
        """M_yx: from an output to its instruction; `mixtures` are a user's own, beside the seeds."""
        seeds = dataclasses.replace(self._seed_set(), direction="backward", tags=())
        return self._finetune(run_files.BACKWARD_STAGE, [seeds], self.recipe.backward, mixtures)

    def augment(self) -> Stage:
        """A: an instruction for every segment."""
        backward_model = self._open(run_files.BACKWARD_STAGE)
        segments = finished_stage(self.run_dir / run_files.SEGMENTS_STAGE, "humpback align")
        folder = self.run_dir / run_files.AUGMENTED_STAGE
        recipe = self.recipe
        steered_by = self._seed_set() if recipe.steer_candidates else None
        settings = recipe.augmentation, recipe.candidates
        return augment(folder, backward_model, segments, self.prompts, *settings, steered_by)

    def train_seed_model(self, mixtures: Sequence[str] = ()) -> Stage:
        """M_0: from an instruction to its output, on seed pairs and a user's own `mixtures`."""
        sets = [self._seed_set(), *self._rating_sets()]
        return self._finetune(run_files.MODEL_STAGE.format(t=0), sets, self.recipe.seed_model, mixtures)

    def curate(self, t: int) -> Stage:
        """A(t): M_{t-1} rates every pair of A, and the best are kept."""
        scored_run = self.recipe.scored_run
        scored_dir = self.run_dir if scored_run is None else epath.Path(scored_run)
        scores_dir = scored_dir / run_files.SCORES_STAGE.format(t=t)
        scorer = self._rater(t) if scored_run is None else None
        pairs = finished_stage(scored_dir / run_files.AUGMENTED_STAGE, "humpback augment")
        if scorer is None:
            scores = finished_stage(scores_dir, f"humpback curate --round {t}")
        else:
            scores = curate(scores_dir, scorer, pairs, self.prompts, self._curation)
        curator = self.train_curator(t, scores) if self.recipe.curator else None
        folder = self.run_dir / run_files.CURATED_STAGE.format(t=t)
        return select(folder, pairs, scores, self.recipe.selection, curator, self.recipe.curation.diversity)

    def train_curator(self, t: int, scores: Stage) -> Curator:
        """What tells good pairs from bad ones for M_{t-1}: learned from seed pairs, their broken twins, and labels."""
        assert self.recipe.curator is not None
        scored_dir = self.run_dir if self.recipe.scored_run is None else epath.Path(self.recipe.scored_run)
        folder = scored_dir / run_files.CURATOR_STAGE.format(t=t)
        if self.recipe.scored_run is None:
            seeds = self._seed_set()
            scorer = self._rater(t)
            stage = learn(folder, scorer, seeds, scores, self.prompts, self._curation, self.recipe.curator)
        else:
            stage = finished_stage(folder, f"humpback curate --round {t}")
        return read_curator(stage)

    def train_round(self, t: int, mixtures: Sequence[str] = ()) -> Stage:
        """M_t: finetuned from base on seed pairs and A(t), each with its tag, and a user's own `mixtures`."""
        curated = finished_stage(self.run_dir / run_files.CURATED_STAGE.format(t=t), f"humpback curate --round {t}")
        mixtures = [*self.recipe.extra_mixtures, *mixtures]
        return self._train_on(run_files.MODEL_STAGE.format(t=t), curated, mixtures)

    def train_arm(self, arm: str) -> Stage:
        """M_t of the last round again: as many other pairs of A in the place of A(t), or A(t) with texts rewritten."""
        t = self.recipe.rounds
        curated = finished_stage(self.run_dir / run_files.CURATED_STAGE.format(t=t), f"humpback curate --round {t}")
        folder = self.run_dir / run_files.ARM_PAIRS_STAGE.format(t=t, arm=arm)
        drawn = self.rewrite(folder, curated) if arm == REWRITTEN else draw_arm(folder, curated, arm)
        return self._train_on(run_files.ARM_MODEL_STAGE.format(t=t, arm=arm), drawn, self.recipe.extra_mixtures)

    def rewrite(self, folder: epath.Path, curated: Stage) -> Stage:
        """A(t) with every text that M_t has made into a faithful answer."""
        settings = self.recipe.answering, self._curation, self.recipe.rewriting
        return rewrite(folder, self.model(self.recipe.rounds), curated, self.prompts, *settings)

    def prefer(self) -> Stage:
        """The last M_t on pairs of its own answers, which it has rated itself: the best against the worst."""
        recipe, t = self.recipe, self.recipe.rounds
        assert recipe.preference is not None
        sampling, model = recipe.preference.sampling, self.model(t)
        curated = finished_stage(self.run_dir / run_files.CURATED_STAGE.format(t=t), f"humpback curate --round {t}")
        sources = self._seed_set().read(), read_curated(curated.directory / run_files.CURATED)
        asked, tags = instructions_for(sampling, *sources), recipe.answer_tags
        answers = sample_answers(self._folder(run_files.SAMPLED_STAGE), model, asked, self.prompts, sampling, tags)
        rater = model if sampling.rating.rater is None else open_named_model(sampling.rating.rater)
        scores = curate(self._folder(run_files.SAMPLED_SCORES_STAGE), rater, answers, self.prompts, sampling.curation)
        curator = self._curator_of_last_round() if sampling.by == CURATOR else None
        pairs = pair_answers(self._folder(run_files.PREFERENCES_STAGE), answers, scores, sampling, curator)
        folder, placement = self._folder(run_files.PREFERRED_STAGE), (recipe.mesh, recipe.rules, self.monitoring)
        return prefer(folder, model, read_paired(pairs), self.prompts, recipe.preference, *placement, tags)

    def _curator_of_last_round(self) -> Curator:
        run_dir = self.run_dir if self.recipe.scored_run is None else epath.Path(self.recipe.scored_run)
        return read_curator(
            finished_stage(run_dir / run_files.CURATOR_STAGE.format(t=self.recipe.rounds), "humpback align")
        )

    def _folder(self, template: str) -> epath.Path:
        """Of a stage of the last round."""
        return self.run_dir / template.format(t=self.recipe.rounds)

    def last_model(self) -> ModelHandle:
        """What the run makes: the last M_t, or what that became by preference learning."""
        template = run_files.MODEL_STAGE if self.recipe.preference is None else run_files.PREFERRED_STAGE
        return self._open(template.format(t=self.recipe.rounds))

    def evaluate(self) -> Stage:
        """Held-out likelihood of base, M_0, M_1, …, the arms, and backward instructions of base and M_yx, of this run.

        The last round is compared with M_0 and with every arm.
        """
        rounds = [*([0] if self.recipe.scored_run is None else []), *self.recipe.new_rounds]
        forward_models = {"base": self.base} | {run_files.MODEL_STAGE.format(t=t): self.model(t) for t in rounds}
        last = run_files.MODEL_STAGE.format(t=self.recipe.rounds)
        rivals = [run_files.ARM_MODEL_STAGE.format(t=self.recipe.rounds, arm=arm) for arm in self.recipe.arms]
        forward_models |= {name: self._open(name) for name in rivals}
        if self.recipe.preference is not None:
            forward_models[self._folder(run_files.PREFERRED_STAGE).name] = self.last_model()
        seed_model = [run_files.MODEL_STAGE.format(t=0)] if 0 in rounds else []
        backward_models = {}
        if self.recipe.scored_run is None:
            backward_models = {"base": self.base, run_files.BACKWARD_STAGE: self._open(run_files.BACKWARD_STAGE)}
        return evaluate(
            self.run_dir / run_files.EVALUATION_STAGE,
            read_curated(self.seeds.directory / run_files.HELDOUT_PAIRS),
            self.seeds.outputs["heldout"],
            forward_models,
            backward_models,
            self.prompts,
            self.recipe.evaluation,
            [(last, rival) for rival in (*seed_model, *rivals) if rivals],
        )

    def generate(
        self,
        instructions: Sequence[tuple[str, str]],
        tags: Sequence[str] | None = None,
        t: int | None = None,
        directory: PathLike | None = None,
        config: GenerationConfig | None = None,
    ) -> Stage:
        """Answers (id, instruction) pairs with M_t (default: the last), `tags` and `config` (default: the recipe's).

        `directory` None: a folder of the run, another one for every other question and setting.
        """
        tags = self.recipe.answer_tags if tags is None else tags
        model = self.last_model() if t is None else self.model(t)
        config = self.recipe.answering if config is None else config
        if directory is None:
            directory = self.run_dir / run_files.ANSWERS_STAGE / answers_name(model, instructions, config, tags)
        return generate(directory, model, instructions, self.prompts, config, tags)

    def model(self, t: int) -> ModelHandle:
        """M_t, which must be complete."""
        return self._open(run_files.MODEL_STAGE.format(t=t))

    def complete_stages(self) -> list[str]:
        """Names of the stages that need not run again."""
        return sorted(path.parent.name for path in self.run_dir.glob(f"*/{run_files.MANIFEST}"))

    def save_config(self, config: str, operative_config: str, changed: bool = False) -> None:
        """Keeps the gin text of this run beside its results: that which began it, or which has `changed` it since."""
        for name, text in ((run_files.CONFIG, config), (run_files.OPERATIVE_CONFIG, operative_config)):
            path = self.run_dir / name
            if not path.exists() or (changed and path.read_text() != text):
                write_atomically(path, text)

    def _open(self, name: str) -> ModelHandle:
        stage = finished_stage(self.run_dir / name, f"humpback train --model {name}")
        return open_model(stage.directory / run_files.MODEL, self.recipe.chat_format)

    def _rater(self, t: int) -> ModelHandle:
        """Who rates in round t: M_{t-1}, or the model that the recipe names in its place."""
        rater = self.recipe.curation.rater
        return self.model(t - 1) if rater is None else open_named_model(rater)

    @property
    def _curation(self) -> CurationConfig:
        """How pairs are rated, with all signals where there is a curator."""
        return dataclasses.replace(self.recipe.curation, signals=self.recipe.curator is not None)

    def _train_on(self, name: str, curated: Stage, mixtures: Sequence[str]) -> Stage:
        """Finetunes from base on what `Recipe.sources` says of seed pairs and curated ones."""
        pairs = read_curated(curated.directory / run_files.CURATED)
        web = PairSet("web", pairs, curated.outputs["curated"], tags=self.recipe.web_tags)
        sets = [s for s in (self._seed_set(), web) if s.name in self.recipe.sources]
        return self._finetune(name, [*sets, *self._rating_sets()], self.recipe.forward, mixtures)

    def _seed_set(self) -> PairSet:
        pairs = read_curated(self.seeds.directory / run_files.SEED_PAIRS)
        return PairSet("seed", pairs, self.seeds.outputs["seed"], tags=self.recipe.seed_tags)

    def _rating_sets(self) -> list[PairSet]:
        return rating_sets(self.recipe, self._seed_set().read(), self.prompts) if self.recipe.rating_examples else []

    def _finetune(self, name: str, sets: list[PairSet], config: FinetuneConfig, mixtures: Sequence[str]) -> Stage:
        chat_format, tokenizer = self.base.chat_format, self.base.tokenizer
        own_sets = [read_own_set(mixture, chat_format, tokenizer) for mixture in mixtures]
        return finetune(
            self.run_dir / name,
            self.base,
            TrainingMixture(sets, self.prompts, chat_format, tokenizer, own_sets),
            config,
            self.recipe.mesh,
            self.recipe.rules,
            self.monitoring,
            self.recipe.data_reader,
            self.recipe.answer_tags,
        )


def prompts_of(recipe: Recipe) -> Prompts:
    """The recipe's texts.

    Raises:
      FileNotFoundError: a folder or a rubric is not there.
      ValueError: a text is not what it must be, or settings do not fit the rubric: the mode of rating, a bound that is
        not on its scale, examples of rating for a checklist.
    """
    prompts = load_prompts(recipe.prompt_dir, recipe.rubric)
    rubric = prompts.rubric
    if recipe.scored_run is None:
        recipe.curation.check_rubric(rubric)
        recipe.selection.check_scale(rubric.low, rubric.high)
    if recipe.rating_examples and rubric.questions:
        raise ValueError(
            "Recipe.rating_examples teach ratings, and the rubric is a checklist, whose right answers nobody gave; "
            "set Recipe.rating_examples = 0, or give another rubric"
        )
    return prompts


def rating_sets(recipe: Recipe, seeds: Sequence[Pair], prompts: Prompts) -> list[PairSet]:
    """What teaches a model to rate, where the recipe asks for it."""
    number, curator = recipe.rating_examples, recipe.curator
    if not number:
        return []
    if curator is not None:  # what it learns from must be new to who rates it
        seeds = drawn(seeds, curator.seed)[curator.originals :]
        if len(seeds) < LEAST_BROKEN:
            raise ValueError(
                f"Recipe.rating_examples: {len(seeds)} seed pairs are left beside the {curator.originals} that the "
                "curator learns from; give more seed pairs, or lower CuratorConfig.originals"
            )
    path = local_path(recipe.seeds.path)
    siblings = read_siblings(path, recipe.seeds.languages) if holds_trees(path) else ()
    examples = rating_examples(seeds, siblings, prompts, number)
    content = "".join(jsonl_line(dataclasses.asdict(example)) for example in examples)
    return [PairSet(RATING, examples, sha256_of_bytes(content.encode()))]
