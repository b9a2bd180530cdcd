"""`humpback launch`: make a TPU slice, run one command on all its workers to its end, and delete the slice."""

import dataclasses
import functools
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from humpback_jax.launch.backends import Backend
    from humpback_jax.launch.settings import Settings
    from humpback_jax.launch.shell import Shell
    from humpback_jax.launch.watcher import Watcher


@click.group()
def launch() -> None:
    """Make a TPU slice, run on all its workers, resume what was preempted (DRY_RUN=1 prints the commands)."""


def _verb(function: Callable[..., None], **attributes: Any) -> click.Command:
    """A verb of `launch`, named like its function, with the option that names the settings file."""
    option = click.option(
        "--settings",
        "settings_file",
        default="launch.toml",
        show_default=True,
        type=click.Path(),
        envvar="HUMPBACK_LAUNCH_SETTINGS",
        help="The settings file.",
    )
    return launch.command(**attributes)(option(function))


def _open(settings_file: str, *, with_secrets: bool = False) -> "tuple[Settings, Shell, Backend]":
    from humpback_jax.launch.settings import read_settings
    from humpback_jax.launch.shell import Shell

    settings = read_settings(settings_file)
    known = {name: os.environ[name] for name in settings.secrets if os.environ.get(name)}
    dry_run = os.environ.get("DRY_RUN", "") not in ("", "0")
    if dry_run:  # nobody's secrets need to be at hand to see the commands
        known = {name: f"value-of-{name}" for name in settings.secrets}
    elif with_secrets and (absent := [name for name in settings.secrets if name not in known]):
        raise ValueError(f"the settings name the secret {absent[0]}, which is not set: export it, and run this again")
    log = settings.state_dir / "launch.log"
    # For tests, and for those who try this on their own machine: time that passes faster for all waiting.
    speed = float(os.environ.get("HUMPBACK_LAUNCH_SPEED", "1"))
    shell = Shell(
        tuple(known.values()),
        log,
        dry_run,
        sleep=lambda seconds: time.sleep(seconds / speed),
        clock=lambda: time.monotonic() * speed,
        echo=lambda line: click.echo(line),
    )
    return settings, shell, _backend(settings, shell, known)


def _backend(settings: "Settings", shell: "Shell", secrets: dict[str, str]) -> "Backend":
    from humpback_jax.launch.cloud_tpu import CloudTpuBackend
    from humpback_jax.launch.compute_engine import ComputeBackend
    from humpback_jax.launch.gke import GkeBackend
    from humpback_jax.launch.ssh import SshBackend

    match settings.backend:
        case "tpu":
            return CloudTpuBackend(settings, shell, secrets)
        case "compute":
            return ComputeBackend(settings, shell, secrets)
        case "gke":
            return GkeBackend(settings, shell)
        case _:
            return SshBackend(settings, shell, secrets)


def _watcher(settings: "Settings", shell: "Shell", backend: "Backend") -> "Watcher":
    from humpback_jax.launch.watcher import Watcher

    return Watcher(settings, shell, backend)


@_verb
def create(settings_file: str) -> None:
    """Ask for the slice."""
    _, shell, backend = _open(settings_file)
    backend.create()
    shell.say("asked for; next: humpback launch wait")


@_verb
def wait(settings_file: str) -> None:
    """Wait until the slice is there."""
    settings, shell, backend = _open(settings_file)
    _watcher(settings, shell, backend).wait(settings.wait_minutes)
    shell.say("the slice is there; next: humpback launch setup")


@_verb
def setup(settings_file: str) -> None:
    """Make the environment on every worker, and see that each finds its chips and the others."""
    settings, shell, backend = _open(settings_file, with_secrets=True)
    _watcher(settings, shell, backend).setup()
    shell.say("ready; next: humpback launch run EXPERIMENT.gin")


