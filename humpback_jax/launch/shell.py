"""Running a cloud's command line tools: time limits, bounded retries, a log, dry runs, and no secret in any of it.

What their messages mean, and what to do about them, is in `ADVICE`; docs/launch.md lists the same.
"""

import dataclasses
import os
import pathlib
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence

import click

TIMED_OUT = 124  # exit status of what was stopped after its time
Result = subprocess.CompletedProcess[str]
REDACTED = "[secret]"
# What to do by what the message matches, the most telling first.
ADVICE = {
    r"no more capacity|ZONE_RESOURCE_POOL_EXHAUSTED|stockout": (
        "The zone has no such TPUs now: wait, or try another zone."
    ),
    r"Quota .*exceeded|QUOTA_EXCEEDED|RESOURCE_EXHAUSTED": (
        "Ask for more quota (IAM & Admin, Quotas), or take a smaller slice."
    ),
    r"Reauthentication|invalid_grant|active account": "Log in: gcloud auth login.",
    r"has not been used in project|SERVICE_DISABLED|accessNotConfigured": (
        "Enable the API: gcloud services enable tpu.googleapis.com compute.googleapis.com."
    ),
    r"Permission denied \(publickey\)": (
        "The key is not on the worker yet: run the verb again; with OS Login you need roles/compute.osLogin."
    ),
    r"PERMISSION_DENIED|Required '.*' permission|forbidden|\b403\b": (
        "Your account or the service account lacks a role: roles/tpu.admin, and roles/iam.serviceAccountUser."
    ),
    r"ALREADY_EXISTS|already exists": (
        "Something of that name is there: humpback launch status, then humpback launch delete, or another name."
    ),
    r"gcloud: command not found": "Install the Google Cloud CLI: https://cloud.google.com/sdk/docs/install.",
    r"xpk: command not found": "Install XPK: pip install xpk.",
    r"kubectl: command not found": "Install it: gcloud components install kubectl gke-gcloud-auth-plugin.",
    r"Connection (refused|timed out|reset|closed)|port 22|Broken pipe": (
        "The worker does not answer: wait until it has booted; open port 22, or set internal_ip = true."
    ),
    r"unrecognized arguments|Invalid choice": (
        "Your tool is too old for this flag: gcloud components update (or pip install -U xpk)."
    ),
    r"INVALID_ARGUMENT|Invalid value|is not a valid": (
        "A name in the settings does not exist there: compare slice, zone and runtime with the cloud's tables."
    ),
}
_TRANSIENT = re.compile(
    r"UNAVAILABLE|DEADLINE_EXCEEDED|INTERNAL|\b(429|500|502|503|504)\b|rateLimitExceeded|Connection|Broken pipe|port 22"
    r"|timed out|temporar|publickey|Could not SSH|EOF occurred",
)
_PERMANENT = re.compile(r"PERMISSION_DENIED|RESOURCE_EXHAUSTED|[Qq]uota|INVALID_ARGUMENT|NOT_FOUND|ALREADY_EXISTS")
_HOPELESS = re.compile(
    r"PERMISSION_DENIED|Required '.*' permission|INVALID_ARGUMENT|unrecognized arguments|Invalid choice"
    r"|Reauthentication|invalid_grant|active account|SERVICE_DISABLED|has not been used in project"
)
_NOT_FOUND = re.compile(r"NOT_FOUND|[Nn]ot found|was not found|notFound|does not exist|Could not fetch resource", re.S)


