"""What is checked before the first stage of a run: all that it will need, with every fault in one list.

Nothing is written, downloaded or compiled. What depends on tokens is checked where the base model is at hand.
"""

import dataclasses
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence

import jax
import numpy as np
from etils import epath

from humpback_jax import run_files
from humpback_jax.align import Recipe, prompts_of
from humpback_jax.corpus.readers.inputs import list_inputs
from humpback_jax.data.batching import check_batch
from humpback_jax.data.examples import encode_pair
from humpback_jax.data.pairs import Pair
from humpback_jax.data.readers import length_histogram
from humpback_jax.files import PathLike, read_json
from humpback_jax.models.config import LlamaConfig
from humpback_jax.models.dtypes import DTYPES
from humpback_jax.partitioning import make_mesh
from humpback_jax.prompts.prompts import Prompts
from humpback_jax.stages.finetune import FinetuneConfig
from humpback_jax.stages.jobs import GenerationConfig, longest_prompt
from humpback_jax.stages.model import ModelHandle, device_groups, open_model, spans_hosts
from humpback_jax.stages.sources import LIBRARY_DOCS, PYTHON_REFERENCE, local_path, pairs_in_both, read_pair_files
from humpback_jax.training.layout import check_layout, rows_on
from humpback_jax.weights.convert import open_source
from humpback_jax.weights.find import model_at_hand

USER_ERRORS = (ValueError, OSError, KeyError)
MOST_TOKENIZED = 2000  # pairs whose lengths are looked at
LONG_ENOUGH = 100  # characters of a text that tells how many make a token
STATE_COPIES = 4  # weights, two moments, and the checkpoint that is written while the last is there
MAX_NAMED = 3


@dataclasses.dataclass(frozen=True)
class Findings:
    """What stands against a run.

    Attributes:
      faults: why it cannot work; each names the setting or file, and what to do.
      warnings: what is probably not meant.
    """

    faults: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def list_of_faults(self) -> str:
        """One line where there is one fault, else one for each."""
        if len(self.faults) == 1:
            return self.faults[0]
        return "\n  ".join([f"{len(self.faults)} faults, nothing was started:", *self.faults])

    def __add__(self, other: "Findings") -> "Findings":
        return Findings(self.faults + other.faults, self.warnings + other.warnings)


def fault(*texts: object) -> Findings:
    """Faults alone."""
    return Findings(faults=tuple(str(text.args[0]) if isinstance(text, KeyError) else str(text) for text in texts))


def warning(*texts: str) -> Findings:
    """Warnings alone."""
    return Findings(warnings=texts)


def check_run(recipe: Recipe, run_dir: PathLike) -> Findings:
    """All that can be said against a run before it begins."""
    found, architecture, base = _base(recipe)
    prompts, bad_prompts = _prompts(recipe)
    pairs, bad_pairs = _pairs(recipe)
    found += bad_prompts + bad_pairs + _segments(recipe) + _start_of_training(recipe) + _place(run_dir)
    if architecture is not None:
        found += _windows(recipe, architecture) + _devices(recipe, architecture)
        found += _disk(recipe, architecture, run_dir)
    if base is not None and prompts is not None and pairs.get("seed"):
        found += _lengths(recipe, base, prompts, pairs)
    return found


def _base(recipe: Recipe) -> tuple[Findings, LlamaConfig | None, ModelHandle | None]:
    """What stands against the base model; its architecture, where it can be known; itself, where it is at hand."""
    try:
        path = model_at_hand(recipe.base)
        if path is not None:
            handle = open_model(path, recipe.chat_format)
            return _architecture(recipe, handle.card.config), handle.card.config, handle
        if epath.Path(recipe.base).exists():
            with tempfile.TemporaryDirectory() as scratch:
                config = open_source(recipe.base, pathlib.Path(scratch)).config
            return _architecture(recipe, config), config, None
    except USER_ERRORS as error:
        return fault(f"Recipe.base: {error}"), recipe.architecture, None
    return Findings(), recipe.architecture, None


