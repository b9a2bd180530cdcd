"""The verb `humpback curate`: self-curation of a run, how well its signals tell good pairs, and labelling by people."""

import os
import pathlib

import click

from humpback_jax import run_files
from humpback_jax.command_options import (
    ComputeOptions,
    Experiment,
    experiment_options,
    json_option,
    model_options,
    process_options,
    unless_subcommand,
)
from humpback_jax.runtime.console import print_figures, print_json
from humpback_jax.runtime.processes import is_leader

SHARD_SIZE = 128  # what an interrupted calibration can lose


@click.group(invoke_without_command=True)
@unless_subcommand
@experiment_options
@click.option("--round", "t", type=click.IntRange(min=1), help="Round T: M_{T-1} rates. Needed without a subcommand.")
@process_options
@json_option
def curate(experiment: Experiment, t: int | None, as_json: bool) -> None:
    """Rate every candidate pair and keep the best (--gin_file, --round)."""
    if t is None:
        raise click.UsageError("Missing option '--round'.")
    stage = experiment.open_alignment().curate(t)
    if as_json and is_leader():
        print_json(stage.manifest)


@curate.command()
@click.option("--model", required=True, help="The scorer: its stage (RUN_DIR/m0), folder or name.")
@click.option("--labels", type=click.Path(), help="JSONL of labelled pairs, to measure on.")
@click.option("--seeds", type=click.Path(), help="Pairs to break (default: the seed pairs of the model's run).")
@click.option("--heldout", type=click.Path(), help="Pairs whose twins it is measured on (default: of the run).")
@click.option("--siblings", type=click.Path(), help="Open Assistant's trees, whose replies people have ranked.")
@click.option("--originals", type=int, default=64, show_default=True, help="Seed pairs that are broken.")
@click.option("--mode", default="expected", show_default=True, help="Of the rating: expected, rationale, sampled.")
@click.option("--prompt_dir", type=click.Path(), help="Folder with your own rating.txt.")
@click.option("--rubric", help="paper, additive, or a file of yours (default: of --prompt_dir, or paper).")
@click.option("--label", help="The word before a rating, where the rubric does not declare it.")
@click.option("--scale", help="What a rating may be, such as 1-10, where the rubric does not declare it.")
@click.option("--out", type=click.Path(), help="Folder for what was read, to go on from.")
@model_options
@process_options
@json_option
def calibrate(
    model: str,
    labels: str | None,
    seeds: str | None,
    heldout: str | None,
    siblings: str | None,
    originals: int,
    mode: str,
    prompt_dir: str | None,
    rubric: str | None,
    label: str | None,
    scale: str | None,
    out: str | None,
    compute: ComputeOptions,
    as_json: bool,
) -> None:
    """How well every signal and the curator tell good pairs: on labels, broken twins, ranked siblings."""
    from humpback_jax.curation.curator import CuratorConfig
    from humpback_jax.curation.labels import read_labels
    from humpback_jax.data.open_assistant import read_siblings
    from humpback_jax.data.pairs import read_pairs
    from humpback_jax.inference.requests import EngineConfig
    from humpback_jax.prompts.prompts import load_prompts
    from humpback_jax.prompts.rubrics import RubricConfig
    from humpback_jax.stages.calibrate import Calibration, Signaller, calibrate
    from humpback_jax.stages.jobs import GenerationConfig
    from humpback_jax.stages.model import open_named_model
    from humpback_jax.stages.rating import CurationConfig

    handle = open_named_model(model)
    folder = os.fspath(handle.path)
    engine = EngineConfig(tensor_parallelism=compute.tensor_parallelism)
    generation = GenerationConfig(
        engine=engine, shard_size=SHARD_SIZE, dtype=compute.dtype, weight_dtype=compute.weight_dtype
    )
    curation = CurationConfig(mode=mode, generation=generation, signals=True)
    signaller = Signaller(handle, load_prompts(prompt_dir, RubricConfig(rubric, label, scale)), curation, out)
    seeds = seeds or _of_run(folder, run_files.SEED_PAIRS)
    heldout = heldout or _of_run(folder, run_files.HELDOUT_PAIRS)
    data = Calibration(
        read_pairs(seeds).pairs,
        read_pairs(heldout).pairs,
        read_labels(labels) if labels else (),
        read_siblings(siblings) if siblings else (),
    )
    figures = calibrate(signaller, data, CuratorConfig(originals=originals))
    if is_leader():
        print_figures(figures, as_json)


@curate.command()
@click.argument("run_dir", type=click.Path())
@click.option("--number", type=click.IntRange(min=1), default=100, show_default=True, help="Pairs to label.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the draw.")
@click.option("--out", type=click.Path(), help="Labels are added here, a line each (default: in RUN_DIR).")
@click.option("--port", type=int, default=0, help="Default: a free one.")
@click.option("--browser/--no_browser", default=True, help="Open the browser.")
@json_option
def label(run_dir: str, number: int, seed: int, out: str | None, port: int, browser: bool, as_json: bool) -> None:
    """Label pairs of the last round, blind: every label is saved at once, and you go on where you were."""
    from humpback_jax.report.labelling import open_labelling
    from humpback_jax.report.serve import PageServer, serve

    labelling = open_labelling(run_dir, number, seed, out)
    serve(PageServer(labelling.page, port, labelling.save), browser, as_json)


def _of_run(folder: str, name: str) -> str:
    """A file of the seeds of the run that a model belongs to, or of those that come with the package."""
    run_dir = pathlib.Path(folder).absolute().parent.parent
    own = run_dir / run_files.SEEDS_STAGE / name
    if own.exists():
        return str(own)
    from humpback_jax.stages.sources import local_path

    return local_path({run_files.SEED_PAIRS: "builtin:seed_pairs.jsonl"}.get(name, "builtin:heldout_pairs.jsonl"))
