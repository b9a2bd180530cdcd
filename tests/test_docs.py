"""README and docs: every command and every binding that they name exists, every link leads somewhere, pages run."""

import itertools
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import click
import gin
import pytest

from humpback_jax.cli import cli
from humpback_jax.evaluation.scaling.sweep import Sweep
from humpback_jax.gin_utils import CONFIGURABLES, configurables_of, parse_recipe, rewrite_gin_args

ROOT = pathlib.Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text() for page in PAGES}
# Pages whose commands, from top to bottom, take a user through a job.
JOBS = ("your_documents", "your_language", "your_seeds", "another_rubric")

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
INDENTED = re.compile(r"(?:^ {4}.*\n)+", re.M)
HEREDOC = re.compile(r"^cat > (\S+) <<'END'\n(.*?)^END\n", re.M | re.S)
# `Class.field`, or a scope before it, where it stands as code.
BINDING = re.compile(r"(?<![\w./])(?:[a-z_]+/)?([A-Z]\w+)\.([a-z]\w*)\b(?!\()")
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
CLASSES = {cls.__name__: cls for cls in (*CONFIGURABLES, *configurables_of(Sweep))}


def blocks(text, *languages):
    return [block for language, block in FENCE.findall(text) if language in languages]


def without_heredocs(block):
    return HEREDOC.sub("", block)


def commands_of(text):
    """Every `humpback …` of the code blocks as words; continued lines are one, comments go."""
    code = [without_heredocs(block) for _, block in FENCE.findall(text)] + INDENTED.findall(FENCE.sub("", text))
    for line in "\n".join(code).replace("\\\n", " ").splitlines():
        if line.strip().startswith("humpback ") and "…" not in line:
            yield tuple(shlex.split(line, comments=True))


COMMANDS = sorted({(name, command) for name, text in TEXTS.items() for command in commands_of(text)})


def verb_of(words):
    """(command, arguments) of the words after `humpback`."""
    command, words = cli, list(words)
    while isinstance(command, click.Group):
        if command.invoke_without_command and words[:1] and words[0].startswith("-"):
            break
        assert words and words[0] in command.commands, f"no verb {words[:1]} in {sorted(command.commands)}"
        command = command.commands[words.pop(0)]
    return command, words


def binding_mistakes(text):
    """Names `Class.field` of a recipe's classes that do not exist."""
    found = [(match[1], match[2]) for match in BINDING.finditer(text) if match[1] in CLASSES]
    return sorted({f"{owner}.{field}" for owner, field in found if field not in CLASSES[owner].__dataclass_fields__})


def shown(value):
    """A page's name, or a command without `humpback`, for the name of a test."""
    return value if isinstance(value, str) else " ".join(value[1:])[:50]


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=shown)
def test_every_command_is_one_that_the_program_has(page, command):
    verb, words = verb_of(command[1:])
    options = {name for p in verb.params for name in (*p.opts, *p.secondary_opts)} | {"--help"}
    # Behind `evaluate harness` and `launch run` stands another program's command line.
    free = verb.context_settings.get("ignore_unknown_options") or any(p.type is click.UNPROCESSED for p in verb.params)
    for word in words:
        if word.startswith("--") and not word.startswith("--gin.") and not free:
            assert word.partition("=")[0] in options, f"{page}: {shlex.join(command)}"
        if word.startswith("--gin.") and re.match(r"--gin\.(\w+/)?[A-Z]\w+\.", word):
            assert binding_mistakes(word) == [], page


@pytest.mark.parametrize("page", TEXTS)
def test_every_binding_is_one_that_a_recipe_has(page):
    assert binding_mistakes(TEXTS[page]) == []


def test_an_old_or_mistyped_name_is_found():
    assert binding_mistakes("bind `forward/Recipe.bais`, `Recipe.base` or `FinetuneConfig.batch_size = 3`") == [
        "FinetuneConfig.batch_size",
        "Recipe.bais",
    ]
    with pytest.raises(AssertionError, match="no verb"):
        verb_of(["curat"])


