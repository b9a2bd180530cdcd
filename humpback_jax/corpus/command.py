"""The verbs of `humpback corpus`."""

import click

from humpback_jax.command_options import json_option
from humpback_jax.runtime.console import print_figures


@click.group()
def corpus() -> None:
    """Turn web pages into segments."""


@corpus.command("build")
@click.argument("inputs", nargs=-1, required=True, type=click.Path())
@click.option("--out", required=True, type=click.Path(), help="Folder for the segments.")
@click.option("--min_chars", type=int, default=600, show_default=True)
@click.option("--max_chars", type=int, default=3000, show_default=True)
@json_option
def corpus_build(inputs: tuple[str, ...], out: str, min_chars: int, max_chars: int, as_json: bool) -> None:
    """Cut WARC, WET and HTML files into segments."""
    from humpback_jax.corpus.build import EmptyCorpusError, build_corpus
    from humpback_jax.corpus.config import CorpusConfig

    try:
        report = build_corpus(inputs, out, CorpusConfig(min_chars=min_chars, max_chars=max_chars))
    except EmptyCorpusError as error:
        print_figures(error.report.to_dict(), as_json)
        if not error.report.readable:
            raise
        click.echo(f"humpback: warning: {error}", err=True)
        return
    print_figures(report.to_dict(), as_json)
