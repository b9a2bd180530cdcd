"""The Makefile takes a Python that fits, whichever is there."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize(
    ("there", "taken"),
    [
        (["3.10", "3.12", "3.13", "3.14"], "python3.12"),
        (["3.13"], "python3.13"),
        (["3.11", "3.13"], "python3.11"),
        (["3.10", "3.14"], "python3.11"),  # none: its name is in the message of the shell
    ],
)
def test_the_first_python_that_fits_is_taken(tmp_path, there, taken):
    programs = tmp_path / "programs"
    programs.mkdir()
    for version in there:
        program = programs / f"python{version}"
        program.write_text(f"#!/bin/sh\necho python{version}\n")
        program.chmod(0o755)
    # A name without a Python behind it, as version managers leave them.
    if "3.11" not in there:
        (programs / "python3.11").write_text("#!/bin/sh\necho not installed >&2\nexit 127\n")
        (programs / "python3.11").chmod(0o755)
    for tool in ("make", "sh"):
        (programs / tool).symlink_to(shutil.which(tool))
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHON", "MAKEFLAGS")}
    command = ["make", "-n", "-f", str(ROOT / "Makefile"), "-C", str(tmp_path), "quickstart"]
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text("")
    done = subprocess.run(command, env=environment | {"PATH": str(programs)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{taken} -m venv .venv-{taken}" in done.stdout


def dry_run(target, **variables):
    """What make would do in a fresh checkout."""
    command = ["make", "-n", "-C", str(ROOT), target, *(f"{name}={value}" for name, value in variables.items())]
    environment = {key: value for key, value in os.environ.items() if key != "MAKEFLAGS"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_the_quickstart_leaves_out_seqio_and_what_it_brings_and_nothing_else(tmp_path):
    (line,) = [line for line in dry_run("quickstart", VENV=tmp_path / "env").splitlines() if "tomllib" in line]
    command = line.replace(str(tmp_path / "env" / "bin" / "python"), sys.executable).partition(" > ")[0]
    listed = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    left_out = {re.match(r"[\w-]+", name).group() for name in set(declared) - set(listed)}
    assert set(listed) < set(declared)
    assert left_out == {"seqio", "tensorflow-datasets"}


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_development_completes_the_environment_of_the_quickstart(tmp_path):
    light, full = dry_run("quickstart", VENV=tmp_path / "env"), dry_run("setup", VENV=tmp_path / "env")
    assert "[dev]" not in light and "--editable '.[dev]'" in full
    for line in light.splitlines():
        assert line in full or "humpback align" in line, line
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / ".light").touch()
    assert " -m venv " not in dry_run("setup", VENV=tmp_path / "env")
