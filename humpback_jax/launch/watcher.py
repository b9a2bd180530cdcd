"""One command on all workers of a slice, to its end: what is lost is started again, with a limit and longer waits."""

import dataclasses
import pathlib
import secrets
import time
from collections.abc import Sequence

from humpback_jax.files import read_json, write_json
from humpback_jax.launch.backends import Backend, Condition, Job, State, Worker, Workers
from humpback_jax.launch.hosts import RETRY_STATUS
from humpback_jax.launch.settings import Settings
from humpback_jax.launch.shell import CommandError, LaunchError, Shell, is_hopeless

KILLED, STOPPED = 137, 143
JOB_FILE = "job.json"


# How often and how long, in seconds.
LOOK_SECONDS = 20.0  # between two looks at the workers
STATE_SECONDS = 30.0  # between two looks at a slice that is awaited
LOST_SECONDS = 900.0  # without an answer of a worker, after which the slice counts as broken
PEERS_SECONDS = 60.0  # for the others to end by themselves after one has failed
STOP_SECONDS = 45  # between SIGTERM and SIGKILL
FIRST_WAIT, LONGEST_WAIT = 30.0, 1800.0  # before the first restart, which doubles with each, up to the longest
HEALTHY_SECONDS = 1800.0  # a preemption after so long begins the count of restarts anew


@dataclasses.dataclass(frozen=True)
class End:
    """How an attempt ended.

    Attributes:
      status: what `launch run` ends with, if this was the last attempt.
      reason: in words.
      again: whether another attempt may go better.
      preempted: the slice was taken away.
      hopeless: the cloud refuses us: there is nothing to wait for.
    """

    status: int
    reason: str
    again: bool = False
    preempted: bool = False
    hopeless: bool = False


def read_job(settings: Settings) -> Job | None:
    """The last command, if there was one."""
    path = settings.state_dir / JOB_FILE
    if not path.exists():
        return None
    values = read_json(path)
    return Job(**values | {"arguments": tuple(values["arguments"]), "files": tuple(values["files"])})


def remember(settings: Settings, job: Job) -> None:
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    write_json(settings.state_dir / JOB_FILE, dataclasses.asdict(job))


