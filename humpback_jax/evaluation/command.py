"""The verb `humpback evaluate`: the held-out stage of a run, and one subcommand per kind of evidence."""

import dataclasses
import json
import os
import pathlib
from typing import Any

import click


def _print(figures: dict[str, Any], as_json: bool) -> None:
    """One figure per line, nested ones indented; or JSON."""
    if as_json:
        click.echo(json.dumps(figures, indent=2, ensure_ascii=False))
        return
    _print_lines(figures, "")


def _print_lines(figures: dict[str, Any], indent: str) -> None:
    for key, value in figures.items():
        if isinstance(value, dict):
            click.echo(f"{indent}{key}:")
            _print_lines(value, indent + "  ")
        else:
            click.echo(f"{indent}{key}: {round(value, 4) if isinstance(value, float) else value}")


json_option = click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")


@click.group(invoke_without_command=True)
@click.option("--gin_file", "gin_files", multiple=True, help="Recipe whose finished models meet its held-out pairs.")
@click.option("--gin_bindings", multiple=True, hidden=True)
@click.option("--run_dir", type=click.Path(), help="The recipe's run (default: runs/NAME of the gin file).")
@click.option("--json", "as_json", is_flag=True, help="Print the stage's manifest as JSON.")
@click.pass_context
def evaluate(
    context: click.Context,
    gin_files: tuple[str, ...],
    gin_bindings: tuple[str, ...],
    run_dir: str | None,
    as_json: bool,
) -> None:
    """Measure models. Without a subcommand: held-out likelihoods of the models of a recipe (--gin_file)."""
    if context.invoked_subcommand is not None:
        return
    if not gin_files:
        click.echo(context.get_help())
        return
    from humpback_jax.align import Alignment
    from humpback_jax.compilation_cache import use_compilation_cache
    from humpback_jax.gin_utils import parse_recipe
    from humpback_jax.weights.fetch import default_cache

    use_compilation_cache(default_cache() / "compiled")
    recipe = parse_recipe(gin_files, gin_bindings)
    stage = Alignment(recipe, run_dir or os.path.join("runs", pathlib.Path(gin_files[-1]).stem)).evaluate()
    _print(stage.manifest if as_json else stage.manifest["figures"], as_json)


@evaluate.command()
@click.argument("annotations", type=click.Path())
@json_option
def winrate(annotations: str, as_json: bool) -> None:
    """Recompute a win rate from annotations alone (.json, .jsonl, .gz), as AlpacaEval counts."""
    from humpback_jax.evaluation.winrate import annotation_figures

    _print(annotation_figures(annotations), as_json)


def model_options(function: Any) -> Any:
    """Options of verbs that run a model."""
    for option in (
        click.option("--dtype", default="float32", show_default=True, help="Of activations and weights."),
        click.option("--weight_dtype", default=None, help="Of weights, if another: float32, bfloat16 or int8."),
        click.option("--tensor_parallelism", type=int, default=1, show_default=True, help="Devices per copy."),
    ):
        function = option(function)
    return function


train_option = click.option(
    "--train", "train_files", multiple=True, type=click.Path(), help="What the model was trained on: overlap is named."
)
tags_option = click.option(
    "--tags", type=click.Choice(["both", "ai", "web", "none"]), default="both", show_default=True, help="Appended."
)


@evaluate.command()
@click.argument("model")
@click.option("--data", required=True, type=click.Path(), help="Folder of the benchmark files.")
@click.option("--tasks", default=None, help="Comma-separated (default: every benchmark that has a file).")
@click.option("--shots", type=int, default=0, show_default=True, help="Solved examples before a question (mmlu).")
@click.option("--limit", type=int, default=None, help="Items per benchmark.")
@click.option("--max_length", type=int, default=None, help="Tokens a context is cut to (default: the model's).")
@click.option("--chat", is_flag=True, help="Ask in the model's chat format instead of plain text.")
@click.option("--tags", type=click.Choice(["both", "ai", "web", "none"]), default="none", help="Of chat questions.")
@click.option("--out", type=click.Path(), help="Folder for figures.json and one file of item results per benchmark.")
@train_option
@model_options
@json_option
def benchmarks(
    model: str,
    data: str,
    tasks: str | None,
    shots: int,
    limit: int | None,
    max_length: int | None,
    chat: bool,
    tags: str,
    out: str | None,
    train_files: tuple[str, ...],
    dtype: str,
    weight_dtype: str | None,
    tensor_parallelism: int,
    as_json: bool,
) -> None:
    """Multiple-choice accuracy by likelihood: ARC, PIQA, SIQA, OpenBookQA, MMLU."""
    from humpback_jax.evaluation import benchmarks as room
    from humpback_jax.evaluation.continuations import ContinuationScorer, ScoringConfig, open_evaluated_model

    _use_compilation_cache()
    chosen = tasks.split(",") if tasks else [n for n, t in room.TASKS.items() if (pathlib.Path(data) / t.file).exists()]
    if not chosen:
        raise ValueError(f"--data {data} holds no benchmark file; expected {', '.join(room.TASKS)} as NAME.jsonl")
    config = ScoringConfig(dtype, weight_dtype, max_length, chat, TAGS[tags], tensor_parallelism)
    scorer = ContinuationScorer(open_evaluated_model(model), config)
    figures, results = room.run_benchmarks(scorer, chosen, data, shots, limit)
    if out:
        from humpback_jax.files import write_json, write_jsonl

        write_json(pathlib.Path(out) / "figures.json", figures)
        for name, items in results.items():
            write_jsonl(pathlib.Path(out) / f"{name}.jsonl", [dataclasses.asdict(item) for item in items])
    _print(figures, as_json)


TAGS = {"both": ("seed", "web"), "ai": ("seed",), "web": ("web",), "none": ()}


def _use_compilation_cache() -> None:
    from humpback_jax.compilation_cache import use_compilation_cache
    from humpback_jax.weights.fetch import default_cache

    use_compilation_cache(default_cache() / "compiled")
