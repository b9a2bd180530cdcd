"""The verbs of `humpback corpus`."""

import difflib
import os
from collections.abc import Sequence
from typing import Any

import click

from humpback_jax.command_options import config_options, json_option
from humpback_jax.corpus.config import CorpusConfig
from humpback_jax.runtime.console import print_figures, print_json


@click.group()
def corpus() -> None:
    """Turn web pages into segments, and look at them."""


@corpus.command("build", context_settings={"ignore_unknown_options": True})
@click.argument("inputs", nargs=-1, required=True, type=click.Path())
@click.option("--out", required=True, type=click.Path(), help="Folder for the segments and what is known of them.")
@click.option("--seeds", type=click.Path(), help="Seed pairs: which languages are wanted, what answers look like.")
@click.option("--format", "file_format", type=click.Choice(["jsonl", "parquet"]), default="jsonl", show_default=True)
@click.option("--workers", type=click.IntRange(min=1), help="Processes (default: one per core).")
@click.option("--seconds_per_record", type=float, default=60.0, show_default=True, help="Then it is rejected: timeout.")
@click.option("--runner", metavar="DataflowRunner|…", help="Run on Apache Beam; other options are passed to it.")
@config_options(CorpusConfig)
@json_option
def corpus_build(
    inputs: tuple[str, ...],
    out: str,
    seeds: str | None,
    file_format: Any,
    workers: int | None,
    seconds_per_record: float,
    runner: str | None,
    config: CorpusConfig,
    as_json: bool,
) -> None:
    """Cut pages into segments: archives, HTML, JSON lines or Parquet; files, folders or globs."""
    from humpback_jax.corpus.build import EmptyCorpusError, Execution, build_corpus

    inputs, passed = _split_inputs(inputs, runner)
    answers, languages = _read_seeds(seeds) if seeds else ((), ())
    execution = Execution(workers, seconds_per_record, runner, passed)
    options: dict[str, Any] = {"answers": answers, "seed_languages": languages, "file_format": file_format}
    try:
        report = build_corpus(inputs, out, config, execution=execution, **options)
    except EmptyCorpusError as error:
        print_figures(error.report.to_dict(), as_json)
        if not error.report.readable:
            raise
        click.echo(f"humpback: warning: {error}", err=True)
        return
    print_figures(report.to_dict(), as_json)


def _split_inputs(words: Sequence[str], runner: str | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(inputs, options for Beam): options that this verb does not have come among the inputs, as `--NAME=VALUE`."""
    inputs = tuple(word for word in words if not word.startswith("-"))
    passed = tuple(word for word in words if word.startswith("-"))
    if passed and runner is None:
        name = passed[0].partition("=")[0]
        known = [option for parameter in corpus_build.params for option in parameter.opts]
        meant = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {meant[0]}?" if meant else "; options of a Beam runner need --runner"
        raise click.UsageError(f"no such option: {name}{hint}")
    if not inputs:
        raise click.UsageError("give at least one input; options of the runner are written --NAME=VALUE")
    return inputs, passed


def _read_seeds(path: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(answers, their languages) of a file of seed pairs."""
    from humpback_jax.corpus.filters.language import seed_languages
    from humpback_jax.data.pairs import read_pairs

    answers = tuple(pair.output for pair in read_pairs(path).pairs)
    return answers, seed_languages(answers)


@corpus.command("show")
@click.argument("folder", type=click.Path())
@click.option("--count", type=click.IntRange(min=1), default=5, show_default=True, help="Segments or pages, at random.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the draw.")
@click.option("--url", help="This page instead.")
@click.option("--page", type=click.Path(), help="Write pages, every block with what became of it, to this HTML file.")
@click.option("--input", "inputs", multiple=True, type=click.Path(), help="With --page: where the web pages are now.")
@json_option
def corpus_show(
    folder: str, count: int, seed: int, url: str | None, page: str | None, inputs: tuple[str, ...], as_json: bool
) -> None:
    """Show segments of a corpus folder, drawn at random; or, with --page, web pages and what became of them."""
    if page:
        _write_pages(folder, count, seed, url, page, inputs)
        return
    from humpback_jax.corpus.show import draw_segments, print_segments, segments_of_url

    rows = segments_of_url(folder, url) if url else draw_segments(folder, count, seed)
    if not rows:
        raise ValueError(f"{folder} has no segment{f' of {url}; `humpback corpus explain` says why' if url else ''}")
    print_json(rows) if as_json else print_segments(rows)


def _write_pages(folder: str, count: int, seed: int, url: str | None, page: str, inputs: Sequence[str]) -> None:
    from humpback_jax.corpus.explain import draw_pages, explain_pages, find_page, open_corpus
    from humpback_jax.corpus.story_pages import write_story_page

    opened = open_corpus(folder, inputs)
    pages = [find_page(opened, url)] if url else draw_pages(opened, count, seed)
    write_story_page(explain_pages(opened, pages), _name_of(folder), opened.settings, page)
    click.echo(f"Page to open in a browser: {page}", err=True)


def _name_of(folder: str) -> str:
    return os.path.basename(os.path.abspath(folder))


@corpus.command("stats")
@click.argument("folder", type=click.Path())
@click.option("--page", type=click.Path(), help="Write an HTML page with plots to this file, too.")
@json_option
def corpus_stats(folder: str, page: str | None, as_json: bool) -> None:
    """Count the segments of a corpus folder by length, language and domain, and everything else by reason."""
    from humpback_jax.corpus.stats import corpus_figures, write_stats_page

    figures = corpus_figures(folder)
    print_figures(figures, as_json)
    if page:
        write_stats_page(folder, figures, page)
        click.echo(f"Page to open in a browser: {page}", err=True)


@corpus.command("explain")
@click.argument("folder", type=click.Path())
@click.argument("url")
@click.option("--blocks", is_flag=True, help="Every block, too.")
@click.option("--input", "inputs", multiple=True, type=click.Path(), help="Where the web pages are now.")
@json_option
def corpus_explain(folder: str, url: str, blocks: bool, inputs: tuple[str, ...], as_json: bool) -> None:
    """Say why a web page gave what it gave: its sections, its blocks, duplicates, sampling."""
    from humpback_jax.corpus.explain import explain_pages, find_page, open_corpus
    from humpback_jax.corpus.story_pages import print_story, story_values

    opened = open_corpus(folder, inputs)
    (story,) = explain_pages(opened, [find_page(opened, url)])
    print_json(story_values(story)) if as_json else print_story(story, opened.settings, blocks)
