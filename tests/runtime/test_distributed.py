"""Processes that train together: what they are told, and what they say when they do not find each other."""

import subprocess
import sys

import pytest

from humpback_jax.runtime import distributed, processes

VARIABLES = (
    processes.INDEX_VARIABLE,
    processes.COUNT_VARIABLE,
    distributed.COORDINATOR_VARIABLE,
    distributed.START_VARIABLE,
    distributed.HEARTBEAT_VARIABLE,
)


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in VARIABLES:
        monkeypatch.setenv(name, "0")  # so that what a test sets is undone
        monkeypatch.delenv(name)


def test_one_process_alone_says_nothing(capsys):
    distributed.join_processes(None)
    assert capsys.readouterr().err == ""


def test_processes_without_a_coordinator_are_told_who_trains(monkeypatch, capsys):
    processes.set_process(1, 2)
    distributed.join_processes(None)
    assert capsys.readouterr().err.startswith("process 1 of 2; process 0 trains alone")


@pytest.mark.parametrize("address", ["host", "host:", ":1234", "host:port"])
def test_an_address_without_host_or_port_is_refused(address):
    processes.set_process(0, 2)
    with pytest.raises(ValueError, match="is not HOST:PORT"):
        distributed.join_processes(address)


def test_a_coordinator_alone_does_not_say_which_process(monkeypatch):
    monkeypatch.setenv(distributed.COORDINATOR_VARIABLE, "localhost:1234")
    with pytest.raises(ValueError, match="add --process_index and --process_count"):
        distributed.join_processes(None)


def test_flags_of_one_process_are_their_own_agreement():
    assert distributed.agree(True, False) == (True, False)


def test_errors_of_one_process_are_not_blamed_on_others():
    with pytest.raises(ValueError, match=r"^Gloo"), distributed.peer_failures("update 3"):
        raise ValueError("Gloo is a word here")


def test_a_lost_connection_names_the_work_and_keeps_the_first_error(monkeypatch):
    monkeypatch.setattr("jax.process_count", lambda: 2)
    with (
        pytest.raises(ConnectionError, match=r"update 3 failed in process 0 of 2.*AllGather failed: closed") as error,
        distributed.peer_failures("update 3"),
    ):
        raise ValueError("UNKNOWN: Gloo AllGather failed: closed\nstack")
    assert isinstance(error.value.__cause__, ValueError)
    with pytest.raises(ValueError, match=r"^shapes differ$"), distributed.peer_failures("update 3"):
        raise ValueError("shapes differ")


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1])
def test_a_process_that_finds_no_other_says_so_and_ends(free_port, index):
    code = (
        "import sys; from humpback_jax.runtime import distributed, processes; "
        "processes.set_process(int(sys.argv[1]), 2); distributed.join_processes(sys.argv[2])"
    )
    environment = {"JAX_PLATFORMS": "cpu", "HUMPBACK_START_SECONDS": "3", "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-c", code, str(index), f"localhost:{free_port()}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1
    assert done.stderr.startswith(f"process {index} of 2: connecting to localhost:")
    assert "has taken more than 3 s; all 2 processes must run, with this address" in done.stderr
