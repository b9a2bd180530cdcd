"""The verbs of `humpback corpus`."""

import click

from humpback_jax.command_options import config_options, json_option
from humpback_jax.corpus.config import CorpusConfig
from humpback_jax.runtime.console import print_figures


@click.group()
def corpus() -> None:
    """Turn web pages into segments."""


@corpus.command("build")
@click.argument("inputs", nargs=-1, required=True, type=click.Path())
@click.option("--out", required=True, type=click.Path(), help="Folder for the segments and what is known of them.")
@config_options(CorpusConfig)
@json_option
def corpus_build(inputs: tuple[str, ...], out: str, config: CorpusConfig, as_json: bool) -> None:
    """Cut pages into segments: archives, HTML, JSON lines or Parquet; files, folders or globs."""
    from humpback_jax.corpus.build import EmptyCorpusError, build_corpus

    try:
        report = build_corpus(inputs, out, config)
    except EmptyCorpusError as error:
        print_figures(error.report.to_dict(), as_json)
        if not error.report.readable:
            raise
        click.echo(f"humpback: warning: {error}", err=True)
        return
    print_figures(report.to_dict(), as_json)
