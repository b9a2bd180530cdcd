"""A cloud that lives in one JSON file: gcloud, xpk and kubectl that check their arguments and do what a script says.

Flags are checked against tests/launch/grammar.json, recorded from the real tools. The world has resources with a life
of their own: a queue that moves one step with every look, machines that run commands, preemption. Faults are a list in
the world: `{"match": "queued-resources create", "do": "fail", "status": 1, "stderr": "…", "times": 1}`; `do` may be
`fail` (nothing happens), `half` (it happens, and the command fails all the same), `hang` (nothing happens and no end),
`late` (it hangs, and happens) or `preempt` (the slice is taken away, then the command runs). `skip` lets so many
matching commands pass before.
"""

import json
import pathlib
import re
import sys
import time

GRAMMAR = json.loads((pathlib.Path(__file__).parent / "grammar.json").read_text())
HUNG = -1
NOT_FOUND = "ERROR: (gcloud) NOT_FOUND: Resource was not found"


class UsageError(Exception):
    """The arguments are not what the tool takes."""


def new_world(**changes):
    """An empty cloud; `steps`: looks until a slice is there; `hosts`: workers of a slice."""
    return {
        "resources": {},
        "faults": [],
        "calls": [],
        "steps": 1,
        "hosts": 2,
        "command_status": [0],
        "command_looks": 1,
    } | changes


def parse(tool, arguments):
    """(command, positionals, flags) of a command line that the tool's grammar allows."""
    grammar = GRAMMAR[tool]
    command = max((c for c in grammar["commands"] if arguments[: len(c.split())] == c.split()), key=len, default=None)
    if command is None:
        raise UsageError(f"Invalid choice: {' '.join(arguments[:5])}")
    rules = grammar["commands"][command]
    known = grammar["flags"] | rules["flags"]
    positionals, flags = [], {}
    for argument in arguments[len(command.split()) :]:
        if not argument.startswith("--"):
            positionals.append(argument)
            continue
        name, equals, value = argument.partition("=")
        kind = known.get(name)
        if kind is None:
            raise UsageError(f"unrecognized arguments: {name}")
        if (kind == "bool") == bool(equals):
            raise UsageError(f"argument {name}: {'takes no' if equals else 'expected one'} argument")
        if isinstance(kind, list) and value not in kind:
            raise UsageError(f"argument {name}: Invalid choice: {value!r}")
        if kind != "bool" and not value:
            raise UsageError(f"argument {name}: expected one argument")
        if name in flags and name != "--env":
            raise UsageError(f"argument {name}: given twice")
        flags[name] = value or True
    return command, *_checked(tool, command, rules, positionals, flags)


def _checked(tool, command, rules, positionals, flags):
    least = int(rules["positionals"].rstrip("+"))
    if len(positionals) < least or (len(positionals) > least and not rules["positionals"].endswith("+")):
        raise UsageError(f"{tool} {command}: {len(positionals)} names, expected {rules['positionals']}")
    if absent := [flag for flag in rules["required"] if flag not in flags]:
        raise UsageError(f"{tool} {command}: Must be specified: {absent[0]}")
    for group in rules.get("one_of", []):
        if len(given := [flag for flag in group if flag in flags]) > 1:
            raise UsageError(f"{tool} {command}: at most one of {given}")
    return positionals, flags


def call(world, argv):
    """Runs a command line in the world: (status, standard output, standard error); HUNG for the status: no end."""
    tool, *arguments = argv
    world["calls"].append(argv)
    try:
        command, names, flags = parse(tool, arguments)
    except UsageError as error:
        world.setdefault("usage_errors", []).append(f"{tool}: {error}")
        return 2, "", f"ERROR: (gcloud) {error}"
    fault = _fault(world, f"{tool} {command}", flags)
    if fault and fault["do"] in ("fail", "hang"):
        return (HUNG, "", "") if fault["do"] == "hang" else (fault["status"], "", fault["stderr"])
    if fault and fault["do"] == "preempt":
        preempt(world)
    status, out, err = HANDLERS[f"{tool} {command}"](world, names, flags)
    if fault and fault["do"] == "late":
        return HUNG, "", ""
    if fault and fault["do"] == "half":
        return fault["status"], "", fault["stderr"]
    return status, out, err


