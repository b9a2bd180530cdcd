"""What a recipe would make again in a run directory, stage by stage and why; nothing is written or computed.

A stage is made again when its settings or the content of what it reads differ from those it was begun with. Where a
stage that it reads is to be made again, it follows, and is left alone after all if that comes out the same.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from etils import epath

from humpback_jax import run_files
from humpback_jax.align import RATING, Recipe, prompts_of, rating_sets
from humpback_jax.curation.curator import Curator
from humpback_jax.curation.diversity import NONE
from humpback_jax.data.mixture import PairSet, TrainingMixture
from humpback_jax.data.pairs import read_curated
from humpback_jax.data.readers import read_own_set
from humpback_jax.files import PathLike, read_json
from humpback_jax.stages.arms import arm_identity
from humpback_jax.stages.augment import augmented_identity
from humpback_jax.stages.curator import curator_identity, read_curator
from humpback_jax.stages.evaluate import evaluation_identity
from humpback_jax.stages.finetune import FinetuneConfig, model_identity
from humpback_jax.stages.model import ModelHandle, open_model
from humpback_jax.stages.prefer import PreferenceConfig, preferred_identity
from humpback_jax.stages.rating import scores_identity
from humpback_jax.stages.rewrite import REWRITTEN, rewritten_identity
from humpback_jax.stages.sampled_pairs import (
    SampledPairsConfig,
    hash_of,
    instructions_for,
    paired_identity,
    read_paired,
    sampled_identity,
)
from humpback_jax.stages.selection import CURATOR, curated_identity, hash_of_curator
from humpback_jax.stages.sources import (
    builtin_pages,
    languages_of,
    read_pair_files,
    seeds_identity,
    segments_identity,
)
from humpback_jax.stages.stage import Identity, Stage, in_words, plain
from humpback_jax.stages.versions import differences, flatten, identity_of, matching_versions
from humpback_jax.weights.find import model_at_hand

COMPLETE, GOES_ON, NEW, AGAIN, FOLLOWS, BACK = "complete", "goes on", "new", "again", "follows", "back"
CHANGES = (AGAIN, FOLLOWS, BACK)
_MADE_BY = "made by "


@dataclasses.dataclass(frozen=True)
class StageChange:
    """What would become of a stage.

    Attributes:
      stage: its name.
      state: `complete`: nothing; `goes on`: it was cut off; `new`: it was never begun; `again`: it was begun with
        others; `follows`: what it reads may change; `back`: an earlier version is whole and comes back.
      changed: {setting or input: (as it was begun, as it is wanted)}.
      after: stages that are made before and that it reads.
      seconds, rows: what it took when it was last complete, and how much went in; None where it never was.
    """

    stage: str
    state: str
    changed: dict[str, tuple[Any, Any]]
    after: tuple[str, ...] = ()
    seconds: float | None = None
    rows: int | None = None

    @property
    def why(self) -> str:
        """For people; empty where nothing is to be done."""
        parts = [in_words(self.changed)] if self.changed else []
        if self.after and self.state in CHANGES:
            parts.append(f"after {', '.join(self.after)}")
        return "; ".join(parts)


def plan_changes(recipe: Recipe, run_dir: PathLike) -> list[StageChange]:
    """What `humpback align` would do, in its order.

    Raises:
      FileNotFoundError: seed pairs, pages or a file that a setting names are not there.
    """
    return Planner(recipe, run_dir).plan()


def stages_left(changes: Sequence[StageChange], run_dir: PathLike) -> list[str]:
    """Complete stages that the recipe has no use for: they stay as they are."""
    named = {change.stage for change in changes}
    found = (path.parent.name for path in epath.Path(run_dir).glob(f"*/{run_files.MANIFEST}"))
    return sorted(name for name in found if name not in named)


class Planner:
    """Walks through the stages in the order of `Alignment.align`, and remembers which are to be made."""

    def __init__(self, recipe: Recipe, run_dir: PathLike) -> None:
        self._recipe, self._run_dir = recipe, epath.Path(run_dir)
        self._prompts = prompts_of(recipe)
        path = model_at_hand(recipe.base)
        self._base: ModelHandle | None = None if path is None else open_model(path, recipe.chat_format)
        self._changes: dict[str, StageChange] = {}

    def plan(self) -> list[StageChange]:
        """All stages in their order."""
        for name, identity in self._identities():
            self._changes[name] = self._change(name, identity)
        return list(self._changes.values())

    def identities(self) -> dict[str, dict[str, Any]]:
        """{stage: what it would be begun with}, as `identity.json` has it."""
        found = {}
        for name, identity in self._identities():
            self._changes[name] = self._change(name, identity)
            found[name] = _flat(identity)
        return found

    def _identities(self) -> Iterator[tuple[str, Identity | None]]:
        """Settings and inputs of every stage; None where what it reads is yet to be written."""
        recipe = self._recipe
        yield run_files.SEEDS_STAGE, seeds_identity(recipe.seeds)
        if recipe.scored_run is None:
            yield run_files.SEGMENTS_STAGE, self._segments()
            backward = self._model([self._seed_set("backward")], recipe.backward)
            yield run_files.BACKWARD_STAGE, backward
            writer, cut = self._model_hash(run_files.BACKWARD_STAGE), self._output(run_files.SEGMENTS_STAGE, "segments")
            seeds = self._output(run_files.SEEDS_STAGE, "seed") if recipe.steer_candidates else None
            augmentation = recipe.augmentation, recipe.candidates, seeds
            identity = augmented_identity(writer, cut, self._chat_format, self._prompts, *augmentation)
            yield run_files.AUGMENTED_STAGE, identity
            first = self._model([self._seed_set(), *self._rating_sets()], recipe.seed_model)
            yield run_files.MODEL_STAGE.format(t=0), first
        for t in recipe.new_rounds:
            yield from self._round(t)
        for arm in recipe.arms:
            pairs = run_files.ARM_PAIRS_STAGE.format(t=recipe.rounds, arm=arm)
            curated = self._output(run_files.CURATED_STAGE.format(t=recipe.rounds), "curated")
            yield pairs, self._rewritten(curated) if arm == REWRITTEN else arm_identity(arm, curated)
            yield run_files.ARM_MODEL_STAGE.format(t=recipe.rounds, arm=arm), self._forward(pairs)
        if recipe.preference is not None:
            yield from self._preference(recipe.preference)
        if recipe.seeds.heldout_path:
            yield run_files.EVALUATION_STAGE, self._evaluation()

    def _round(self, t: int) -> Iterator[tuple[str, Identity | None]]:
        recipe, curation = self._recipe, self._recipe.curation
        curation = dataclasses.replace(curation, signals=recipe.curator is not None)
        scores, curator = run_files.SCORES_STAGE.format(t=t), run_files.CURATOR_STAGE.format(t=t)
        pairs = self._output(run_files.AUGMENTED_STAGE, "pairs", recipe.scored_run)
        if recipe.scored_run is None:
            scorer, chat_format = self._scorer(t)
            yield scores, scores_identity(scorer, pairs, chat_format, self._prompts, curation)
            if recipe.curator is not None:
                seeds = self._output(run_files.SEEDS_STAGE, "seed")
                hashes = {"model": scorer, "seeds": seeds, "scores": self._output(scores, "scores")}
                identity = curator_identity(hashes, chat_format, self._prompts, curation, recipe.curator)
                yield curator, identity
        weights = self._weights(curator) if recipe.selection.by == CURATOR else None
        given = self._output(scores, "scores", recipe.scored_run)
        vectors = None if curation.diversity == NONE else self._output(scores, "vectors", recipe.scored_run)
        yield run_files.CURATED_STAGE.format(t=t), curated_identity(pairs, given, recipe.selection, weights, vectors)
        yield run_files.MODEL_STAGE.format(t=t), self._forward(run_files.CURATED_STAGE.format(t=t))

    def _preference(self, config: PreferenceConfig) -> Iterator[tuple[str, Identity | None]]:
        recipe, t, sampling = self._recipe, self._recipe.rounds, config.sampling
        model, tags = self._model_hash(run_files.MODEL_STAGE.format(t=t)), recipe.answer_tags
        names = run_files.SAMPLED_STAGE, run_files.SAMPLED_SCORES_STAGE, run_files.PREFERENCES_STAGE
        sampled, scores, paired = (name.format(t=t) for name in names)
        asked = self._instructions(sampling)
        yield sampled, sampled_identity(model, asked, self._chat_format, self._prompts, sampling, tags)
        answers = self._output(sampled, "pairs")
        rater, chat_format = self._rater(sampling.rating.rater, run_files.MODEL_STAGE.format(t=t))
        yield scores, scores_identity(rater, answers, chat_format, self._prompts, sampling.curation)
        weights = self._weights(run_files.CURATOR_STAGE.format(t=t)) if sampling.by == CURATOR else None
        yield paired, paired_identity(answers, self._output(scores, "scores"), sampling, weights)
        pairs = _MADE_BY + paired
        if self._is_complete(paired):
            folder = self._run_dir / paired
            pairs = read_paired(Stage(folder, read_json(folder / run_files.MANIFEST))).sha256
        preferred = preferred_identity(model, self._chat_format, pairs, self._prompts, config, tags)
        yield run_files.PREFERRED_STAGE.format(t=t), preferred

    def _instructions(self, sampling: SampledPairsConfig) -> str:
        """The hash of what is answered, or the name of the stage that is to be made before it can be known."""
        curated = run_files.CURATED_STAGE.format(t=self._recipe.rounds)
        if unmade := [name for name in (run_files.SEEDS_STAGE, curated) if not self._is_complete(name)]:
            return _MADE_BY + unmade[-1]
        seeds = read_curated(self._run_dir / run_files.SEEDS_STAGE / run_files.SEED_PAIRS)
        return hash_of(instructions_for(sampling, seeds, read_curated(self._run_dir / curated / run_files.CURATED)))

    def _segments(self) -> Identity | None:
        recipe = self._recipe
        built_in = (builtin_pages(source, self._run_dir) for source in recipe.segments.inputs)
        if any(folder is not None and not epath.Path(folder).exists() for folder in built_in):
            return None
        if self._is_complete(run_files.SEEDS_STAGE):
            pairs = read_curated(self._run_dir / run_files.SEEDS_STAGE / run_files.SEED_PAIRS)
        else:
            pairs = read_pair_files(recipe.seeds)["seed"].pairs
        languages = languages_of(recipe.segments, [pair.output for pair in pairs])
        seeds = self._output(run_files.SEEDS_STAGE, "seed")
        return segments_identity(recipe.segments, self._run_dir, languages, seeds)

    def _scorer(self, t: int) -> tuple[str, str]:
        """Hash and chat format of who rates: M_{t-1}, or the model that the recipe names."""
        return self._rater(self._recipe.curation.rater, run_files.MODEL_STAGE.format(t=t - 1))

    def _rater(self, rater: str | None, own: str) -> tuple[str, str]:
        """Of a model that is named, or else of the `own` one of a stage."""
        if rater is None:
            return self._model_hash(own), self._chat_format
        path = model_at_hand(rater)
        handle = None if path is None else open_model(path)
        return (f"{_MADE_BY}{rater}", "") if handle is None else (handle.sha256, handle.chat_format.name)

    def _rewritten(self, curated: str) -> Identity:
        recipe = self._recipe
        hashes = {"model": self._model_hash(run_files.MODEL_STAGE.format(t=recipe.rounds)), "curated": curated}
        settings = recipe.answering, recipe.curation, recipe.rewriting
        return rewritten_identity(hashes, self._chat_format, self._prompts, *settings)

    def _seed_set(self, direction: str = "forward") -> PairSet:
        tags = () if direction == "backward" else self._recipe.seed_tags
        return PairSet("seed", (), self._output(run_files.SEEDS_STAGE, "seed"), direction, tags)

    def _forward(self, curated: str) -> Identity | None:
        web = PairSet("web", (), self._output(curated, "curated"), tags=self._recipe.web_tags)
        sets = [each for each in (self._seed_set(), web) if each.name in self._recipe.sources]
        return self._model([*sets, *self._rating_sets()], self._recipe.forward, self._recipe.extra_mixtures)

    def _rating_sets(self) -> list[PairSet]:
        if not self._recipe.rating_examples:
            return []
        if not self._is_complete(run_files.SEEDS_STAGE):
            return [PairSet(RATING, (), _MADE_BY + run_files.SEEDS_STAGE)]
        seeds = read_curated(self._run_dir / run_files.SEEDS_STAGE / run_files.SEED_PAIRS)
        return rating_sets(self._recipe, seeds, self._prompts)

    def _model(self, sets: list[PairSet], config: FinetuneConfig, mixtures: Sequence[str] = ()) -> Identity | None:
        if self._base is None:
            return None
        chat_format, tokenizer = self._base.chat_format, self._base.tokenizer
        own_sets = [read_own_set(name, chat_format, tokenizer) for name in mixtures]
        mixture = TrainingMixture(sets, self._prompts, chat_format, tokenizer, own_sets)
        return model_identity(self._base.sha256, mixture, config)

    def _evaluation(self) -> Identity | None:
        recipe = self._recipe
        if self._base is None:
            return None
        base = {"base": self._base.sha256}
        rounds = [*([0] if recipe.scored_run is None else []), *recipe.new_rounds]
        models = [run_files.MODEL_STAGE.format(t=t) for t in rounds]
        arms = [run_files.ARM_MODEL_STAGE.format(t=recipe.rounds, arm=arm) for arm in recipe.arms]
        preferred = [run_files.PREFERRED_STAGE.format(t=recipe.rounds)] if recipe.preference is not None else []
        forward = base | {name: self._model_hash(name) for name in (*models, *arms, *preferred)}
        backward = {}
        if recipe.scored_run is None:
            backward = base | {run_files.BACKWARD_STAGE: self._model_hash(run_files.BACKWARD_STAGE)}
        rivals = [*models[:1], *arms] if 0 in rounds else arms
        compared = [(run_files.MODEL_STAGE.format(t=recipe.rounds), rival) for rival in rivals if arms]
        heldout = self._output(run_files.SEEDS_STAGE, "heldout")
        return evaluation_identity(heldout, forward, backward, self._prompts, recipe.evaluation, compared)

    @property
    def _chat_format(self) -> str:
        return self._recipe.chat_format or "" if self._base is None else self._base.chat_format.name

    def _weights(self, curator: str) -> str:
        """The hash of a curator."""
        folder = (self._run_dir if self._recipe.scored_run is None else epath.Path(self._recipe.scored_run)) / curator
        if self._recipe.scored_run is None and not self._is_complete(curator):
            return _MADE_BY + curator
        stage = Stage(folder, read_json(folder / run_files.MANIFEST))
        weights: Curator = read_curator(stage)
        return hash_of_curator(weights)

    def _model_hash(self, stage: str) -> str:
        return self._output(stage, "model")

    def _output(self, stage: str, name: str, run_dir: str | None = None) -> str:
        """The hash of a product; of one that is to be made the name of its stage."""
        if run_dir is None and not self._is_complete(stage):
            return _MADE_BY + stage
        manifest = read_json(epath.Path(run_dir or self._run_dir) / stage / run_files.MANIFEST)
        return manifest["outputs"].get(name, _MADE_BY + stage)

    def _is_complete(self, stage: str) -> bool:
        return stage in self._changes and self._changes[stage].state == COMPLETE

    def _change(self, name: str, identity: Identity | None) -> StageChange:
        """What is to be done for a stage, now that all before it are known."""
        folder = self._run_dir / name
        begun, is_whole = identity_of(folder), (folder / run_files.MANIFEST).exists()
        manifest = read_json(folder / run_files.MANIFEST) if is_whole else {}
        took = {"seconds": manifest.get("seconds"), "rows": manifest.get("counts", {}).get("in")}
        if identity is None:  # the base model is not here, or pages are not: nothing can be compared
            return StageChange(name, NEW if begun is None else COMPLETE if is_whole else GOES_ON, {}, **took)
        wanted = _flat(identity)
        made = {str(value).removeprefix(_MADE_BY) for value in wanted.values() if str(value).startswith(_MADE_BY)}
        after = tuple(stage for stage in self._changes if stage in made)
        if begun is None:
            return StageChange(name, NEW, {}, after)
        found = differences(begun, wanted)
        changed = {key: pair for key, pair in found.items() if not str(pair[1]).startswith(_MADE_BY)}
        if changed:
            is_back = not after and any(matching_versions(folder, wanted))
            return StageChange(name, BACK if is_back else AGAIN, changed, after, **took)
        if after:
            return StageChange(name, FOLLOWS if is_whole else GOES_ON, {}, after, **took)
        return StageChange(name, COMPLETE if is_whole else GOES_ON, {}, **took)


def _flat(identity: Identity | None) -> dict[str, Any]:
    if identity is None:
        return {}
    settings, inputs = identity
    return flatten({"settings": plain(settings), "inputs": inputs})
