"""The command: quick help, one line for a user's mistake, figures as JSON."""

import json
import re
import subprocess
import sys

import pytest

from humpback_jax import cli

VERBS = [
    *(("align",), ("train",), ("augment",), ("curate",), ("generate",), ("report",)),
    *(("weights", "import"), ("weights", "export"), ("weights", "verify"), ("weights", "fetch")),
    *(("weights", "export-adapter"), ("weights", "import-adapter")),
    *(("corpus", "build"), ("data", "show"), ("data", "tfds"), ("t5x", "export"), ("t5x", "import")),
    *(("fit",), ("plan",)),
    *(("judge", "page"), ("judge", "serve"), ("judge", "tally")),
    *(("launch", verb) for verb in ("create", "wait", "setup", "run", "status", "logs", "stop", "resume", "delete")),
    *(("evaluate", name) for name in ("winrate", "benchmarks", "alpaca", "judge", "decontaminate", "sweep", "scaling")),
    *(("evaluate", name) for name in ("compare", "published", "statistics", "harness")),
]
HEAVY = {"jax", "jaxlib", "numpy", "gin", "tensorflow", "seqio", "flax", "transformers", "torch", "rich", "etils"}


@pytest.fixture
def humpback(monkeypatch, capsys):
    """Runs the command in this process: arguments to (exit status, stdout, stderr)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["humpback", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        captured = capsys.readouterr()
        return exit_.value.code or 0, captured.out, captured.err

    return run


def one_error_line(result):
    """The message of a failed command, which must be all that it printed."""
    status, out, err = result
    assert (status, out) == (1, "")
    assert len(err.splitlines()) == 1, err
    assert err.startswith("humpback: error: ")
    return err


def test_help_imports_nothing_heavy():
    command = [sys.executable, "-X", "importtime", "-m", "humpback_jax", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert {"click", "humpback_jax"} <= imported
    assert not imported & HEAVY
    assert all(verb[0] in done.stdout for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_has_help(humpback, verb):
    status, out, _ = humpback(*verb, "--help")
    assert status == 0
    assert out.startswith(f"Usage: humpback {' '.join(verb)} ")
    without_json = {("weights", "fetch"), ("evaluate", "harness")}  # the harness has its own arguments
    if verb not in without_json and (verb[0] != "launch" or verb[1] == "status"):
        assert "--json" in out


def test_every_verb_is_tested_here():
    groups = {name for name, command in cli.cli.commands.items() if hasattr(command, "commands")}
    found = {(name,) for name in cli.cli.commands if name not in groups}
    found |= {(group, name) for group in groups for name in cli.cli.commands[group].commands}
    assert found == set(VERBS)


def test_a_mistake_prints_one_line_and_no_traceback(tmp_path):
    command = [sys.executable, "-m", "humpback_jax", "report", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    message = one_error_line((done.returncode, done.stdout, done.stderr))
    assert f"no complete stage in {tmp_path}; run `humpback align" in message


def test_the_traceback_is_there_for_those_who_ask(humpback, tmp_path, monkeypatch):
    monkeypatch.setenv("HUMPBACK_DEBUG", "1")
    monkeypatch.setattr(sys, "argv", ["humpback", "report", str(tmp_path)])
    with pytest.raises(FileNotFoundError, match="no complete stage"):
        cli.main()


@pytest.mark.parametrize("files", [[], ["--gin_file=experiments/quickstart.gin"]], ids=["no file", "quickstart"])
def test_a_mistyped_binding_is_named(humpback, files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "'Typo'" in one_error_line(humpback("align", *files, "--gin.Typo=1"))
    assert not list(tmp_path.iterdir())


def test_a_recipe_is_asked_for_where_there_is_none(humpback, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, err = humpback("align")
    assert status != 0
    assert "--gin_file" in err
    assert not list(tmp_path.iterdir())


def test_a_missing_gin_file_is_named(humpback, tmp_path):
    message = one_error_line(humpback("align", "--gin_file=experiments/quickstat.gin", f"--run_dir={tmp_path}"))
    assert "experiments/quickstat.gin" in message
    assert "experiments/quickstart.gin" in message


@pytest.mark.parametrize("model", ["m", "base", "m1x", "M_yx"])
def test_an_unknown_model_name_lists_the_choices(humpback, tmp_path, model):
    arguments = ["--gin_file=experiments/quickstart.gin", f"--run_dir={tmp_path}", f"--model={model}"]
    assert f"unknown model '{model}'; choose m_yx" in one_error_line(humpback("train", *arguments))


def test_a_stage_run_too_early_says_what_comes_first(humpback, tmp_path, tiny_model_dir):
    arguments = [
        "--gin_file=experiments/quickstart.gin",
        f"--run_dir={tmp_path}",
        f"--gin.Recipe.base={tiny_model_dir}",
    ]
    message = one_error_line(humpback("curate", *arguments, "--round=1"))
    assert "m0 is not complete; run `humpback train --model m0` first" in message


def test_a_base_model_of_another_size_is_refused(humpback, tmp_path, tiny_model_dir):
    arguments = [
        "--gin_file=experiments/quickstart.gin",
        f"--run_dir={tmp_path}",
        f"--gin.Recipe.base={tiny_model_dir}",
    ]
    status, _, err = humpback("train", *arguments, "--model=m0")
    assert status == 1
    assert "vocab_size is 320, declared 49152" in err.splitlines()[-1]


@pytest.fixture
def pages(tmp_path):
    folder = tmp_path / "pages"
    folder.mkdir()
    for number in range(3):
        text = f"Bird number {number} of this list sings in the morning, rests at noon and flies home at night."
        (folder / f"{number}.html").write_text(f"<h1>About bird {number}</h1><p>{text}</p><h2>Share</h2><p>Now</p>")
    return folder


def test_corpus_counts_add_up(humpback, pages, tmp_path):
    out = tmp_path / "segments"
    status, printed, _ = humpback("corpus", "build", pages, "--out", out, "--min_chars", 40, "--json")
    assert status == 0
    report = json.loads(printed)
    assert report["records"] == report["pages"] + sum(report["rejected_records"].values()) == 3
    assert report["candidates"] == report["segments"] + sum(report["rejected_segments"].values()) == 6
    assert report["segments"] == len((out / "segments.jsonl").read_text().splitlines()) == 3


def test_corpus_counts_are_printed_by_reason(humpback, pages, tmp_path):
    status, printed, _ = humpback("corpus", "build", pages, "--out", tmp_path / "segments", "--min_chars", 40)
    assert status == 0
    assert re.search(r"^segments: 3$", printed, re.MULTILINE)
    assert re.search(r"^rejected_segments:\n  navigation_header: 3$", printed, re.MULTILINE)


def test_an_empty_corpus_says_why(humpback, pages, tmp_path):
    status, printed, err = humpback("corpus", "build", pages, "--out", tmp_path / "segments", "--json")
    assert status == 0
    assert json.loads(printed)["candidates"] == 6
    assert "humpback: warning: no segment is left of 3 records and 6 candidates" in err.splitlines()[-1]


def test_a_corpus_of_damage_alone_is_an_error(humpback, tmp_path):
    (tmp_path / "empty.html").write_bytes(b"")
    status, printed, err = humpback("corpus", "build", tmp_path / "empty.html", "--out", tmp_path / "out", "--json")
    assert status == 1
    assert json.loads(printed)["rejected_records"] == {"empty_file": 1}
    assert "humpback: error: no segment is left of 1 records" in err.splitlines()[-1]


@pytest.fixture
def seeds(tmp_path):
    rows = [{"instruction": f"Say {i}.", "output": f"{i}, gladly."} for i in range(4)]
    path = tmp_path / "seeds.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"instruction": "Nothing.", "output": ""}\n')
    return path


def test_data_show_as_json(humpback, seeds, tiny_model_dir):
    status, printed, _ = humpback("data", "show", seeds, "--model", tiny_model_dir, "--limit", 2, "--json")
    assert status == 0
    shown = json.loads(printed)
    assert shown["counts"]["read"] == 5 == shown["counts"]["kept"] + sum(shown["counts"]["rejected"].values())
    assert len(shown["examples"]) == 2
    assert all(example["prompt"] and example["answer"] for example in shown["examples"])


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_data_show_for_the_eye(humpback, seeds, tiny_model_dir, direction):
    status, printed, _ = humpback("data", "show", seeds, "--model", tiny_model_dir, "--direction", direction)
    assert status == 0
    assert printed.count("Say ") == 3
    assert ("Answer in the style of an AI Assistant." in printed) == (direction == "forward")
    assert "kept: 4" in printed


def test_data_show_names_a_missing_file(humpback, tmp_path, tiny_model_dir):
    message = one_error_line(humpback("data", "show", tmp_path / "absent.jsonl", "--model", tiny_model_dir))
    assert "absent.jsonl" in message


def test_profile_steps_that_make_no_sense_are_refused(humpback):
    result = humpback("align", "--gin_file=experiments/quickstart.gin", "--profile_steps=5:2")
    assert "--profile_steps=5:2: expected A:B" in one_error_line(result)


def test_an_adapter_of_a_stage_without_one_is_refused(humpback, tmp_path):
    result = humpback("weights", "export-adapter", tmp_path, tmp_path / "out")
    assert "expected a stage that was trained with FinetuneConfig.lora" in one_error_line(result)
