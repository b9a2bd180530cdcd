"""What ends a process tells its starter whether the same command may be run again."""

import os
import subprocess
import sys

import pytest

from humpback_jax import cli
from humpback_jax.runtime.stopping import Stopped


@pytest.mark.parametrize(
    ("error", "plain", "watched"),
    [
        (Stopped("stopped by SIGTERM"), 0, 75),
        (ConnectionError("update 3 failed"), 1, 75),
        (ValueError("no such model"), 1, 1),
    ],
    ids=["stopped", "peer", "mistake"],
)
def test_a_watcher_can_tell_a_stop_from_an_end(error, plain, watched, monkeypatch):
    def raise_it(**kwargs):
        raise error

    monkeypatch.setattr(cli.cli, "main", raise_it)
    monkeypatch.setattr(sys, "argv", ["humpback", "align"])
    for variables, status in (({}, plain), ({"HUMPBACK_RETRY_STATUS": "75"}, watched)):
        monkeypatch.delenv("HUMPBACK_RETRY_STATUS", raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as caught:
            cli.main()
        assert caught.value.code == status


def test_work_that_hangs_may_be_run_again():
    program = "import time, humpback_jax.runtime.watchdog as w\nwith w.watchdog('it', 0.01, 'wait'): time.sleep(60)"
    environment = os.environ | {"HUMPBACK_RETRY_STATUS": "75"}
    ended = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert ended.returncode == 75
    assert "it has taken more than 0.01 s; wait" in ended.stderr