@pytest.mark.parametrize("page", TEXTS)
def test_every_link_leads_somewhere(page):
    for target in LINK.findall(TEXTS[page]):
        if not re.match(r"\w+:", target):
            assert (ROOT / page).parent.joinpath(target).exists(), target


def test_the_index_has_every_page():
    listed = set(LINK.findall(TEXTS["docs/README.md"]))
    assert listed == {path.name for path in DOCS.glob("*.md")} - {"README.md"}


def recipes_of(name):
    """(gin files, bindings) of every recipe of a job's page: of its commands, and of its gin blocks."""
    text = (DOCS / f"{name}.md").read_text()
    for command in commands_of(text):
        words = rewrite_gin_args(list(command))
        files, bindings = (
            [word.partition("=")[2] for word in words if word.startswith(f"--{option}=")]
            for option in ("gin_file", "gin_bindings")
        )
        if files:
            yield files, bindings
    for number, block in enumerate(blocks(text, "gin")):
        path = pathlib.Path(f"block{number}.gin")
        path.write_text(block)
        yield [str(path)], []


@pytest.mark.parametrize("name", JOBS)
def test_recipes_of_a_job_are_read(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path, content in HEREDOC.findall((DOCS / f"{name}.md").read_text()):
        if path.endswith(".gin"):
            pathlib.Path(path).write_text(content)
    recipes = list(recipes_of(name))
    assert recipes
    for files, bindings in recipes:
        gin.clear_config()
        assert parse_recipe(files, bindings).base == "smollm2_135m"


def script_of(name, skipped=()):
    """The shell blocks of a page as one script, without the commands that begin with one of `skipped`."""
    lines = "".join(blocks((DOCS / f"{name}.md").read_text(), "bash")).splitlines()
    return "\n".join(itertools.filterfalse(lambda line: line.startswith(tuple(skipped)), lines))


def run_script(script, folder):
    """What the script prints, in an empty folder, with `humpback` and `python` of this environment."""
    programs = folder / "programs"
    programs.mkdir()
    for program, arguments in (("humpback", "-m humpback_jax"), ("python", "")):
        (programs / program).write_text(f'#!/bin/sh\nexec {sys.executable} {arguments} "$@"\n')
        (programs / program).chmod(0o755)
    (folder / "work").mkdir()
    environment = os.environ | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
    }
    done = subprocess.run(
        ["bash", "-e"], input=script, cwd=folder / "work", env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_documents_become_segments_as_the_page_says(tmp_path):
    printed = run_script(script_of("your_documents", skipped=("humpback align", "humpback report")), tmp_path)
    assert "navigation_header: 1" in printed
    assert [int(count) for count in re.findall(r"^segments: (\d+)", printed, re.M)] == [1, 2]
    segments = (tmp_path / "work" / "segments" / "segments-00000-of-00001.jsonl").read_text()
    assert "How to keep a sourdough starter alive" in segments


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", JOBS)
def test_a_job_runs_from_top_to_bottom(name, tmp_path):
    run_script(script_of(name), tmp_path)
    (run_dir,) = (tmp_path / "work" / "runs").iterdir()
    assert (run_dir / "report.html").exists()
    assert (run_dir / "m2" / "model").is_dir()


def test_the_python_of_the_readme_runs(tiny_model_dir, monkeypatch, capsys):
    """As it stands, with the tiny model in the place of the downloaded one."""
    (code,) = blocks(TEXTS["README.md"], "python")
    monkeypatch.setattr("humpback_jax.weights.fetch.fetch_weights", lambda name: tiny_model_dir)
    exec(compile(code, "README.md", "exec"), {})
    assert 1 <= float(capsys.readouterr().out.split()[-1]) <= 5


def test_the_page_on_performance_is_what_was_measured():
    root = pathlib.Path(__file__).parents[1]
    command = [sys.executable, str(root / "benchmarks" / "performance_page.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
