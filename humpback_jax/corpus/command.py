"""The verbs of `humpback corpus`."""

import os

import click

from humpback_jax.command_options import config_options, json_option
from humpback_jax.corpus.config import CorpusConfig
from humpback_jax.runtime.console import print_figures, print_json


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


@corpus.command("show")
@click.argument("folder", type=click.Path())
@click.option("--count", type=click.IntRange(min=1), default=5, show_default=True, help="Segments, drawn at random.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the draw.")
@click.option("--url", help="The segments of this page instead.")
@json_option
def corpus_show(folder: str, count: int, seed: int, url: str | None, as_json: bool) -> None:
    """Show segments of a corpus folder, drawn at random."""
    from humpback_jax.corpus.show import draw_segments, print_segments, segments_of_url

    rows = segments_of_url(folder, url) if url else draw_segments(folder, count, seed)
    if not rows:
        raise ValueError(f"{folder} has no segment{f' of {url}; `humpback corpus explain` says why' if url else ''}")
    print_json(rows) if as_json else print_segments(rows)


@corpus.command("stats")
@click.argument("folder", type=click.Path())
@click.option("--page", type=click.Path(), help="Write a page with plots to this file, too.")
@json_option
def corpus_stats(folder: str, page: str | None, as_json: bool) -> None:
    """Count the segments of a corpus folder by length, language and domain, and everything else by reason."""
    from humpback_jax.corpus.stats import corpus_figures, write_stats_page

    figures = corpus_figures(folder)
    print_figures(figures, as_json)
    if page:
        write_stats_page(figures, os.path.basename(os.path.abspath(folder)), page)
        click.echo(f"Page to open in a browser: {page}", err=True)
