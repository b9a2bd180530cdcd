"""`humpback evaluate`: tags, several processes, and being told to stop, as for every verb that works on a model."""

import json
import os
import signal
import subprocess
import sys
import threading

import pytest
from click.testing import CliRunner

from humpback_jax.cli import cli

RETRY_STATUS = 75


def start(*arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "humpback_jax", "evaluate", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "HUMPBACK_RETRY_STATUS": str(RETRY_STATUS)} | environment,
    )


@pytest.mark.parametrize("verb", ["alpaca", "benchmarks"])
def test_the_old_name_of_the_seed_tag_is_answered_with_the_new_one(verb):
    result = CliRunner().invoke(cli, ["evaluate", verb, "model", "--tags", "ai"])
    assert result.exit_code == 2
    assert "write --tags seed" in result.output


@pytest.mark.parametrize("verb", [[], ["alpaca"], ["benchmarks"], ["judge"], ["sweep"]], ids=" ".join)
def test_verbs_that_work_on_a_model_or_a_run_know_their_process(verb):
    text = CliRunner().invoke(cli, ["evaluate", *verb, "--help"]).output
    assert all(f"--{option} " in text for option in ("process_index", "process_count", "coordinator"))


@pytest.fixture
def outputs(tmp_path):
    """Outputs of two systems for eight instructions."""
    for name in ("base", "tuned"):
        rows = [{"instruction": f"Question {i}?", "output": f"{name} {i}", "generator": name} for i in range(8)]
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    return tmp_path / "tuned.json", tmp_path / "base.json"


def test_sigterm_ends_a_judge_with_the_status_that_starts_it_again(fake_judge, outputs, tmp_path):
    pytest.importorskip("openai", reason="needs the extra `eval`")
    asked, go_on = threading.Event(), threading.Event()

    def reply(prompt, call):
        asked.set()
        go_on.wait(60)
        return "A"

    fake_judge.reply = reply
    options = ["--judge=j", f"--base_url={fake_judge.url}", "--key_variable=", f"--out={tmp_path / 'judged'}"]
    process = start("judge", *outputs, *options)
    assert asked.wait(120), process.communicate()
    process.send_signal(signal.SIGTERM)
    # What is being asked is paid for: the reply may come, and is kept.
    threading.Timer(1.0, go_on.set).start()
    _, errors = process.communicate(timeout=120)
    assert process.returncode == RETRY_STATUS, errors
    assert "run the same command to go on" in errors
    assert 0 < len((tmp_path / "judged" / "judgments.jsonl").read_text().splitlines()) < 16


def test_two_processes_share_the_answers_and_one_prints(tiny_model_dir, tmp_path):
    rows = [{"instruction": f"Say {i}.", "dataset": "d"} for i in range(8)]
    (tmp_path / "instructions.json").write_text(json.dumps(rows))

    def answer(out, *identity):
        options = ["--max_new_tokens=4", "--slots=4", "--shard_size=2", "--generator=tiny", "--json"]
        return start(
            "alpaca",
            tiny_model_dir,
            f"--instructions={tmp_path}/instructions.json",
            f"--out={out}",
            *options,
            *identity,
        )

    shared = [answer(tmp_path / "shared", f"--process_index={i}", "--process_count=2") for i in range(2)]
    (printed, errors), (nothing, other_errors) = (process.communicate(timeout=300) for process in shared)
    assert [process.returncode for process in shared] == [0, 0], errors + other_errors
    assert (json.loads(printed)["answered"], nothing) == (8, "")
    assert "generate (process 0 of 2): 4/4 prompts" in errors
    alone = answer(tmp_path / "alone")
    assert alone.wait(timeout=300) == 0
    texts = [(tmp_path / name / "model_outputs.json").read_text() for name in ("shared", "alone")]
    assert texts[0] == texts[1]
