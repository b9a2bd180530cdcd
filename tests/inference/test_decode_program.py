"""The compiled program of decode steps: the cache stays where it is, and int8 weights stay int8."""

import importlib.util
import json
import math
import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from humpback_jax.inference.decode import decode_chunk, init_slots
from humpback_jax.inference.precision import quantize_params
from humpback_jax.models.config import get_config
from humpback_jax.models.llama import Llama, init_params, unstack_layers

CONFIG, SLOTS, LENGTH, STEPS = get_config("tiny"), 4, 200, 8
MODEL = Llama(CONFIG, scan_layers=False)


def compile_chunk(params, kv_dtype):
    """The program for CPU, and the bytes of its caches."""
    state = jax.eval_shape(lambda: init_slots(MODEL, SLOTS, LENGTH, 16, kv_dtype))
    rest = {"stop_ids": jnp.zeros((1,), jnp.int32), "exit_at": jnp.zeros((), jnp.int32), "max_steps": STEPS}
    compiled = decode_chunk.lower(model=MODEL, params=params, prefix=(), state=state, **rest).compile()
    return compiled, sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state.caches))


@pytest.fixture(scope="module")
def params():
    return unstack_layers(init_params(Llama(CONFIG), jax.random.key(0)), CONFIG.num_layers)


def moved(text, elements):
    """Instructions that copy, transpose or convert an array of so many elements or more."""
    pattern = re.compile(r"= \(?(\w+)\[([\d,]+)\]\S* (copy|copy-start|transpose|convert)\(")
    return [
        line.strip()
        for line in text.splitlines()
        if (match := pattern.search(line)) and math.prod(map(int, match[2].split(","))) >= elements
    ]


@pytest.mark.parametrize("kv_dtype", ["float32", "int8"])
def test_the_cache_is_updated_in_place(params, kv_dtype):
    compiled, cache_bytes = compile_chunk(params, jnp.dtype(kv_dtype))
    memory = compiled.memory_analysis()
    assert memory.alias_size_in_bytes >= cache_bytes
    entry = compiled.as_text().split("\nENTRY")[1]
    passed = re.search(r"= (\(.*\)) while\(", entry)[1]
    assert f"f32[{SLOTS},{CONFIG.num_kv_heads},{CONFIG.head_dim},{LENGTH}]" not in passed or kv_dtype == "float32"
    if kv_dtype == "float32":  # int8 is widened in every step's products on CPU
        assert moved(compiled.as_text(), SLOTS * CONFIG.num_kv_heads * CONFIG.head_dim * LENGTH) == []


def test_int8_weights_are_not_widened_before_the_steps(params):
    """What is converted outside of the loop would be held in float for all of it: the memory int8 was to save."""
    compiled, _ = compile_chunk(quantize_params(params), jnp.float32)
    text = compiled.as_text()
    entry = text[text.index("\nENTRY") :]
    passed = re.search(r"= (\(.*\)) while\(", entry)[1]
    kernels = {"embedding": "320,32", "query": "32,4,8", "gate": f"32,{CONFIG.mlp_dim}"}
    for name, shape in kernels.items():
        assert f"f32[{shape}]" not in passed, f"{name} is float32 in the loop"
        assert f"s8[{shape}]" in passed, f"{name} is not int8 in the loop"


# The real program on real slices, by the compiler of the TPU; a few of the layers, whose shares of the cache are alike.
SLICE_SCRIPT = """
import dataclasses, json, sys
import jax, jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import NamedSharding, PartitionSpec
from humpback_jax.inference.decode import SlotState, decode_chunk, init_slots
from humpback_jax.inference.layouts import lay_out_for_decode
from humpback_jax.models.config import get_config
from humpback_jax.models.llama import Llama, abstract_params, logical_specs
from humpback_jax.partitioning import LogicalAxisRules, MeshShape, make_mesh, shardings, use_mesh

topology, name, rows, kv_dtype, layers = json.loads(sys.argv[1])
devices = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
config = dataclasses.replace(get_config(name), num_layers=layers)
bf16 = {"dtype": jnp.bfloat16, "param_dtype": jnp.bfloat16}
model = Llama(config, scan_layers=False, platform="tpu", device_kind=devices[0].device_kind, **bf16)
mesh, rules = make_mesh(MeshShape(data=1, fsdp=1, tensor=len(devices)), devices), LogicalAxisRules()
struct = lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
shapes, whole = abstract_params(model), NamedSharding(mesh, PartitionSpec())
params = jax.tree.map(struct, shapes, shardings(mesh, rules, logical_specs(model), shapes))
state = jax.eval_shape(lambda: init_slots(model, rows, 2048, 64, jnp.dtype(kv_dtype)))
heads = NamedSharding(mesh, PartitionSpec(None, "tensor"))
caches = jax.tree.map(lambda x: struct(x, heads), state.caches)
rest = jax.tree.map(lambda x: struct(x, whole), (state.sampling, state.rows))
numbers = {"stop_ids": jax.ShapeDtypeStruct((1,), jnp.int32, sharding=whole)}
numbers["exit_at"] = jax.ShapeDtypeStruct((), jnp.int32, sharding=whole)
with use_mesh(mesh, rules):
    state = SlotState(caches, *rest)
    lowered = decode_chunk.lower(model, lay_out_for_decode(params, rows), (), state, **numbers, max_steps=4)
compiled = lowered.compile()
memory, cache = compiled.memory_analysis(), sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(caches))
with open(sys.argv[2], "w") as file:
    file.write(compiled.as_text())
report = {"cache": cache // len(devices), "temp": memory.temp_size_in_bytes, "alias": memory.alias_size_in_bytes}
print(json.dumps(report))
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: pip install '.[tpu]'")
@pytest.mark.parametrize(
    ("topology", "model", "rows", "kv_dtype", "heads", "most"),
    [
        ("v5e:2x4", "llama_7b", 64, "bfloat16", 4, 0.02),
        # What does not grow with the layers weighs more in four of them; a copied layer would be a quarter.
        ("v5e:2x4", "llama_7b", 128, "int8", 4, 0.1),
        ("v5p:2x2x2", "llama2_70b", 256, "bfloat16", 1, 0.1),
    ],
)
def test_the_cache_is_updated_in_place_on_slices(tmp_path, topology, model, rows, kv_dtype, heads, most):
    quiet = {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "TPU_ACCELERATOR_TYPE": "v5litepod-4"}
    quiet |= {"TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
    command = [sys.executable, "-c", SLICE_SCRIPT, json.dumps([topology, model, rows, kv_dtype, 4]), tmp_path / "hlo"]
    done = subprocess.run(command, env=os.environ | quiet, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr[-4000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["temp"] < most * report["cache"] and report["alias"] >= report["cache"]
    text = (tmp_path / "hlo").read_text()
    assert "ragged_attention" in text and "write_ragged" in text
    assert moved(text, rows * heads * 128 * 2048) == []
