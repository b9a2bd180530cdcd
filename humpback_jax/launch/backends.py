"""What every backend offers: a slice that is made, looked at and deleted, and the workers of one command on it."""

import abc
import dataclasses
import enum
import json
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

from humpback_jax.launch.settings import Settings
from humpback_jax.launch.shell import TIMED_OUT, CommandError, LaunchError, Shell, is_not_found

DELETE_ATTEMPTS = 4
LEFT_OVER = 70  # status of what could not be deleted


class State(enum.Enum):
    """How a slice stands."""

    ABSENT = "absent"
    PENDING = "pending"  # asked for, not there yet
    READY = "ready"
    GONE = "gone"  # preempted, suspended or stopped: it is of no more use, but may hold quota
    FAILED = "failed"  # the request was turned down


@dataclasses.dataclass(frozen=True)
class Condition:
    """State of a slice, with the cloud's own word for it."""

    state: State
    detail: str


@dataclasses.dataclass(frozen=True)
class Worker:
    """How one worker's command fares.

    Attributes:
      index: of the worker.
      state: `running`, `exited`, `lost` (it died without a trace), `absent` (never started) or `unreachable`.
      status: exit status, where it exited.
      ended: when, in seconds since 1970 by the worker's clock.
      log: what it wrote since the last look; at most 256 KiB of it.
      offset: how many bytes of the log are known now.
    """

    index: int
    state: str
    status: int | None = None
    ended: float = 0.0
    log: str = ""
    offset: int = 0


@dataclasses.dataclass(frozen=True)
class Job:
    """One attempt at one command, which runs on all workers; `launch` remembers the last.

    Attributes:
      attempt: a name that no other attempt has: letters, digits and dashes.
      arguments: of `python -m`: `humpback_jax align …`.
      files: paths here that the workers need beside the command.
      ended: whether its end was seen.
      stopped: whether `launch stop` ended it.
    """

    attempt: str
    arguments: tuple[str, ...]
    files: tuple[str, ...] = ()
    ended: bool = False
    stopped: bool = False


class Workers(Protocol):
    """The workers of a slice that is READY."""

    @property
    def count(self) -> int:
        """How many there are."""

    def start(self, job: Job) -> None:
        """Starts the command on all; a worker where this attempt was started already is left alone."""

    def poll(self, attempt: str, offsets: Sequence[int]) -> list[Worker]:
        """How each fares; `offsets`: how many bytes of each log are known. A worker that fails to answer is so too."""

    def stop(self, seconds: int) -> None:
        """Ends whatever command runs: SIGTERM, after `seconds` SIGKILL."""

    def tail(self, index: int, attempt: str, lines: int) -> str:
        """The last lines of a worker's log."""

    def install(self) -> None:
        """Makes the environment on every worker."""


@dataclasses.dataclass(frozen=True)
class Backend(abc.ABC):
    """One way to come by a slice; its names depend on the settings alone, so that `delete` finds what `create` made.

    Attributes:
      settings: the settings file.
      shell: runs the commands of the cloud's tools, and knows the secrets.
    """

    settings: Settings
    shell: Shell
    creation_seconds: ClassVar[float] = 900  # limit of each command that makes something

    @abc.abstractmethod
    def creation(self) -> list[list[str]]:
        """Commands that ask for the slice."""

    @abc.abstractmethod
    def deletion(self) -> list[list[str]]:
        """Commands that delete the slice and all that was made for it."""

    @abc.abstractmethod
    def condition(self) -> Condition:
        """How the slice stands."""

    @abc.abstractmethod
    def workers(self) -> Workers:
        """The workers; the slice must be READY."""

    @property
    def where(self) -> list[str]:
        """Zone and project."""
        return [f"--zone={self.settings.zone}", f"--project={self.settings.project}"]

    def create(self) -> None:
        """Asks for the slice; after any failure, or Ctrl-C, deletes what there is of it.

        Raises:
          LaunchError: something of that name is there already, which is left alone; or a command failed.
        """
        there = self.condition()
        if there.state is not State.ABSENT and not self.shell.dry_run:
            raise LaunchError(
                f"a slice of that name is there already ({there.detail}): humpback launch delete, or another `name`"
            )
        try:
            for command in self.creation():
                self.shell.run(command, seconds=self.creation_seconds)
        except BaseException as error:
            self.shell.say("the slice could not be made; deleting what there is of it")
            late = isinstance(error, CommandError) and error.result.returncode == TIMED_OUT
            try:
                # What was asked for by a command that did not come back may appear only now.
                self.delete(looks=3 if late else 1)
            except LaunchError as left:
                raise LaunchError(f"{error}\n{left}", left.status) from error
            raise

    def delete(self, looks: int = 1) -> None:
        """Deletes the slice, what is not there is no error, and sees that it is gone, `looks` times in a row.

        Raises:
          LaunchError: it is still there, with status 70.
        """
        absent = 0
        for _ in range(DELETE_ATTEMPTS + looks):
            delete_all(self.shell, self.deletion())
            if self.shell.dry_run:
                return
            condition = self.condition()
            absent = absent + 1 if condition.state is State.ABSENT else 0
            if absent == looks:
                return
            self.shell.sleep(30)
        raise LaunchError(
            f"the slice is still there ({condition.detail}) and may cost money; run `humpback launch delete` again",
            LEFT_OVER,
        )


def delete_all(shell: Shell, commands: Sequence[Sequence[str]]) -> None:
    """Runs commands that delete something, each to its end even if others fail.

    Raises:
      LaunchError: names the commands that must be run by hand, with status 70.
    """
    failed = []
    for command in commands:
        for attempt in range(DELETE_ATTEMPTS):
            result = shell.run(command, seconds=900, check=False)
            if result.returncode == 0 or is_not_found(result):
                break
            if attempt < DELETE_ATTEMPTS - 1:
                shell.sleep(min(10 * 2**attempt, 60))
        else:
            failed.append(shell.redact(" ".join(command)))
    if failed:
        raise LaunchError("could not delete all, and what is left costs money; run: " + "; ".join(failed), LEFT_OVER)


def describe(shell: Shell, command: Sequence[str], expect: Any) -> Any:
    """The JSON that a command which looks at something prints; None where that is not there; `expect`: in a dry run."""
    try:
        printed = shell.run(command, attempts=4, expect=json.dumps(expect)).stdout
    except CommandError as error:
        if is_not_found(error.result):
            return None
        raise
    return json.loads(printed or "{}")
