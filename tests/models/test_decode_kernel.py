"""The decode kernel over ragged rows against the reference, and its blocks compiled for every kind of chip."""

import functools
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from humpback_jax.models.attention import Source, attention, scaled_rows
from humpback_jax.models.attention_kernels import choose_attention
from humpback_jax.models.cache_write_kernel import write_ragged
from humpback_jax.models.decode_kernel import block_length, cost, ragged_attention
from humpback_jax.models.kv_cache import KeyValues, merge_recent, quantize
from humpback_jax.topology.compiler import libtpu_version, quiet_environment

LENGTHS = [0, 1, 127, 128, 129, 384]  # of the rows: empty, one slot, around a block, full


def tensors(heads, kv_heads, dtype, length=384, head_dim=128):
    """Query [batch, 1, heads, head_dim], a cache whose empty slots hold large values, and the call's own token."""
    random, batch = np.random.default_rng(0), len(LENGTHS)
    normal = lambda *shape: jnp.asarray(random.normal(size=shape), dtype)  # noqa: E731
    cache = KeyValues(normal(batch, kv_heads, head_dim, length), normal(batch, kv_heads, length, head_dim))
    empty = jnp.arange(length) >= jnp.asarray(LENGTHS)[:, None]
    keys = jnp.where(empty[:, None, None], 1e3, cache.keys)
    values = jnp.where(empty[:, None, :, None], 1e3, cache.values)
    own = KeyValues(normal(batch, kv_heads, head_dim, 1), normal(batch, kv_heads, 1, head_dim))
    return normal(batch, 1, heads, head_dim), KeyValues(keys.astype(dtype), values.astype(dtype)), own


@pytest.mark.parametrize(
    ("heads", "kv_heads", "dtype", "int8", "tolerance"),
    [
        (2, 2, jnp.float32, False, 1e-5),
        (6, 2, jnp.float32, False, 1e-5),
        pytest.param(16, 1, jnp.float32, False, 1e-5, marks=pytest.mark.slow),
        pytest.param(4, 2, jnp.bfloat16, False, 2e-2, marks=pytest.mark.slow),
        (4, 2, jnp.float32, True, 1e-5),
        pytest.param(4, 2, jnp.bfloat16, True, 2e-2, marks=pytest.mark.slow),
    ],
)
def test_ragged_rows_agree_with_the_reference(heads, kv_heads, dtype, int8, tolerance):
    query, cache, own = tensors(heads, kv_heads, dtype)
    if int8:
        cache = quantize(cache)
    lengths = jnp.asarray(LENGTHS, jnp.int32)

    @jax.jit
    def by_kernel(query, cache, own):
        rows = scaled_rows(query, kv_heads)
        attended = ragged_attention(rows, cache, lengths, device_kind="TPU v4", block=128, interpret=True)
        return attention(query, [Source(own, None)], attended)

    mask = (jnp.arange(cache.length) < lengths[:, None])[:, None]
    expected = attention(query, [Source(cache, mask), Source(own, None)])
    found = by_kernel(query, cache, own)
    assert found.dtype == query.dtype and found.shape == expected.shape
    np.testing.assert_allclose(found.astype(jnp.float32), expected.astype(jnp.float32), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_tokens_are_written_where_xla_writes_them(dtype, int8):
    """In one tile or across two, at both ends, in each kind of array."""
    starts = jnp.asarray([0, 30, 126, 128, 250, 252], jnp.int32)
    _, cache, _ = tensors(2, 2, dtype, length=256)
    random = np.random.default_rng(1)
    normal = lambda *shape: jnp.asarray(random.normal(size=shape), dtype)  # noqa: E731
    recent = KeyValues(normal(len(LENGTHS), 2, 128, 4), normal(len(LENGTHS), 2, 4, 128))
    if int8:
        cache, recent = quantize(cache), quantize(recent)
    expected = merge_recent(cache, recent, starts)
    found = jax.jit(functools.partial(write_ragged, interpret=True))(cache, recent, starts)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one.astype(jnp.float32), other.astype(jnp.float32))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("tpu", 128, 1, jnp.bfloat16, 2048), "ragged"),
        (("tpu", 128, 1, jnp.float32, 2304), "ragged"),
        (("tpu", 64, 1, jnp.bfloat16, 2048), "xla"),
        (("tpu", 128, 1, jnp.bfloat16, 2050), "xla"),
        (("tpu", 128, 16, jnp.bfloat16, 2048), "xla"),
        (("tpu", 128, 2048, jnp.bfloat16, 2048), "xla"),
        (("gpu", 128, 1, jnp.bfloat16, 2048), "xla"),
        (("gpu", 128, 2048, jnp.bfloat16, 2048), "xla"),
        (("cpu", 128, 1, jnp.float32, 2048), "xla"),
    ],
)
def test_choice_over_a_cache(arguments, expected):
    platform, head_dim, queries, dtype, length = arguments
    chosen = choose_attention(
        platform, head_dim=head_dim, query_length=queries, dtype=dtype, cache_length=length, shared_prefix=True
    )
    assert chosen == expected


