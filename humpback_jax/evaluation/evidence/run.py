"""The sweep: one alignment, then many trainings that share its A, its signals and its ratings; resumable.

OUT/run/…               the alignment, as `humpback align` makes it
OUT/trials/NAME/…       a training while it goes on
OUT/trials/NAME.json    what it was trained on and how likely it finds every held-out answer; then its folder goes
"""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

from etils import epath

from humpback_jax import run_files
from humpback_jax.align import Alignment
from humpback_jax.data.examples import supervised_examples
from humpback_jax.data.mixture import PairSet, TrainingMixture
from humpback_jax.data.pairs import Pair, read_curated
from humpback_jax.evaluation.evidence.pool import Pool, Row, read_pool
from humpback_jax.evaluation.evidence.trials import Evidence, Trial, all_trials
from humpback_jax.files import PathLike, read_json, sha256_of_file, write_json, write_jsonl
from humpback_jax.inference.shards import claim_directory
from humpback_jax.prompts.prompts import TAG_CHOICES
from humpback_jax.runtime.console import say
from humpback_jax.runtime.processes import process_index
from humpback_jax.stages.evaluate import heldout_log_likelihoods
from humpback_jax.stages.finetune import finetune
from humpback_jax.stages.model import ModelHandle, open_model
from humpback_jax.stages.stage import Stage, finished_stage, plain
from humpback_jax.stages.versions import flatten