def _architecture(recipe: Recipe, actual: LlamaConfig) -> Findings:
    if recipe.architecture is None or recipe.architecture.architecture() == actual.architecture():
        return Findings()
    ours, theirs = recipe.architecture.architecture(), actual.architecture()
    different = [f"{name} is {theirs[name]}, declared {ours[name]}" for name in theirs if theirs[name] != ours[name]]
    return fault(
        f"Recipe.base {recipe.base}: {'; '.join(different)}; include the gin file of this model's size, or bind "
        "Recipe.architecture = None"
    )


def _prompts(recipe: Recipe) -> tuple[Prompts | None, Findings]:
    try:
        return prompts_of(recipe), Findings()
    except USER_ERRORS as error:
        return None, fault(f"{'Recipe.prompt_dir: ' if recipe.prompt_dir else ''}{error}")


def _pairs(recipe: Recipe) -> tuple[dict[str, list[Pair]], Findings]:
    """Seed and held-out pairs by name, and what stands against them."""
    try:
        reports = read_pair_files(recipe.seeds)
    except USER_ERRORS as error:
        return {}, fault(f"SeedConfig: {error}")
    pairs = {name: list(report.pairs) for name, report in reports.items()}
    found = Findings()
    for report in reports.values():
        if report.problems:
            found += warning(report.summary())
    leaked = pairs_in_both(pairs["seed"], pairs.get("heldout", ()))
    if leaked:
        found += warning(
            f"{len(leaked)} of {len(pairs['heldout'])} held-out pairs of {recipe.seeds.heldout_path} are seed pairs "
            f"too, {_named(leaked)}: models are trained on them, and the evaluation is too good"
        )
    if len(pairs["seed"]) < (recipe.curator.originals if recipe.curator else 0):
        found += warning(
            f"CuratorConfig.originals is {recipe.curator and recipe.curator.originals}, and there are "
            f"{len(pairs['seed'])} seed pairs"
        )
    return pairs, found


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:MAX_NAMED])
    return f"{shown} and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else shown


def _segments(recipe: Recipe) -> Findings:
    """Inputs that are not there, and files that settings of the corpus name."""
    if recipe.scored_run is not None:
        needed = [run_files.AUGMENTED_STAGE, run_files.SCORES_STAGE.format(t=recipe.rounds)]
        needed += [run_files.CURATOR_STAGE.format(t=recipe.rounds)] if recipe.curator else []
        paths = [epath.Path(recipe.scored_run) / name for name in needed]
        missing = [path.name for path in paths if not (path / run_files.MANIFEST).exists()]
        lacks = f"Recipe.scored_run {recipe.scored_run} lacks {', '.join(missing)}; give the folder of a complete run"
        return fault(lacks) if missing else fault()
    found = Findings()
    for source in recipe.segments.inputs:
        if source in (PYTHON_REFERENCE, LIBRARY_DOCS) or "://" in source:
            continue
        try:
            list_inputs([local_path(source)], crawl_root=recipe.segments.corpus.crawl_root)
        except USER_ERRORS as error:
            found += fault(f"SegmentsConfig.inputs: {error}")
    try:
        recipe.segments.corpus.file_hashes()
    except USER_ERRORS as error:
        found += fault(f"CorpusConfig: {error}")
    return found


def _trainings(recipe: Recipe) -> dict[str, FinetuneConfig]:
    """The trainings of a recipe by the gin scope of their settings."""
    first = {"backward": recipe.backward, "seed_model": recipe.seed_model} if recipe.scored_run is None else {}
    last = {} if recipe.preference is None else {"prefer": recipe.preference.training}
    return first | {"forward": recipe.forward} | last