class LaunchError(OSError):
    """Something outside failed: a command, a slice, a worker. `status` is what `humpback` ends with."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


class CommandError(LaunchError):
    """A command failed for good; `result` is its last."""

    def __init__(self, message: str, result: Result) -> None:
        super().__init__(message)
        self.result = result


@dataclasses.dataclass(frozen=True)
class Shell:
    """Runs commands for the backends.

    Attributes:
      secrets: name to value of what must not be seen; values are replaced in all that is logged, shown or raised.
      log: file that gets every command, its status and its errors; None keeps none.
      dry_run: print commands instead of running them; `run` then gives the answer it was told to expect.
      sleep, clock: time, which `HUMPBACK_LAUNCH_SPEED` makes run faster.
      echo: prints a line for the user.
    """

    secrets: Mapping[str, str] = dataclasses.field(default_factory=dict)
    log: pathlib.Path | None = None
    dry_run: bool = False
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    echo: Callable[[str], None] = click.echo

    def say(self, message: str) -> None:
        """One line for the user, which the log keeps too."""
        self._write(message)
        self.echo(self.redact(message))

    def show(self, text: str) -> None:
        """Lines of a worker's log, which the log of commands does not keep."""
        self.echo(self.redact(text.rstrip("\n")))

    def redact(self, text: str) -> str:
        """The text without secrets."""
        # Line by line, for logs are read so; the longest first, for one may be part of another.
        lines = {line for secret in self.secrets.values() for line in secret.splitlines() if line.strip()}
        for line in sorted(lines, key=len, reverse=True):
            text = text.replace(line, REDACTED)
        return text

    def run(
        self, command: Sequence[str], *, seconds: float = 120, attempts: int = 1, expect: str = "", check: bool = True
    ) -> Result:
        """Runs a command; transient failures are tried again.

        Args:
          command: program and arguments; no secret may be among them.
          seconds: limit for one attempt.
          attempts: how often it may run in all; only safe for commands that may run twice.
          expect: what a dry run takes as its output.
          check: raise where it fails for good.

        Raises:
          CommandError: names the command, what it said and what to do about it.
        """
        shown = shlex.join(command)
        if self.redact(shown) != shown:
            raise ValueError(f"a secret stands in a command line, which others can read: {self.redact(shown)}")
        if self.dry_run:
            self.echo(shown)
            return Result(command, 0, expect, "")
        for attempt in range(1, attempts + 1):
            result = self._once(command, shown, seconds)
            if result.returncode == 0 or attempt == attempts or not is_transient(result):
                break
            self.sleep(min(5 * 2 ** (attempt - 1), 60))
        if check and result.returncode != 0:
            raise CommandError(self._failure(shown, result, seconds), result)
        return result

    def _once(self, command: Sequence[str], shown: str, seconds: float) -> Result:
        self._write(f"$ {shown}")
        try:
            result = execute_command(command, seconds)
        except FileNotFoundError as error:
            raise LaunchError(
                f"{command[0]} is not installed or not on PATH; {advice_for(command[0] + ': command not found')}"
            ) from error
        failure = f": {outputs(result)[-2000:]}" if result.returncode else ""
        self._write(f"  status {result.returncode}{failure}")
        return result

    def _failure(self, shown: str, result: Result, seconds: float) -> str:
        what = f"took more than {seconds:g} s" if result.returncode == TIMED_OUT else f"ended with {result.returncode}"
        tail = self.redact("\n".join(outputs(result).splitlines()[-5:]))
        advice = advice_for(outputs(result))
        return f"`{shown}` {what}" + (f": {tail}" if tail else "") + (f"\n{advice}" if advice else "")

    def _write(self, line: str) -> None:
        if self.log is None or self.dry_run:
            return
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a") as stream:
            stream.write(time.strftime("%Y-%m-%dT%H:%M:%SZ ", time.gmtime()) + self.redact(line) + "\n")


def execute_command(command: Sequence[str], seconds: float) -> Result:
    """Runs a command without input; after `seconds` it is killed with all that it started."""
    process = subprocess.Popen(
        list(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        stdout, stderr = process.communicate(timeout=seconds)
        return Result(command, process.returncode, stdout, stderr)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        stdout, stderr = process.communicate()
        return Result(command, TIMED_OUT, stdout, stderr)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise


def outputs(result: Result) -> str:
    """Both outputs of a command, for error messages."""
    return f"{result.stderr}\n{result.stdout}".strip()


def advice_for(message: str) -> str:
    """What to do about an error message; empty where nothing is known."""
    return next((advice for pattern, advice in ADVICE.items() if re.search(pattern, message)), "")


def is_transient(result: Result) -> bool:
    """Whether the same command may succeed a little later: a time limit, a lost connection, a busy service."""
    if result.returncode in (TIMED_OUT, 255):
        return True
    return bool(_TRANSIENT.search(outputs(result))) and not _PERMANENT.search(outputs(result))


def is_hopeless(message: str) -> bool:
    """Whether a message says that the command will never succeed as things are."""
    return bool(_HOPELESS.search(message))


def is_not_found(result: Result) -> bool:
    """Whether a command failed because what it names is not there."""
    return result.returncode != 0 and bool(_NOT_FOUND.search(outputs(result)))
