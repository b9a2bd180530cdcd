"""Kernels for whole sequences against the reference, their gradients and lowerings, and the choice among them."""

import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from humpback_jax.models import attention_kernels
from humpback_jax.models.attention import Source, attention, causal_mask, segment_mask
from humpback_jax.models.attention_kernels import block_and_length, choose_attention, prefill_attention
from humpback_jax.models.config import get_config
from humpback_jax.models.kv_cache import KeyValues, quantize
from humpback_jax.models.llama import Llama, abstract_params, hidden_states
from humpback_jax.partitioning import LogicalAxisRules, make_mesh, use_mesh

SEGMENT_LENGTHS = ((60, 50), (100, 3))  # of two packed rows; the rest is padding
splash = functools.partial(prefill_attention, implementation="splash", interpret=True)
cudnn = functools.partial(prefill_attention, implementation="cudnn")


def tensors(length, heads, kv_heads, prefix_length=0, dtype=jnp.float32, batch=2, head_dim=8):
    """Query, own keys and values, and those of a prefix or None."""
    random = np.random.default_rng(0)
    normal = lambda *shape: jnp.asarray(random.normal(size=shape), dtype)  # noqa: E731
    own = KeyValues(normal(batch, kv_heads, head_dim, length), normal(batch, kv_heads, length, head_dim))
    prefix = KeyValues(normal(kv_heads, head_dim, prefix_length), normal(kv_heads, prefix_length, head_dim))
    return normal(batch, length, heads, head_dim), own, prefix if prefix_length else None


def packed(length):
    """segment_ids, positions: int32 [2, length]."""
    segment_ids, positions = np.zeros((2, length), np.int32), np.zeros((2, length), np.int32)
    for row, lengths in enumerate(SEGMENT_LENGTHS):
        start = 0
        for number, segment_length in enumerate(lengths, start=1):
            segment_ids[row, start : start + segment_length] = number
            positions[row, start : start + segment_length] = np.arange(segment_length)
            start += segment_length
    return jnp.asarray(segment_ids), jnp.asarray(positions)


def reference(query, own, segment_ids=None, prefix=None):
    length = query.shape[1]
    mask = causal_mask(length) if segment_ids is None else segment_mask(packed(length)[1], segment_ids)
    sources = [Source(own, mask)] if prefix is None else [Source(prefix, None), Source(own, mask)]
    return attention(query, sources)


def real(segment_ids):
    """Which outputs count: [batch or 1, length or 1, 1, 1]."""
    return np.ones((1, 1, 1, 1)) if segment_ids is None else np.asarray(segment_ids > 0)[:, :, None, None]


def assert_agrees(kernel, query, own, segment_ids, prefix, tolerance=1e-5):
    found = jax.jit(kernel)(query, own, segment_ids, prefix)
    assert found.dtype == query.dtype and bool(jnp.isfinite(found).all())
    expected = reference(query, own, segment_ids, prefix)
    keep = real(segment_ids)
    np.testing.assert_allclose(found * keep, (expected * keep).astype(jnp.float32), atol=tolerance, rtol=tolerance)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(attention_kernels, "MAX_BLOCK", 128)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("cpu", 128, 2048, jnp.float32), "chunked"),
        (("cpu", 128, 128, jnp.float32, False, True), "chunked"),
        (("cpu", 128, 127, jnp.float32), "xla"),
        (("cpu", 128, 511, jnp.float32, True), "xla"),
        (("cpu", 128, 512, jnp.float32, True), "blockwise"),
        (("cpu", 36, 2048, jnp.bfloat16, True), "blockwise"),
        (("cpu", 64, 2048, jnp.float32, True, True), "xla"),
        (("tpu", 128, 2048, jnp.bfloat16), "splash"),
        (("tpu", 64, 128, jnp.float32), "splash"),
        (("tpu", 128, 127, jnp.bfloat16), "xla"),
        (("tpu", 128, 2048, jnp.float16), "xla"),
        (("tpu", 36, 2048, jnp.bfloat16), "xla"),
        (("tpu", 128, 2048, jnp.bfloat16, True), "splash"),
        (("tpu", 128, 2048, jnp.bfloat16, False, True), "splash"),
        (("tpu", 128, 2048, jnp.bfloat16, True, True), "xla"),
        (("gpu", 128, 2048, jnp.bfloat16), "cudnn"),
        (("gpu", 64, 128, jnp.float16), "cudnn"),
        (("gpu", 128, 2048, jnp.float32), "xla"),
        (("gpu", 256, 2048, jnp.bfloat16), "xla"),
        (("gpu", 36, 2048, jnp.bfloat16), "xla"),
        (("gpu", 128, 64, jnp.bfloat16), "xla"),
        (("gpu", 128, 2047, jnp.bfloat16), "cudnn"),
        (("gpu", 128, 2048, jnp.bfloat16, True), "cudnn"),
        (("gpu", 128, 2047, jnp.bfloat16, True), "xla"),
        (("gpu", 128, 2047, jnp.bfloat16, False, True), "cudnn"),
        (("gpu", 128, 2048, jnp.bfloat16, True, True), "xla"),
    ],
)
def test_choice(arguments, expected):
    platform, head_dim, length, dtype, *needs = arguments
    needs = dict(zip(("segmented", "shared_prefix"), needs, strict=False))
    for given_dtype in (dtype, jnp.dtype(dtype)):
        chosen = choose_attention(platform, head_dim=head_dim, query_length=length, dtype=given_dtype, **needs)
        assert chosen == expected


