"""Work that hangs ends the process with a message; work that is done in time is left alone."""

import subprocess
import sys
import threading

import pytest
from waiting import PATIENCE, wait_until

from humpback_jax.runtime.watchdog import watchdog


def test_work_that_takes_too_long_is_named_with_seconds_and_advice():
    called, messages = threading.Event(), []

    def on_hang(message):
        messages.append(message)
        called.set()

    with watchdog("saving checkpoint 12", 0.01, "look at the disk", on_hang):
        assert called.wait(PATIENCE)
    assert messages == ["saving checkpoint 12 has taken more than 0.01 s; look at the disk"]


@pytest.mark.parametrize("limit", [3600.0, None])
def test_work_that_is_done_in_time_is_left_alone(limit):
    before = set(threading.enumerate())
    with watchdog("update 57", limit, "", pytest.fail):
        assert len(set(threading.enumerate()) - before) == (limit is not None)
    with pytest.raises(ZeroDivisionError), watchdog("update 57", limit, "", pytest.fail):
        1 / 0  # noqa: B018
    wait_until(lambda: not set(threading.enumerate()) - before, "the end of the watch")


def test_a_hang_ends_the_process_loudly():
    code = """
import threading
from humpback_jax.runtime.watchdog import watchdog
def hanging_save():
    threading.Event().wait()
with watchdog("saving checkpoint 12", 0.1, "look at the disk, then run the same command again"):
    hanging_save()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "in hanging_save" in done.stderr
    assert done.stderr.splitlines()[-1] == (
        "humpback: error: saving checkpoint 12 has taken more than 0.1 s; look at the disk, then run the same command "
        "again"
    )
