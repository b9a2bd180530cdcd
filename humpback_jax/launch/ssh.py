"""The backend `ssh`: machines that are there already. Nothing is made and nothing deleted."""

import dataclasses
import shlex
from collections.abc import Mapping, Sequence

from humpback_jax.launch.backends import Condition, State, Workers
from humpback_jax.launch.hosts import HostWorkers
from humpback_jax.launch.settings import Settings
from humpback_jax.launch.shell import Shell

SSH_OPTIONS = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=20", "-o", "ServerAliveInterval=15")


@dataclasses.dataclass(frozen=True)
class SshTransport:
    """Hosts that ssh knows."""

    hosts: tuple[str, ...]
    options: tuple[str, ...] = ()

    @property
    def addresses(self) -> Sequence[str]:
        """The host names."""
        return [host.rpartition("@")[2] for host in self.hosts]

    def command(self, index: int, script: str) -> list[str]:
        """Runs a script in the home of the host's user."""
        return ["ssh", *SSH_OPTIONS, *self.options, self.hosts[index], script]

    def copy(self, index: int, files: Sequence[str], folder: str) -> list[str]:
        """Copies files below the home."""
        return ["scp", "-q", *SSH_OPTIONS, *self.options, *files, f"{self.hosts[index]}:{folder}/"]


@dataclasses.dataclass(frozen=True)
class ShellTransport:
    """Workers that are shells of this machine, in one folder that stands for their homes."""

    count: int
    home: str

    @property
    def addresses(self) -> Sequence[str]:
        """This machine."""
        return ["localhost"] * self.count

    def command(self, index: int, script: str) -> list[str]:
        """Runs a script in the folder."""
        return ["bash", "-c", f"cd {shlex.quote(self.home)} && {script}"]

    def copy(self, index: int, files: Sequence[str], folder: str) -> list[str]:
        """Copies files into the folder."""
        return ["cp", "-p", *files, f"{self.home}/{folder}/"]


@dataclasses.dataclass(frozen=True)
class SshBackend:
    """Named hosts, or shells of this machine."""

    settings: Settings
    shell: Shell
    secrets: Mapping[str, str]

    def create(self) -> None:
        """Nothing: the hosts are there."""

    def condition(self) -> Condition:
        """Always READY: a host that does not answer is found out by who asks it something."""
        return Condition(State.READY, f"{len(self.settings.hosts)} hosts")

    def delete(self) -> None:
        """Nothing: the hosts stay."""

    def workers(self) -> Workers:
        """One worker per host."""
        hosts = self.settings.hosts
        if self.settings.transport == "ssh":
            return HostWorkers(self.settings, self.shell, SshTransport(hosts, self.settings.ssh_options), self.secrets)
        home = ShellTransport(len(hosts), str(self.settings.state_dir.resolve()))
        self.settings.state_dir.mkdir(parents=True, exist_ok=True)
        return HostWorkers(self.settings, self.shell, home, self.secrets)