@pytest.mark.parametrize("platform", ["tpu", "gpu"])
def test_rows_that_are_split_over_devices_are_left_to_xla(platform):
    choose = functools.partial(choose_attention, platform, head_dim=128, query_length=2048, dtype=jnp.bfloat16)
    assert choose(length_shards=1) != "xla" == choose(length_shards=2)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="unknown platform 'TPU v4'"):
        choose_attention("TPU v4", head_dim=128, query_length=2048, dtype=jnp.bfloat16)
    query, own, _ = tensors(4, 2, 2)
    with pytest.raises(ValueError, match="choose from splash, cudnn, blockwise"):
        prefill_attention(query, own, implementation="xla")


def test_what_no_kernel_does_is_refused():
    query, own, prefix = tensors(110, 2, 2, prefix_length=3)
    with pytest.raises(ValueError, match="cannot share a prefix"):
        splash(query, own, packed(110)[0], prefix)
    with pytest.raises(ValueError, match="int8 keys"):
        splash(query, quantize(own))


@given(st.integers(1, 20_000))
def test_blocks_cover_a_length_with_little_padding(length):
    block, padded = block_and_length(length)
    assert block % 128 == 0 and block <= 512 and padded % block == 0
    assert padded >= length and padded // block == -(-length // 512)
    assert padded - length < 128 * (padded // block)


@pytest.mark.parametrize(
    ("length", "heads", "kv_heads", "prefix_length"),
    [
        pytest.param(150, 2, 2, 0, marks=pytest.mark.slow),
        (150, 3, 1, 37),
        pytest.param(9, 4, 2, 128, marks=pytest.mark.slow),
    ],
)
def test_splash_agrees_with_the_reference(small_blocks, length, heads, kv_heads, prefix_length):
    query, own, prefix = tensors(length, heads, kv_heads, prefix_length)
    assert_agrees(splash, query, own, None, prefix)


@pytest.mark.slow
def test_splash_keeps_packed_segments_apart(small_blocks):
    query, own, _ = tensors(150, 4, 2)
    assert_agrees(splash, query, own, packed(150)[0], None)


@pytest.mark.slow
def test_splash_in_bfloat16():
    query, own, prefix = tensors(100, 2, 1, 20, jnp.bfloat16, batch=1)
    assert_agrees(splash, query, own, None, prefix, tolerance=2e-2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("heads", "kv_heads", "prefix_length", "segmented"), [(2, 2, 0, False), (4, 2, 20, False), (4, 2, 0, True)]
)
def test_splash_gradients_agree_with_the_reference(small_blocks, heads, kv_heads, prefix_length, segmented):
    query, own, prefix = tensors(150, heads, kv_heads, prefix_length)
    segment_ids = packed(150)[0] if segmented else None
    weights = np.random.default_rng(1).normal(size=query.shape) * real(segment_ids)

    def gradients(function):
        loss = lambda query, own, prefix: jnp.sum(weights * function(query, own, segment_ids, prefix))  # noqa: E731
        return jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(query, own, prefix)

    found, expected = jax.tree.leaves(gradients(splash)), jax.tree.leaves(gradients(reference))
    assert len(found) == (5 if prefix_length else 3)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5, rtol=1e-5)


def test_splash_lowers_for_tpu_from_any_machine():
    query, own, prefix = tensors(512, 4, 2, 100, jnp.bfloat16, head_dim=64)
    kernel = functools.partial(prefill_attention, implementation="splash")
    loss = lambda query, own: jnp.sum(kernel(query, own, None, prefix).astype(jnp.float32))  # noqa: E731
    lowered = jax.jit(jax.grad(loss, argnums=(0, 1))).trace(query, own).lower(lowering_platforms=("tpu",))
    assert lowered.as_text().count("stablehlo.custom_call @tpu_custom_call") == 3


