"""The command: quick help, one line for a user's mistake, figures as JSON."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest

from humpback_jax import cli
from humpback_jax.command_options import TAG_NAMES
from humpback_jax.corpus.segment_files import read_segments
from humpback_jax.prompts.prompts import TAG_CHOICES
from humpback_jax.run_files import default_run_dir
from humpback_jax.runtime.processes import COUNT_VARIABLE, INDEX_VARIABLE, process_count, process_index

VERBS = [
    *(("align",), ("train",), ("augment",), ("generate",), ("chat",), ("report",)),
    *(("weights", "import"), ("weights", "export"), ("weights", "verify"), ("weights", "fetch")),
    *(("weights", "export-adapter"), ("weights", "import-adapter")),
    *(("corpus", verb) for verb in ("build", "show", "stats", "explain")),
    *(("data", "show"), ("data", "tfds"), ("t5x", "export"), ("t5x", "import")),
    *(("fit",), ("plan",), ("explain",), ("forget",), ("prefer",), ("curate", "calibrate"), ("curate", "label")),
    *(("judge", "page"), ("judge", "serve"), ("judge", "tally")),
    *(("publish", "data"), ("publish", "model")),
    *(("launch", verb) for verb in ("init", "create", "wait", "setup", "run", "status", "logs")),
    *(("launch", verb) for verb in ("stop", "resume", "delete")),
    *(("evaluate", name) for name in ("winrate", "benchmarks", "alpaca", "judge", "decontaminate", "sweep", "scaling")),
    *(("evaluate", name) for name in ("compare", "published", "statistics", "harness", "evidence")),
]
OPENED = "humpback_jax.stages.model.open_named_model"
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
    without_json = {("chat",), ("weights", "fetch"), ("evaluate", "harness")}  # the harness has its own arguments
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


QUICKSTART, SMOKE = "--gin_file=experiments/quickstart.gin", "--gin_file=smoke.gin"


@pytest.mark.parametrize(
    ("files", "run_dir"),
    [
        (["experiments/quickstart.gin"], "runs/quickstart"),
        (["experiments/humpback_llama_65b.gin", "smoke.gin"], "runs/humpback_llama_65b-smoke"),
        (["experiments/quickstart.gin", "smoke.gin"], "runs/quickstart-smoke"),
        (["/somewhere/mine.gin", "gin_configs/paper.gin", "smoke.gin"], "runs/mine-paper-smoke"),
    ],
)
def test_a_run_is_named_after_all_its_gin_files(files, run_dir):
    assert default_run_dir(files) == run_dir


@pytest.mark.parametrize("verb", [("curate", "--round=1"), ("evaluate",)], ids=["curate", "evaluate"])
def test_two_experiments_with_a_file_in_common_share_no_run(humpback, tmp_path, monkeypatch, tiny_model_dir, verb):
    monkeypatch.chdir(tmp_path)
    common = [*verb, SMOKE, f"--gin.Recipe.base={tiny_model_dir}"]
    for experiment in ("quickstart", "humpback_llama_7b"):
        humpback(*common[:1], f"--gin_file=experiments/{experiment}.gin", *common[1:])
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"humpback_llama_7b-smoke", "quickstart-smoke"}


def test_a_run_under_its_older_default_name_is_pointed_to(humpback, tmp_path, monkeypatch, tiny_model_dir):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "smoke").mkdir(parents=True)
    command = ["curate", QUICKSTART, SMOKE, f"--gin.Recipe.base={tiny_model_dir}", "--round=1"]
    note = "a new run begins in runs/quickstart-smoke; to go on with what is in runs/smoke, add"
    assert f"{note} --run_dir=runs/smoke\n" in humpback(*command)[2]
    assert "a new run" not in humpback(*command)[2]
    assert "a new run" not in humpback(*command, "--run_dir=runs/smoke")[2]
    assert (tmp_path / "runs" / "smoke" / "config.gin").exists()


MODEL_VERBS = {  # what works on a run or a model, and where its work begins
    ("align", QUICKSTART): "humpback_jax.align.Alignment.align",
    ("train", QUICKSTART, "--model=m0"): "humpback_jax.align.Alignment.train_seed_model",
    ("augment", QUICKSTART): "humpback_jax.align.Alignment.augment",
    ("curate", QUICKSTART, "--round=1"): "humpback_jax.align.Alignment.curate",
    ("generate", QUICKSTART, "Hello"): "humpback_jax.align.Alignment.generate",
    ("evaluate", QUICKSTART): "humpback_jax.align.Alignment.evaluate",
    ("evaluate", "sweep", "--gin_file=sweeps/quickstart.gin", "--out=out"): "humpback_jax.align.Alignment.align",
    ("evaluate", "alpaca", "m", "--instructions=rows.json", "--out=out"): OPENED,
    ("evaluate", "judge", "rows.json", "rows.json", "--out=out", "--judge_model=m"): OPENED,
    ("evaluate", "benchmarks", "m", "--data=.", "--tasks=piqa"): OPENED,
}


@pytest.mark.parametrize("arguments", MODEL_VERBS, ids=lambda arguments: " ".join(arguments[:2]))
def test_verbs_that_work_on_models_know_their_process_and_stop_on_sigterm(humpback, tmp_path, monkeypatch, arguments):
    for name in (INDEX_VARIABLE, COUNT_VARIABLE):
        monkeypatch.setenv(name, "0")  # so that what the verb sets is undone
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.json").write_text(json.dumps([{"instruction": "Hello", "output": "Hi", "generator": "m"}]))
    seen = []

    def work(*args, **kwargs):
        seen.append((process_index(), process_count()))
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("went on after the signal")

    monkeypatch.setattr(MODEL_VERBS[arguments], work)
    monkeypatch.setattr("humpback_jax.align.Alignment.cut_segments", lambda self: None)
    monkeypatch.setattr("humpback_jax.command_options.use_compilation_cache", lambda: seen.append("cache"))
    status, _, err = humpback(*arguments, "--process_index=0", "--process_count=2")
    assert seen == ["cache", (0, 2)], err
    assert status == 0
    assert "stopped by SIGTERM; run the same command to go on" in err


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
    assert report["segments"] == len(list(read_segments(out))) == 3


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


def test_the_tags_of_the_command_line_are_those_of_the_prompts(humpback):
    assert set(TAG_NAMES) == set(TAG_CHOICES)
    status, _, err = humpback("generate", QUICKSTART, "Hello", "--tags=ai")
    assert status == 2
    assert "the tag `ai` is called `seed`: write --tags seed" in err


def test_an_adapter_of_a_stage_without_one_is_refused(humpback, tmp_path):
    result = humpback("weights", "export-adapter", tmp_path, tmp_path / "out")
    assert "expected a stage that was trained with FinetuneConfig.lora" in one_error_line(result)


def test_a_package_that_is_not_installed_is_named_in_one_line(humpback, monkeypatch, tmp_path):
    """The quickstart's environment has no TensorFlow."""
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    monkeypatch.delitem(sys.modules, "humpback_jax.data.tfds_builders", raising=False)
    message = one_error_line(humpback("data", "tfds", "seeds", tmp_path / "seeds.jsonl", f"--data_dir={tmp_path}"))
    assert "needs tensorflow_datasets, which is not installed here" in message and "make setup" in message
