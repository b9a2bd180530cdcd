"""The verb `humpback evaluate`: the held-out stage of a run, and one subcommand per kind of evidence."""

import dataclasses
import pathlib
from typing import Any

import click

from humpback_jax import run_files
from humpback_jax.command_options import (
    ComputeOptions,
    Experiment,
    experiment_options,
    json_option,
    model_options,
    process_options,
    recipe_options,
    tags_option,
    unless_subcommand,
)
from humpback_jax.runtime.compilation_cache import use_compilation_cache
from humpback_jax.runtime.console import print_figures, print_json, say
from humpback_jax.runtime.processes import is_leader

train_option = click.option(
    "--train", "train_files", multiple=True, type=click.Path(), help="What the model was trained on: overlap is named."
)
base_option = click.option(
    "--base", type=click.Choice(["e", "2", "10"]), default="e", show_default=True, help="Of the logarithm."
)


class NumberOrNone(click.ParamType):
    """A number, or `none`."""

    name = "number|none"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | None:
        return None if str(value).lower() == "none" else click.FLOAT.convert(value, param, ctx)


@click.group(invoke_without_command=True)
@unless_subcommand
@experiment_options
@process_options
@json_option
def evaluate(experiment: Experiment, as_json: bool) -> None:
    """Measure models. Without a subcommand: held-out likelihoods of the models of a recipe (--gin_file)."""
    stage = experiment.open_alignment().evaluate()
    _print(stage.manifest if as_json else stage.manifest["figures"], as_json)


def _print(figures: dict[str, Any], as_json: bool) -> None:
    """Of several processes one prints."""
    if is_leader():
        print_figures(figures, as_json)


@evaluate.command()
@click.argument("annotations", type=click.Path())
@json_option
def winrate(annotations: str, as_json: bool) -> None:
    """Recompute a win rate from annotations alone (.json, .jsonl, .gz), as AlpacaEval counts."""
    from humpback_jax.evaluation.judging.win_rate import annotation_figures

    print_figures(annotation_figures(annotations), as_json)


@evaluate.command()
@click.argument("model")
@click.option("--data", required=True, type=click.Path(), help="Folder of the benchmark files.")
@click.option("--tasks", help="Comma-separated (default: every benchmark that has a file).")
@click.option("--shots", type=int, default=0, show_default=True, help="Solved examples before a question (mmlu).")
@click.option("--limit", type=int, help="Items per benchmark.")
@click.option("--max_length", type=int, help="Tokens a context is cut to (default: the model's).")
@click.option("--chat", is_flag=True, help="Ask in the model's chat format instead of plain text.")
@tags_option("none", "Of chat questions.")
@click.option("--out", type=click.Path(), help="Folder for figures.json and one file of item results per benchmark.")
@train_option
@model_options
@process_options
@json_option
def benchmarks(
    model: str,
    data: str,
    tasks: str | None,
    shots: int,
    limit: int | None,
    out: str | None,
    train_files: tuple[str, ...],
    compute: ComputeOptions,
    as_json: bool,
    **asking: Any,
) -> None:
    """Multiple-choice accuracy by likelihood: ARC, PIQA, SIQA, OpenBookQA, MMLU."""
    from humpback_jax.evaluation.benchmarks.continuations import ContinuationScorer, ScoringConfig
    from humpback_jax.evaluation.benchmarks.multiple_choice import read_questions, run_benchmarks, tasks_in
    from humpback_jax.evaluation.contamination import contamination_figures
    from humpback_jax.files import write_json, write_jsonl
    from humpback_jax.stages.model import open_named_model

    names = tasks.split(",") if tasks else tasks_in(data)
    scorer = ContinuationScorer(open_named_model(model), ScoringConfig(**dataclasses.asdict(compute), **asking))
    figures, results = run_benchmarks(scorer, names, data, shots, limit)
    figures |= contamination_figures(model, train_files, {name: read_questions(name, data, limit) for name in names})
    if out and is_leader():
        write_json(pathlib.Path(out) / run_files.FIGURES, figures)
        for name, items in results.items():
            write_jsonl(pathlib.Path(out) / f"{name}.jsonl", items)
    _print(figures, as_json)


