"""The backend `tpu`: TPU VMs of the Cloud TPU API, waited for in the queue of queued resources or made at once."""

import dataclasses
import json
from collections.abc import Mapping, Sequence

from humpback_jax.launch.backends import Condition, State, Workers, create_all, delete_all, describe
from humpback_jax.launch.hosts import HostWorkers
from humpback_jax.launch.settings import Settings
from humpback_jax.launch.shell import LaunchError, Shell

QUEUED_STATES = {
    "ACTIVE": State.READY,
    "FAILED": State.FAILED,
    "SUSPENDING": State.GONE,
    "SUSPENDED": State.GONE,
    "DELETING": State.GONE,
}
NODE_STATES = {
    "READY": State.READY,
    "PREEMPTED": State.GONE,
    "TERMINATED": State.GONE,
    "STOPPED": State.GONE,
    "STOPPING": State.GONE,
    "DELETING": State.GONE,
}


@dataclasses.dataclass(frozen=True)
class CloudTpuTransport:
    """Workers of a TPU VM."""

    settings: Settings
    addresses: Sequence[str]

    def command(self, index: int, script: str) -> list[str]:
        """Through `gcloud … tpu-vm ssh`, which makes and spreads the key."""
        return [*_tpu_vm(self.settings, "ssh", self.settings.name), f"--worker={index}", f"--command={script}"]

    def copy(self, index: int, files: Sequence[str], folder: str) -> list[str]:
        """Through `gcloud … tpu-vm scp`."""
        target = f"{self.settings.name}:{folder}/"
        return [*_tpu_vm(self.settings, "scp", *files, target), f"--worker={index}"]


@dataclasses.dataclass(frozen=True)
class CloudTpuBackend:
    """A TPU VM, and the queued resource it came from."""

    settings: Settings
    shell: Shell
    secrets: Mapping[str, str]

    def create(self) -> None:
        """Puts the request into the queue, or makes the VM at once."""
        create_all(self.shell, self, [lambda: self.shell.run(self._creation(), seconds=900)])

    def condition(self) -> Condition:
        """What the queue says; a request that is ACTIVE is as good as its VM."""
        if not self.settings.queued:
            return self._node_condition()
        command = ["gcloud", "compute", "tpus", "queued-resources", "describe", self.settings.name]
        said = describe(self.shell, [*command, *self._where(), "--format=json"], '{"state": {"state": "ACTIVE"}}')
        if said is None:
            return Condition(State.ABSENT, "no queued resource")
        state = json.loads(said or "{}").get("state", {})
        word = state.get("state", "UNKNOWN")
        if word == "ACTIVE":
            return self._node_condition()
        error = state.get("failedData", {}).get("error", {}).get("message", "")
        return Condition(QUEUED_STATES.get(word, State.PENDING), f"{word} {error}".strip())

    def delete(self) -> None:
        """Deletes the VM with its request."""
        if self.settings.queued:
            command = ["gcloud", "compute", "tpus", "queued-resources", "delete", self.settings.name, "--force"]
        else:
            command = ["gcloud", "compute", "tpus", "tpu-vm", "delete", self.settings.name]
        delete_all(self.shell, [[*command, *self._where(), "--quiet"]])

    def workers(self) -> Workers:
        """The VM's workers, in the order of its endpoints: worker 0 first."""
        node = self._node()
        if node is None:
            raise LaunchError(f"TPU VM {self.settings.name} is not there: humpback launch status")
        addresses = [endpoint["ipAddress"] for endpoint in node.get("networkEndpoints", [])]
        if not addresses:
            raise LaunchError(f"TPU VM {self.settings.name} has no workers yet: humpback launch wait")
        return HostWorkers(self.settings, self.shell, CloudTpuTransport(self.settings, addresses), self.secrets)

    def _creation(self) -> list[str]:
        settings, slice_ = self.settings, self.settings.tpu_slice
        runtime = settings.runtime or slice_.chip.runtime
        command = ["gcloud", "compute", "tpus"]
        if settings.queued:
            command += ["queued-resources", "create", settings.name, f"--node-id={settings.name}"]
            command += [f"--runtime-version={runtime}", f"--valid-until-duration={settings.valid_hours}h"]
        else:
            command += ["tpu-vm", "create", settings.name, f"--version={runtime}"]
        command += [f"--accelerator-type={slice_.accelerator_type}", *self._where()]
        command += {"spot": ["--spot"], "reserved": ["--reserved"], "on_demand": []}[settings.capacity]
        command += [f"--service-account={settings.service_account}"] if settings.service_account else []
        return [*command, "--internal-ips"] if settings.internal_ip else command

    def _node(self) -> dict | None:
        slice_ = self.settings.tpu_slice
        endpoints = [{"ipAddress": f"WORKER_{i}_IP"} for i in range(slice_.hosts)]
        command = _tpu_vm(self.settings, "describe", self.settings.name, internal_ip=False)
        expect = json.dumps({"state": "READY", "networkEndpoints": endpoints})
        said = describe(self.shell, [*command, "--format=json"], expect)
        return None if said is None else json.loads(said or "{}")

    def _node_condition(self) -> Condition:
        node = self._node()
        if node is None:
            # A queued resource that is ACTIVE without its VM will not bring it back.
            return Condition(State.GONE if self.settings.queued else State.ABSENT, "no TPU VM")
        word = node.get("state", "UNKNOWN")
        return Condition(NODE_STATES.get(word, State.PENDING), word)

    def _where(self) -> list[str]:
        return [f"--zone={self.settings.zone}", f"--project={self.settings.project}"]


def _tpu_vm(settings: Settings, verb: str, *names: str, internal_ip: bool | None = None) -> list[str]:
    internal = settings.internal_ip if internal_ip is None else internal_ip
    where = [f"--zone={settings.zone}", f"--project={settings.project}"]
    return ["gcloud", "compute", "tpus", "tpu-vm", verb, *names, *where, *(["--internal-ip"] if internal else [])]
