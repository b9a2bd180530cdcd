"""The verbs of `humpback weights`."""

import os

import click

from humpback_jax.command_options import json_option, recipe_of_model
from humpback_jax.runtime.compilation_cache import use_compilation_cache
from humpback_jax.runtime.console import print_figures, print_json


@click.group()
def weights() -> None:
    """Bring foreign weights in and out."""


@weights.command("import")
@click.argument("src", type=click.Path())
@click.argument("dst", type=click.Path())
@click.option("--dtype", default="float32", show_default=True, help="dtype of the stored parameters.")
@click.option("--name", default=None, help="Label of the model (default: what the source calls it).")
@click.option("--tokenizer", default=None, type=click.Path(), help="Tokenizer folder or file, for that of the source.")
@click.option("--chat_format", default=None, help="How turns are written (docs/weights.md): chatml, plain, …")
@json_option
def weights_import(
    src: str, dst: str, dtype: str, name: str | None, tokenizer: str | None, chat_format: str | None, as_json: bool
) -> None:
    """Convert a Hugging Face folder or a GGUF file to a native model folder."""
    from humpback_jax.weights.convert import import_weights

    figures = import_weights(src, dst, dtype=dtype, name=name, tokenizer=tokenizer, chat_format=chat_format)
    print_figures(figures, as_json)


@weights.command("export")
@click.argument("src", type=click.Path())
@click.argument("dst", type=click.Path())
@click.option("--dtype", default=None, help="dtype of the exported tensors (default: as stored).")
@json_option
def weights_export(src: str, dst: str, dtype: str | None, as_json: bool) -> None:
    """Write a model (of a run, a stage, a folder, a name) as a Hugging Face folder."""
    from humpback_jax.publish.origins import origins_of
    from humpback_jax.weights.convert import export_weights
    from humpback_jax.weights.find import find_model

    found = find_model(src, convert=False)
    recipe = recipe_of_model(found)
    origins = origins_of(found, recipe.seeds, recipe.segments) if recipe else origins_of(found)
    print_figures(export_weights(found, dst, dtype=dtype, origins=origins), as_json)


@weights.command("export-adapter")
@click.argument("src", type=click.Path())
@click.argument("dst", type=click.Path())
@click.option("--base", default=None, help="Where PEFT's Auto classes find the base: an exported folder or a hub name.")
@json_option
def weights_export_adapter(src: str, dst: str, base: str | None, as_json: bool) -> None:
    """Write the LoRA adapter of a stage (RUN_DIR/m1) as a PEFT folder."""
    from humpback_jax.weights.adapters import export_adapter

    print_figures(export_adapter(src, dst, base), as_json)


@weights.command("import-adapter")
@click.argument("src", type=click.Path())
@click.argument("base", type=click.Path())
@click.argument("dst", type=click.Path())
@click.option("--dtype", default="float32", show_default=True, help="dtype of the merged parameters.")
@json_option
def weights_import_adapter(src: str, base: str, dst: str, dtype: str, as_json: bool) -> None:
    """Merge a PEFT LoRA adapter into its base model: a native model folder."""
    from humpback_jax.weights.adapters import import_adapter

    print_figures(import_adapter(src, base, dst, dtype), as_json)


@weights.command("verify")
@click.argument("src", type=click.Path())
@json_option
def weights_verify(src: str, as_json: bool) -> None:
    """Compare logits and greedy text with transformers on the same weights."""
    from humpback_jax.weights.find import find_model
    from humpback_jax.weights.verify import verify_weights

    use_compilation_cache()
    print_figures(verify_weights(find_model(src, convert=False)), as_json)


@weights.command("fetch")
@click.argument("name")
@json_option
def weights_fetch(name: str, as_json: bool) -> None:
    """Download weights (smollm2_135m, or ORG/NAME of the Hugging Face hub) into the cache."""
    from humpback_jax.weights.fetch import fetch_weights

    folder = os.fspath(fetch_weights(name))
    print_json({"model": folder}) if as_json else click.echo(folder)
