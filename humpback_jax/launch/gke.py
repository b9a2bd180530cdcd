"""The backend `gke`: a cluster made by XPK, and workloads on it: one pod per worker, which runs our container image."""

import datetime
import json
import shlex
from collections.abc import Sequence

from humpback_jax.launch.backends import Backend, Condition, Job, State, Worker, Workers, delete_all, describe
from humpback_jax.launch.hosts import assignments, job_variables
from humpback_jax.launch.settings import Settings
from humpback_jax.launch.shell import CommandError

CLUSTER_STATES = {
    "RUNNING": State.READY,
    "RECONCILING": State.READY,
    "ERROR": State.FAILED,
    "DEGRADED": State.FAILED,
    "STOPPING": State.GONE,
}
INDEX_LABEL = "batch.kubernetes.io/job-completion-index"
# XPK names the container so.
CONTAINER = "jax-tpu"


class GkeBackend(Backend):
    """A cluster with one slice; its nodes come back by themselves when they were preempted.

    Its workers are the pods of one workload at a time, which has the cluster's name.
    """

    creation_seconds = 3600

    def creation(self) -> list[list[str]]:
        reserved = f"--reservation={self.settings.reservation}"
        capacity = {"spot": "--spot", "reserved": reserved, "on_demand": "--on-demand"}[self.settings.capacity]
        return [["xpk", "cluster", "create", *_cluster(self.settings), *_slice(self.settings), capacity]]

    def deletion(self) -> list[list[str]]:
        return [["xpk", "cluster", "delete", *_cluster(self.settings), "--force"]]

    def condition(self) -> Condition:
        cluster = describe(self.shell, self._clusters("describe", "--format=json(status)"), {"status": "RUNNING"})
        if cluster is None:
            return Condition(State.ABSENT, "no cluster")
        word = cluster.get("status", "UNKNOWN")
        return Condition(CLUSTER_STATES.get(word, State.PENDING), word)

    def workers(self) -> Workers:
        self.shell.run(self._clusters("get-credentials"), attempts=4)
        return self

    @property
    def count(self) -> int:
        return self.settings.tpu_slice.hosts

    def start(self, job: Job) -> None:
        """Submits the workload in place of an older one; an attempt that is there already is left alone."""
        if self._pods(job.attempt):
            return
        self.stop(30)
        exports = " ".join(f"export {line};" for line in assignments(job_variables(self.settings)).splitlines())
        # On GKE SIGTERM reaches what XPK's shell started, so that the command must take its place.
        script = f"{exports} {self._identity()}exec {self.settings.python or 'python'} -m {shlex.join(job.arguments)}"
        command = ["xpk", "workload", "create", f"--workload={self.settings.name}", *_cluster(self.settings)]
        command += [*_slice(self.settings), f"--docker-image={self.settings.image}"]
        # Restarts are the watcher's: it counts them and waits longer each time.
        command += ["--max-restarts=0", f"--docker-name={CONTAINER}", f"--env=HUMPBACK_ATTEMPT={job.attempt}"]
        self.shell.run([*command, f"--command={script}"], seconds=900)

    def poll(self, attempt: str, offsets: Sequence[int]) -> list[Worker]:
        """One look at all pods; the log of a pod is read whole, and what is known of it dropped."""
        try:
            pods = self._pods(attempt)
        except CommandError:
            return [Worker(index, "unreachable", offset=offsets[index]) for index in range(self.count)]
        absent = self._state_without_pod() if len(pods) < self.count else ""
        return [
            self._worker(index, pods[index], offset)
            if index in pods
            else Worker(index, absent, 0 if absent == "exited" else None, offset=offset)
            for index, offset in enumerate(offsets)
        ]

    def stop(self, seconds: int) -> None:
        """Deletes the workload; Kubernetes sends SIGTERM, and SIGKILL after 30 s."""
        command = ["xpk", "workload", "delete", f"--workload={self.settings.name}", *_cluster(self.settings), "--force"]
        delete_all(self.shell, [command])

    def install(self) -> None:
        """Nothing: the container image has all."""

    def tail(self, index: int, attempt: str, lines: int) -> str:
        pod = self._pods(attempt).get(index)
        return self._log(pod, f"--tail={lines}", check=True) if pod else ""

    def _state_without_pod(self) -> str:
        """What it means that a pod is not there: the workload waits for nodes, or has ended, or was never made."""
        expect = {"status": {"conditions": [{"type": "Completed", "status": "True"}]}}
        jobset = describe(self.shell, ["kubectl", "get", "jobset", self.settings.name, "--output=json"], expect)
        if jobset is None:
            return "absent"
        conditions = jobset.get("status", {}).get("conditions", [])
        true = {condition["type"] for condition in conditions if condition["status"] == "True"}
        return "lost" if "Failed" in true else "exited" if "Completed" in true else "running"

    def _worker(self, index: int, pod: dict, offset: int) -> Worker:
        log = self._log(pod).encode()
        new, end = log[offset:].decode(errors="replace"), max(len(log), offset)
        statuses = pod["status"].get("containerStatuses", [])
        ends = [status["state"]["terminated"] for status in statuses if "terminated" in status.get("state", {})]
        if ends:
            ended = datetime.datetime.fromisoformat(ends[0]["finishedAt"]).timestamp()
            return Worker(index, "exited", int(ends[0]["exitCode"]), ended, new, end)
        return Worker(index, "lost" if pod["status"].get("phase") == "Failed" else "running", log=new, offset=end)

    def _log(self, pod: dict, *flags: str, check: bool = False) -> str:
        command = ["kubectl", "logs", pod["metadata"]["name"], f"--container={CONTAINER}", *flags]
        answer = self.shell.run(command, attempts=3, check=check)
        return answer.stdout if answer.returncode == 0 else ""

    def _pods(self, attempt: str) -> dict[int, dict]:
        """The pods of an attempt by the numbers of their workers."""
        chosen = f"--selector=xpk.google.com/workload={self.settings.name}"
        answer = self.shell.run(["kubectl", "get", "pods", chosen, "--output=json"], attempts=4, expect='{"items": []}')
        return {_index_of(pod): pod for pod in json.loads(answer.stdout)["items"] if _attempt_of(pod) == attempt}

    def _identity(self) -> str:
        """What tells the processes apart: GKE gives every pod of a slice its number and all their names."""
        if self.count == 1:
            return ""
        return (
            f"export HUMPBACK_PROCESS_INDEX=$TPU_WORKER_ID HUMPBACK_PROCESS_COUNT={self.count} "
            f"HUMPBACK_COORDINATOR=${{TPU_WORKER_HOSTNAMES%%,*}}:{self.settings.port}; "
        )

    def _clusters(self, verb: str, *flags: str) -> list[str]:
        region = [f"--region={self.settings.region}", f"--project={self.settings.project}"]
        return ["gcloud", "container", "clusters", verb, self.settings.name, *region, *flags]


def _cluster(settings: Settings) -> list[str]:
    return [f"--cluster={settings.name}", f"--project={settings.project}", f"--zone={settings.zone}"]


def _slice(settings: Settings) -> list[str]:
    return [f"--tpu-type={settings.tpu_slice.accelerator_type}", "--num-slices=1"]


def _index_of(pod: dict) -> int:
    labels, annotations = pod["metadata"].get("labels", {}), pod["metadata"].get("annotations", {})
    return int(labels.get(INDEX_LABEL, annotations.get(INDEX_LABEL, 0)))


def _attempt_of(pod: dict) -> str:
    variables = [pair for container in pod["spec"]["containers"] for pair in container.get("env") or []]
    return next((pair.get("value", "") for pair in variables if pair["name"] == "HUMPBACK_ATTEMPT"), "")
