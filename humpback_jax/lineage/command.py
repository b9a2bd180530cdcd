"""The verbs that follow a page or pair through a run, and what `align` says before it makes stages again."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import click

from humpback_jax.runtime.console import print_json

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