def _fault(world, command, flags):
    shown = f"{command} {flags.get('--command', '')}"
    for fault in world["faults"]:
        if fault.get("times", 1) > 0 and re.search(fault["match"], shown):
            if fault.get("skip", 0) > 0:
                fault["skip"] -= 1
                continue
            fault["times"] = fault.get("times", 1) - 1
            return fault
    return None


def preempt(world):
    """Takes away what can be taken away: the machines of a slice, which keeps its name and its quota."""
    for resource in world["resources"].values():
        if resource["state"] == "ACTIVE":
            resource["state"], resource["jobs"] = "PREEMPTED", {}


def living(world):
    """Names of the resources that exist."""
    return sorted(world["resources"])


def _make(kind, needs=()):
    def make(world, names, flags):
        key = f"{kind}/{names[0] if names else flags['--cluster']}"
        if key in world["resources"]:
            return 1, "", "ERROR: (gcloud) ALREADY_EXISTS: already exists"
        missing = [
            flag for flag, other in needs if f"{other}/{flags[flag].rpartition('/')[2]}" not in world["resources"]
        ]
        if missing:
            return 1, "", f"ERROR: (gcloud) INVALID_ARGUMENT: {missing[0]} names nothing"
        world["resources"][key] = {"state": "PENDING", "steps": world["steps"], "jobs": {}, "spot": True}
        return 0, "", ""

    return make


def _remove(kind, held_by=None):
    def remove(world, names, flags):
        name = names[0] if names else flags["--cluster"]
        if f"{kind}/{name}" not in world["resources"]:
            return 1, "", NOT_FOUND
        if held_by and f"{held_by}/{name}" in world["resources"]:
            return 1, "", f"ERROR: (gcloud) the resource is already being used by {held_by}/{name}"
        del world["resources"][f"{kind}/{name}"]
        return 0, "", ""

    return remove


def _look(world, kind, name):
    """The resource, one step further on its way; None where it is not there."""
    resource = world["resources"].get(f"{kind}/{name}")
    if resource and resource["state"] == "PENDING":
        resource["steps"] -= 1
        if resource["steps"] < 0:
            resource["state"] = "ACTIVE"
    return resource


def _describe_queued(world, names, flags):
    resource = _look(world, "queued", names[0])
    if resource is None:
        return 1, "", NOT_FOUND
    words = {"PENDING": "WAITING_FOR_RESOURCES", "ACTIVE": "ACTIVE", "PREEMPTED": "SUSPENDED", "FAILED": "FAILED"}
    return 0, json.dumps({"state": {"state": words[resource["state"]]}}), ""


def _describe_node(world, names, flags):
    resource = world["resources"].get(f"queued/{names[0]}") or _look(world, "node", names[0])
    if resource is None or (resource["state"] != "ACTIVE" and f"queued/{names[0]}" in world["resources"]):
        return 1, "", NOT_FOUND
    words = {"PENDING": "CREATING", "ACTIVE": "READY", "PREEMPTED": "PREEMPTED"}
    endpoints = [{"ipAddress": f"10.0.0.{i}"} for i in range(world["hosts"])]
    return 0, json.dumps({"state": words[resource["state"]], "networkEndpoints": endpoints}), ""


def _slice_of(world, name):
    for kind in ("queued", "node", "group", "cluster"):
        if f"{kind}/{name}" in world["resources"]:
            return world["resources"][f"{kind}/{name}"]
    return None