@pytest.mark.parametrize(
    ("kind", "length", "head_bytes", "expected"),
    [
        ("TPU v5 lite", 2048, 4 * 128 * 2, 1024),
        ("TPU v5", 2048, 4 * 128 * 2, 2048),
        ("TPU v5", 2048, 128 * 2, 2048),
        ("TPU v4", 2304, 4 * 128 * 2, 768),
        ("TPU v4", 2176, 4 * 128 * 2, 128),
        ("TPU v4", 2048, 32 * 128 * 4, 128),
        ("an unknown chip", 2048, 4 * 128 * 2, 1024),
    ],
)
def test_blocks_divide_the_cache_and_fit(kind, length, head_bytes, expected):
    assert block_length(kind, length, head_bytes) == expected


def test_the_cost_is_that_of_reading_the_cache():
    cache = KeyValues(jnp.zeros((2, 1, 128, 256), jnp.bfloat16), jnp.zeros((2, 1, 256, 128), jnp.bfloat16))
    found = cost(cache, (2, 1, 8, 128))
    assert found.flops == 2 * 2 * (2 * 8 * 256 * 128) and found.transcendentals == 2 * 8 * 256
    assert 1.0 < found.bytes_accessed / (2 * 2 * 128 * 256 * 2) < 1.2


# Every block of the table is asked for: on each chip, the heads of one device that make it the longest that fits.
CHIPS = {
    "v4": ("v4:2x2x1", "TPU v4"),
    "v5e": ("v5e:2x2", "TPU v5 lite"),
    "v5p": ("v5p:2x2x1", "TPU v5"),
    "v6e": ("v6e:2x2", "TPU v6 lite"),
}
SHAPES = [  # kv_heads of a device, query heads that share one, cache
    (kv_heads, group, dtype)
    for kv_heads, group in ((1, 8), (4, 1), (32, 1))
    for dtype in ("bfloat16", "int8", "float32")
]