def _generations(recipe: Recipe) -> dict[str, GenerationConfig]:
    """The bulk work of a recipe by the gin scope of its settings."""
    first = {"augment": recipe.augmentation, "curate": recipe.curation.generation}
    last = {"evaluate": recipe.evaluation.generation} if recipe.seeds.heldout_path else {}
    if recipe.preference is not None:
        sampling = recipe.preference.sampling
        last |= {"prefer": sampling.generation, "prefer (rating)": sampling.rating.generation}
    return (first if recipe.scored_run is None else {}) | last | {"answer": recipe.answering}


def _start_of_training(recipe: Recipe) -> Findings:
    """Batches that no update can have, and weights to start from that are not there."""
    found = Findings()
    for scope, config in _trainings(recipe).items():
        try:
            check_batch(dataclasses.replace(config.batches, batch_size=config.steps_for(1, 1.0)[1]))
        except ValueError as error:
            found += fault(f"{scope}/BatchConfig: {error}")
        for name in ("init_from", "resume"):
            path = getattr(config.checkpoints, name)
            if path is not None and not epath.Path(path).exists():
                found += fault(f"{scope}/CheckpointConfig.{name}: there is nothing at {path}")
    if recipe.curator and recipe.curator.labels and not epath.Path(recipe.curator.labels).exists():
        found += fault(f"CuratorConfig.labels: there is no file {recipe.curator.labels}")
    return found


def _windows(recipe: Recipe, architecture: LlamaConfig) -> Findings:
    """Limits that the model's window leaves no room for."""
    window, found = architecture.max_position_embeddings, Findings()
    for scope, config in _generations(recipe).items():
        room = window - config.engine.max_new_tokens
        if room < config.engine.prompt_buckets[0]:
            found += fault(
                f"{scope}/EngineConfig: max_new_tokens = {config.engine.max_new_tokens} leaves {max(0, room)} of the "
                f"model's {window} positions for a prompt, and the shortest of prompt_buckets is "
                f"{config.engine.prompt_buckets[0]}; lower one of them"
            )
    return found


def _devices(recipe: Recipe, architecture: LlamaConfig) -> Findings:
    """Meshes and batches that do not divide."""
    found = Findings()
    try:
        mesh = make_mesh(recipe.mesh)
    except ValueError as error:
        return fault(f"MeshShape: {error}")
    for scope, config in _trainings(recipe).items():
        batches = config.batches
        rows = rows_on(mesh, recipe.rules, batches.rows_per_microbatch)
        try:
            check_layout(architecture, mesh, recipe.rules, rows, batches.row_length)
        except ValueError as error:
            found += fault(f"{scope}: {error}")
    for scope, generation in _generations(recipe).items():
        devices = jax.devices() if spans_hosts(generation.engine) else jax.local_devices()
        try:
            device_groups(devices, generation.engine.tensor_parallelism)
        except ValueError as error:
            found += fault(f"{scope}/{error}")
    return found


def _existing(path: PathLike) -> pathlib.Path | None:
    """The nearest folder above a path that is there; None for what lies elsewhere, such as gs://…."""
    if "://" in os.fspath(path):
        return None
    place = pathlib.Path(path).absolute()
    return next(folder for folder in (place, *place.parents) if folder.exists())


def _place(run_dir: PathLike) -> Findings:
    """A run directory that nothing can be written to."""
    place = _existing(run_dir)
    if place is None:
        return Findings()
    if not place.is_dir():
        return fault(f"--run_dir {os.fspath(run_dir)}: {place} is a file")
    if not os.access(place, os.W_OK | os.X_OK):
        return fault(f"--run_dir {os.fspath(run_dir)}: {place} cannot be written to; give another --run_dir")
    return Findings()


