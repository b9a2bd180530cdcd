"""The Makefile takes a Python that fits, whichever is there."""

import os
import pathlib
import shutil
import subprocess

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