class Watcher:
    """Brings one command to its end, on slices that `backend` makes."""

    def __init__(self, backend: Backend) -> None:
        self.backend, self.settings, self.shell = backend, backend.settings, backend.shell
        self._broken = False  # the slice is there and of no use
        self._unprepared = False  # the slice is new and bare

    def run(self, arguments: Sequence[str], files: Sequence[str] = ()) -> int:
        """Runs a command on all workers; the slice is made where it is not there.

        Returns:
          0: it ended well on all. 75: it was cut off more often than the settings allow, and can be resumed. Else the
          status of the worker that failed first.
        """
        failures = 0
        while True:
            began = self.shell.clock()
            end = self._attempt(tuple(arguments), tuple(files))
            if not end.again:
                self.shell.say(end.reason)
                if end.hopeless:
                    self._leave_no_wreck()
                return end.status
            if end.preempted and self.shell.clock() - began >= HEALTHY_SECONDS:
                failures = 0
            failures += 1
            if failures > self.settings.restarts:
                self.shell.say(
                    f"{end.reason}\ngiving up after {self.settings.restarts} restarts: humpback launch resume"
                )
                self._leave_no_wreck()
                return end.status
            wait = min(FIRST_WAIT * 2 ** (failures - 1), LONGEST_WAIT)
            self.shell.say(f"{end.reason}\nrestart {failures} of {self.settings.restarts} in {wait:g} s")
            self.shell.sleep(wait)

    def wait(self, minutes: float) -> None:
        """Returns when the slice is READY.

        Raises:
          LaunchError: it never will be, or not in time (status 75).
        """
        limit, last = self.shell.clock() + 60 * minutes, ""
        while (condition := self.backend.condition()).state is not State.READY:
            if condition.state is not State.PENDING:
                raise LaunchError(f"there will be no slice: {condition.detail}; humpback launch delete, then create")
            if self.shell.clock() >= limit:
                raise LaunchError(f"no slice after {minutes:g} minutes: {condition.detail}; the request stands", 75)
            if condition.detail != last:
                self.shell.say(f"waiting for the slice: {condition.detail}")
                last = condition.detail
            self.shell.sleep(STATE_SECONDS)

    def setup(self) -> None:
        """Makes the environment on all workers, and sees that together they have the devices of the slice."""
        workers = self.backend.workers()
        workers.install()
        devices = self.settings.tpu_slice.num_devices if self.settings.slice else 0
        job = Job(_new_attempt(), ("humpback_jax.launch.check", str(devices)))
        workers.start(job)
        end = self._follow(workers, job.attempt)
        if end.status != 0:
            raise LaunchError(f"the workers do not make one slice: {end.reason}", end.status)

    def _attempt(self, arguments: tuple[str, ...], files: tuple[str, ...]) -> End:
        """Starts the command, or takes up an attempt that still runs, and follows it to its end."""
        try:
            self._bring_up()
            workers = self.backend.workers()
            job = read_job(self.settings)
            if self.shell.dry_run or job is None or not self._still_runs(workers, job, arguments):
                job = Job(_new_attempt(), arguments, files)
                self._remember(job)
                workers.start(job)
            end = self._follow(workers, job.attempt)
            kept = read_job(self.settings)
            if kept is not None and kept.attempt == job.attempt and kept.stopped:
                end = End(STOPPED, "the command was ended by humpback launch stop; humpback launch resume goes on")
            self._remember(dataclasses.replace(job, ended=True))
            return end
        except LaunchError as error:
            hopeless = isinstance(error.__cause__ or error, CommandError) and is_hopeless(str(error))
            return End(error.status if hopeless else RETRY_STATUS, str(error), again=not hopeless, hopeless=hopeless)

    def _still_runs(self, workers: Workers, job: Job, arguments: tuple[str, ...]) -> bool:
        """Whether an attempt at the same command goes on; what is left of an older one is stopped."""
        polled = workers.poll(job.attempt, [0] * workers.count)
        states = {worker.state for worker in polled}
        if "running" in states and job.arguments != arguments:
            raise ValueError(
                f"another command still runs ({' '.join(job.arguments)}): humpback launch resume to follow it, or "
                "humpback launch stop"
            )
        whole = states <= {"running", "exited"} and not any(worker.status for worker in polled)
        if whole and not job.ended and job.arguments == arguments:
            self.shell.say("following the command that was started before")
            return True
        workers.stop(STOP_SECONDS)
        return False

    def _bring_up(self) -> None:
        """Leaves a slice that is READY and set up; one that is lost or broken is replaced."""
        condition = self.backend.condition()
        if condition.state is not State.READY or self._broken:
            if condition.state is not State.PENDING or self._broken:
                if condition.state is not State.ABSENT:
                    self.shell.say(f"replacing the slice: {condition.detail}")
                    self.backend.delete()
                self._broken = False
                self.backend.create()
            self._unprepared = True
            self.wait(self.settings.wait_minutes)
        if self._unprepared:
            self.setup()
            self._unprepared = False

    def _follow(self, workers: Workers, attempt: str) -> End:
        """Looks at the workers until all have ended or cannot go on."""
        logs = Logs(self.settings.state_dir / "logs" / attempt, workers.count, self.shell)
        answered, failed_at = self.shell.clock(), None
        while True:
            states = workers.poll(attempt, logs.offsets)
            logs.add(states)
            now = self.shell.clock()
            unreachable = [worker for worker in states if worker.state == "unreachable"]
            answered = answered if unreachable else now
            if all(worker.state == "exited" for worker in states):
                if any(worker.log for worker in states):  # there may be more of it
                    continue
                break
            if unreachable and (end := self._unreachable(unreachable, now - answered)):
                return end
            if any(worker.state in ("lost", "absent") or worker.status for worker in states):
                failed_at = failed_at or now
                if now - failed_at >= PEERS_SECONDS and not unreachable:
                    workers.stop(STOP_SECONDS)
                    states = workers.poll(attempt, logs.offsets)
                    logs.add(states)
                    break
            self.shell.sleep(LOOK_SECONDS)
        logs.close()
        return self._verdict(states, logs)

    def _unreachable(self, workers: Sequence[Worker], seconds: float) -> End | None:
        """What silence means: the slice has gone, or is broken, or (None) there is hope."""
        names = ", ".join(str(worker.index) for worker in workers)
        try:
            condition = self.backend.condition()
        except LaunchError:
            condition = None  # we may be the ones who are cut off
        if condition is not None and condition.state is not State.READY:
            return _gone(condition)
        if seconds < LOST_SECONDS:
            return None
        self._broken = condition is not None
        return End(RETRY_STATUS, f"no answer from worker {names} for {seconds:.0f} s", again=True)

    def _verdict(self, states: Sequence[Worker], logs: "Logs") -> End:
        """The end of a command that runs no more; the worker that ended first tells why."""
        failed = [worker for worker in states if worker.state != "exited" or worker.status]
        if not failed:
            return End(0, f"the command ended well on all {len(states)} workers")
        first = min(failed, key=lambda worker: (worker.ended or float("inf"), worker.index))
        status = KILLED if first.status is None else first.status
        how = f"ended with {status}" if first.state == "exited" else f"is {first.state}"
        reason = f"worker {first.index} of {len(states)} {how}, before the others"
        reason += " (is the environment there? humpback launch setup)" if status in (126, 127) else ""
        if tail := logs.tail(first.index):
            reason += f"; the last it wrote:\n{tail}"
        condition = self.backend.condition()
        if condition.state is not State.READY:
            return _gone(condition, f"{reason}\n")
        # A signal, or a status that asks for it: the machine's fault. Any other: the program's, and it would recur.
        again = status == RETRY_STATUS or status > 128
        return End(status, reason, again=again)

    def _leave_no_wreck(self) -> None:
        """Deletes a slice that is of no use, but may hold quota or cost money."""
        if self.backend.condition().state not in (State.READY, State.ABSENT):
            self.backend.delete()

    def _remember(self, job: Job) -> None:
        if not self.shell.dry_run:
            remember(self.settings, job)


