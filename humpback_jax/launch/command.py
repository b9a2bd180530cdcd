"""`humpback launch`: make a TPU slice, run one command on all its workers to its end, and delete the slice."""

import functools
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import click

from humpback_jax.command_options import json_option
from humpback_jax.launch.settings import TEMPLATES, launch_files, placeholders
from humpback_jax.runtime.console import print_json


def _open(needs_secrets: bool, context: click.Context, parameter: click.Parameter, settings_file: str) -> Any:
    from humpback_jax.launch.session import open_session

    return open_session(settings_file, needs_secrets)


def settings_option(name: str, callback: Callable[..., Any] | None = None) -> Any:
    """The option `--settings`, as an argument `name` of the verb: the path, or what `callback` makes of it."""
    return click.option(
        "--settings",
        name,
        default="launch.toml",
        show_default=True,
        type=click.Path(),
        envvar="HUMPBACK_LAUNCH_SETTINGS",
        callback=callback,
        help="The settings file.",
    )


# For verbs that act on the slice of a settings file; the verb takes `session`, a `Session`.
acts_on_slice = settings_option("session", functools.partial(_open, False))
sends_secrets = settings_option("session", functools.partial(_open, True))
delete_option = click.option("--delete", is_flag=True, help="Delete the slice at the end, whatever the end is.")


@click.group()
def launch() -> None:
    """Make a TPU slice, run on all its workers, resume what was preempted (DRY_RUN=1 prints the commands)."""


@launch.command()
@settings_option("settings_file")
@click.argument("backend", type=click.Choice(list(TEMPLATES)))
def init(settings_file: str, backend: str) -> None:
    """Write a settings file to edit: Cloud TPU spot slices, Compute Engine, GKE, or machines you have."""
    path, template = pathlib.Path(settings_file), launch_files() / TEMPLATES[backend]
    if path.exists():
        raise ValueError(f"{path} is there already; name another file with --settings")
    path.write_text(template.read_text())
    click.echo(f"{path}: put your own in place of <…>: {', '.join(placeholders(template))}")
    if backend == "gke":
        click.echo(f"the image: docker build -t IMAGE -f {launch_files() / 'Dockerfile'} .; docker push IMAGE")
    click.echo(f"then: humpback launch create; step by step in {launch_files() / 'README.md'}")


@launch.command()
@acts_on_slice
def create(session: Any) -> None:
    """Ask for the slice."""
    session.backend.create()
    session.shell.say("asked for; next: humpback launch wait")


@launch.command()
@acts_on_slice
def wait(session: Any) -> None:
    """Wait until the slice is there."""
    session.wait(session.settings.wait_minutes)
    session.shell.say("the slice is there; next: humpback launch setup")


@launch.command()
@sends_secrets
def setup(session: Any) -> None:
    """Make the environment on every worker, and see that each finds its chips and the others."""
    session.setup()
    session.shell.say("ready; next: humpback launch run EXPERIMENT.gin")


@launch.command(context_settings={"ignore_unknown_options": True})
@sends_secrets
@click.option("--create", is_flag=True, help="Make the slice where it is not there, and set it up.")
@delete_option
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(session: Any, create: bool, delete: bool, command: tuple[str, ...]) -> None:
    """Run COMMAND on every worker to its end: EXPERIMENT.gin [--gin.NAME=VALUE …], or a verb of humpback.

    A slice that is preempted is made anew and the command resumed. Ctrl-C only stops watching: the same command goes on
    watching. Ends with 0, with the status of the worker that failed first, or with 75 when it was cut off too often.
    """
    sys.exit(session.run_words(command, create, delete))


@launch.command()
@sends_secrets
@delete_option
def resume(session: Any, delete: bool) -> None:
    """Go on with the last command: follow it where it runs, else start it again, on a new slice if need be."""
    job = session.job
    sys.exit(session.run_to_the_end(job.arguments, job.files, delete))


@launch.command()
@acts_on_slice
@json_option
def status(session: Any, as_json: bool) -> None:
    """Show how the slice stands, and how each worker's command fares."""
    figures = session.status()
    if as_json:
        print_json(figures)
        return
    click.echo(f"{figures['name']}: {figures['slice']} ({figures['detail']})")
    if "command" in figures:
        click.echo(f"command: {' '.join(figures['command'])} (attempt {figures['attempt']})")
    for worker in figures.get("workers", ()):
        code = "" if worker["status"] is None else f" with {worker['status']}"
        click.echo(f"worker {worker['index']}: {worker['state']}{code}")


@launch.command()
@acts_on_slice
@click.option("--worker", type=int, default=0, show_default=True, help="Whose log.")
@click.option("--lines", type=int, default=50, show_default=True, help="How many of its last lines.")
def logs(session: Any, worker: int, lines: int) -> None:
    """Print the end of a worker's log; of the copy kept here where the worker is gone."""
    session.show_log(worker, lines)


@launch.command()
@acts_on_slice
@click.option("--seconds", default=45, show_default=True, help="Between SIGTERM, which saves, and SIGKILL.")
def stop(session: Any, seconds: int) -> None:
    """End the command on every worker; the slice stays."""
    session.stop(seconds)
    session.shell.say("nothing runs there now; the slice is still there and costs money until `humpback launch delete`")


@launch.command()
@acts_on_slice
def delete(session: Any) -> None:
    """Delete the slice and all that was made for it."""
    session.backend.delete()
    session.shell.say("deleted")
