"""The backend `tpu`: TPU VMs of the Cloud TPU API, waited for in the queue of queued resources or made at once."""

from humpback_jax.launch.backends import Backend, Condition, State, Workers, describe
from humpback_jax.launch.hosts import HostWorkers, gcloud_host
from humpback_jax.launch.shell import LaunchError

TPUS = ("gcloud", "compute", "tpus")
# Of queued resources and of VMs; all other words are PENDING.
STATES = {"ACTIVE": State.READY, "READY": State.READY, "FAILED": State.FAILED} | dict.fromkeys(
    ("SUSPENDING", "SUSPENDED", "DELETING", "PREEMPTED", "TERMINATED", "STOPPED", "STOPPING"), State.GONE
)


class CloudTpuBackend(Backend):
    """A TPU VM, and the queued resource it came from."""

    def creation(self) -> list[list[str]]:
        """Puts the request into the queue, or makes the VM at once."""
        settings = self.settings
        runtime = settings.runtime or settings.tpu_slice.chip.runtime
        if settings.queued:
            command = [*TPUS, "queued-resources", "create", settings.name, f"--node-id={settings.name}"]
            command += [f"--runtime-version={runtime}", f"--valid-until-duration={settings.valid_hours}h"]
        else:
            command = [*TPUS, "tpu-vm", "create", settings.name, f"--version={runtime}"]
        command += [f"--accelerator-type={settings.tpu_slice.accelerator_type}", *self.where]
        command += {"spot": ["--spot"], "reserved": ["--reserved"], "on_demand": []}[settings.capacity]
        command += [f"--service-account={settings.service_account}"] if settings.service_account else []
        return [[*command, "--internal-ips"] if settings.internal_ip else command]

    def deletion(self) -> list[list[str]]:
        kind, force = ("queued-resources", ["--force"]) if self.settings.queued else ("tpu-vm", [])
        return [[*TPUS, kind, "delete", self.settings.name, *force, *self.where, "--quiet"]]

    def condition(self) -> Condition:
        """What the queue says; a request that is ACTIVE is as good as its VM."""
        if not self.settings.queued:
            return self._node_condition()
        command = [*TPUS, "queued-resources", "describe", self.settings.name, *self.where, "--format=json"]
        request = describe(self.shell, command, {"state": {"state": "ACTIVE"}})
        if request is None:
            return Condition(State.ABSENT, "no queued resource")
        state = request.get("state", {})
        word = state.get("state", "UNKNOWN")
        if word == "ACTIVE":
            return self._node_condition()
        error = state.get("failedData", {}).get("error", {}).get("message", "")
        return Condition(STATES.get(word, State.PENDING), f"{word} {error}".strip())

    def workers(self) -> Workers:
        """The VM's workers, in the order of its endpoints: worker 0 first."""
        node, name = self._node(), self.settings.name
        if node is None:
            raise LaunchError(f"TPU VM {name} is not there: humpback launch status")
        addresses = [endpoint["ipAddress"] for endpoint in node.get("networkEndpoints", [])]
        if not addresses:
            raise LaunchError(f"TPU VM {name} has no workers yet: humpback launch wait")
        flags = [*self.where, *(["--internal-ip"] if self.settings.internal_ip else [])]
        hosts = [
            gcloud_host(address, [*TPUS, "tpu-vm"], name, [*flags, f"--worker={index}"])
            for index, address in enumerate(addresses)
        ]
        return HostWorkers(self.settings, self.shell, hosts)

    def _node(self) -> dict | None:
        endpoints = [{"ipAddress": f"WORKER_{i}_IP"} for i in range(self.settings.tpu_slice.hosts)]
        command = [*TPUS, "tpu-vm", "describe", self.settings.name, *self.where, "--format=json"]
        node: dict | None = describe(self.shell, command, {"state": "READY", "networkEndpoints": endpoints})
        return node

    def _node_condition(self) -> Condition:
        node = self._node()
        if node is None:
            # A queued resource that is ACTIVE without its VM will not bring it back.
            return Condition(State.GONE if self.settings.queued else State.ABSENT, "no TPU VM")
        word = node.get("state", "UNKNOWN")
        return Condition(STATES.get(word, State.PENDING), word)
