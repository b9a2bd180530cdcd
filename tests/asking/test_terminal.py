"""`humpback chat` through a pipe and in a terminal: commands, mistakes, pasted lines, Ctrl-C, Ctrl-D."""

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from humpback_jax.asking.terminal import run_command
from humpback_jax.cli import cli

COMMAND = [sys.executable, "-m", "humpback_jax", "chat"]


def test_questions_come_through_a_pipe(run_dir):
    lines = "Why?\n\n/reset\n/tags off\n/prompt Wh\\\ny?\n/nonsense\n/set temperature hot\nHow?"
    result = CliRunner().invoke(cli, ["chat", str(run_dir), "--temperature=1"], input=lines)
    assert result.exit_code == 0, result.output
    assert "tags: none\n<|im_start|>user\nWh\ny?<|im_end|>" in result.stdout
    assert re.search(r"^\(\d+ tokens\)$", result.stdout, re.M)
    assert "no command /nonsense" in result.stderr
    assert "expected a number" in result.stderr
    first, last = result.stdout.split("tags: none")[0], result.stdout.rpartition("tokens)\n")[2]
    assert first.strip() and last.strip()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/set temperature -1", "emperature"),
        ("/set top_p 2", "top_p"),
        ("/set max_new_tokens 0", "room for 1 to"),
        ("/set max_new_tokens 9999999", "start with --max_new_tokens"),
        ("/set max_new_tokens 1.5", "expected a whole number"),
        ("/set seed -1", "seed is -1"),
        ("/set colour blue", "takes a name and a value: temperature, top_p, max_new_tokens, seed"),
        ("/set temperature", "takes a name and a value"),
        ("/tags blue", "choose on, off, seed or web"),
        ("/history maybe", "choose on or off"),
        ("/prompt", "nothing was asked yet"),
        ("/etc/passwd", "no command /etc/passwd"),
    ],
)
def test_a_mistaken_command_changes_nothing_and_says_what_is_wrong(open_conversation, line, message):
    conversation = open_conversation()
    before = (conversation.settings, conversation.tags, conversation.remembers)
    with pytest.raises(ValueError, match=message):
        run_command(conversation, line)
    assert (conversation.settings, conversation.tags, conversation.remembers) == before


def test_commands_change_what_the_next_answer_is_made_with(open_conversation):
    conversation = open_conversation()
    words = {"on": ("seed", "web"), "off": (), "ai": ("seed",), "seed": ("seed",), "web": ("web",)}
    for word, tags in words.items():
        run_command(conversation, f"/tags {word}")
        assert conversation.tags == tags
    assert "temperature 0.5" in run_command(conversation, "/set temperature 0.5")
    assert "seed 3" in run_command(conversation, "/set seed=3")
    assert (conversation.settings.temperature, conversation.settings.seed) == (0.5, 3)
    conversation.turns.append(("Hello.", "Good day."))
    assert run_command(conversation, "/history") == "> Hello.\nGood day."
    run_command(conversation, "/history off")
    assert conversation.history == []
    run_command(conversation, "/history on")
    assert len(conversation.history) == 1
    run_command(conversation, "/reset")
    assert conversation.turns == []


class Terminal:
    """A program in a pseudo-terminal."""

    def __init__(self, command):
        self.master, slave = pty.openpty()
        environment = os.environ | {"JAX_PLATFORMS": "cpu", "TERM": "xterm"}
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True,
            preexec_fn=lambda: __import__("fcntl").ioctl(0, __import__("termios").TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(slave)
        self.seen = ""

    def send(self, text):
        self.seen = ""
        os.write(self.master, text.encode())

    def interrupt_until(self, pattern):
        """Ctrl-C, and again while nothing comes: between a prompt and the wait for keys, Python loses it."""
        for _ in range(20):
            self.send("\x03")
            if select.select([self.master], [], [], 5)[0]:
                break
        self.read_until(pattern)

    def ask_until(self, text, pattern):
        """A line, and again where a Ctrl-C that came after the end of an answer has thrown it away."""
        for _ in range(20):
            self.send(text)
            if re.search(pattern, self.read_until(f"{pattern}|Ctrl-D leaves")):
                return
        pytest.fail(self.seen)

    def leave(self):
        """Ctrl-D, and again while the program is there: before the prompt's keys are read, the terminal eats it."""
        for _ in range(20):
            self.send("\x04")
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self.process.wait(5)
        return None

    def read_until(self, pattern, seconds=120):
        deadline = time.monotonic() + seconds
        # What a terminal obeys (also half of it, as it comes) is nothing that it shows.
        while not re.search(pattern, re.sub(r"\x1b\[?[?0-9;]*[a-zA-Z]?", "", self.seen)):
            assert time.monotonic() < deadline, self.seen
            if select.select([self.master], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self.master, 4096).decode(errors="replace")
                except OSError:  # the program has left
                    pytest.fail(f"left: {self.seen}")
        return self.seen


@pytest.fixture
def terminal(run_dir):
    opened = Terminal([*COMMAND, str(run_dir), "--temperature=1", "--max_new_tokens=120"])
    yield opened
    if opened.process.poll() is None:
        opened.process.kill()
    opened.process.wait()
    os.close(opened.master)


def test_a_terminal_stops_an_answer_takes_pasted_lines_and_leaves_at_ctrl_d(terminal):
    terminal.read_until("> ")
    terminal.interrupt_until(r"Ctrl-D leaves[^>]*> ")
    # Two lines as a terminal pastes them, and a return.
    terminal.send("\x1b[200~/prompt first\nsecond\x1b[201~\r")
    assert "user\r\nfirst\r\nsecond" in terminal.read_until(r"tokens\)")
    terminal.read_until("> ")
    terminal.send("Why?\r")
    terminal.read_until(r"Why\?\s+\S")
    os.kill(terminal.process.pid, signal.SIGINT)
    terminal.ask_until("/history\r", r"> Why\?")
    terminal.read_until(r"\n> $")
    assert terminal.leave() == 0