@functools.partial(_verb, context_settings={"ignore_unknown_options": True})
@click.option("--create", "create_it", is_flag=True, help="Make the slice where it is not there, and set it up.")
@click.option("--delete", "delete_it", is_flag=True, help="Delete the slice at the end, whatever the end is.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(settings_file: str, create_it: bool, delete_it: bool, command: tuple[str, ...]) -> None:
    """Run COMMAND on every worker to its end: EXPERIMENT.gin [--gin.NAME=VALUE …], or a verb of humpback.

    A slice that is preempted is made anew and the command resumed. Ctrl-C only stops watching: the same command goes on
    watching. Ends with 0, with the status of the worker that failed first, or with 75 when it was cut off too often.
    """
    settings, shell, backend = _open(settings_file, with_secrets=True)
    arguments, files = _command(settings, command)
    if shell.redact(" ".join(arguments)) != " ".join(arguments):
        raise ValueError("the command contains a secret, which the workers' process lists would show")
    _require_slice(shell, backend, create_it)
    _run_to_the_end(settings, shell, backend, ("humpback_jax", *arguments), files, delete_it)


@_verb
@click.option("--delete", "delete_it", is_flag=True, help="Delete the slice at the end, whatever the end is.")
def resume(settings_file: str, delete_it: bool) -> None:
    """Go on with the last command: follow it where it runs, else start it again, on a new slice if need be."""
    from humpback_jax.launch.watcher import read_record

    settings, shell, backend = _open(settings_file, with_secrets=True)
    record = read_record(settings)
    if record is None:
        raise ValueError(f"nothing was run with {settings_file} from here; humpback launch run EXPERIMENT.gin")
    _run_to_the_end(settings, shell, backend, record.arguments, record.files, delete_it)


@_verb
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def status(settings_file: str, as_json: bool) -> None:
    """Show how the slice stands, and how each worker's command fares."""
    from humpback_jax.launch.backends import State
    from humpback_jax.launch.watcher import read_record

    settings, _, backend = _open(settings_file)
    condition, record = backend.condition(), read_record(settings)
    figures: dict[str, Any] = {"name": settings.name, "slice": condition.state.value, "detail": condition.detail}
    if record is not None:
        figures |= {"command": list(record.arguments), "attempt": record.attempt}
        if condition.state is State.READY:
            workers = backend.workers()
            polled = workers.poll(record.attempt, [0] * workers.count)
            figures["workers"] = [{"index": w.index, "state": w.state, "status": w.status} for w in polled]
    if as_json:
        click.echo(json.dumps(figures, indent=2))
        return
    click.echo(f"{settings.name}: {condition.state.value} ({condition.detail})")
    if record is not None:
        click.echo(f"command: {' '.join(record.arguments)} (attempt {record.attempt})")
    for worker in figures.get("workers", ()):
        code = "" if worker["status"] is None else f" with {worker['status']}"
        click.echo(f"worker {worker['index']}: {worker['state']}{code}")


@_verb
@click.option("--worker", type=int, default=0, show_default=True, help="Whose log.")
@click.option("--lines", type=int, default=50, show_default=True, help="How many of its last lines.")
def logs(settings_file: str, worker: int, lines: int) -> None:
    """Print the end of a worker's log; of the copy kept here where the worker is gone."""
    from humpback_jax.launch.backends import State
    from humpback_jax.launch.watcher import Logs, read_record

    settings, shell, backend = _open(settings_file)
    record = read_record(settings)
    if record is None:
        raise ValueError(f"nothing was run with {settings_file} from here; humpback launch run EXPERIMENT.gin")
    kept = Logs(settings.state_dir / "logs" / record.attempt, worker + 1, shell)
    if backend.condition().state is State.READY and (said := backend.workers().tail(worker, record.attempt, lines)):
        shell.show(said)
    else:
        click.echo(f"(the worker has no log now; copies: {kept.path(worker)})", err=True)
        shell.show(kept.tail(worker, lines))


@_verb
@click.option("--seconds", default=45, show_default=True, help="Between SIGTERM, which saves, and SIGKILL.")
def stop(settings_file: str, seconds: int) -> None:
    """End the command on every worker; the slice stays."""
    from humpback_jax.launch.backends import State
    from humpback_jax.launch.watcher import read_record, remember

    settings, shell, backend = _open(settings_file)
    record = read_record(settings)
    if record is not None and not shell.dry_run:  # for a watcher elsewhere, which would start it again
        remember(settings, dataclasses.replace(record, stopped=True))
    if backend.condition().state is State.READY:
        backend.workers().stop(seconds)
    shell.say("nothing runs there now; the slice is still there and costs money until `humpback launch delete`")


@_verb
def delete(settings_file: str) -> None:
    """Delete the slice and all that was made for it."""
    from humpback_jax.launch.backends import delete_surely

    _, shell, backend = _open(settings_file)
    delete_surely(shell, backend)
    shell.say("deleted")


def _command(settings: "Settings", command: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Arguments of `python -m humpback_jax`, and the files here that they name."""
    first, *rest = command
    if not first.endswith(".gin"):
        return tuple(command), ()
    run_dir = f"--run_dir={settings.bucket.rstrip('/')}/runs/{pathlib.Path(first).stem}"
    here = pathlib.Path(first)
    if not here.is_file():
        return ("align", f"--gin_file={first}", run_dir, *rest), ()
    if settings.backend == "gke":
        raise ValueError(
            f"{first} is a file here, and a container has only its image: put it there, or use a packaged one"
        )
    return ("align", f"--gin_file=./{here.name}", run_dir, *rest), (str(here.resolve()),)


def _require_slice(shell: "Shell", backend: "Backend", create_it: bool) -> None:
    from humpback_jax.launch.backends import State

    if not create_it and not shell.dry_run and (condition := backend.condition()).state is not State.READY:
        raise ValueError(f"there is no slice ({condition.detail}): humpback launch create, or add --create")


def _run_to_the_end(
    settings: "Settings",
    shell: "Shell",
    backend: "Backend",
    arguments: Sequence[str],
    files: Sequence[str],
    delete_it: bool,
) -> None:
    from humpback_jax.launch.backends import delete_surely

    try:
        code = _watcher(settings, shell, backend).run(arguments, files)
    except KeyboardInterrupt:
        shell.say("no longer watching; the command goes on there: humpback launch resume, or humpback launch stop")
        sys.exit(130)
    except BaseException:
        if delete_it:
            delete_surely(shell, backend)
        raise
    if delete_it:
        delete_surely(shell, backend)
    elif settings.backend != "ssh" and not shell.dry_run:
        shell.say("the slice is still there and costs money until `humpback launch delete`")
    sys.exit(code)
