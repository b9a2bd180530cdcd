"""The backend `ssh`: machines that are there already. Nothing is made and nothing deleted."""

import dataclasses
import shlex
from collections.abc import Sequence

from humpback_jax.launch.backends import Backend, Condition, State, Workers
from humpback_jax.launch.hosts import HostWorkers

SSH_OPTIONS = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=20", "-o", "ServerAliveInterval=15")


@dataclasses.dataclass(frozen=True)
class SshHost:
    """A host that ssh knows as `name`."""

    name: str
    options: tuple[str, ...] = ()

    @property
    def address(self) -> str:
        """The name without its user."""
        return self.name.rpartition("@")[2]

    def command(self, script: str) -> list[str]:
        return ["ssh", *SSH_OPTIONS, *self.options, self.name, script]

    def copy(self, files: Sequence[str], folder: str) -> list[str]:
        return ["scp", "-q", *SSH_OPTIONS, *self.options, *files, f"{self.name}:{folder}/"]


@dataclasses.dataclass(frozen=True)
class ShellHost:
    """A shell of this machine, in a folder that stands for its home."""

    home: str
    address: str = "localhost"

    def command(self, script: str) -> list[str]:
        return ["bash", "-c", f"cd {shlex.quote(self.home)} && {script}"]

    def copy(self, files: Sequence[str], folder: str) -> list[str]:
        return ["cp", "-p", *files, f"{self.home}/{folder}/"]


class SshBackend(Backend):
    """Named hosts, or shells of this machine."""

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
        settings = self.settings
        if settings.transport == "ssh":
            hosts = [SshHost(name, settings.ssh_options) for name in settings.hosts]
            return HostWorkers(settings, self.shell, hosts, self.secrets)
        settings.state_dir.mkdir(parents=True, exist_ok=True)
        shells = [ShellHost(str(settings.state_dir.resolve()))] * len(settings.hosts)
        return HostWorkers(settings, self.shell, shells, self.secrets)
