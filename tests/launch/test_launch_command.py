"""`humpback launch` as typed: every verb on every backend with programs for clouds, dry runs, exit codes, secrets."""

import json
import os
import threading

import pytest
from click.testing import CliRunner
from waiting import FakeTime

import humpback_jax.launch.session
import humpback_jax.launch.shell
from humpback_jax.cli import cli
from humpback_jax.launch.shell import Result, Shell

SECRET = "hf_AbCdEf0123456789"
KINDS = ("tpu", "vm", "compute", "gke")
FIRST = {
    "tpu": "queued-resources create pod",
    "vm": "tpu-vm create pod",
    "compute": "workload-policy pod",
    "gke": "cluster create",
}


@pytest.fixture
def launch(tmp_path, monkeypatch, tools, fake_cloud, settings_file):
    """A function (kind) to a function that types `humpback launch VERB …` in a fresh cloud; `.world()` shows that."""
    monkeypatch.setattr(humpback_jax.launch.session, "time", FakeTime())  # the cloud moves with every look
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.delenv("DRY_RUN", raising=False)

    def prepare(kind, more="", **world):
        path = settings_file(tmp_path, kind, more)
        tools.write_text(json.dumps(fake_cloud.new_world(hosts=4 if kind == "gke" else 2, **world)))

        def typed(verb, *arguments):
            result = CliRunner().invoke(cli, ["launch", verb, f"--settings={path}", *arguments])
            assert result.exception is None or isinstance(result.exception, (SystemExit, ValueError, OSError)), result
            return result

        return typed

    prepare.world = lambda: json.loads(tools.read_text())
    return prepare


@pytest.fixture
def at_once(monkeypatch, tools, fake_cloud):
    """The cloud answers in this process: a hundred programs take their time to start."""
    lock = threading.Lock()

    def execute(command, seconds):
        with lock:
            world = json.loads(tools.read_text())
            status, out, err = fake_cloud.call(world, list(command))
            tools.write_text(json.dumps(world))
        return Result(command, status, out, err)

    monkeypatch.setattr(humpback_jax.launch.shell, "execute_command", execute)


