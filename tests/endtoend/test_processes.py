"""Three processes, all killed, resumed by two: what one process gives, byte for byte, and hardly a shard made twice."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys

import pytest
from waiting import wait_until

REQUESTS, SHARD_SIZE = 400, 8
SHARDS = REQUESTS // SHARD_SIZE
GIN = """
include 'defaults.gin'
Recipe.base = {base!r}
Recipe.chat_format = 'chatml'
SeedConfig.path = 'not read'
SegmentsConfig.inputs = ('not read',)
GenerationConfig.shard_size = {shard_size}
GenerationConfig.dtype = 'float32'
EngineConfig.slots = 8
EngineConfig.prompt_buckets = (64,)
EngineConfig.max_new_tokens = 24
"""


@pytest.fixture
def job(tmp_path, tiny_model_dir):
    """Starts `humpback generate` on a run whose M_0 is finished: (answers folder, index, count) to a process."""
    stage = tmp_path / "run" / "m0"
    stage.mkdir(parents=True)
    shutil.copytree(tiny_model_dir, stage / "model")
    (stage / "manifest.json").write_text("{}")
    (tmp_path / "job.gin").write_text(GIN.format(base=str(tiny_model_dir), shard_size=SHARD_SIZE))
    rows = [{"id": f"q{i:03}", "instruction": f"Say {'e' * (i % 13)} {i}."} for i in range(REQUESTS)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [
        sys.executable,
        "-m",
        "humpback_jax",
        "generate",
        f"--gin_file={tmp_path / 'job.gin'}",
        "--model=m0",
        "--tags=none",
    ]
    command += [f"--run_dir={tmp_path / 'run'}", f"--prompts_file={tmp_path / 'prompts.jsonl'}"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "HUMPBACK_STALL_SECONDS": "300"}

    def start(out, index, count):
        identity = [f"--process_index={index}", f"--process_count={count}"] if count > 1 else []
        with log_of(out, index, count).open("wb") as log:
            return subprocess.Popen([*command, f"--out={out}", *identity], stdout=log, stderr=log, env=environment)

    return start


def log_of(out, index, count):
    return out.with_name(f"{out.name}-{index}-of-{count}.log")


def finish(processes, out):
    for index, process in enumerate(processes):
        status = process.wait()
        assert status == 0, log_of(out, index, len(processes)).read_text()[-3000:]


def markers(out):
    """Time of writing of every complete shard, by its number."""
    found = (out / "shards").glob("*.completed")
    return {int(path.name.split("-")[1]): path.stat().st_mtime_ns for path in found}


def shards_of(out):
    return {path.name: path.read_bytes() for path in (out / "shards").glob("shard-*") if path.suffix != ".tmp"}


def in_the_middle(out):
    """Every process has made shards, and a third of all is there."""
    made = markers(out)
    return len(made) >= SHARDS // 3 and {i % 3 for i in made} == {0, 1, 2}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_three_processes_killed_and_two_that_resume_give_what_one_gives(job, tmp_path):
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    processes = [job(shared, index, 3) for index in range(3)]
    wait_until(
        lambda: in_the_middle(shared),
        lambda: log_of(shared, 0, 3).read_text()[-3000:],
        unless=lambda: any(process.poll() is not None for process in processes),
    )
    for process in processes:
        process.send_signal(signal.SIGKILL)
    assert [process.wait() for process in processes] == [-signal.SIGKILL] * 3
    before = markers(shared)
    assert SHARDS // 3 <= len(before) < SHARDS
    # Work that was begun and is lost: at most one shard file or part of one per process.
    begun = {int(path.name.split("-")[1]) for path in (shared / "shards").glob("shard-*")} - before.keys()
    assert len({i % 3 for i in begun}) == len(begun)
    assert not (shared / "manifest.json").exists()

    finish([job(shared, index, 2) for index in range(2)], shared)
    after = markers(shared)
    assert sorted(after) == list(range(SHARDS))
    assert {i: after[i] for i in before} == before
    progress = re.findall(r"generate \(process 0 of 2\): (\d+)/(\d+) prompts", log_of(shared, 0, 2).read_text())
    assert progress[-1] == (str(REQUESTS // 2), str(REQUESTS // 2))
    assert "prompts" not in log_of(shared, 1, 2).read_text()

    finish([job(alone, 0, 1)], alone)
    assert shards_of(shared) == shards_of(alone)
    assert (shared / "answers.jsonl").read_bytes() == (alone / "answers.jsonl").read_bytes()
    ids = [json.loads(line)["id"] for line in (shared / "answers.jsonl").read_text().splitlines()]
    assert ids == [f"q{i:03}" for i in range(REQUESTS)]
    assert list(shared.rglob("*.tmp")) == []
