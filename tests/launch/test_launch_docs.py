"""docs/launch.md: its settings are read, its commands run (dry), and it knows every error that the program knows."""

import pathlib
import re
import shlex

import pytest
from click.testing import CliRunner

from humpback_jax.cli import cli
from humpback_jax.gin_utils import rewrite_gin_args
from humpback_jax.launch.advice import ADVICE
from humpback_jax.launch.settings import read_settings

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "launch.md").read_text()
BLOCKS = re.findall(r"(<!-- needs a cloud -->\n)?```(\w+)\n(.*?)```", PAGE, re.S)
TOML = [text for _, language, text in BLOCKS if language == "toml"]
COMMANDS = [line for cloud, language, text in BLOCKS if language == "bash" and not cloud for line in text.splitlines()]


def test_the_page_has_what_these_tests_look_for():
    assert len(TOML) == 4
    assert {command.split()[2] for command in COMMANDS} >= {
        "create",
        "wait",
        "setup",
        "run",
        "resume",
        "status",
        "logs",
    }


@pytest.mark.parametrize("text", TOML, ids=[re.search('backend = "(.*)"', text)[1] for text in TOML])
@pytest.mark.parametrize("verb", ["create", "setup", "run", "delete"])
def test_settings_are_read_and_work_for_all_verbs(text, verb, tmp_path, monkeypatch):
    (tmp_path / "launch.toml").write_text(text)
    assert read_settings(tmp_path / "launch.toml").backend in text
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DRY_RUN", "1")
    arguments = ["launch", verb, *(["experiments/humpback_llama_7b.gin"] if verb == "run" else [])]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_run(command, tmp_path, monkeypatch):
    (tmp_path / "launch.toml").write_text(TOML[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DRY_RUN", "1")
    words = rewrite_gin_args(shlex.split(command))
    assert words[0] == "humpback"
    result = CliRunner().invoke(cli, words[1:])
    nothing_run = isinstance(result.exception, ValueError) and "nothing was run" in str(result.exception)
    assert result.exit_code == 0 or (nothing_run and words[2] in ("resume", "logs")), result


@pytest.mark.parametrize(("pattern", "advice"), ADVICE, ids=[advice[:30] for _, advice in ADVICE])
def test_every_known_error_is_in_the_table(pattern, advice):
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    assert any(re.search(pattern, row) or pattern.split(":")[-1].strip() in row for row in rows), pattern