def _ssh(world, names, flags):
    """What worker.sh would do: one command per worker, which ends after so many looks with the world's next status."""
    name, worker = names[0], int(flags.get("--worker", 0))
    if "--worker" not in flags:
        name, _, worker = names[0].rpartition("-")
    resource = _slice_of(world, name)
    if resource is None or resource["state"] != "ACTIVE":
        return 255, "", "ssh: connect to host 10.0.0.1 port 22: Connection timed out"
    return 0, _agent(world, resource["jobs"], int(worker), flags["--command"]), ""


def _agent(world, jobs, worker, script):
    match = re.search(r"worker\.sh (\w+) \S+ ?([\w. -]*)", script)
    verb, rest = (match[1], match[2].split()) if match else ("", [])
    if verb == "start":
        if int(rest[1]) == 0:
            world["commands_started"] = world.get("commands_started", 0) + 1
        jobs.setdefault(str(worker), {"attempt": rest[0], "looks": world["command_looks"], "status": None})
        if jobs[str(worker)]["attempt"] != rest[0]:
            jobs[str(worker)] = {"attempt": rest[0], "looks": world["command_looks"], "status": None}
    elif verb == "stop" and str(worker) in jobs:
        jobs[str(worker)]["status"] = jobs[str(worker)]["status"] or 137
    elif verb == "poll":
        return _poll(world, jobs.get(str(worker)), rest)
    return ""


def _poll(world, job, rest):
    if job is None or job["attempt"] != rest[0]:
        return "absent 0\n"
    if job["status"] is None:
        job["looks"] -= 1
        if job["looks"] >= 0:
            return "running 0\n"
        started = world.get("commands_started", 1) - 1
        statuses = world["command_status"]
        job["status"] = statuses[min(started, len(statuses) - 1)]
    return f"exited 0 {job['status']} 1.5\n"


def _scp(world, names, flags):
    resource = _slice_of(world, names[-1].partition(":")[0]) or _slice_of(world, names[-1].partition(":")[0][:-2])
    for name in names[:-1]:
        world.setdefault("sent", {})[pathlib.Path(name).name] = pathlib.Path(name).read_text(errors="replace")
    up = resource is not None and resource["state"] == "ACTIVE"
    return (0, "", "") if up else (255, "", "ssh: connect to host 10.0.0.1 port 22: Connection timed out")


def _resize(world, names, flags):
    group = world["resources"].get(f"group/{names[0]}")
    if group is None:
        return 1, "", NOT_FOUND
    group["size"] = int(flags["--size"])
    return 0, "", ""


def _instances(world, names, flags):
    group = _look(world, "group", names[0])
    if group is None:
        return 1, "", NOT_FOUND
    word = {"PENDING": "STAGING", "ACTIVE": "RUNNING", "PREEMPTED": "TERMINATED"}[group["state"]]
    machines = [
        {"instance": f"zones/z/instances/{names[0]}-{i}", "instanceStatus": word} for i in range(group.get("size", 0))
    ]
    return 0, json.dumps(machines), ""


def _machine(world, names, flags):
    number = names[0].rpartition("-")[2]
    items = [{"key": "agent-worker-number", "value": number}]
    return (
        0,
        json.dumps(
            {"name": names[0], "networkInterfaces": [{"networkIP": f"10.0.0.{number}"}], "metadata": {"items": items}}
        ),
        "",
    )


def _cluster(world, names, flags):
    cluster = _look(world, "cluster", names[0])
    words = {"PENDING": "PROVISIONING", "ACTIVE": "RUNNING", "PREEMPTED": "RUNNING"}
    return (1, "", NOT_FOUND) if cluster is None else (0, json.dumps({"status": words[cluster["state"]]}), "")


def _workload(world, names, flags):
    cluster = world["resources"].get(f"cluster/{flags['--cluster']}")
    if cluster is None:
        return 1, "", "cluster does not exist"
    if cluster["state"] == "PREEMPTED":
        cluster["state"] = "ACTIVE"  # the nodes of a pool come back by themselves
    attempt = flags["--env"].partition("=")[2]
    world["commands_started"] = world.get("commands_started", 0) + 1
    cluster["jobs"] = {
        str(i): {"attempt": attempt, "looks": world["command_looks"], "status": None} for i in range(world["hosts"])
    }
    cluster["workload"] = flags["--workload"]
    return 0, "", ""