@pytest.mark.parametrize("kind", KINDS)
def test_every_verb_on_every_backend(launch, at_once, kind, tmp_path):
    typed = launch(kind)
    outputs = [typed("create"), typed("wait"), typed("setup"), typed("run", "experiments/quickstart.gin")]
    outputs += [typed("status"), typed("status", "--json"), typed("logs", "--lines=3"), typed("stop", "--seconds=1")]
    outputs += [typed("resume"), typed("delete")]
    assert [output.exit_code for output in outputs] == [0] * 10, [output.output for output in outputs]
    assert "worker 1: exited with 0" in outputs[4].output
    figures = json.loads(outputs[5].output)
    assert {worker["status"] for worker in figures["workers"]} == {0}
    assert figures["command"][:3] == ["humpback_jax", "align", "--gin_file=experiments/quickstart.gin"]
    assert "still there and costs money" in outputs[3].output
    world = launch.world()
    assert world["resources"] == {}
    assert world.get("usage_errors", []) == []
    assert world["commands_started"] == 3
    kept = "".join(path.read_text() for path in (tmp_path / ".launch").rglob("*") if path.is_file())
    assert SECRET not in kept + "".join(output.output for output in outputs) + json.dumps(world["calls"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_dry_run_prints_the_commands_and_runs_none(launch, kind, monkeypatch, tmp_path, fake_cloud):
    typed = launch(kind)
    monkeypatch.setenv("DRY_RUN", "1")
    monkeypatch.delenv("HF_TOKEN")
    made = typed("create")
    assert made.exit_code == 0, made.output
    assert FIRST[kind] in made.output
    printed = [typed(verb).output for verb in ("wait", "setup", "status", "stop", "delete")]
    printed.append(typed("run", "experiments/quickstart.gin").output)
    assert "humpback_jax align --gin_file=experiments/quickstart.gin" in printed[-1]
    printed.append(typed("run", "experiments/quickstart.gin", "--gin_file=smoke.gin").output)
    assert ["runs/quickstart-smoke" in text for text in printed[-2:]] == [False, True]
    assert launch.world()["calls"] == []
    assert not (tmp_path / ".launch").exists()
    assert "value-of-HF_TOKEN" not in "".join(printed)


def test_a_command_line_has_the_coordinator_at_the_port_that_is_open(launch, monkeypatch):
    monkeypatch.setenv("DRY_RUN", "1")
    printed = launch("tpu")("run", "experiments/quickstart.gin", "--gin_bindings=SEED = 1").output
    starts = [line for line in printed.splitlines() if "worker.sh start" in line]
    assert len(starts) == 4
    assert all(f" {index} 4 WORKER_0_IP:8476" in line for index, line in enumerate(starts))
    assert "'--gin_bindings=SEED = 1'" in printed
    assert "# job.env: JAX_PLATFORMS=tpu,cpu" in printed
    assert "HUMPBACK_START_SECONDS=600" in printed


def test_the_exit_code_is_that_of_the_worker_that_failed_first(launch, at_once):
    typed = launch("tpu", command_status=[0, 3])
    assert typed("run", "experiments/quickstart.gin", "--create").exit_code == 3


def test_a_run_that_deletes_at_the_end_does_so_whatever_the_end_is(launch, at_once):
    typed = launch("compute", command_status=[0, 3])
    assert typed("run", "experiments/quickstart.gin", "--create", "--delete").exit_code == 3
    assert launch.world()["resources"] == {}


def test_without_a_slice_there_is_no_run(launch, at_once):
    result = launch("tpu")("run", "experiments/quickstart.gin")
    assert isinstance(result.exception, ValueError)
    assert "humpback launch create, or add --create" in str(result.exception)


def test_a_preempted_slice_is_replaced_by_programs_too(launch):
    fault = {"match": "worker.sh poll", "do": "preempt", "skip": 6}
    typed = launch("tpu", faults=[fault], command_looks=2)
    result = typed("run", "experiments/quickstart.gin", "--create", "--delete")
    assert result.exit_code == 0, result.output
    assert "the slice has gone" in result.output
    world = launch.world()
    assert world["resources"] == {}
    assert sum("create" in call for call in world["calls"]) == 2


def test_a_tool_that_hangs_is_given_up(launch, monkeypatch):
    once, limit = Shell._once, [0]

    def give_up_on_the_creation(self, command, shown, seconds):
        return once(self, command, shown, limit[0] if " create " in shown else seconds)

    monkeypatch.setattr(Shell, "_once", give_up_on_the_creation)
    for limit[0] in (1.5, 10, 60):  # the first that is enough for the program to start here
        typed = launch("tpu", faults=[{"match": "queued-resources create", "do": "late"}])
        result = typed("create")
        assert "took more than" in str(result.exception)
        if any("create" in call for call in launch.world()["calls"]):
            break
    world = launch.world()
    assert world["resources"] == {}
    assert sum("delete" in call for call in world["calls"]) == 3  # looked for again: it might have come late


def test_a_secret_in_the_command_or_missing_is_refused(launch, monkeypatch):
    typed = launch("tpu")
    assert "contains a secret" in str(typed("run", "align", f"--wandb_project={SECRET}").exception)
    monkeypatch.delenv("HF_TOKEN")
    assert "name the secret HF_TOKEN" in str(typed("run", "experiments/quickstart.gin").exception)
    assert launch.world()["calls"] == []


def test_a_missing_tool_says_how_to_install_it(launch, monkeypatch, tmp_path):
    typed = launch("gke")
    monkeypatch.setenv("PATH", os.fspath(tmp_path / "nothing"))
    assert "cloud.google.com/sdk" in str(typed("create").exception)
