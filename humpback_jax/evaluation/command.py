"""The verb `humpback evaluate`: the held-out stage of a run, and one subcommand per kind of evidence."""

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
