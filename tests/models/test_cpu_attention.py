"""Attention for CPUs, by blocks and by chunks: values and gradients of the reference over packed rows and prefixes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from humpback_jax.models import cpu_attention
from humpback_jax.models.attention import Source, attention, causal_mask, segment_mask
from humpback_jax.models.attention_kernels import prefill_attention
from humpback_jax.models.kv_cache import KeyValues
from humpback_jax.partitioning import LogicalAxisRules, MeshShape, make_mesh, use_mesh

KERNELS = {"blockwise": cpu_attention.blockwise_attention, "chunked": cpu_attention.chunked_attention}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(cpu_attention, "BLOCK", 8)
    monkeypatch.setattr(cpu_attention, "CHUNK", 8)


@pytest.fixture(params=KERNELS)
def kernel(request):
    return request.param


def tensors(length, heads, kv_heads, prefix_length=0, batch=2, head_dim=4):
    """Query, keys, values and the cotangent of the result."""
    random = np.random.default_rng(length)
    normal = lambda *shape: jnp.asarray(random.normal(size=shape), jnp.float32)  # noqa: E731
    keys = normal(batch, kv_heads, head_dim, prefix_length + length)
    values = normal(batch, kv_heads, prefix_length + length, head_dim)
    return normal(batch, length, heads, head_dim), keys, values, normal(batch, length, heads, head_dim)


def packed(rows):
    """segment_ids and positions int32 [rows, length] of segments with these lengths; negative lengths are padding."""
    ids = [np.concatenate([np.full(abs(n), max(0, np.sign(n) * i)) for i, n in enumerate(row, 1)]) for row in rows]
    positions = [np.concatenate([np.arange(abs(n)) for n in row]) for row in rows]
    return jnp.asarray(np.stack(ids), jnp.int32), jnp.asarray(np.stack(positions), jnp.int32)


def value_and_gradients(attend, query, keys, values, cotangent):
    return jax.value_and_grad(lambda *operands: jnp.vdot(attend(*operands), cotangent), (0, 1, 2))(query, keys, values)


def assert_same(found, expected):
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-5)


def assert_agrees(kernel, query, keys, values, cotangent, ids, mask, prefix_length=0):
    found = value_and_gradients(
        lambda q, k, v: KERNELS[kernel](q, k, v, ids, prefix_length), query, keys, values, cotangent
    )
    reference = lambda q, k, v: attention(q, [Source(KeyValues(k, v), mask)])  # noqa: E731
    assert_same(found, value_and_gradients(reference, query, keys, values, cotangent))


@pytest.mark.parametrize(
    ("length", "heads", "kv_heads", "prefix_length"), [(24, 2, 2, 0), (21, 6, 2, 0), (13, 4, 1, 11), (5, 2, 2, 8)]
)
def test_causal_rows(kernel, length, heads, kv_heads, prefix_length):
    prefix = jnp.ones((1, length, prefix_length), bool)
    mask = jnp.concatenate([prefix, causal_mask(length)], axis=-1)
    assert_agrees(kernel, *tensors(length, heads, kv_heads, prefix_length), None, mask, prefix_length)


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(list(KERNELS)), st.lists(st.integers(1, 12), min_size=1, max_size=3), st.data())
def test_packed_rows(kernel, lengths, data):
    """Two rows cut into other segments, one of them ending in padding."""
    total = sum(lengths)
    cut = data.draw(st.integers(0, total - 1))
    ids, positions = packed([lengths, ([cut] if cut else []) + [cut - total]])
    assert_agrees(kernel, *tensors(total, 4, 2), ids, segment_mask(positions, ids))


def test_segments_that_ended_are_not_read():
    """The keys of an earlier block are no numbers; whoever read them would show it."""
    query, keys, values, _ = tensors(32, 2, 2, batch=1)
    ids, _ = packed([[16, 16]])
    attended = cpu_attention.blockwise_attention(query, keys.at[..., :16].set(jnp.nan), values, ids, 0)
    assert bool(jnp.isnan(attended[:, :16]).all()) and bool(jnp.isfinite(attended[:, 16:]).all())


def test_keys_after_a_chunk_are_not_read():
    query, keys, values, _ = tensors(32, 2, 2, batch=1)
    attended = cpu_attention.chunked_attention(query, keys.at[..., 16:].set(jnp.nan), values, None, 0)
    assert bool(jnp.isfinite(attended[:, :16]).all()) and bool(jnp.isnan(attended[:, 16:]).all())


def test_half_precision_keeps_its_dtype(kernel):
    query, keys, values, _ = (x.astype(jnp.bfloat16) for x in tensors(24, 4, 2))
    attended = KERNELS[kernel](query, keys, values, None, 0)
    expected = attention(query, [Source(KeyValues(keys, values), causal_mask(24))])
    assert attended.dtype == jnp.bfloat16
    np.testing.assert_allclose(attended.astype(jnp.float32), expected.astype(jnp.float32), atol=0.03)


def test_under_a_mesh_it_gives_the_same(kernel):
    query, keys, values, cotangent = tensors(20, 4, 2)
    ids, _ = packed([[7, 13], [18, -2]])
    attend = lambda q, k, v: prefill_attention(q, KeyValues(k, v), ids, implementation=kernel)  # noqa: E731
    expected = value_and_gradients(attend, query, keys, values, cotangent)
    mesh, rules = make_mesh(MeshShape(), jax.devices()[:1]), LogicalAxisRules()
    with use_mesh(mesh, rules):
        found = jax.jit(lambda *operands: value_and_gradients(attend, *operands))(query, keys, values, cotangent)
    assert_same(found, expected)
