"""SIGTERM: at once where nothing is lost, after the deferred work elsewhere; the command's status is 0."""

import os
import signal
import sys

import click
import pytest

from humpback_jax import cli
from humpback_jax.command_options import process_options
from humpback_jax.runtime.stopping import Stopped, deferred_stop, stop_on_sigterm, stop_requested


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_stops_at_once():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped, match="stopped by SIGTERM; run the same command to go on"), stop_on_sigterm():
        terminate()
        pytest.fail("went on after the signal")
    assert signal.getsignal(signal.SIGTERM) == before
    assert not stop_requested()


def test_a_deferred_signal_waits_for_the_outermost_block():
    reached = []
    with pytest.raises(Stopped), stop_on_sigterm():
        with deferred_stop():
            with deferred_stop():
                assert not stop_requested()
                terminate()
                terminate()
                assert stop_requested()
                reached.append("inner")
            reached.append("outer")
        pytest.fail("went on after the deferred block")
    assert reached == ["inner", "outer"]


def test_work_that_acts_on_the_signal_says_so_itself():
    with pytest.raises(Stopped, match="after update 7"), stop_on_sigterm(), deferred_stop():
        terminate()
        raise Stopped("stopped by SIGTERM after update 7")


def test_the_command_prints_a_line_and_ends_with_status_0(monkeypatch, capsys):
    @click.command()
    @process_options
    def verb():
        terminate()
        pytest.fail("went on after the signal")

    for name in ("HUMPBACK_PROCESS_INDEX", "HUMPBACK_PROCESS_COUNT", "HUMPBACK_COORDINATOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cli, "cli", verb)
    monkeypatch.setattr(sys, "argv", ["humpback"])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code == 0
    assert capsys.readouterr().err == "humpback: stopped by SIGTERM; run the same command to go on\n"
