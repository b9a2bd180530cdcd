"""The command `humpback`: verbs to stages. Heavy modules are imported by the verb that needs them."""

import os
import sys
from typing import Any

import click

from humpback_jax.asking.command import chat
from humpback_jax.command_options import (
    Experiment,
    experiment_options,
    json_option,
    monitoring_options,
    process_options,
    recipe_of_model,
    tags_option,
)
from humpback_jax.corpus.command import corpus
from humpback_jax.curation.command import curate
from humpback_jax.data.command import data
from humpback_jax.evaluation.command import evaluate
from humpback_jax.interop.command import t5x
from humpback_jax.launch.command import launch
from humpback_jax.lineage.command import announce_changes, explain, forget
from humpback_jax.publish.command import publish
from humpback_jax.report.command import judge, report, save_page, show_report
from humpback_jax.runtime.console import print_json
from humpback_jax.runtime.distributed import leave_at_once
from humpback_jax.runtime.processes import is_leader
from humpback_jax.runtime.stopping import Stopped, retry_status
from humpback_jax.stages.command import prefer
from humpback_jax.topology.command import fit, plan, show_stages
from humpback_jax.weights.command import weights

USER_ERRORS = (ValueError, OSError, KeyError, FloatingPointError)


def main() -> None:
    """Entry point: a user's mistake prints one line, not a traceback (HUMPBACK_DEBUG=1 shows it)."""
    arguments = sys.argv[1:]
    try:
        if any(argument.startswith("--gin.") for argument in arguments):
            from humpback_jax.gin_utils import rewrite_gin_args

            arguments = rewrite_gin_args(arguments)
        cli.main(args=arguments, prog_name="humpback")
    except USER_ERRORS as error:
        if os.environ.get("HUMPBACK_DEBUG"):
            raise
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        click.echo(f"humpback: error: {message}", err=True)
        status = retry_status(1) if isinstance(error, ConnectionError) else getattr(error, "status", 1)
        leave_at_once(status)
        sys.exit(status)
    except Stopped as stop:
        click.echo(f"humpback: {stop}", err=True)
        sys.exit(retry_status(0))
    except KeyboardInterrupt:
        click.echo("humpback: stopped; run the same command again to go on", err=True)
        sys.exit(130)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if os.environ.get("HUMPBACK_DEBUG") or missing == __package__:
            raise
        click.echo(
            f"humpback: error: this needs {missing}, which is not installed here; `pip install {missing}`, or "
            "`make setup` in a checkout, which completes the environment of the quickstart",
            err=True,
        )
        sys.exit(1)
    except Exception as error:
        # What reads gs://… raises errors of TensorFlow, which are none of Python's own.
        if os.environ.get("HUMPBACK_DEBUG") or not type(error).__module__.startswith("tensorflow."):
            raise
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        click.echo(f"humpback: error: a remote path cannot be read or written: {'; '.join(lines)}", err=True)
        sys.exit(retry_status(1))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Instruction backtranslation in JAX: from raw web pages to a self-aligned LLaMA."""


def _print_manifest(stage: Any, as_json: bool) -> None:
    if as_json and is_leader():
        print_json(stage.manifest)


@cli.command()
@experiment_options
@monitoring_options
@click.option("--check", is_flag=True, help="Only check what the run needs, and say what it will do.")
@click.option("--plan_only", is_flag=True, help="Only say which stages will be made, and why.")
@process_options
@json_option
def align(experiment: Experiment, check: bool, plan_only: bool, as_json: bool) -> None:
    """Run the whole algorithm: what is complete is skipped, what was cut off goes on.

    With other settings in a run directory that is there, the stages that depend on them are made again: --plan_only
    says which. All that the run needs is checked first, and every fault is in one list.
    """
    recipe, found = experiment.findings()
    if is_leader():
        for text in found.warnings:
            click.secho(f"warning: {text}", fg="yellow", err=True)
    if found.faults:
        raise ValueError(found.list_of_faults())
    if check:
        show_stages(recipe, experiment.directory, as_json)
        return
    if is_leader():
        planned = announce_changes(recipe, experiment.directory, plan_only, as_json)
    if plan_only:
        return
    alignment = experiment.open_alignment(changes=True)
    complete = alignment.complete_stages()
    alignment.align()
    if not is_leader():
        return
    run_dir = os.fspath(alignment.run_dir)
    show_report(run_dir, as_json)
    nothing_done = not planned and alignment.complete_stages() == complete
    save_page(run_dir, keep=nothing_done)
    if nothing_done:
        click.echo(f"Nothing to do: every stage of {run_dir} was complete.", err=True)


@cli.command()
@experiment_options
@monitoring_options
@click.option("--model", required=True, metavar="m_yx|m0|m1|…", help="Which model of the recipe to train.")
@click.option("--mixture", "mixtures", multiple=True, metavar="MODULE:NAME", help="Of your own, by seqio; added.")
@process_options
@json_option
def train(experiment: Experiment, model: str, mixtures: tuple[str, ...], as_json: bool) -> None:
    """Train one model of the recipe."""
    alignment = experiment.open_alignment()
    if model == "m_yx":
        stage = alignment.train_backward_model(mixtures)
    elif _round_of(model) == 0:
        stage = alignment.train_seed_model(mixtures)
    else:
        stage = alignment.train_round(_round_of(model), mixtures)
    _print_manifest(stage, as_json)


def _round_of(model: str) -> int:
    """0 for m0, 1 for m1, …"""
    if not (model.startswith("m") and model[1:].isdigit()):
        raise ValueError(f"unknown model {model!r}; choose m_yx (train only), m0, m1, m2, …")
    return int(model[1:])


@cli.command()
@experiment_options
@process_options
@json_option
def augment(experiment: Experiment, as_json: bool) -> None:
    """Let M_yx write an instruction for every segment."""
    alignment = experiment.open_alignment()
    alignment.cut_segments()
    _print_manifest(alignment.augment(), as_json)


@cli.command()
@experiment_options
@click.argument("prompts", nargs=-1)
@click.option("--prompts_file", type=click.Path(), help="Instructions, in any format of seed pairs.")
@click.option("--model", metavar="m0|m1|…|MODEL", help="Which model generates (default: the last round's), or any.")
@tags_option(None, "Appended to every prompt (default: the recipe's, both).")
@click.option("--max_new_tokens", type=click.IntRange(min=1), help="Limit of an answer (default: the recipe's).")
@click.option("--temperature", type=float, help="Of sampling; 0 is greedy (default: the recipe's).")
@click.option("--top_p", type=float, help="Of sampling (default: the recipe's).")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Of the draws (default: the recipe's).")
@click.option("--out", type=click.Path(), help="Folder for answers.jsonl and its resumable shards.")
@process_options
@json_option
def generate(
    experiment: Experiment,
    prompts: tuple[str, ...],
    prompts_file: str | None,
    model: str | None,
    tags: tuple[str, ...] | None,
    out: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Generate answers to prompts with the aligned model of a run (--run_dir), or with any model (--model)."""
    from humpback_jax.asking.answers import answer_with_model
    from humpback_jax.asking.asked import as_asked
    from humpback_jax.stages.generate import check_all_answered, read_answers, read_instructions, with_options
    from humpback_jax.stages.model import open_named_model

    instructions = read_instructions(prompts, prompts_file)
    of_run = bool(experiment.gin_files or experiment.run_dir)
    if model is None and not of_run:
        raise ValueError("nothing to ask: give --run_dir of a run, or --model MODEL")
    if of_run and (model is None or (model[:1] == "m" and model[1:].isdigit())):
        alignment = experiment.open_alignment()
        config = with_options(alignment.recipe.answering, **options)
        stage = alignment.generate(instructions, tags, _round_of(model) if model else None, out, config)
    else:
        stage_of_run = os.path.join(experiment.run_dir or "", str(model))
        named = stage_of_run if os.path.exists(stage_of_run) else str(model)
        handle = open_named_model(named)
        asked = as_asked(handle, recipe_of_model(handle.path))
        stage, config = answer_with_model(asked, instructions, tags, out, options)
    if not is_leader():
        return
    rows = read_answers(stage)
    if as_json:
        print_json(rows)
    for row in () if as_json else rows:
        click.secho(row["instruction"], bold=True)
        click.echo(row["output"] + (" […]" if row["truncated"] else "") + "\n")
    check_all_answered(stage, config)


VERBS = (chat, curate, weights, corpus, data, report, judge, fit, plan, launch, evaluate, publish, t5x, prefer)
for command in (*VERBS, explain, forget):
    cli.add_command(command)