def _disk(recipe: Recipe, architecture: LlamaConfig, run_dir: PathLike) -> Findings:
    """Room for the models that are still to be made, and for the checkpoints of the one in work."""
    place = _existing(run_dir)
    if place is None:
        return Findings()
    sizes = {name: _model_bytes(config, architecture) for name, config in _models(recipe).items()}
    open_models = [name for name in sizes if not (epath.Path(run_dir) / name / run_files.MANIFEST).exists()]
    if not open_models:
        return Findings()
    with_checkpoints = [name for name in open_models if _models(recipe)[name].checkpoints.minutes is not None]
    state = max((architecture.num_params * 4 * STATE_COPIES for name in with_checkpoints), default=0)
    needed, free = sum(sizes[name] for name in open_models) + state, shutil.disk_usage(place).free
    if free >= needed:
        return Findings()
    return fault(
        f"{place} has {free / 1e9:.1f} GB free, and the run will write about {needed / 1e9:.1f} GB: "
        f"{len(open_models)} models, and checkpoints of one at a time; free some, or give another --run_dir"
    )


def _model_bytes(config: FinetuneConfig, architecture: LlamaConfig) -> int:
    return architecture.num_params * np.dtype(DTYPES[config.compute.param_dtype]).itemsize


def _models(recipe: Recipe) -> dict[str, FinetuneConfig]:
    """Every model that a recipe trains, by its stage."""
    first = {run_files.BACKWARD_STAGE: recipe.backward, run_files.MODEL_STAGE.format(t=0): recipe.seed_model}
    rounds = [run_files.MODEL_STAGE.format(t=t) for t in recipe.new_rounds]
    rounds += [run_files.ARM_MODEL_STAGE.format(t=recipe.rounds, arm=arm) for arm in recipe.arms]
    preferred = {run_files.PREFERRED_STAGE.format(t=recipe.rounds): recipe.preference} if recipe.preference else {}
    last = {name: config.training for name, config in preferred.items()}
    return (first if recipe.scored_run is None else {}) | dict.fromkeys(rounds, recipe.forward) | last


def stage_names(recipe: Recipe) -> list[str]:
    """The stages of a run, in their order."""
    names = [run_files.SEEDS_STAGE] if recipe.scored_run is None or "seed" in recipe.sources else []
    if recipe.scored_run is None:
        names += [run_files.SEGMENTS_STAGE, run_files.BACKWARD_STAGE, run_files.AUGMENTED_STAGE]
        names += [run_files.MODEL_STAGE.format(t=0)]
    own = [run_files.SCORES_STAGE, *([run_files.CURATOR_STAGE] if recipe.curator else [])]
    of_round = [*(own if recipe.scored_run is None else []), run_files.CURATED_STAGE, run_files.MODEL_STAGE]
    names += [template.format(t=t) for t in recipe.new_rounds for template in of_round]
    for arm in recipe.arms:
        of_arm = (run_files.ARM_PAIRS_STAGE, run_files.ARM_MODEL_STAGE)
        names += [template.format(t=recipe.rounds, arm=arm) for template in of_arm]
    if recipe.preference is not None:
        of_last = (run_files.SAMPLED_STAGE, run_files.SAMPLED_SCORES_STAGE, run_files.PREFERENCES_STAGE)
        names += [template.format(t=recipe.rounds) for template in (*of_last, run_files.PREFERRED_STAGE)]
    return names + ([run_files.EVALUATION_STAGE] if recipe.seeds.heldout_path else [])


