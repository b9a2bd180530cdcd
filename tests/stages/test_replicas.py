"""Replicas: an engine per group of local devices; a shard is the work of one, so their number changes no byte."""

import json
import os
import subprocess
import sys

import pytest

from humpback_jax.stages.model import device_groups

SCRIPT = """
import dataclasses, json, pathlib, sys

from etils import epath

from humpback_jax.inference.requests import EngineConfig
from humpback_jax.stages.items import InMemory, JobItems, Prompted
from humpback_jax.stages.jobs import Completions, GenerationConfig, run_job
from humpback_jax.stages.model import ModelHandle, open_model

model, folder = open_model(sys.argv[1]), epath.Path(sys.argv[2])
prompted = [Prompted(f"item{i}", model.prompt_ids("Say " + "e" * (i % 17) + ".")) for i in range(16)]
items, used = JobItems(InMemory(prompted), list, 64), set()


class OneReplica(ModelHandle):
    def engines(self, config, dtype, weight_dtype=None, limit=None):
        return super().engines(config, dtype, weight_dtype, limit=1)


class TokenIds(Completions):
    # Notes the devices of every engine that it was run on.
    def run(self, engine, items, advance):
        used.add(tuple(device.id for device in engine.mesh.devices.flat))
        return super().run(engine, items, advance)

    def _row(self, item, c):
        return {"id": c.id, "ids": list(c.token_ids), "truncated": c.truncated}


def run(name, model, tensor_parallelism):
    engine = EngineConfig(4, (64,), 12, tensor_parallelism=tensor_parallelism)
    config = GenerationConfig(engine=engine, shard_size=2, dtype="float32")
    used.clear()
    done = run_job(folder / name, TokenIds(model, config, "output"), items, config, name)
    return {"used": sorted(used), "rows": [row for _, row in done.joined()], "figures": done.figures}


fields = {field.name: getattr(model, field.name) for field in dataclasses.fields(model)}
result = {
    "one": run("one", OneReplica(**fields), 1),
    "four": run("four", model, 1),
    "halves": run("halves", model, 2),
}
print(json.dumps(result))
"""


def run_script(script, *arguments):
    flags = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=500, check=False, env=os.environ | flags)


def shards_of(folder):
    return {path.name: path.read_bytes() for path in (folder / "shards").glob("shard-*")}


@pytest.mark.slow
def test_replicas_change_no_byte(tiny_model_dir, tmp_path):
    done = run_script(SCRIPT, tiny_model_dir, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout)
    assert result["one"]["used"] == [[0]]
    assert result["four"]["used"] == [[0], [1], [2], [3]]
    assert result["halves"]["used"] == [[0, 1], [2, 3]]
    assert len(shards_of(tmp_path / "one")) == 16
    assert shards_of(tmp_path / "four") == shards_of(tmp_path / "one")
    assert len({tuple(row["ids"]) for row in result["one"]["rows"]}) > 8
    # Two devices add up in another order: a draw between two tokens may fall the other way, hardly ever.
    rows = zip(result["halves"]["rows"], result["one"]["rows"], strict=True)
    same = [row == other for row, other in rows]
    assert [row["id"] for row in result["halves"]["rows"]] == [row["id"] for row in result["one"]["rows"]]
    assert sum(same) >= 15
    assert result["four"]["figures"] == result["one"]["figures"]
    assert 0 < result["one"]["figures"]["row_step_efficiency"] <= 1
    assert 0 < result["one"]["figures"]["padding_waste"] < 1


FAILING = """
import sys, threading
from etils import epath

from humpback_jax.inference.requests import EngineConfig
from humpback_jax.stages.items import InMemory, JobItems, Prompted
from humpback_jax.stages.jobs import Completions, GenerationConfig, run_job
from humpback_jax.stages.model import open_model

model, begun = open_model(sys.argv[1]), []
config = GenerationConfig(engine=EngineConfig(4, (64,), 8), shard_size=1, dtype="float32")


class Endless(Completions):
    def compile(self, engine, prompt_lengths):
        pass

    def run(self, engine, items, advance):
        begun.append(items[0].id)
        if items[0].id == "item01":
            raise FloatingPointError("request 'item01' is broken")
        while True:
            threading.Event().wait(0.01)
            advance(0)


try:
    items = JobItems(InMemory([Prompted(f"item{i:02}", (1,)) for i in range(40)]), list, 64)
    run_job(epath.Path(sys.argv[2]), Endless(model, config, "output"), items, config, "")
except FloatingPointError as error:
    print(error, len(begun) <= 5)
"""


@pytest.mark.slow
def test_an_error_in_one_replica_ends_the_others_in_the_middle_of_their_shards(tiny_model_dir, tmp_path):
    done = run_script(FAILING, tiny_model_dir, tmp_path)
    assert done.stdout.strip() == "request 'item01' is broken True", done.stderr[-3000:]


def test_devices_fall_into_whole_groups():
    assert device_groups(list("abcd"), 1) == [["a"], ["b"], ["c"], ["d"]]
    assert device_groups(list("abcd"), 2) == [["a", "b"], ["c", "d"]]
    for size in (0, 3, 8):
        with pytest.raises(ValueError, match=f"tensor_parallelism is {size}, which does not divide 4 devices"):
            device_groups(list("abcd"), size)