RUN, TRIALS = "run", "trials"


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a trial gave.

    Attributes:
      trial: the training.
      pairs: seed pairs and pairs of A it has read, `{"seed": n, "web": m}`.
      output_chars: mean length of the outputs of A among them, in characters.
      log_likelihoods: by tags asked, of every held-out answer in nats, in the order of the held-out pairs.
      tokens: of every held-out answer.
      seconds: of training and measuring.
    """

    trial: Trial
    pairs: dict[str, int]
    output_chars: float
    log_likelihoods: dict[str, list[float]]
    tokens: list[int]
    seconds: float


def plan_lines(directory: PathLike, evidence: Evidence, alignment: Alignment) -> list[str]:
    """What will be made and what is done already, for people, before anything starts.

    The time is of what has run here so far; before the first trial there is nothing to go by.
    """
    results = [epath.Path(directory) / TRIALS / f"{trial.name}.json" for trial in all_trials(evidence)]
    done = [read_json(path)["seconds"] for path in results if path.exists()]
    repeats = len(evidence.repeats)
    lines = [f"evidence: {len(results)} trainings ({repeats} repeats of each), {len(done)} of them are measured"]
    complete = alignment.complete_stages()
    lines.append(f"alignment: {len(complete)} stages are complete{': ' + ', '.join(complete) if complete else ''}")
    if done and len(done) < len(results):
        minutes = sum(done) / len(done) * (len(results) - len(done)) / 60
        lines.append(f"about {minutes:.0f} minutes are left, at {sum(done) / len(done):.0f} seconds a training")
    return lines


def run_evidence(directory: PathLike, evidence: Evidence, alignment: Alignment) -> list[Measured]:
    """Aligns, then trains and measures every trial that has not been measured yet.

    Args:
      directory: OUT.
      evidence: what is compared.
      alignment: in OUT/run, with a curator and held-out pairs.

    Raises:
      ValueError: the folder was begun with other settings, the recipe has no curator or no held-out pairs, or A is too
        small for the sizes asked for.
    """
    folder, recipe = epath.Path(directory), alignment.recipe
    if recipe.curator is None or not recipe.seeds.heldout_path:
        raise ValueError("evidence needs Recipe.curator and SeedConfig.heldout_path: see sweeps/evidence_135m.gin")
    trials = list(all_trials(evidence))
    claim_directory(folder, _settings(evidence, alignment), process_index())
    alignment.align()
    curated = [_stage(alignment, run_files.CURATED_STAGE.format(t=t)) for t in (1, recipe.rounds)]
    claim_directory(folder / TRIALS, _selections(curated), process_index())
    pool, heldout = read_pool(*curated), _heldout(alignment)
    chosen = {trial: _choose(pool, trial) for trial in trials}  # a size that A does not have shows before the first
    measured = []
    for number, trial in enumerate(trials, start=1):
        result = folder / TRIALS / f"{trial.name}.json"
        if not result.exists():
            say(f"trial {number} of {len(trials)}: {trial.name}")
            write_json(result, dataclasses.asdict(_measure(folder, alignment, trial, chosen[trial], heldout)))
        if not evidence.keep_models and (folder / TRIALS / trial.name).exists():
            (folder / TRIALS / trial.name).rmtree()
        measured.append(_read(result))
    return measured


def _heldout(alignment: Alignment) -> list[Pair]:
    """The held-out pairs that fit the engine with all tags, so that all measurements are of the same pairs."""
    pairs, base = read_curated(alignment.seeds.directory / run_files.HELDOUT_PAIRS), alignment.base
    longest = alignment.recipe.evaluation.generation.engine.max_prompt_length - 1
    tags = TAG_CHOICES["both"]
    fitting, _ = supervised_examples(
        pairs, base.tokenizer, base.chat_format, "forward", alignment.prompts, tags, longest
    )
    names = {example.id for example in fitting}
    return [pair for pair in pairs if pair.id in names]


def _settings(evidence: Evidence, alignment: Alignment) -> dict[str, Any]:
    """What the results of trials depend on beside A; further orders, sizes below N and repeats only add trials."""
    recipe, base = alignment.recipe, alignment.base
    decides = {
        "equal_size": evidence.equal_size,
        "base": base.sha256,
        "chat_format": base.chat_format.name,
        "prompts": alignment.prompts,
        "pairs": alignment.seeds.outputs,
        "tags": {"seed": recipe.seed_tags, "web": recipe.web_tags},
        "finetune": recipe.forward.identity(),
        "evaluation": recipe.evaluation,
    }
    return flatten(plain(decides))


def _selections(curated: Sequence[Stage]) -> dict[str, Any]:
    """What the pool depends on: the pairs of A, their ratings and the curators of both rounds."""
    names = ("first_round", "last_round")
    of_each = [{"settings": stage.manifest["settings"], "inputs": stage.manifest["inputs"]} for stage in curated]
    return flatten(plain(dict(zip(names, of_each, strict=True))))


def _stage(alignment: Alignment, name: str) -> Stage:
    return finished_stage(alignment.run_dir / name, "humpback align")


def _choose(pool: Pool, trial: Trial) -> list[Row]:
    return [] if trial.order is None else pool.choose(trial.order, trial.size, trial.repeat)


def _measure(
    folder: epath.Path, alignment: Alignment, trial: Trial, rows: Sequence[Row], heldout: Sequence[Pair]
) -> Measured:
    """Trains a trial, and measures it on the held-out pairs."""
    started, work, recipe = time.monotonic(), folder / TRIALS / trial.name, alignment.recipe
    sets = _pair_sets(work, alignment, trial, rows)
    base, config = alignment.base, recipe.forward
    config = dataclasses.replace(config, batches=dataclasses.replace(config.batches, seed=trial.repeat))
    mixture = TrainingMixture(sets, alignment.prompts, base.chat_format, base.tokenizer)
    finetune(work / "m", base, mixture, config, recipe.mesh, recipe.rules, reader=recipe.data_reader)
    model = open_model(work / "m" / run_files.MODEL, base.chat_format.name)
    found, tokens = _likelihoods(model, alignment, trial, heldout)
    return Measured(
        trial,
        {pair_set.name: len(pair_set.read()) for pair_set in sets},
        sum(len(row["output"]) for row in rows) / max(1, len(rows)),
        found,
        tokens,
        round(time.monotonic() - started, 2),
    )


def _pair_sets(work: epath.Path, alignment: Alignment, trial: Trial, rows: Sequence[Row]) -> list[PairSet]:
    """What a trial is trained on; the files name it by their hashes."""
    recipe, sets = alignment.recipe, []
    if trial.seed_size != 0:
        seeds = read_curated(alignment.seeds.directory / run_files.SEED_PAIRS)[: trial.seed_size]
        sets.append(_pair_set(work, "seed", [dataclasses.asdict(pair) for pair in seeds], recipe.seed_tags, trial))
    if rows:
        sets.append(_pair_set(work, "web", rows, recipe.web_tags, trial))
    return sets


def _pair_set(work: epath.Path, name: str, rows: Sequence[Row], tags: tuple[str, ...], trial: Trial) -> PairSet:
    path = work / f"{name}.jsonl"
    work.mkdir(parents=True, exist_ok=True)
    write_jsonl(path, [{key: row[key] for key in ("id", "instruction", "output", "source")} for row in rows])
    return PairSet(name, read_curated(path), sha256_of_file(path), tags=tags if trial.tagged else ())


def _likelihoods(
    model: ModelHandle, alignment: Alignment, trial: Trial, heldout: Sequence[Pair]
) -> tuple[dict[str, list[float]], list[int]]:
    """By tags asked: log-likelihood of every held-out answer that fits; and the tokens of these answers."""
    config, prompts, found = alignment.recipe.evaluation, alignment.prompts, {}
    for asked in trial.asked:
        tagged = dataclasses.replace(config, tags=TAG_CHOICES[asked])
        sums, tokens = heldout_log_likelihoods(model, heldout, prompts, tagged)
        found[asked] = [round(value, 4) for value in sums.tolist()]
    return found, tokens.tolist()


def _read(path: epath.Path) -> Measured:
    fields = read_json(path)
    trial = fields.pop("trial")
    return Measured(Trial(**trial | {"asked": tuple(trial["asked"])}), **fields)
