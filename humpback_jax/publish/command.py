"""`humpback publish`: the data and the models of a run, in a folder or on the Hugging Face hub."""

import os
import time
from typing import Any

import click

from humpback_jax.command_options import Experiment, json_option, recipe_of_model
from humpback_jax.run_files import PUBLISHED
from humpback_jax.runtime.console import print_figures


@click.group()
def publish() -> None:
    """Hand on the data or a model of a run: a folder with a card, or the Hugging Face hub (hub:ORG/NAME)."""


def _hub_options(verb: Any) -> Any:
    verb = json_option(verb)
    verb = click.option("--public", is_flag=True, help="Make a new repository public (default: private).")(verb)
    return click.option("--overwrite", is_flag=True, help="Replace a folder that is there.")(verb)


@publish.command("data")
@click.argument("run_dir", type=click.Path())
@click.argument("dst", metavar="DST|hub:ORG/NAME")
@click.option("--licence", "licences", multiple=True, metavar="PATTERN=LICENCE", help="Of an input, host or pattern.")
@click.option("--private", "private", multiple=True, metavar="PATTERN", help="Texts of it are not published.")
@click.option("--every", type=click.IntRange(min=1), metavar="MINUTES", help="Go on, and publish again so often.")
@_hub_options
def publish_data_(
    run_dir: str,
    dst: str,
    licences: tuple[str, ...],
    private: tuple[str, ...],
    every: int | None,
    public: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write the pairs of RUN_DIR as Parquet and JSON lines that `datasets.load_dataset` reads, with a card."""
    from humpback_jax.publish.data import publish_data
    from humpback_jax.publish.hub import hub_name, push

    recipe = Experiment((), run_dir=run_dir).recipe()
    name, folder = hub_name(dst), _folder(dst, run_dir)
    sources = _sources(licences, private)
    while True:
        figures = publish_data(
            run_dir, folder, recipe.seeds, recipe.segments, sources, overwrite or bool(every) or name is not None
        )
        if name is not None:
            figures["commit"] = push(folder, name, "dataset", private=not public)
        print_figures(figures, as_json)
        if every is None:
            return
        time.sleep(60 * every)


@publish.command("model")
@click.argument("model")
@click.argument("dst", metavar="DST|hub:ORG/NAME")
@click.option("--dtype", help="dtype of the tensors (default: as stored).")
@click.option(
    "--licence",
    "licences",
    multiple=True,
    metavar="LICENCE|PATTERN=LICENCE",
    help="Of the model itself, or of an input, host or pattern.",
)
@click.option("--base_licence", help="Of the base model (default: what its own page or file says).")
@_hub_options
def publish_model_(
    model: str,
    dst: str,
    dtype: str | None,
    licences: tuple[str, ...],
    base_licence: str | None,
    public: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write MODEL (a run directory, a stage, a folder, a name) as transformers loads it, with a card."""
    from humpback_jax.publish.hub import hub_name, push
    from humpback_jax.publish.model import publish_model
    from humpback_jax.publish.origins import origins_of
    from humpback_jax.weights.find import find_model

    own = [text for text in licences if "=" not in text]
    if len(own) > 1:
        raise ValueError(f"--licence={own[1]}: the model itself has {own[0]!r} already; of a source: PATTERN=LICENCE")
    name, folder = hub_name(dst), _folder(dst, ".")
    found = find_model(model, convert=False)
    recipe = recipe_of_model(found)
    sources = _sources(tuple(text for text in licences if "=" in text), ())
    seeds, segments = (recipe.seeds, recipe.segments) if recipe else (None, None)
    origins = origins_of(found, seeds, segments, sources, base_licence, own[0] if own else None)
    figures = publish_model(found, folder, dtype, origins, overwrite or name is not None)
    if name is not None:
        figures["commit"] = push(folder, name, "model", private=not public)
    print_figures(figures | {"licences": dict(origins.licences)}, as_json)


def _folder(destination: str, beside: str) -> str:
    """The folder itself, or of a name on the hub the one that is pushed."""
    from humpback_jax.publish.hub import hub_name

    name = hub_name(destination)
    return destination if name is None else os.path.join(beside, PUBLISHED, name.replace("/", "--"))


def _sources(licences: tuple[str, ...], private: tuple[str, ...]) -> list[Any]:
    from humpback_jax.stages.sources import SourceConfig

    if wrong := [text for text in licences if not all(text.partition("=")[::2])]:
        raise ValueError(f"--licence={wrong[0]}: expected PATTERN=LICENCE")
    hidden = [SourceConfig(pattern, private=True) for pattern in private]
    return hidden + [SourceConfig(text.rpartition("=")[0], text.rpartition("=")[2]) for text in licences]