class Logs:
    """Copies of the workers' logs, without secrets, which outlive the workers; worker 0's is shown.

    Args:
      folder: gets worker-0.log, ….
      count: how many workers.
      shell: knows the secrets.
    """

    def __init__(self, folder: pathlib.Path, count: int, shell: Shell) -> None:
        self._folder, self._shell = folder, shell
        self.offsets = [0] * count
        # A secret must not slip through in two halves, so only whole lines are passed on.
        self._rest = [""] * count

    def add(self, workers: Sequence[Worker]) -> None:
        """Takes in what the workers wrote."""
        for worker in workers:
            self.offsets[worker.index] = max(worker.offset, self.offsets[worker.index])
            whole, newline, rest = (self._rest[worker.index] + worker.log).rpartition("\n")
            self._rest[worker.index] = rest
            if newline:
                self._pass_on(worker.index, whole + newline)

    def close(self) -> None:
        """Passes on last lines that have no end."""
        for index, rest in enumerate(self._rest):
            if rest:
                self._pass_on(index, rest + "\n")
        self._rest = [""] * len(self._rest)

    def tail(self, index: int, lines: int = 15) -> str:
        """The last lines of a worker."""
        path = self.path(index)
        return "\n".join(path.read_text().splitlines()[-lines:]) if path.exists() else ""

    def path(self, index: int) -> pathlib.Path:
        """Where a worker's log is kept."""
        return self._folder / f"worker-{index}.log"

    def _pass_on(self, index: int, text: str) -> None:
        text = self._shell.redact(text)
        self._folder.mkdir(parents=True, exist_ok=True)
        with self.path(index).open("a") as stream:
            stream.write(text)
        if index == 0:
            self._shell.show(text)


def _gone(condition: Condition, before: str = "") -> End:
    return End(RETRY_STATUS, f"{before}the slice has gone: {condition.detail}", again=True, preempted=True)


def _new_attempt() -> str:
    return time.strftime("%Y%m%d-%H%M%S", time.gmtime()) + f"-{secrets.token_hex(2)}"
