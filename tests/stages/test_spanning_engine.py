"""A copy of the weights over two processes: both make every shard together, and one of them writes it."""

import json
import os
import subprocess
import sys

import pytest

SCRIPT = """
import json, sys

from etils import epath

from humpback_jax.runtime.distributed import join_processes
from humpback_jax.runtime.processes import set_process

folder, coordinator = epath.Path(sys.argv[2]), sys.argv[4] if len(sys.argv) > 4 else None
if coordinator:
    set_process(int(sys.argv[3]), 2)
    join_processes(coordinator)

from humpback_jax.inference.requests import EngineConfig
from humpback_jax.stages.items import InMemory, JobItems, Prompted
from humpback_jax.stages.jobs import Completions, GenerationConfig, run_job
from humpback_jax.stages.model import open_model

model = open_model(sys.argv[1])
prompted = [Prompted(f"item{i}", model.prompt_ids("Say " + "e" * (i % 17) + ".")) for i in range(10)]
config = GenerationConfig(engine=EngineConfig(4, (64,), 12, tensor_parallelism=2), shard_size=4, dtype="float32")


class TokenIds(Completions):
    def _row(self, item, c):
        return {"id": c.id, "ids": list(c.token_ids)}


job, items = TokenIds(model, config, "output"), JobItems(InMemory(prompted), list, 64)
print(json.dumps([row for _, row in run_job(folder, job, items, config, "job").joined()]))
"""


def start(arguments, devices):
    flags = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    command = [sys.executable, "-c", SCRIPT, *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=os.environ | flags, **pipes)


def rows_of(process):
    out, err = process.communicate(timeout=500)
    assert process.returncode == 0, err[-3000:]
    return json.loads(out.splitlines()[-1])


@pytest.mark.slow
def test_two_processes_that_share_the_weights_write_what_one_process_writes(tiny_model_dir, tmp_path, free_port):
    alone = rows_of(start([tiny_model_dir, tmp_path / "alone"], devices=2))
    address = f"localhost:{free_port()}"
    both = [start([tiny_model_dir, tmp_path / "both", i, address], devices=1) for i in range(2)]
    first, second = map(rows_of, both)
    assert first == second
    assert [row["id"] for row in first] == [row["id"] for row in alone]
    # Sums over processes and over devices of one process may round apart, and a draw fall the other way, hardly ever.
    assert sum(row == other for row, other in zip(first, alone, strict=True)) >= 9
    assert len(list((tmp_path / "both" / "shards").glob("*.jsonl"))) == 3
