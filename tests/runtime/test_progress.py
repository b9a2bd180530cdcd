"""Progress: counts, the rate of this run alone, a log off the terminal, a bar on it, silence on request."""

import io

import pytest
from rich.console import Console

from humpback_jax.runtime import progress
from humpback_jax.runtime.console import say
from humpback_jax.runtime.progress import progress_bar


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_the_rate_counts_what_this_run_did(clock):
    with progress_bar("train", 10, "steps", done=4, show=False) as bar:
        clock[0] += 2.0
        bar.advance(3)
        assert bar.done == 7
        assert bar.rate == pytest.approx(1.5)


def test_the_log_speaks_now_and_then_and_at_the_end(clock, capsys):
    with progress_bar("train", 40, "steps") as bar:
        for _ in range(40):
            clock[0] += 1.0
            bar.advance(loss=1.23456789, tokens_per_second=321)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" steps")[0] for line in lines] == [
        "train: 1/40",
        "train: 16/40",
        "train: 31/40",
        "train: 40/40",
    ]
    assert "loss 1.235  tokens_per_second 321" in lines[0]
    assert "1.00/s  24 s left" in lines[1]
    assert "0 s left" in lines[-1]


def test_silence_is_silent(capsys):
    with progress_bar("train", 2, "steps", show=False) as bar:
        bar.advance(2)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_a_terminal_gets_a_bar(monkeypatch):
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=160)
    monkeypatch.setattr(progress, "error_console", lambda: console)
    monkeypatch.setattr(progress.sys, "stderr", _Terminal())
    with progress_bar("augment", 8, "segments", done=3) as bar:
        bar.advance(5, loss=0.5)
    shown = stream.getvalue()
    assert "augment" in shown
    assert "8/8" in shown
    assert "segments/s" in shown
    assert "loss 0.5" in shown


class _Terminal(io.StringIO):
    def isatty(self):
        return True


def test_messages_go_to_stderr_on_one_line(capsys):
    say("[green]✓[/green] " + "word " * 60)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("✓ word")
    assert len(captured.err.splitlines()) == 1
