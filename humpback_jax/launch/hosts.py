"""Workers that are machines with a shell: what is copied to them, and how one command runs on all of them."""

import concurrent.futures
import contextlib
import dataclasses
import os
import pathlib
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from humpback_jax.launch.backends import Backend, Condition, Job, State, Worker, Workers
from humpback_jax.launch.settings import Settings, launch_files
from humpback_jax.launch.shell import CommandError, LaunchError, Shell

T = TypeVar("T")
AT_ONCE = 16
ENVIRONMENT = "$HOME/.humpback/venv"
# What a worker of several may end with, and be started again: it was told to stop, lost a peer, or hung.
RETRY_STATUS = 75
# Accepted by libtpu 0.0.42.1 and 0.0.52; an unknown flag would abort the process.
LIBTPU_FLAGS = (
    "--xla_tpu_enable_async_collective_fusion=true",
    "--xla_tpu_enable_async_collective_fusion_fuse_all_gather=true",
    "--xla_tpu_enable_async_collective_fusion_multiple_steps=true",
    "--xla_tpu_overlap_compute_collective_tc=true",
    "--xla_enable_async_all_gather=true",
)
CHIP_FLAGS = {"v6e": ("--xla_tpu_scoped_vmem_limit_kib=98304",)}
SSH_OPTIONS = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=20", "-o", "ServerAliveInterval=15")
# What a dry run takes for an answer to `poll`: that the command has ended well.
POLLED = "exited 0 0 0\n"


@dataclasses.dataclass(frozen=True)
class Host:
    """How to reach a worker.

    Attributes:
      address: name or IP address at which the others reach it.
      run: a command here that runs a script there, which is written behind its last word.
      copy: a command here that copies files there, without the files and the folder.
      home: how `copy` writes the worker's home in front of a folder: `name:`.
    """

    address: str
    run: tuple[str, ...]
    copy: tuple[str, ...]
    home: str


def gcloud_host(address: str, group: Sequence[str], name: str, flags: Sequence[str]) -> Host:
    """A worker called `name` that a group of gcloud's commands reaches, which makes and spreads the key."""
    return Host(address, (*group, "ssh", name, *flags, "--command="), (*group, "scp", *flags), f"{name}:")


@dataclasses.dataclass(frozen=True)
class HostWorkers:
    """Workers that are machines with a shell.

    Attributes:
      settings: the settings file.
      shell: runs the commands, and knows the secrets.
      hosts: reach them.
    """

    settings: Settings
    shell: Shell
    hosts: Sequence[Host]

    @property
    def count(self) -> int:
        return len(self.hosts)

    def start(self, job: Job) -> None:
        """Copies the command, its environment and the secrets, and starts it, on all workers."""
        coordinator = f"{self.hosts[0].address}:{self.settings.port}"
        texts = self._texts(job)
        if self.shell.dry_run:
            for name in ("job.env", "command.sh"):
                self.shell.say("".join(f"# {name}: {line}\n" for line in texts[name].splitlines()).rstrip())
        with _folder(texts, job.files) as files:
            self._everywhere(lambda index: self._start(index, job, files, coordinator))

    def poll(self, attempt: str, offsets: Sequence[int]) -> list[Worker]:
        return self._everywhere(lambda index: self._poll(index, attempt, offsets[index]))

    def stop(self, seconds: int) -> None:
        self._everywhere(lambda index: self._stop(index, seconds))

    def tail(self, index: int, attempt: str, lines: int) -> str:
        return self._run(index, self._agent_script(index, "tail", attempt, str(lines)), attempts=3)

    def install(self) -> None:
        """Makes an environment on every worker; nothing to do where the settings name an interpreter."""
        if self.settings.python:
            return
        with _folder({}, [self.settings.package] if os.path.isfile(self.settings.package) else []) as files:
            self._everywhere(lambda index: self._install(index, [*files, os.fspath(launch_files() / "setup_vm.sh")]))

    def _install(self, index: int, files: Sequence[str]) -> None:
        folder = self._send(index, files)
        package = self.settings.package
        package = f"./{os.path.basename(package)}" if os.path.isfile(package) else package
        versions = [f"jax[tpu]=={self.settings.jax}", f"libtpu=={self.settings.libtpu}"]
        # Reads and writes gs:// where there is no TensorFlow.
        versions += ["etils[epath-gcs]"] if self.settings.bucket.startswith("gs://") else []
        script = f"cd {folder} && bash setup_vm.sh {shlex.join([self.settings.python_version, package, *versions])}"
        self._run(index, script, seconds=1800, attempts=3)

    def _start(self, index: int, job: Job, files: Sequence[str], coordinator: str) -> None:
        self._send(index, files)
        script = self._agent_script(index, "start", job.attempt, str(index), str(self.count), coordinator)
        self._run(index, script, attempts=5)

    def _stop(self, index: int, seconds: int) -> None:
        agent = f"{self._worker_folder(index)}/worker.sh"
        stop = self._agent_script(index, "stop", str(seconds))
        self._run(index, f"if [ -f {agent} ]; then {stop}; fi", seconds=seconds + 60, attempts=5)

    def _send(self, index: int, files: Sequence[str]) -> str:
        """Copies files into the worker's folder, which it returns."""
        folder = self._worker_folder(index)
        self._run(index, f"umask 077 && mkdir -p {folder}", attempts=5)
        host = self.hosts[index]
        self.shell.run([*host.copy, *files, f"{host.home}{folder}/"], seconds=600, attempts=5)
        return folder

    def _poll(self, index: int, attempt: str, offset: int) -> Worker:
        agent = f"{self._worker_folder(index)}/worker.sh"
        poll = self._agent_script(index, "poll", attempt, str(offset))
        try:
            script = f"if [ -f {agent} ]; then {poll}; else echo absent 0; fi"
            first, _, log = self._run(index, script, attempts=2, expect=POLLED).partition("\n")
            state, end, *rest = first.split()
        except (CommandError, ValueError):  # no answer, or one that is cut off
            return Worker(index, "unreachable", offset=offset)
        if state == "exited":
            return Worker(index, state, int(rest[0]), float(rest[1]), log, int(end))
        return Worker(index, state, log=log, offset=int(end))

    def _agent_script(self, index: int, verb: str, *arguments: str) -> str:
        folder = self._worker_folder(index)
        return f"bash {folder}/worker.sh {verb} {folder} {shlex.join(arguments)}"

    def _worker_folder(self, index: int) -> str:
        return f"{self.settings.worker_dir}/{index}"

    def _run(self, index: int, script: str, *, seconds: float = 120, attempts: int = 1, expect: str = "") -> str:
        *command, last = self.hosts[index].run
        return self.shell.run([*command, last + script], seconds=seconds, attempts=attempts, expect=expect).stdout

    def _texts(self, job: Job) -> dict[str, str]:
        python = shlex.quote(self.settings.python) if self.settings.python else f'"{ENVIRONMENT}/bin/python"'
        files = {
            "job.env": assignments(job_variables(self.settings)),
            "command.sh": f"exec {python} -m {shlex.join(job.arguments)}\n",
        }
        return files | ({"secrets.env": assignments(self.shell.secrets)} if self.shell.secrets else {})

    def _everywhere(self, work: Callable[[int], T]) -> list[T]:
        """Does the same for every worker, several at once; all are tried, then the first error is raised."""
        at_once = 1 if self.shell.dry_run else min(AT_ONCE, self.count)  # what is printed is in order
        with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
            futures = [pool.submit(work, index) for index in range(self.count)]
        errors = [(i, error) for i, future in enumerate(futures) if (error := future.exception())]
        for index, error in errors:
            if isinstance(error, LaunchError):
                others = f" (and of {len(errors) - 1} others)" if len(errors) > 1 else ""
                raise LaunchError(f"worker {index} of {self.count}{others}: {error}", error.status) from error
            raise error
        return [future.result() for future in futures]