def _lengths(recipe: Recipe, base: ModelHandle, prompts: Prompts, pairs: dict[str, list[Pair]]) -> Findings:
    """Pairs and segments against rows, prompts and the model's window, by the tokens that they become."""
    window, found = base.card.config.max_position_embeddings, Findings()
    seeds = pairs["seed"][:MOST_TOKENIZED]
    for scope, config in _trainings(recipe).items():
        if scope == "prefer" or (scope == "forward" and "seed" not in recipe.sources):
            continue
        direction, tags = ("backward", ()) if scope == "backward" else ("forward", recipe.seed_tags)
        encoded = (encode_pair(pair, base.tokenizer, base.chat_format, direction, prompts, tags) for pair in seeds)
        lengths = [example.num_positions for example in encoded]
        found += _too_long(f"{scope}/BatchConfig.row_length", "seed pairs", lengths, config.batches.row_length, window)
    if pairs.get("heldout"):
        generation = recipe.evaluation.generation
        encoded = (
            encode_pair(pair, base.tokenizer, base.chat_format, "forward", prompts, recipe.evaluation.tags)
            for pair in pairs["heldout"][:MOST_TOKENIZED]
        )
        lengths = [example.num_positions + 1 for example in encoded]
        room = generation.engine.max_prompt_length
        found += _too_long("evaluate/EngineConfig.prompt_buckets", "held-out pairs", lengths, room, window)
    return found + _segment_lengths(recipe, base, prompts, seeds)


def _too_long(setting: str, what: str, lengths: Sequence[int], room: int, window: int) -> Findings:
    """Of these lengths, what neither the setting nor the window has room for: a fault where that is all of them."""
    limit = min(room, window)
    lost = sum(length > limit for length in lengths)
    if not lost:
        return Findings()
    name = f"{setting} = {room}" if room <= window else f"the model's window of {window} positions"
    if lost < len(lengths):
        return warning(f"{lost} of {len(lengths)} {what} are longer than {name} and will be left out")
    advice = f"raise it to {max(lengths)}" if room <= window and max(lengths) <= window else "give shorter ones"
    return fault(f"none of {len(lengths)} {what} fits {name}; {advice}. {length_histogram(lengths)}")


def _segment_lengths(recipe: Recipe, base: ModelHandle, prompts: Prompts, seeds: Sequence[Pair]) -> Findings:
    """Segments of the least and of the most characters, at the rate of tokens that the seeds' outputs have."""
    outputs = [pair.output for pair in seeds if len(pair.output) >= LONG_ENOUGH]
    if recipe.scored_run is not None or not outputs:
        return Findings()
    rates = [len(base.tokenizer.encode(text)) / len(text) for text in outputs]
    corpus, window = recipe.segments.corpus, base.card.config.max_position_embeddings
    least, usual = corpus.min_chars * min(rates), corpus.max_chars * float(np.median(rates))
    augmenting, rating = recipe.augmentation, recipe.curation.generation
    rooms = {
        "forward/BatchConfig.row_length": (min(recipe.forward.batches.row_length, window), 0),
        "augment/EngineConfig.prompt_buckets": (longest_prompt(base, augmenting), _length(base, prompts.backward(""))),
        "curate/EngineConfig.prompt_buckets": (longest_prompt(base, rating), _length(base, prompts.rating("", ""))),
    }
    if "web" not in recipe.sources:
        del rooms["forward/BatchConfig.row_length"]
    found = Findings()
    for setting, (room, frame) in rooms.items():
        if frame + least > room:
            found += fault(
                f"{setting}: there is room for {room} tokens, and the shortest segments, CorpusConfig.min_chars = "
                f"{corpus.min_chars}, take about {round(frame + least)}; raise it, or lower min_chars and max_chars"
            )
        elif frame + usual > room:
            fitting = int((room - frame) / float(np.median(rates)))
            found += warning(
                f"{setting}: there is room for {room} tokens, and segments of CorpusConfig.max_chars = "
                f"{corpus.max_chars} take about {round(frame + usual)}; those over about {fitting} characters are lost"
            )
    return found


def _length(base: ModelHandle, user: str) -> int:
    return len(base.prompt_ids(user))


def finished_seconds(recipe: Recipe, run_dir: PathLike) -> Iterator[tuple[str, float | None]]:
    """Every stage of the run with the seconds that it took; None where it is not complete."""
    for name in stage_names(recipe):
        manifest = epath.Path(run_dir) / name / run_files.MANIFEST
        yield name, read_json(manifest)["seconds"] if manifest.exists() else None
