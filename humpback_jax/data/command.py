"""The verbs of `humpback data`."""

import click

from humpback_jax.command_options import json_option, tags_option
from humpback_jax.runtime.console import print_figures, print_json


@click.group()
def data() -> None:
    """Look at training data, and hand them on."""


@data.command("show")
@click.argument("path", type=click.Path())
@click.option("--model", required=True, help="The tokenizer and chat format: a model's folder, stage, run or name.")
@click.option("--direction", type=click.Choice(["forward", "backward"]), default="forward", show_default=True)
@tags_option("seed", "Of instructions that are read forward.")
@click.option("--limit", type=click.IntRange(min=0), default=3, show_default=True, help="Examples to show.")
@click.option("--column", "columns", multiple=True, help="Where it holds what, such as instruction=q.")
@click.option("--language", "languages", multiple=True, help="Of Open Assistant's messages (default: en).")
@click.option("--ids", is_flag=True, help="Show token ids too.")
@json_option
def data_show(
    path: str,
    model: str,
    direction: str,
    tags: tuple[str, ...],
    limit: int,
    columns: tuple[str, ...],
    languages: tuple[str, ...],
    ids: bool,
    as_json: bool,
) -> None:
    """Print the examples of a pairs file; the tokens that carry loss are green."""
    from rich.console import Console

    from humpback_jax.data.examples import supervised_examples
    from humpback_jax.data.open_assistant import ENGLISH
    from humpback_jax.data.pair_rows import column_names
    from humpback_jax.data.pairs import PairsFormat, read_pairs
    from humpback_jax.data.show import show_examples
    from humpback_jax.stages.model import open_named_model

    report = read_pairs(path, PairsFormat(columns=column_names(columns), languages=languages or ENGLISH))
    handle = open_named_model(model)
    tags = tags if direction == "forward" else ()
    examples, _ = supervised_examples(report.pairs[:limit], handle.tokenizer, handle.chat_format, direction, tags=tags)
    if as_json:
        shown = [{"id": e.id, "prompt": e.prompt_ids.tolist(), "answer": e.answer_ids.tolist()} for e in examples]
        print_json({"counts": report.counts, "examples": shown})
        return
    for panel in show_examples(examples, handle.tokenizer, limit, ids):
        Console().print(panel)
    print_figures(report.counts, as_json)
    if report.problems:
        click.secho(report.summary(), fg="yellow", err=True)


@data.command("tfds")
@click.argument("kind", type=click.Choice(["seeds", "segments", "curated"]))
@click.argument("path", type=click.Path())
@click.option("--data_dir", required=True, type=click.Path(), help="Where TFDS keeps its data sets.")
@click.option("--num_shards", type=click.IntRange(min=1), help="Files of the data set (default: TFDS decides).")
@json_option
def data_tfds(kind: str, path: str, data_dir: str, num_shards: int | None, as_json: bool) -> None:
    """Prepare the TFDS data set humpback_KIND from a file of seed or curated pairs, or a folder of segments."""
    from humpback_jax.data.tfds_builders import build

    print_figures(build(kind, path, data_dir, num_shards), as_json)
