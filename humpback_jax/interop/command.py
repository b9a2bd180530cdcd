"""The verbs `humpback t5x`."""

import click

from humpback_jax.command_options import json_option
from humpback_jax.runtime.console import print_figures


@click.group()
def t5x() -> None:
    """Checkpoints for t5x.train and t5x.infer, and back; t5x itself is not needed."""


@t5x.command("export")
@click.argument("src", type=click.Path())
@click.argument("dst", type=click.Path())
@click.option("--step", type=click.IntRange(min=0), default=0, show_default=True, help="Updates to count from.")
@json_option
def t5x_export(src: str, dst: str, step: int, as_json: bool) -> None:
    """Write the model folder SRC as DST/checkpoint_STEP."""
    from humpback_jax.interop.t5x_checkpoints import export_t5x

    print_figures(export_t5x(src, dst, step), as_json)


@t5x.command("import")
@click.argument("src", type=click.Path())
@click.argument("base", type=click.Path())
@click.argument("dst", type=click.Path())
@click.option("--dtype", default="float32", show_default=True, help="dtype of the stored parameters.")
@json_option
def t5x_import(src: str, base: str, dst: str, dtype: str, as_json: bool) -> None:
    """Convert the t5x checkpoint SRC, of a run that began with model folder BASE, to the model folder DST."""
    from humpback_jax.interop.t5x_checkpoints import import_t5x

    print_figures(import_t5x(src, base, dst, dtype), as_json)