COMPILE_SCRIPT = """
import json, sys
import jax, jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from humpback_jax.models.cache_write_kernel import write_ragged
from humpback_jax.models.decode_kernel import block_length, ragged_attention
from humpback_jax.models.kv_cache import KeyValues

topology, kind, shapes, length = json.loads(sys.argv[1])
extra = {"chip_config_name": "megacore"} if topology.startswith("v4") else {}
devices = topologies.get_topology_desc(platform="tpu", topology_name=topology, **extra).devices
mesh = Mesh(devices, ("batch",))
rows, whole = NamedSharding(mesh, PartitionSpec("batch")), NamedSharding(mesh, PartitionSpec())
for kv_heads, group, name in shapes:
    dtype, batch = jnp.dtype(name), 2 * len(devices)
    struct = lambda dtype, *shape: jax.ShapeDtypeStruct((batch, *shape), dtype, sharding=rows)
    scales = struct(jnp.float32, kv_heads, length) if dtype == jnp.int8 else None
    cache = KeyValues(struct(dtype, kv_heads, 128, length), struct(dtype, kv_heads, length, 128), scales, scales)
    query = struct(jnp.bfloat16 if dtype == jnp.int8 else dtype, kv_heads, group, 128)
    longest = block_length(kind, length, kv_heads * 128 * dtype.itemsize)
    for block in [n for n in (2048, 1024, 512, 256, 128) if n <= longest]:
        attend = lambda query, cache, lengths: ragged_attention(query, cache, lengths, device_kind=kind, block=block)
        spec = PartitionSpec("batch")
        split = jax.shard_map(attend, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
        compiled = jax.jit(split).lower(query, cache, struct(jnp.int32)).compile()
        text = compiled.as_text()
        assert "tpu_custom_call" in text and '"cost_estimate"' in text, "no kernel, or one without its cost"
        memory = compiled.memory_analysis()
        assert memory.temp_size_in_bytes < memory.argument_size_in_bytes / 4, "the keys or values are copied"
        print(json.dumps([devices[0].device_kind, kv_heads, group, name, block]), flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(libtpu_version() is None, reason="libtpu is not installed: pip install '.[tpu]'")
@pytest.mark.parametrize("chip", list(CHIPS))
def test_every_block_compiles_for_every_chip(chip):
    """Ahead of time, by the compiler of the TPU: vector memory, layouts and the kernel's own cost are checked."""
    arguments = json.dumps([*CHIPS[chip], SHAPES, 2048])
    command = [sys.executable, "-c", COMPILE_SCRIPT, arguments]
    done = subprocess.run(command, env=quiet_environment(), capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-4000:]
    compiled = [json.loads(line) for line in done.stdout.splitlines()]
    assert {kind for kind, *_ in compiled} == {CHIPS[chip][1]}
    assert {block for *_, block in compiled} >= {128, 256, 512, 1024}, compiled


MESH_SCRIPT = """
import jax, jax.numpy as jnp, numpy as np
from humpback_jax.models.cache_write_kernel import write_ragged
from humpback_jax.models.decode_kernel import ragged_attention
from humpback_jax.models.kv_cache import KeyValues, constrain_cache, merge_recent, quantize
from humpback_jax.partitioning import LogicalAxisRules, MeshShape, make_mesh, use_mesh

random = np.random.default_rng(0)
normal = lambda *shape: jnp.asarray(random.normal(size=shape), jnp.float32)
query, lengths = normal(4, 2, 1, 128), jnp.asarray([3, 128, 200, 250], jnp.int32)
cache = quantize(KeyValues(normal(4, 2, 128, 256), normal(4, 2, 256, 128)))
recent = quantize(KeyValues(normal(4, 2, 128, 4), normal(4, 2, 4, 128)))

def run(query, cache, recent):
    cache = write_ragged(constrain_cache(cache), recent, lengths, interpret=True)
    return cache, ragged_attention(query, cache, lengths + 4, device_kind="TPU v4", block=128, interpret=True)

expected = run(query, cache, recent)
with use_mesh(make_mesh(MeshShape(data=2, fsdp=1, tensor=2)), LogicalAxisRules()):
    found = jax.jit(run)(query, cache, recent)
assert {shard.data.shape for shard in found[0].keys.addressable_shards} == {(2, 1, 128, 256)}, found[0].keys.sharding
for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(one, other, atol=1e-5, rtol=1e-5)
print("agrees")
"""


@pytest.mark.slow
def test_rows_and_heads_are_split_over_a_mesh():
    environment = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", MESH_SCRIPT]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=600)
    assert done.stdout.strip().endswith("agrees"), done.stderr
