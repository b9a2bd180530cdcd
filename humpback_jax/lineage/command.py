"""The verbs that follow a page or pair through a run, and what `align` says before it makes stages again."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import click

from humpback_jax.command_options import Experiment, json_option, process_options
from humpback_jax.runtime.console import print_json
from humpback_jax.runtime.processes import is_leader

_STATES = {
    "complete": "as it is",
    "goes on": "goes on where it was cut off",
    "new": "new",
    "again": "again",
    "follows": "follows, unless what it reads comes out the same",
    "back": "an earlier version comes back",
}


def announce_changes(recipe: Any, run_dir: str, plan_only: bool = False, as_json: bool = False) -> bool:
    """Says what will be made again before it is; returns whether anything will.

    Args:
      recipe: what is asked for.
      run_dir: where it is asked for.
      plan_only: say all of it, on standard output; else what is made again, as a note.
      as_json: with `plan_only`, as JSON.
    """
    from humpback_jax.lineage.changes import CHANGES, plan_changes, stages_left

    changes = plan_changes(recipe, run_dir)
    again = [change for change in changes if change.state in CHANGES]
    left = stages_left(changes, run_dir)
    if plan_only and as_json:
        print_json({"run_dir": run_dir, "stages": list(map(_as_values, changes)), "left": left})
    elif plan_only or again:
        _print_changes(run_dir, changes, left, to_stderr=not plan_only)
    return bool(again)


def _as_values(change: Any) -> dict[str, Any]:
    values = dataclasses.asdict(change)
    return values | {"changed": {key: {"begun": old, "wanted": new} for key, (old, new) in change.changed.items()}}


def _print_changes(run_dir: str, changes: Sequence[Any], left: Sequence[str], to_stderr: bool) -> None:
    states = [change.state for change in changes]
    again = sum(state in ("again", "follows", "back") for state in states)
    new, complete = sum(state in ("new", "goes on") for state in states), states.count("complete")
    click.echo(f"{run_dir}: {again} stages again, {new} new, {complete} as they are", err=to_stderr)
    for change in changes:
        took = "" if change.seconds is None else f"  ({change.rows} in, took {change.seconds:.0f} s)"
        what = ": ".join(filter(None, [_STATES[change.state], change.why]))
        click.echo(f"  {change.stage:18}{what}{took if change.state != 'complete' else ''}", err=to_stderr)
    for stage in left:
        click.echo(f"  {stage:18}not of this recipe; it is left as it is", err=to_stderr)
    if again:
        click.echo("What is there stays in replaced/ until the new version of a stage is whole.", err=to_stderr)


@click.command()
@click.argument("run_dir", type=click.Path(exists=True, file_okay=False))
@click.argument("text")
@click.option("--blocks", is_flag=True, help="Of a page, every block too; its input is read again.")
@json_option
def explain(run_dir: str, text: str, blocks: bool, as_json: bool) -> None:
    """Follow a page, segment or pair through a run: from bytes to models.

    TEXT is the address of a page, the id of a segment or pair, or words that stand in one.
    """
    from humpback_jax.lineage.trace import find_segments, trace_segments
    from humpback_jax.run_files import SEGMENTS_STAGE

    trace = trace_segments(run_dir, find_segments(run_dir, text))
    if as_json:
        print_json(dataclasses.asdict(trace))
        return
    for segment in trace.segments:
        _print_segment(trace, segment)
    if blocks:
        from humpback_jax.corpus.explain import explain_pages, find_page, open_corpus
        from humpback_jax.corpus.story_pages import print_story

        corpus = open_corpus(os.path.join(run_dir, SEGMENTS_STAGE))
        for story in explain_pages(corpus, [find_page(corpus, url) for url in trace.urls]):
            print_story(story, corpus.settings, blocks)


def _print_segment(trace: Any, segment: dict[str, Any]) -> None:
    from humpback_jax.lineage.trace import shortened

    name = segment["id"]
    click.secho(f"{segment['url']}  {segment['header']}", bold=True)
    if "file" in segment:
        place = f"{segment['file']}, record {segment['record']}, bytes {segment['start']} to {segment['end']}"
        click.echo(f"  page       {place}")
    click.echo(f"  segment    {name}: {shortened(segment['text'])}")
    for row in trace.duplicates:
        if name in (row["kept"], row["dropped"]):
            click.echo(f"  duplicate  {row['dropped']} was dropped, {row['similarity']:.2f} like {row['kept']}")
    for stage, files in trace.rows.items():
        for file, rows in files.items():
            for row in rows:
                if row["id"].partition("#")[0] == name:
                    click.echo(f"  {stage:10} {_row_in_words(file, row)}")
    for stage, pairs in trace.models.items():
        for pair, updates in pairs.items():
            if pair.partition("#")[0] == name:
                click.echo(f"  {stage:10} read {pair} in updates {', '.join(map(str, updates))}")


def _row_in_words(file: str, row: dict[str, Any]) -> str:
    from humpback_jax.lineage.trace import shortened
    from humpback_jax.run_files import CURATED, PAIRS, SCORES

    if file == PAIRS:
        return f"{row['id']}: {shortened(row['instruction'])}"
    if file == SCORES:
        return f"{row['id']}: rated {row['score']:g}{'' if row.get('parsed') else ' (forced)'}"
    value = row.get("p_good", row.get("score"))
    shown = "" if value is None else f" ({value:.3g})"
    return f"{row['id']}: kept{shown}" if file == CURATED else f"{row['id']}: {row['reason']}{shown}"


@click.command()
@click.argument("run_dir", type=click.Path(exists=True, file_okay=False))
@click.argument("what", nargs=-1, required=True)
@click.option("--plan_only", is_flag=True, help="Only list what derives from it.")
@process_options
@json_option
def forget(run_dir: str, what: tuple[str, ...], plan_only: bool, as_json: bool) -> None:
    """Take pages out of a run, with all that derives from them, and make again what changes.

    WHAT is the address of a page, the name of an input, the id of a segment or pair, or @FILE with one on each line.
    """
    from humpback_jax.lineage.forget import forget as forget_pages
    from humpback_jax.lineage.forget import plan_take_down

    plan = plan_take_down(run_dir, what)
    if is_leader():
        print_json(plan.values) if as_json else _print_take_down(plan.values)
    if plan_only:
        return
    forget_pages(Experiment((), (), run_dir).recipe(), run_dir, plan.entries)


def _print_take_down(values: dict[str, Any]) -> None:
    pages = len(values["urls"]) + len(values["files"])
    click.echo(f"{pages} pages or inputs: {len(values['segments'])} segments, {len(values['pairs'])} pairs")
    for stage, pairs in values["kept"].items():
        click.echo(f"  {stage:12}keeps {len(pairs)} of them")
    for stage, number in values["models"].items():
        click.echo(f"  {stage:12}was trained on {number} of them")
    click.echo(f"  derived     {', '.join(values['derived'])}")
    for name in values["answers"]:
        click.echo(f"  answers/{name} holds answers of such a model; it stays, remove it if it is to go")
    if values["like_them"]:
        click.echo(f"  {len(values['like_them'])} segments of other pages are like them: {values['like_them'][0]}, …")
    click.echo("Copies of models elsewhere, and the pages themselves, are yours to remove.")
