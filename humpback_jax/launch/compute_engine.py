"""The backend `compute`: a slice of Compute Engine, which is a managed instance group with a workload policy."""

from humpback_jax.hardware import IMAGE_FAMILY
from humpback_jax.launch.backends import Backend, Condition, State, Workers, describe
from humpback_jax.launch.hosts import HostWorkers, gcloud_host
from humpback_jax.launch.shell import LaunchError

COMPUTE = ("gcloud", "compute")
GROUPS = (*COMPUTE, "instance-groups", "managed")
SCOPES = "https://www.googleapis.com/auth/cloud-platform"
GONE = ("STOPPING", "STOPPED", "SUSPENDING", "SUSPENDED", "TERMINATED", "DEPROVISIONING")


class ComputeBackend(Backend):
    """Workload policy, instance template and instance group, all of one name."""

    def creation(self) -> list[list[str]]:
        """Makes policy, template and an empty group, then asks for all its machines at once."""
        name = self.settings.name
        topology = f"--accelerator-topology={self.settings.tpu_slice.topology}"
        policy = ["--type=HIGH_THROUGHPUT", topology, "--accelerator-topology-mode=AUTO_CONNECT", *self._region]
        full_path = f"projects/{self.settings.project}/regions/{self.settings.region}"
        # All machines or none, and none is put back alone: a slice with a new machine in it does not work.
        whole = ["--target-size-policy-mode=bulk", "--default-action-on-vm-failure=do-nothing"]
        group = ["--size=0", f"--template={full_path}/instanceTemplates/{name}", *whole, *self.where]
        return [
            [*COMPUTE, "resource-policies", "create", "workload-policy", name, *policy],
            [*COMPUTE, "instance-templates", "create", name, *self._template()],
            # Of the policy only the full path is understood.
            [*GROUPS, "create", name, *group, f"--workload-policy={full_path}/resourcePolicies/{name}"],
            [*GROUPS, "resize", name, *self.where, f"--size={self.settings.tpu_slice.compute_hosts}"],
        ]

    def deletion(self) -> list[list[str]]:
        """The group, with its machines, then template and policy, which it holds."""
        name = self.settings.name
        return [
            [*GROUPS, "delete", name, *self.where, "--quiet"],
            [*COMPUTE, "instance-templates", "delete", name, *self._region, "--quiet"],
            [*COMPUTE, "resource-policies", "delete", name, *self._region, "--quiet"],
        ]

    def condition(self) -> Condition:
        """READY when all machines run, GONE when one was stopped."""
        instances, count = self._instances(), self.settings.tpu_slice.compute_hosts
        if instances is None:
            return Condition(State.ABSENT, "no instance group")
        words = [instance.get("instanceStatus") or instance.get("currentAction", "NONE") for instance in instances]
        detail = f"{words.count('RUNNING')} of {count} machines run" + (f" ({', '.join(words)})" if words else "")
        if any(word in GONE for word in words):
            return Condition(State.GONE, detail)
        ready = words.count("RUNNING") == len(words) == count
        return Condition(State.READY if ready else State.PENDING, detail)

    def workers(self) -> Workers:
        """The machines, in the order of the slice where it is known, else by name."""
        names = [str(instance["instance"]).rpartition("/")[2] for instance in self._instances() or []]
        machines = sorted((self._machine(name, index) for index, name in enumerate(names)), key=_worker_number)
        if not machines:
            raise LaunchError(f"instance group {self.settings.name} has no machines: humpback launch status")
        flags = (*self.where, *(["--internal-ip"] if self.settings.internal_ip else []))
        hosts = [gcloud_host(m["networkInterfaces"][0]["networkIP"], COMPUTE, m["name"], flags) for m in machines]
        return HostWorkers(self.settings, self.shell, hosts)

    @property
    def _region(self) -> list[str]:
        return [f"--region={self.settings.region}", f"--project={self.settings.project}"]

    def _template(self) -> list[str]:
        settings = self.settings
        flags = [f"--instance-template-region={settings.region}", f"--project={settings.project}"]
        flags += [f"--machine-type={settings.tpu_slice.chip.machine}", "--maintenance-policy=TERMINATE"]
        flags += ["--image-project=ubuntu-os-accelerator-images"]
        flags += [f"--image-family={settings.runtime or IMAGE_FAMILY}", f"--scopes={SCOPES}"]
        flags += [f"--service-account={settings.service_account}"] if settings.service_account else []
        flags += ["--no-address"] if settings.internal_ip else []
        if settings.capacity == "spot":
            return [*flags, "--provisioning-model=SPOT", "--instance-termination-action=STOP"]
        if settings.capacity == "reserved":
            reserved = ["--provisioning-model=RESERVATION_BOUND", "--instance-termination-action=DELETE"]
            return [*flags, *reserved, "--reservation-affinity=specific", f"--reservation={settings.reservation}"]
        return flags

    def _instances(self) -> list[dict] | None:
        names = [f"{self.settings.name}-{i}" for i in range(self.settings.tpu_slice.compute_hosts)]
        expect = [{"instance": f"zones/z/instances/{n}", "instanceStatus": "RUNNING"} for n in names]
        command = [*GROUPS, "list-instances", self.settings.name, *self.where, "--format=json"]
        answer = describe(self.shell, command, expect)
        return None if answer is None else list(answer)

    def _machine(self, name: str, index: int) -> dict:
        expect = {"name": name, "networkInterfaces": [{"networkIP": f"WORKER_{index}_IP"}]}
        command = [*COMPUTE, "instances", "describe", name, *self.where, "--format=json"]
        machine: dict | None = describe(self.shell, command, expect)
        if machine is None:
            raise LaunchError(f"machine {name} has just gone: humpback launch status", 75)
        return machine


def _worker_number(machine: dict) -> tuple[int, str]:
    metadata = {item.get("key"): item["value"] for item in machine.get("metadata", {}).get("items", [])}
    return int(metadata.get("agent-worker-number", 0)), machine["name"]
