"""The backend `ssh`: machines that are there already. Nothing is made and nothing deleted."""

import shlex

from humpback_jax.launch.backends import Backend, Condition, State, Workers
from humpback_jax.launch.hosts import Host, HostWorkers

SSH_OPTIONS = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=20", "-o", "ServerAliveInterval=15")


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
