"""Which process this is: from the variables, else one alone; and how long it waits for the others."""

import ast
import pathlib
import re
import subprocess
import sys

import pytest
from waiting import FakeTime

from humpback_jax.files import write_json
from humpback_jax.inference.shards import claim_directory
from humpback_jax.runtime import processes
from humpback_jax.runtime.processes import is_leader
from humpback_jax.stages.stage import StageResult, begin_stage


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in (processes.INDEX_VARIABLE, processes.COUNT_VARIABLE, processes.STALL_VARIABLE):
        monkeypatch.setenv(name, "0")  # so that what a test sets is undone
        monkeypatch.delenv(name)


def be(monkeypatch, index, count, stall="30"):
    monkeypatch.setenv(processes.INDEX_VARIABLE, str(index))
    monkeypatch.setenv(processes.COUNT_VARIABLE, str(count))
    monkeypatch.setenv(processes.STALL_VARIABLE, stall)


def test_one_process_alone_by_default():
    assert (processes.process_index(), processes.process_count()) == (0, 1)
    assert processes.is_leader()
    assert processes.stall_seconds() == processes.STALL_SECONDS


def test_the_variables_say_which(monkeypatch):
    be(monkeypatch, 2, 3, "7.5")
    assert (processes.process_index(), processes.process_count()) == (2, 3)
    assert not processes.is_leader()
    assert processes.stall_seconds() == 7.5


@pytest.mark.parametrize(
    "index, count, match",
    [
        ("1", None, "HUMPBACK_PROCESS_COUNT is None"),
        (None, "2", "HUMPBACK_PROCESS_INDEX is None"),
        ("a", "2", "HUMPBACK_PROCESS_INDEX is a"),
        ("2", "2", "less than the count"),
        ("-1", "2", "0 or more"),
        ("0", "0", "less than the count"),
    ],
)
def test_variables_that_do_not_fit_are_an_error(monkeypatch, index, count, match):
    for name, value in ((processes.INDEX_VARIABLE, index), (processes.COUNT_VARIABLE, count)):
        if value is not None:
            monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=match):
        processes.process_index()


def test_who_leads_is_asked_in_one_place():
    package = pathlib.Path(processes.__file__).resolve().parent.parent
    comparison = re.compile(r"process_index\(\) [!=<>]=? 0|0 [!=<>]=? [\w.]*process_index\(\)")
    places = []
    for path in package.rglob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text()))
        compared = [ast.unparse(node) for node in nodes if isinstance(node, ast.Compare)]
        places += [path.name for text in compared if comparison.search(text)]
    assert places == ["processes.py"]


def test_the_options_of_the_command_set_both_or_neither():
    processes.set_process(None, None)
    assert processes.process_count() == 1
    with pytest.raises(ValueError, match="--process_count is None"):
        processes.set_process(1, None)
    processes.set_process(1, 4)
    assert (processes.process_index(), processes.process_count()) == (1, 4)


def test_a_stall_time_that_is_no_number_is_named(monkeypatch):
    monkeypatch.setenv(processes.STALL_VARIABLE, "soon")
    with pytest.raises(ValueError, match="HUMPBACK_STALL_SECONDS='soon'"):
        processes.stall_seconds()


def test_asking_imports_nothing_heavy():
    code = "import sys, humpback_jax.runtime.processes as p; p.process_count(); print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_waiting_is_reported_now_and_then(monkeypatch, capsys):
    monkeypatch.setattr(processes, "REMINDER_SECONDS", 0.0)
    left = [["a", "b"], ["b"], []]
    processes.wait_until_complete(lambda: left.pop(0), poll_seconds=0.001, patience=30)
    printed = capsys.readouterr().err
    assert "waiting for other processes: 2 missing: a, b" in printed
    assert "1 missing: b" in printed


def run(folder, work=lambda folder: None, **options):
    """A stage function: claim, work, finish."""
    claim = begin_stage(folder, {"seed": 0}, {}, **options)
    if claim.finished:
        return claim.stage
    work(claim.folder)
    return claim.finish(StageResult({"in": 1, "out": 1, "rejected": {}}, {"product": "hash"}) if is_leader() else None)


def write_product(folder):
    (folder / "product").write_text("whole")


@pytest.mark.parametrize("shared", [False, True])
def test_a_follower_waits_for_the_manifest(monkeypatch, tmp_path, shared):
    calls = []

    def the_leader_is_done(looks):
        if looks == 10:
            write_json(tmp_path / "stage" / "manifest.json", {"outputs": {"product": "hash"}})

    clock = FakeTime(the_leader_is_done)
    monkeypatch.setattr(processes, "time", clock)
    be(monkeypatch, 1, 2)
    stage = run(tmp_path / "stage", calls.append, shared=shared)
    assert stage.outputs == {"product": "hash"}
    assert clock.sleeps == 10
    assert len(calls) == shared


def test_a_follower_without_a_leader_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(processes, "time", FakeTime())
    be(monkeypatch, 1, 2)
    with pytest.raises(TimeoutError, match=r"manifest\.json.*run the same command again"):
        run(tmp_path / "stage", write_product)
    assert not (tmp_path / "stage" / "product").exists()


def test_a_leader_that_writes_files_is_waited_for(monkeypatch, tmp_path):
    """Ten times as long as the limit, with a sign of life within each."""
    be(monkeypatch, 1, 2, stall=str(2.5 * processes.POLL_SECONDS))
    stage = tmp_path / "stage"
    claim_directory(stage, {"settings.seed": 0})

    def work(looks):
        if looks % 2 == 0:
            with (stage / "log").open("a") as log:
                log.write(f"{looks}\n")
        if looks == 25:
            write_json(stage / "manifest.json", {"outputs": {}})

    monkeypatch.setattr(processes, "time", FakeTime(work))
    assert run(stage, write_product).manifest == {"outputs": {}}