@pytest.fixture
def cudnn_version(monkeypatch):
    """Lowering for CUDA asks for the version of a cuDNN, which a machine without a GPU has not."""
    from jax._src.cudnn import fused_attention_stablehlo

    monkeypatch.setattr(fused_attention_stablehlo, "check_cudnn_version", lambda: 91_000)


@pytest.mark.parametrize(
    ("prefix_length", "segmented", "bias"), [(0, False, ""), (20, False, "ScaleBias"), (0, True, "ScaleBias")]
)
@pytest.mark.parametrize("under_mesh", [False, True])
def test_cudnn_lowers_for_cuda_from_any_machine(cudnn_version, prefix_length, segmented, bias, under_mesh):
    query, own, prefix = tensors(150, 4, 2, prefix_length, jnp.bfloat16, head_dim=64)
    segment_ids = packed(150)[0] if segmented else None

    def lower():
        loss = lambda query, own: jnp.sum(cudnn(query, own, segment_ids, prefix).astype(jnp.float32))  # noqa: E731
        return jax.jit(jax.grad(loss, argnums=(0, 1))).trace(query, own).lower(lowering_platforms=("cuda",))

    if under_mesh:
        with use_mesh(make_mesh(), LogicalAxisRules()):
            text = lower().as_text()
    else:
        text = lower().as_text()
    assert f"@__cudnn$fmha{bias}Softmax(" in text and f"@__cudnn$fmha{bias}SoftmaxBackward(" in text


@pytest.mark.parametrize(
    ("length", "heads", "kv_heads", "prefix_length", "segmented"),
    [(128, 2, 2, 0, False), (150, 4, 2, 37, False), (150, 4, 2, 0, True)],
)
def test_what_cudnn_is_asked_agrees_with_the_reference(monkeypatch, length, heads, kv_heads, prefix_length, segmented):
    """The same call, answered by XLA: layouts, masks and scale are right, whatever cuDNN makes of them."""
    asked = []

    def by_xla(*arguments, implementation, **settings):
        asked.append(implementation)
        return original(*arguments, implementation="xla", **settings)

    original = jax.nn.dot_product_attention
    monkeypatch.setattr(jax.nn, "dot_product_attention", by_xla)
    query, own, prefix = tensors(length, heads, kv_heads, prefix_length)
    assert_agrees(cudnn, query, own, packed(length)[0] if segmented else None, prefix)
    assert asked == ["cudnn"]


MESH_SCRIPT = """
import jax, numpy as np
from humpback_jax.models.attention import Source, attention, causal_mask
from humpback_jax.models.attention_kernels import prefill_attention
from humpback_jax.models.kv_cache import KeyValues
from humpback_jax.partitioning import LogicalAxisRules, MeshShape, constrain, make_mesh, use_mesh

random = np.random.default_rng(0)
normal = lambda *shape: random.normal(size=shape).astype(np.float32)
prefix, mask = KeyValues(normal(2, 8, 5), normal(2, 5, 8)), causal_mask(20)
mesh = make_mesh(MeshShape(data=2, fsdp=1, tensor=2))

@jax.jit
def run(query, own):
    names = ("activation_batch", None, "activation_heads", None)
    query = constrain(query, *names)
    return prefill_attention(query, own, None, prefix, implementation="splash", interpret=True)

for batch, shards in ((4, {(2, 20, 2, 8)}), (3, {(3, 20, 2, 8)})):
    query, own = normal(batch, 20, 4, 8), KeyValues(normal(batch, 2, 8, 20), normal(batch, 2, 20, 8))
    expected = attention(query, [Source(prefix, None), Source(own, mask)])
    with use_mesh(mesh, LogicalAxisRules()):
        found = run(query, own)
    assert {shard.data.shape for shard in found.addressable_shards} == shards, found.sharding
    np.testing.assert_allclose(found, expected, atol=1e-5)
print("agrees")
"""


@pytest.mark.slow
def test_rows_and_heads_are_split_over_a_mesh():
    environment = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", MESH_SCRIPT]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    assert done.stdout.strip().endswith("agrees"), done.stderr


@pytest.mark.parametrize(("platform", "kernels"), [("tpu", True), ("cpu", False)])
def test_the_decoder_uses_the_kernel_of_its_platform(platform, kernels):
    model = Llama(get_config("tiny"), dtype=jnp.bfloat16, platform=platform)
    params = abstract_params(model)
    tokens = jax.ShapeDtypeStruct((2, 256), jnp.int32)
    forward = jax.jit(lambda params, tokens: hidden_states(model, params, tokens, None, jnp.ones_like(tokens)))
    lowered = forward.trace(params, tokens).lower(lowering_platforms=("tpu",))
    assert ("tpu_custom_call" in lowered.as_text()) == kernels
