"""launch/README.md and docs/launch.md: their commands run (dry), and they know every error that the program knows."""

import pathlib
import re
import shlex

import pytest
from click.testing import CliRunner

from humpback_jax.cli import cli
from humpback_jax.gin_utils import rewrite_gin_args
from humpback_jax.launch.command import launch
from humpback_jax.launch.settings import TEMPLATES, launch_files
from humpback_jax.launch.shell import ADVICE

README = (launch_files() / "README.md").read_text()
PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "launch.md").read_text()
BLOCKS = re.findall(r"(<!-- [^\n]* -->\n)?```(\w+)\n(.*?)```", README + PAGE, re.S)
COMMANDS = [line for other, language, text in BLOCKS if language == "bash" and not other for line in text.splitlines()]
VERBS = {"init", "create", "wait", "setup", "run", "resume", "status", "logs", "stop", "delete"}


def test_the_pages_have_what_these_tests_look_for():
    assert {command.split()[2] for command in COMMANDS} >= VERBS - {"stop", "delete"}
    assert set(launch.commands) == VERBS == set(re.findall(r"`(\w+)`", PAGE)) & VERBS
    for file in launch_files().iterdir():
        assert file.name in README or file.name.startswith(("README", "__"))


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_run(command, tmp_path, monkeypatch, filled):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DRY_RUN", "1")
    if "init" not in command:
        (tmp_path / "launch.toml").write_text(filled((launch_files() / TEMPLATES["tpu"]).read_text()))
    words = rewrite_gin_args(shlex.split(command))
    assert words[0] == "humpback"
    result = CliRunner().invoke(cli, words[1:])
    nothing_run = isinstance(result.exception, ValueError) and "nothing was run" in str(result.exception)
    assert result.exit_code == 0 or (nothing_run and words[2] in ("resume", "logs")), result


@pytest.mark.parametrize(("pattern", "advice"), ADVICE.items(), ids=[advice[:30] for advice in ADVICE.values()])
def test_every_known_error_is_in_the_table(pattern, advice):
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    assert any(re.search(pattern, row) or pattern.split(":")[-1].strip() in row for row in rows), pattern
