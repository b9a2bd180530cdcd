"""The backend `ssh` with programs in place of ssh and scp that run here what they are asked to run there."""

import json
import os

import pytest
from click.testing import CliRunner

from humpback_jax.cli import cli

SECRET = "wandb-0123456789abcdef"
# Takes options as the real ones do: -q alone, -o with a value; every host is a folder.
SSH = """#!/bin/bash
while [ "${1:0:1}" = - ]; do [ "$1" = -o ] && shift; shift; done
echo "$1 $2" >> "$HOSTS/ssh.log"
if [ -s "$HOSTS/failures" ]; then
  sed -i 1d "$HOSTS/failures"
  echo "ssh: connect to host $1 port 22: Connection refused" >&2
  exit 255
fi
cd "$HOSTS/$1" && exec bash -c "$2"
"""
SCP = """#!/bin/bash
while [ "${1:0:1}" = - ]; do [ "$1" = -o ] && shift; shift; done
target=${!#}
cp "${@:1:$#-1}" "$HOSTS/${target%%:*}/${target#*:}"
"""
PYTHON = """#!/bin/bash
echo "process $HUMPBACK_PROCESS_INDEX of $HUMPBACK_PROCESS_COUNT at $HUMPBACK_COORDINATOR: $*"
echo "the key is $WANDB_API_KEY, ${#WANDB_API_KEY} letters"
[ "$HUMPBACK_PROCESS_INDEX" = "$FAILING" ] && exit 9
exit 0
"""
SETTINGS = """
name = "lab"
backend = "ssh"
hosts = ["me@n0", "me@n1"]
ssh_options = ["-o", "Port=2222"]
python = {python!r}
bucket = "/shared/humpback"
secrets = ["WANDB_API_KEY"]
env = {{ FAILING = "{failing}" }}
"""


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A function (failing worker, failing connections) to one that types `humpback launch VERB …`."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("ssh", SSH), ("scp", SCP), ("python", PYTHON)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    for host in ("me@n0", "me@n1"):
        (tmp_path / host).mkdir()
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("HOSTS", str(tmp_path))
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    monkeypatch.setenv("HUMPBACK_LAUNCH_SPEED", "100")
    monkeypatch.delenv("DRY_RUN", raising=False)

    def prepare(failing="", failures=0):
        path = tmp_path / "launch.toml"
        path.write_text(SETTINGS.format(python=str(programs / "python"), failing=failing))
        (tmp_path / "failures").write_text("x\n" * failures)
        return lambda verb, *arguments: CliRunner().invoke(cli, ["launch", verb, f"--settings={path}", *arguments])

    return prepare


def test_one_command_on_all_hosts_with_its_own_gin_file_and_no_secret_in_sight(lab, tmp_path):
    (tmp_path / "mine.gin").write_text("include 'experiments/quickstart.gin'\n")
    typed = lab()
    result = typed("run", str(tmp_path / "mine.gin"))
    assert result.exit_code == 0, result
    arguments = "-m humpback_jax align --gin_file=./mine.gin --run_dir=/shared/humpback/runs/mine"
    assert f"process 0 of 2 at n0:8476: {arguments}" in result.output
    assert f"the key is [secret], {len(SECRET)} letters" in result.output
    assert (tmp_path / "me@n1" / ".humpback" / "lab" / "1" / "mine.gin").exists()
    assert f"process 1 of 2 at n0:8476: {arguments}" in typed("logs", "--worker=1").output
    workers = json.loads(typed("status", "--json").output)["workers"]
    assert [(worker["state"], worker["status"]) for worker in workers] == [("exited", 0), ("exited", 0)]
    kept = [path.read_text() for path in (tmp_path / ".launch").rglob("*") if path.is_file()]
    assert SECRET not in "".join([*kept, (tmp_path / "ssh.log").read_text(), result.output])


def test_connections_that_fail_are_tried_again(lab):
    result = lab(failures=4)("run", "experiments/quickstart.gin")
    assert result.exit_code == 0, result


def test_the_first_failure_gives_the_exit_code(lab):
    result = lab(failing="1")("run", "experiments/quickstart.gin")
    assert result.exit_code == 9
    assert "worker 1 of 2 ended with 9, before the others; the last it wrote:\nprocess 1 of 2" in result.output
