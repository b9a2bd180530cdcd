"""The backend `compute`: a slice of Compute Engine, which is a managed instance group with a workload policy."""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence

from humpback_jax.hardware import IMAGE_FAMILY
from humpback_jax.launch.backends import Condition, State, Workers, create_all, delete_all, describe
from humpback_jax.launch.hosts import HostWorkers
from humpback_jax.launch.settings import Settings
from humpback_jax.launch.shell import LaunchError, Shell

SCOPES = "https://www.googleapis.com/auth/cloud-platform"
GONE = ("STOPPING", "STOPPED", "SUSPENDING", "SUSPENDED", "TERMINATED", "DEPROVISIONING")


@dataclasses.dataclass(frozen=True)
class ComputeTransport:
    """The group's instances, one name and one internal address per worker."""

    settings: Settings
    names: tuple[str, ...]
    addresses: Sequence[str]

    def command(self, index: int, script: str) -> list[str]:
        """Through `gcloud compute ssh`, which makes and spreads the key."""
        return [*self._gcloud("ssh"), self.names[index], *self._where(), f"--command={script}"]

    def copy(self, index: int, files: Sequence[str], folder: str) -> list[str]:
        """Through `gcloud compute scp`."""
        return [*self._gcloud("scp"), *files, f"{self.names[index]}:{folder}/", *self._where()]

    def _gcloud(self, verb: str) -> list[str]:
        return ["gcloud", "compute", verb]

    def _where(self) -> list[str]:
        return [*_zone(self.settings), *(["--internal-ip"] if self.settings.internal_ip else [])]


@dataclasses.dataclass(frozen=True)
class ComputeBackend:
    """Workload policy, instance template and instance group, all of one name."""

    settings: Settings
    shell: Shell
    secrets: Mapping[str, str]

    def create(self) -> None:
        """Makes policy, template and an empty group, then asks for all its machines at once."""
        steps = (self._policy(), self._template(), self._group(), self._size())
        create_all(self.shell, self, [functools.partial(self.shell.run, step, seconds=600) for step in steps])

    def condition(self) -> Condition:
        """READY when all machines run, GONE when one was stopped."""
        listed = self._instances()
        if listed is None:
            return Condition(State.ABSENT, "no instance group")
        words = [instance.get("instanceStatus") or instance.get("currentAction", "NONE") for instance in listed]
        detail = f"{words.count('RUNNING')} of {self._count} machines run" + (f" ({', '.join(words)})" if words else "")
        if any(word in GONE for word in words):
            return Condition(State.GONE, detail)
        ready = words.count("RUNNING") == len(words) == self._count
        return Condition(State.READY if ready else State.PENDING, detail)

    def delete(self) -> None:
        """Deletes the group, with its machines, then template and policy, which it holds."""
        name, region = self.settings.name, [f"--region={self.settings.region}", f"--project={self.settings.project}"]
        group = ["gcloud", "compute", "instance-groups", "managed", "delete", name, *_zone(self.settings), "--quiet"]
        template = ["gcloud", "compute", "instance-templates", "delete", name, *region, "--quiet"]
        policy = ["gcloud", "compute", "resource-policies", "delete", name, *region, "--quiet"]
        delete_all(self.shell, [group, template, policy])

    def workers(self) -> Workers:
        """The machines, in the order of the slice where it is known, else by name."""
        listed = self._instances() or []
        names = [str(instance["instance"]).rpartition("/")[2] for instance in listed]
        machines = sorted((self._machine(name, index) for index, name in enumerate(names)), key=_worker_number)
        if not machines:
            raise LaunchError(f"instance group {self.settings.name} has no machines: humpback launch status")
        addresses = [machine["networkInterfaces"][0]["networkIP"] for machine in machines]
        transport = ComputeTransport(self.settings, tuple(machine["name"] for machine in machines), addresses)
        return HostWorkers(self.settings, self.shell, transport, self.secrets)

    @property
    def _count(self) -> int:
        return self.settings.tpu_slice.compute_hosts

    def _policy(self) -> list[str]:
        command = ["gcloud", "compute", "resource-policies", "create", "workload-policy", self.settings.name]
        command += ["--type=HIGH_THROUGHPUT", f"--accelerator-topology={self.settings.tpu_slice.topology}"]
        command += ["--accelerator-topology-mode=AUTO_CONNECT"]
        return [*command, f"--region={self.settings.region}", f"--project={self.settings.project}"]

    def _template(self) -> list[str]:
        settings, slice_ = self.settings, self.settings.tpu_slice
        command = ["gcloud", "compute", "instance-templates", "create", settings.name]
        command += [f"--instance-template-region={settings.region}", f"--project={settings.project}"]
        command += [f"--machine-type={slice_.chip.machine}", "--maintenance-policy=TERMINATE"]
        command += ["--image-project=ubuntu-os-accelerator-images"]
        command += [f"--image-family={settings.runtime or IMAGE_FAMILY}", f"--scopes={SCOPES}"]
        command += [f"--service-account={settings.service_account}"] if settings.service_account else []
        command += ["--no-address"] if settings.internal_ip else []
        if settings.capacity == "spot":
            return [*command, "--provisioning-model=SPOT", "--instance-termination-action=STOP"]
        if settings.capacity == "reserved":
            reserved = ["--provisioning-model=RESERVATION_BOUND", "--instance-termination-action=DELETE"]
            return [*command, *reserved, "--reservation-affinity=specific", f"--reservation={settings.reservation}"]
        return command

    def _group(self) -> list[str]:
        settings = self.settings
        made = f"projects/{settings.project}/regions/{settings.region}"
        command = ["gcloud", "compute", "instance-groups", "managed", "create", settings.name, *_zone(settings)]
        command += ["--size=0", f"--template={made}/instanceTemplates/{settings.name}"]
        # All machines or none, and none is put back alone: a slice with a new machine in it does not work.
        command += ["--target-size-policy-mode=bulk", "--default-action-on-vm-failure=do-nothing"]
        # Only the full path is understood.
        return [*command, f"--workload-policy={made}/resourcePolicies/{settings.name}"]

    def _size(self) -> list[str]:
        command = ["gcloud", "compute", "instance-groups", "managed", "resize", self.settings.name]
        return [*command, *_zone(self.settings), f"--size={self._count}"]

    def _instances(self) -> list[dict] | None:
        command = ["gcloud", "compute", "instance-groups", "managed", "list-instances", self.settings.name]
        names = [f"{self.settings.name}-{i}" for i in range(self._count)]
        expect = json.dumps([{"instance": f"zones/z/instances/{n}", "instanceStatus": "RUNNING"} for n in names])
        said = describe(self.shell, [*command, *_zone(self.settings), "--format=json"], expect)
        return None if said is None else json.loads(said or "[]")

    def _machine(self, name: str, index: int) -> dict:
        command = ["gcloud", "compute", "instances", "describe", name, *_zone(self.settings), "--format=json"]
        expect = json.dumps({"name": name, "networkInterfaces": [{"networkIP": f"WORKER_{index}_IP"}]})
        said = describe(self.shell, command, expect)
        if said is None:
            raise LaunchError(f"machine {name} has just gone: humpback launch status", 75)
        return json.loads(said)


def _zone(settings: Settings) -> list[str]:
    return [f"--zone={settings.zone}", f"--project={settings.project}"]


def _worker_number(machine: dict) -> tuple[int, str]:
    items = machine.get("metadata", {}).get("items", [])
    numbers = [int(item["value"]) for item in items if item.get("key") == "agent-worker-number"]
    return (numbers[0] if numbers else 0, machine["name"])