def _delete_workload(world, names, flags):
    cluster = world["resources"].get(f"cluster/{flags['--cluster']}")
    if cluster is not None:
        cluster["jobs"] = {}
        cluster.pop("workload", None)
    return (0, "", "") if cluster else (1, "", "cluster does not exist")


def _kubectl_get(world, names, flags):
    clusters = [resource for key, resource in world["resources"].items() if key.startswith("cluster/")]
    jobs = clusters[0]["jobs"] if clusters else {}
    if names[0] == "jobset":
        if not clusters or "workload" not in clusters[0]:
            return 1, "", 'Error from server (NotFound): jobsets "x" not found'
        return 0, json.dumps({"status": {"conditions": [] if jobs else [{"type": "Failed", "status": "True"}]}}), ""
    return 0, json.dumps({"items": [_pod(world, int(index), job) for index, job in jobs.items()]}), ""


def _pod(world, index, job):
    said = _poll(world, job, [job["attempt"]]).split()
    state = {"running": {}}
    if said[0] == "exited":
        state = {"terminated": {"exitCode": int(said[2]), "finishedAt": "2026-01-02T03:04:05Z"}}
    return {
        "metadata": {"name": f"pod-{index}", "labels": {"batch.kubernetes.io/job-completion-index": str(index)}},
        "spec": {"containers": [{"env": [{"name": "HUMPBACK_ATTEMPT", "value": job["attempt"]}]}]},
        "status": {"phase": "Running", "containerStatuses": [{"state": state}]},
    }


HANDLERS = {
    "gcloud compute tpus queued-resources create": _make("queued"),
    "gcloud compute tpus queued-resources describe": _describe_queued,
    "gcloud compute tpus queued-resources delete": _remove("queued"),
    "gcloud compute tpus tpu-vm create": _make("node"),
    "gcloud compute tpus tpu-vm describe": _describe_node,
    "gcloud compute tpus tpu-vm delete": _remove("node"),
    "gcloud compute tpus tpu-vm ssh": _ssh,
    "gcloud compute tpus tpu-vm scp": _scp,
    "gcloud compute resource-policies create workload-policy": _make("policy"),
    "gcloud compute resource-policies delete": _remove("policy", held_by="group"),
    "gcloud compute instance-templates create": _make("template"),
    "gcloud compute instance-templates delete": _remove("template", held_by="group"),
    "gcloud compute instance-groups managed create": _make(
        "group", (("--template", "template"), ("--workload-policy", "policy"))
    ),
    "gcloud compute instance-groups managed delete": _remove("group"),
    "gcloud compute instance-groups managed resize": _resize,
    "gcloud compute instance-groups managed list-instances": _instances,
    "gcloud compute instances describe": _machine,
    "gcloud compute ssh": _ssh,
    "gcloud compute scp": _scp,
    "gcloud container clusters describe": _cluster,
    "gcloud container clusters get-credentials": lambda world, names, flags: (0, "", ""),
    "xpk cluster create": _make("cluster"),
    "xpk cluster delete": _remove("cluster"),
    "xpk workload create": _workload,
    "xpk workload delete": _delete_workload,
    "kubectl get": _kubectl_get,
    "kubectl logs": lambda world, names, flags: (0, "a line of a pod\n", ""),
}


def main(state):
    """As a program: `fake_cloud.py STATE TOOL ARGUMENTS…`; a hang really hangs."""
    import fcntl

    path = pathlib.Path(state)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        world = json.loads(path.read_text())
        status, out, err = call(world, sys.argv[2:])
        path.write_text(json.dumps(world))
    if status == HUNG:
        time.sleep(3600)
    sys.stdout.write(out)
    sys.stderr.write(err)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