class SshBackend(Backend):
    """The backend `ssh`: hosts that are there already, or shells of this machine; none is made and none deleted."""

    def creation(self) -> list[list[str]]:
        return []

    deletion = creation

    def create(self) -> None:
        """Nothing: the hosts are there."""

    def delete(self, looks: int = 1) -> None:
        """Nothing: the hosts stay."""

    def condition(self) -> Condition:
        """Always READY: a host that does not answer is found out by who asks it something."""
        return Condition(State.READY, f"{len(self.settings.hosts)} hosts")

    def workers(self) -> Workers:
        hosts = [self._host(name) for name in self.settings.hosts]
        return HostWorkers(self.settings, self.shell, hosts)

    def _host(self, name: str) -> Host:
        """What ssh knows as `name`; or a shell of this machine, in a folder that stands for its home."""
        if self.settings.transport == "ssh":
            options = (*SSH_OPTIONS, *self.settings.ssh_options)
            address = name.rpartition("@")[2]
            return Host(address, ("ssh", *options, name, ""), ("scp", "-q", *options), f"{name}:")
        home = self.settings.state_dir.resolve()
        home.mkdir(parents=True, exist_ok=True)
        return Host("localhost", ("bash", "-c", f"cd {shlex.quote(str(home))} && "), ("cp", "-p"), f"{home}/")


def job_variables(settings: Settings) -> dict[str, str]:
    """Environment of the command: time limits, what libtpu and JAX need, then what the settings say."""
    variables = {
        "PYTHONUNBUFFERED": "1",
        "HUMPBACK_START_SECONDS": str(settings.start_seconds),
        "HUMPBACK_HEARTBEAT_SECONDS": str(settings.heartbeat_seconds),
        "HUMPBACK_RETRY_STATUS": str(RETRY_STATUS),
    }
    if settings.slice:
        variables |= {
            # A missing or busy TPU is then an error instead of a silent run on the CPU.
            "JAX_PLATFORMS": "tpu,cpu",
            "LIBTPU_INIT_ARGS": " ".join(LIBTPU_FLAGS + CHIP_FLAGS.get(settings.tpu_slice.chip.name, ())),
            "TPU_STDERR_LOG_LEVEL": "2",
            "TPU_MIN_LOG_LEVEL": "2",
            "TENSORSTORE_CURL_LOW_SPEED_TIME_SECONDS": "60",
            "TENSORSTORE_CURL_LOW_SPEED_LIMIT_BYTES": "1024",
            "JAX_COMPILATION_CACHE_DIR": f"{settings.bucket}/compiled",
        }
    return variables | settings.env


def assignments(variables: Mapping[str, str]) -> str:
    """Lines of a shell script that set variables."""
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in variables.items())


@contextlib.contextmanager
def _folder(texts: Mapping[str, str], files: Sequence[str]) -> Iterator[list[str]]:
    """Paths of files to send, the agent among them; none but this user may read them while they are here."""
    with tempfile.TemporaryDirectory(prefix="humpback-launch-") as name:
        folder = pathlib.Path(name)
        for file in (os.fspath(launch_files() / "worker.sh"), *files):
            shutil.copy(file, folder)
        for file, text in texts.items():
            (folder / file).touch(mode=0o600)
            (folder / file).write_text(text)
        yield sorted(os.fspath(path) for path in folder.iterdir())
