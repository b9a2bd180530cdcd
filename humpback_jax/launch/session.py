"""What a verb of `humpback launch` acts on: the settings file with its shell and backend, and the last command."""

import dataclasses
import os
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any

import click

from humpback_jax.launch.backends import Backend, Job, State
from humpback_jax.launch.cloud_tpu import CloudTpuBackend
from humpback_jax.launch.compute_engine import ComputeBackend
from humpback_jax.launch.gke import GkeBackend
from humpback_jax.launch.hosts import SshBackend
from humpback_jax.launch.settings import read_settings
from humpback_jax.launch.shell import Shell
from humpback_jax.launch.watcher import Logs, Watcher, read_job, remember
from humpback_jax.run_files import default_run_dir

BACKENDS: dict[str, type[Backend]] = {
    "tpu": CloudTpuBackend,
    "compute": ComputeBackend,
    "gke": GkeBackend,
    "ssh": SshBackend,
}


class Session(Watcher):
    """A watcher that can do what the verbs ask for."""

    def run_words(self, words: Sequence[str], create: bool, delete: bool) -> int:
        """Runs EXPERIMENT.gin …, or a verb of humpback, to its end; returns its status."""
        arguments, files = self._command(words)
        if self.shell.redact(" ".join(arguments)) != " ".join(arguments):
            raise ValueError("the command contains a secret, which the workers' process lists would show")
        if not create and not self.shell.dry_run:
            condition = self.backend.condition()
            if condition.state is not State.READY:
                raise ValueError(f"there is no slice ({condition.detail}): humpback launch create, or add --create")
        return self.run_to_the_end(("humpback_jax", *arguments), files, delete)

    def _command(self, words: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Arguments of `python -m humpback_jax`, and the files here that they name."""
        first, *rest = words
        if not first.endswith(".gin"):
            return tuple(words), ()
        here = pathlib.Path(first)
        others = [word.removeprefix("--gin_file=") for word in rest if word.startswith("--gin_file=")]
        run_dir = f"--run_dir={self.settings.bucket.rstrip('/')}/{default_run_dir([first, *others])}"
        if not here.is_file():
            return ("align", f"--gin_file={first}", run_dir, *rest), ()
        if self.settings.backend == "gke":
            raise ValueError(
                f"{first} is a file here, and a container has only its image: put it there, or use a packaged one"
            )
        return ("align", f"--gin_file=./{here.name}", run_dir, *rest), (str(here.resolve()),)

    def run_to_the_end(self, arguments: Sequence[str], files: Sequence[str], delete: bool) -> int:
        """Brings a command to its end, and deletes the slice then if that is asked for; returns the status."""
        try:
            status = self.run(arguments, files)
        except KeyboardInterrupt:
            self.shell.say("no longer watching; the command goes on there: humpback launch resume, or stop")
            sys.exit(130)
        except BaseException:
            if delete:
                self.backend.delete()
            raise
        if delete:
            self.backend.delete()
        elif self.settings.backend != "ssh" and not self.shell.dry_run:
            self.shell.say("the slice is still there and costs money until `humpback launch delete`")
        return status

    @property
    def job(self) -> Job:
        """The last command; ValueError where there was none."""
        job = read_job(self.settings)
        if job is None:
            raise ValueError(f"nothing was run from {self.settings.folder}; humpback launch run EXPERIMENT.gin")
        return job

    def status(self) -> dict[str, Any]:
        """How the slice stands, and how each worker's command fares."""
        condition, job = self.backend.condition(), read_job(self.settings)
        figures: dict[str, Any] = {"name": self.settings.name}
        figures |= {"slice": condition.state.value, "detail": condition.detail}
        if job is not None:
            figures |= {"command": list(job.arguments), "attempt": job.attempt}
            if condition.state is State.READY:
                workers = self.backend.workers()
                polled = workers.poll(job.attempt, [0] * workers.count)
                figures["workers"] = [{"index": w.index, "state": w.state, "status": w.status} for w in polled]
        return figures

    def show_log(self, worker: int, lines: int) -> None:
        """Shows the end of a worker's log; of the copy kept here where the worker is gone."""
        attempt = self.job.attempt
        kept = Logs(self.settings.state_dir / "logs" / attempt, worker + 1, self.shell)
        ready = self.backend.condition().state is State.READY
        if text := self.backend.workers().tail(worker, attempt, lines) if ready else "":
            self.shell.show(text)
            return
        click.echo(f"(the worker has no log now; copies: {kept.path(worker)})", err=True)
        self.shell.show(kept.tail(worker, lines))

    def stop(self, seconds: int) -> None:
        """Ends the command on every worker: SIGTERM, after `seconds` SIGKILL."""
        job = read_job(self.settings)
        if job is not None and not self.shell.dry_run:  # for a watcher elsewhere, which would start it again
            remember(self.settings, dataclasses.replace(job, stopped=True))
        if self.backend.condition().state is State.READY:
            self.backend.workers().stop(seconds)


def open_session(settings_file: str, needs_secrets: bool = False) -> Session:
    """Reads a settings file, and the secrets that it names from the environment.

    Raises:
      ValueError: the settings are wrong, or a secret that is needed is not set.
    """
    settings = read_settings(settings_file)
    secrets = {name: os.environ[name] for name in settings.secrets if os.environ.get(name)}
    dry_run = os.environ.get("DRY_RUN", "") not in ("", "0")
    if dry_run:  # nobody's secrets need to be at hand to see the commands
        secrets = {name: f"value-of-{name}" for name in settings.secrets}
    elif needs_secrets and (absent := [name for name in settings.secrets if name not in secrets]):
        raise ValueError(f"the settings name the secret {absent[0]}, which is not set: export it, and run this again")
    speed = float(os.environ.get("HUMPBACK_LAUNCH_SPEED", "1"))
    shell = Shell(
        secrets,
        settings.state_dir / "launch.log",
        dry_run,
        sleep=lambda seconds: time.sleep(seconds / speed),
        clock=lambda: time.monotonic() * speed,
    )
    return Session(BACKENDS[settings.backend](settings, shell))