@evaluate.command()
@click.argument("model")
@click.option(
    "--instructions", required=True, type=click.Path(), help="AlpacaEval's instructions or any model_outputs."
)
@click.option("--out", required=True, type=click.Path(), help="Folder for model_outputs.json and resumable shards.")
@tags_option("both", "Appended.")
@click.option("--generator", help="Name in the outputs (default: the name of --out).")
@click.option("--limit", type=int, help="Only the first instructions.")
@click.option("--max_new_tokens", type=int, default=1024, show_default=True)
@click.option("--temperature", type=float, default=0.7, show_default=True)
@click.option("--top_p", type=float, default=0.9, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--slots", type=int, default=32, show_default=True, help="Answers written together.")
@click.option("--shard_size", type=int, default=64, show_default=True, help="Answers that a kill can cost.")
@train_option
@model_options
@process_options
@json_option
def alpaca(
    model: str,
    instructions: str,
    out: str,
    tags: tuple[str, ...],
    generator: str | None,
    limit: int | None,
    train_files: tuple[str, ...],
    compute: ComputeOptions,
    as_json: bool,
    **sampling: Any,
) -> None:
    """Answer AlpacaEval's instructions: model_outputs.json, as its package wants it."""
    from humpback_jax.evaluation.contamination import contamination_figures
    from humpback_jax.evaluation.judging.outputs import generate_outputs
    from humpback_jax.evaluation.records import read_outputs
    from humpback_jax.prompts.prompts import load_prompts
    from humpback_jax.stages.model import open_named_model

    rows = read_outputs(instructions, limit)
    name, config = generator or pathlib.Path(out).name, _generation(compute, **sampling)
    _, figures = generate_outputs(out, open_named_model(model), rows, name, load_prompts(), config, tags)
    texts = {str(i): row["instruction"] for i, row in enumerate(rows)}
    _print(figures | contamination_figures(model, train_files, {instructions: texts}), as_json)


def _generation(
    compute: ComputeOptions,
    seed: int = 0,
    shard_size: int = 128,
    temperature: float = 0.7,
    top_p: float = 0.9,
    **engine: Any,
) -> Any:
    """The `GenerationConfig` of options."""
    from humpback_jax.inference.requests import EngineConfig
    from humpback_jax.inference.sampling import SamplingConfig
    from humpback_jax.stages.jobs import GenerationConfig

    shapes = EngineConfig(tensor_parallelism=compute.tensor_parallelism, **engine)
    sampling = SamplingConfig(temperature=temperature, top_p=top_p)
    return GenerationConfig(shapes, sampling, seed, shard_size, compute.dtype, compute.weight_dtype)


@evaluate.command()
@click.argument("outputs", type=click.Path())
@click.argument("baseline", type=click.Path())
@click.option("--out", required=True, type=click.Path(), help="Folder for annotations.json and what was judged so far.")
@click.option("--judge", help="Model name at an OpenAI-compatible endpoint.")
@click.option("--base_url", default="https://api.openai.com/v1", show_default=True, help="Of that endpoint.")
@click.option("--key_variable", default="OPENAI_API_KEY", show_default=True, help="Environment variable of its key.")
@click.option("--temperature", type=NumberOrNone(), default="0", show_default=True, help="Of the judge; none: its own.")
@click.option("--max_tokens", type=int, default=16, show_default=True, help="Room for a reply.")
@click.option("--max_completion_tokens", type=int, help="Instead, thoughts counted in: for reasoning models.")
@click.option("--extra_body", default="{}", help="Further parameters of a request, a JSON object.")
@click.option("--concurrency", type=int, default=8, show_default=True, help="Calls in flight.")
@click.option("--attempts", type=int, default=8, show_default=True, help="Of a call whose failure may pass.")
@click.option("--max_wait", type=float, default=60.0, show_default=True, help="Seconds between attempts, at most.")
@click.option("--judge_model", help="A local model instead: folder, run, stage, or name.")
@click.option("--annotator", help="An annotator of the alpaca_eval package instead.")
@click.option("--partial", is_flag=True, help="Judge what is there where outputs are missing; the rest is counted.")
@click.option("--limit", type=int, help="Only the first instructions of the baseline.")
@model_options
@process_options
@json_option
def judge(
    outputs: str,
    baseline: str,
    out: str,
    judge: str | None,
    judge_model: str | None,
    annotator: str | None,
    partial: bool,
    limit: int | None,
    compute: ComputeOptions,
    as_json: bool,
    **endpoint: Any,
) -> None:
    """Judge OUTPUTS against BASELINE in both orders: annotations.json and the win rate."""
    if sum(choice is not None for choice in (judge, judge_model, annotator)) != 1:
        raise ValueError("give one judge: --judge NAME (an endpoint), --judge_model MODEL, or --annotator NAME")
    if annotator is not None:
        from humpback_jax.evaluation.judging.outputs import run_alpaca_eval

        if is_leader():
            print_figures(run_alpaca_eval(outputs, baseline, annotator, out), as_json)
        return
    from humpback_jax.endpoints import EndpointConfig
    from humpback_jax.evaluation.judging.comparisons import read_contest
    from humpback_jax.evaluation.judging.judge import judge_by_endpoint, judge_by_model
    from humpback_jax.stages.model import open_named_model

    contest = read_contest(outputs, baseline, limit, partial)
    if judge is not None:
        stage = judge_by_endpoint(out, contest, EndpointConfig(judge, **endpoint))
    else:
        stage = judge_by_model(out, contest, open_named_model(str(judge_model)), _generation(compute))
    _print({"annotations": str(stage.directory / run_files.ANNOTATIONS)} | stage.manifest["figures"], as_json)


@evaluate.command()
@click.option("--train", "train_files", multiple=True, required=True, type=click.Path(), help="Training sets.")
@click.option("--eval", "evaluation_files", multiple=True, required=True, type=click.Path(), help="Evaluation sets.")
@click.option("--ngram", type=int, default=13, show_default=True, help="Words in a row that count as overlap.")
@click.option("--write", type=click.Path(), help="Folder for the training sets without the overlapping pairs.")
@json_option
def decontaminate(
    train_files: tuple[str, ...], evaluation_files: tuple[str, ...], ngram: int, write: str | None, as_json: bool
) -> None:
    """Find what training sets share with evaluation sets."""
    from humpback_jax.evaluation import contamination

    evaluation = {path: contamination.read_evaluation_texts(path) for path in evaluation_files}
    overlaps = contamination.report_overlaps(train_files, evaluation, ngram)
    figures = contamination.overlap_figures(overlaps)
    if write:
        for path in train_files:
            figures[path]["pairs_kept"] = contamination.write_clean(path, overlaps[path], write)
    print_figures(figures, as_json)


@evaluate.command()
@recipe_options
@click.option("--out", required=True, type=click.Path(), help="Folder for the runs and table.jsonl.")
@base_option
@process_options
@json_option
def sweep(experiment: Experiment, out: str, base: str, as_json: bool) -> None:
    """Run a sweep, sizes × data sets × seeds (sweeps/*.gin): what is done is skipped, what was cut off goes on."""
    from humpback_jax.evaluation.scaling.fit import fit_figures
    from humpback_jax.evaluation.scaling.sweep import Sweep, run_sweep

    plan = experiment.parse(Sweep)
    rows = run_sweep(out, plan, experiment.recipe)
    fits = fit_figures(rows, plan.metric, base)
    if is_leader() and not as_json:
        for row in rows:
            click.echo("  ".join(f"{key} {value}" for key, value in row.items()))
    _print({"table": rows, "fits": fits} if as_json else fits, as_json)


@evaluate.command()
@recipe_options
@click.option("--out", required=True, type=click.Path(), help="Folder for the run, the trainings, and evidence.md.")
@click.option("--plan_only", is_flag=True, help="Print what would be trained, and what is done, and stop.")
@process_options
@json_option
def evidence(experiment: Experiment, out: str, plan_only: bool, as_json: bool) -> None:
    """Put the paper's findings to the test (sweeps/evidence_*.gin): many trainings from one A, and a page."""
    from humpback_jax.align import Alignment
    from humpback_jax.evaluation.evidence.page import evidence_figures, write_page
    from humpback_jax.evaluation.evidence.run import RUN, plan_lines, run_evidence
    from humpback_jax.evaluation.evidence.trials import Evidence

    settings = experiment.parse(Evidence)
    alignment = Alignment(experiment.recipe(), pathlib.Path(out) / RUN)
    for line in plan_lines(out, settings, alignment):
        say(line)
    if plan_only:
        return
    measured = run_evidence(out, settings, alignment)
    figures = evidence_figures(out, settings, alignment, measured)
    words = [f"--gin_file={name}" for name in experiment.gin_files]
    words += [f"--gin.{binding.replace(' ', '')}" for binding in experiment.gin_bindings]
    page = write_page(out, figures, " ".join([*words, f"--out={out}"]))
    if not as_json:
        say(f"evidence: {page}")
    _print(figures if as_json else {"verdicts": {f["name"]: f["verdict"] for f in figures["findings"]}}, as_json)


@evaluate.command()
@click.argument("table", type=click.Path())
@click.option("--metric", default="win_rate", show_default=True, help="Column to fit.")
@base_option
@click.option("--plot", type=click.Path(), help="Also draw it: .png, .svg or .pdf.")
@json_option
def scaling(table: str, metric: str, base: str, plot: str | None, as_json: bool) -> None:
    """Fit metric = alpha log N + C to each data set of a sweep's table, with bootstrap intervals."""
    from humpback_jax.evaluation.scaling.fit import fit_figures, plot_scaling
    from humpback_jax.files import read_jsonl

    rows = [row for _, row in read_jsonl(table)]
    fits = fit_figures(rows, metric, base)
    if plot:
        plot_scaling(plot, rows, metric, fits)
    print_figures(fits, as_json)


@evaluate.command()
@click.argument("first", type=click.Path())
@click.argument("others", nargs=-1, required=True, type=click.Path())
@json_option
def compare(first: str, others: tuple[str, ...], as_json: bool) -> None:
    """Compare runs item by item with FIRST: annotations, or a benchmark's item results."""
    from humpback_jax.evaluation.paired import compare_all

    print_figures(compare_all([first, *others]), as_json)


@evaluate.command()
@click.argument("annotations", nargs=-1, type=click.Path())
@json_option
def published(annotations: tuple[str, ...], as_json: bool) -> None:
    """Place runs (their annotations) beside published results, with sources and what is comparable."""
    from humpback_jax.evaluation.judging.published import rows_beside
    from humpback_jax.evaluation.judging.win_rate import annotation_figures

    rows = rows_beside([annotation_figures(path) for path in annotations])
    if as_json:
        print_json(rows)
        return
    for row in rows:
        error = "" if row["standard_error"] is None else f" ± {row['standard_error']:.2f}"
        ties = "" if row["ties"] is None else f" (ties {row['ties']}, losses {row['losses']})"
        mark = "▶ " if row["group"] == "this run" else "  "
        click.echo(f"{mark}{row['win_rate']:6.2f}{error}{ties}  {row['model']} [{row['group']}, {row['benchmark']}]")
        click.echo(f"          {row['source']}; {row['comparability']}")


@evaluate.command()
@click.argument("files", nargs=-1, required=True, type=click.Path())
@click.option("--verb_noun", is_flag=False, flag_value="en_core_web_sm", help="Diversity by this model.")
@click.option("--paper", is_flag=True, help="Show the paper's own rows too.")
@json_option
def statistics(files: tuple[str, ...], verb_noun: str | None, paper: bool, as_json: bool) -> None:
    """Lengths in characters (mean and standard deviation) and diversity of training sets."""
    from humpback_jax.evaluation import data_statistics

    parse = data_statistics.spacy_parser(verb_noun) if verb_noun else None
    figures: dict[str, Any] = {path: data_statistics.file_statistics(path, parse) for path in files}
    if paper:
        figures["paper"] = data_statistics.paper_statistics()
    print_figures(figures, as_json)


@evaluate.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def harness(arguments: tuple[str, ...]) -> None:
    """Run lm-evaluation-harness, its own arguments and `--model humpback --model_args path=MODEL`."""
    try:
        from humpback_jax.evaluation.benchmarks.lm_eval_model import run_harness
    except ImportError as error:
        if error.name is not None and error.name.split(".")[0] == "lm_eval":
            raise ValueError("this verb runs lm-evaluation-harness: pip install 'lm_eval>=0.4.9,<0.5'") from error
        raise
    use_compilation_cache()
    run_harness(list(arguments))
