"""int8 weights and int8 key/value cache against float32: bounds from theory, whole runs, determinism, memory."""

import dataclasses
import json
import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from humpback_jax.inference.engine import Engine
from humpback_jax.inference.precision import precision_effect, quantize_params, weight_bytes
from humpback_jax.inference.requests import EngineConfig, Probe, Request
from humpback_jax.inference.sampling import SamplingConfig
from humpback_jax.inference.scoring import rating_distribution
from humpback_jax.models.attention import Source, attention
from humpback_jax.models.config import get_config
from humpback_jax.models.kv_cache import (
    KeyValues,
    cast,
    init_layer_cache,
    insert_rows,
    kv_bytes_per_row,
    merge_recent,
    quantize,
    write_token,
)
from humpback_jax.models.llama import Llama, init_params, unstack_layers
from humpback_jax.models.products import QuantizedKernel, einsum, embedding_rows, to_int8

TINY = get_config("tiny")
# The proportions of SmolLM2-135M, tied and grouped 3:1, at a sixth of its width and depth.
SMALL = dataclasses.replace(
    TINY, emb_dim=96, num_layers=5, num_heads=9, num_kv_heads=3, head_dim=16, mlp_dim=256, tie_word_embeddings=True
)
STOP_IDS = tuple(range(0, 320, 16))
GREEDY, SAMPLED = SamplingConfig(0.0, 1.0), SamplingConfig(0.9, 0.9)
HALF = 0.5 + 1e-4  # a rounding error in units of the scale, and float32's share of it


def params_of(config, scale=4.0):
    """Random weights whose logits differ by a few nats from token to token."""
    params = init_params(Llama(config), jax.random.key(0))
    if config.tie_word_embeddings:
        return params | {"token_embedder": {"embedding": 10 * scale * params["token_embedder"]["embedding"]}}
    return params | {"lm_head": {"kernel": scale * params["lm_head"]["kernel"]}}


def make_engine(config, weights="float32", dtype=jnp.float32, **changes):
    shapes = dict(slots=8, prompt_buckets=(12, 24), max_new_tokens=10, decode_steps=4) | changes
    params = params_of(config)
    return Engine(
        Llama(config, dtype=dtype),
        lambda shardings: jax.device_put(params, shardings),
        EngineConfig(**shapes),
        transform_params=quantize_params if weights == "int8" else None,
    )


def prompts(count):
    rng = np.random.default_rng(count)
    return [(f"r{i}", tuple(rng.integers(0, 320, rng.integers(1, 25)).tolist())) for i in range(count)]


def requests(count, sampling=SAMPLED):
    return [Request(name, ids, 10, sampling) for name, ids in prompts(count)]


def expected_scores(engine, count=60):
    candidates = [(3, 5, 7, 11, 13)] * count
    return [rating_distribution(row).expected for row in engine.candidate_log_probs(prompts(count), candidates)]


def random_kv(seed, batch=2, heads=3, head_dim=16, length=5, magnitude=1.0):
    keys, values = jax.random.normal(jax.random.key(seed), (2, batch, heads, length, head_dim)) * magnitude
    return KeyValues(keys.swapaxes(-1, -2), values)


def dequantized(kv):
    return KeyValues(kv.keys * kv.key_scales[:, :, None, :], kv.values * kv.value_scales[..., None])


# Arithmetic


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31 - 1),
    magnitude=st.sampled_from([1e-12, 1e-6, 1e-2, 1.0, 300.0, 1e30]),
    axes=st.sampled_from([0, 1, 2, (0, 1), (0, 2), -1]),
)
def test_every_entry_is_off_by_at_most_half_its_scale(seed, magnitude, axes):
    x = jax.random.normal(jax.random.key(seed), (4, 6, 5)) * magnitude
    x = x.at[1].set(0.0)  # a channel of zeros must not divide by zero
    values, scales = to_int8(x, axes)
    assert values.dtype == jnp.int8
    assert scales.shape == np.max(x, axis=axes).shape
    assert int(jnp.abs(values.astype(jnp.int32)).max()) <= 127
    wide = np.expand_dims(np.asarray(scales, np.float64), axes)
    assert np.all(np.abs(np.asarray(x, np.float64) - np.asarray(values) * wide) <= HALF * wide)
    assert not values[1].any()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), magnitude=st.sampled_from([1e-3, 1.0, 50.0]))
def test_cache_entries_are_off_by_at_most_half_their_scale(seed, magnitude):
    kv = random_kv(seed, magnitude=magnitude)
    stored = quantize(kv)
    back = dequantized(stored)
    assert np.all(np.abs(back.keys - kv.keys) <= HALF * stored.key_scales[:, :, None, :])
    assert np.all(np.abs(back.values - kv.values) <= HALF * stored.value_scales[..., None])


def test_what_is_not_finite_is_not_hidden():
    for bad in (np.nan, np.inf):
        _, scales = to_int8(jnp.asarray([[1.0, bad], [1.0, 2.0]]), 1)
        assert np.isfinite(scales).tolist() == [False, True]


def test_what_is_quantized_stays_as_it_is():
    stored = quantize(random_kv(0))
    assert cast(stored, stored) is stored


def test_attention_over_an_int8_cache_is_attention_over_what_it_stands_for():
    query = jax.random.normal(jax.random.key(1), (2, 4, 6, 16))
    stored, own = quantize(random_kv(2)), random_kv(3, length=4)
    mask = jnp.asarray([[True] * 5, [True] * 3 + [False] * 2])[:, None]
    with_int8, with_float = (
        attention(query, [Source(kv, mask), Source(own, None)]) for kv in (stored, dequantized(stored))
    )
    np.testing.assert_allclose(with_int8, with_float, atol=2e-6)


@pytest.mark.parametrize("dtype", ["int8", "bfloat16"])
def test_tokens_enter_the_cache_alike_by_all_three_ways(dtype):
    """As part of a prompt, token by token through the buffer of a chunk, and merged at ragged places."""
    kv, empty = random_kv(4), init_layer_cache(SMALL, 2, 8, dtype)
    at_once = insert_rows(empty, kv, jnp.arange(2))
    recent = init_layer_cache(SMALL, 2, 5, dtype)
    for step in range(5):
        token = KeyValues(kv.keys[..., step : step + 1], kv.values[:, :, step : step + 1])
        recent = write_token(recent, token, jnp.asarray(step))
    merged = merge_recent(empty, recent, jnp.asarray([0, 3]))
    for whole, ragged in zip(jax.tree.leaves(at_once), jax.tree.leaves(merged), strict=True):
        assert whole.dtype == ragged.dtype
        axis = -1 if whole.ndim == 3 or whole.shape[-1] == 8 else -2
        first, second = np.moveaxis(np.asarray(whole), axis, 0), np.moveaxis(np.asarray(ragged), axis, 0)
        np.testing.assert_array_equal(first[:5, 0], second[:5, 0])
        np.testing.assert_array_equal(first[:5, 1], second[3:, 1])
        assert not second[:3, 1].any()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(
    ("equation", "shape", "axes"),
    [("bte,ehn->bthn", (24, 3, 8), (0,)), ("bthn,hne->bte", (3, 8, 24), (0, 1)), ("bte,ve->btv", (40, 24), (1,))],
)
def test_products_with_int8_weights_are_bounded_by_theory(equation, shape, axes, dtype):
    weight = jax.random.normal(jax.random.key(0), shape)
    kernel = QuantizedKernel(*to_int8(weight, axes))
    inputs = (2, 3, *(shape[axis] for axis in axes))
    x = jax.random.normal(jax.random.key(1), inputs).astype(dtype)
    exact = jnp.einsum(equation, x.astype(jnp.float32), weight, precision="highest")
    found = einsum(equation, x, kernel, jnp.float32)
    # |sum_i x_i (w_i - v_i s)| <= s / 2 * sum_i |x_i|
    size = jnp.sum(jnp.abs(x.astype(jnp.float32)), axis=range(2, x.ndim))
    bound = HALF * kernel.scales * size.reshape(2, 3, *(1,) * kernel.scales.ndim)
    assert np.all(np.abs(found - exact) <= bound + 1e-4)
    assert float(jnp.abs(found - exact).max()) > 1e-4
    meant = kernel.values * jnp.expand_dims(kernel.scales, axes)
    np.testing.assert_allclose(found, jnp.einsum(equation, x.astype(jnp.float32), meant), atol=2e-5)
    assert einsum(equation, x, kernel, jnp.bfloat16).dtype == jnp.bfloat16


def test_embedding_rows_are_what_the_table_stands_for():
    table = jax.random.normal(jax.random.key(0), (40, 24))
    kernel, index = QuantizedKernel(*to_int8(table, 1)), jnp.asarray([[3, 39], [0, 3]])
    rows = embedding_rows(kernel, index, jnp.bfloat16)
    assert rows.dtype == jnp.bfloat16
    np.testing.assert_array_equal(rows, (kernel.values * kernel.scales[:, None])[index].astype(jnp.bfloat16))
    np.testing.assert_array_equal(embedding_rows(table, index, jnp.float32), table[index])


# Parameters


@pytest.mark.parametrize("config", [TINY, SMALL], ids=["untied", "tied"])
def test_every_weight_but_the_norms_is_int8_per_output_channel(config):
    split = unstack_layers(params_of(config), config.num_layers)
    quantized = quantize_params(split)
    is_kernel = lambda x: isinstance(x, QuantizedKernel)  # noqa: E731
    pairs = zip(jax.tree.leaves(split), jax.tree.leaves(quantized, is_leaf=is_kernel), strict=True)
    for before, after in pairs:
        assert is_kernel(after) == (before.ndim > 1)
        if is_kernel(after):
            assert after.values.shape == before.shape
    assert quantized["layers_0"]["attention"]["query"]["kernel"].scales.shape == (config.num_heads, config.head_dim)
    assert quantized["layers_0"]["attention"]["out"]["kernel"].scales.shape == (config.emb_dim,)
    assert quantized["layers_0"]["mlp"]["down"]["kernel"].scales.shape == (config.emb_dim,)
    assert quantized["token_embedder"]["embedding"].scales.shape == (config.vocab_size,)
    assert ("lm_head" in quantized) != config.tie_word_embeddings
    assert weight_bytes(split) == 4 * config.num_params
    scales = sum(x.scales.nbytes for x in jax.tree.leaves(quantized, is_leaf=is_kernel) if is_kernel(x))
    norms = (2 * config.num_layers + 1) * config.emb_dim
    assert weight_bytes(quantized) == (config.num_params - norms) + 4 * norms + scales


def test_loading_never_holds_two_copies():
    """Live bytes when the last weight is quantized: the int8 copy, and no float copy beside it."""
    config = dataclasses.replace(TINY, num_layers=6, emb_dim=64, mlp_dim=256)
    host = jax.tree.map(np.asarray, params_of(config))
    held = lambda: sum(x.nbytes for x in jax.live_arrays())  # noqa: E731
    before, floats = held(), 4 * config.num_params
    at_split = []

    def transform(params):
        at_split.append(held() - before)
        leaves, treedef = jax.tree.flatten(params)
        del params
        return quantize_params(jax.tree.unflatten(treedef, leaves))

    engine = Engine(Llama(config), lambda s: jax.device_put(host, s), EngineConfig(slots=4), transform_params=transform)
    assert at_split[0] <= 1.05 * floats
    assert held() - before <= 1.05 * weight_bytes(engine.params) + 4096


@pytest.mark.parametrize("config", [TINY, SMALL], ids=["untied", "tied"])
def test_bytes_of_a_row(config):
    length = 40
    numbers = 2 * config.num_layers * config.num_kv_heads * length
    assert kv_bytes_per_row(config, length, "float32") == 4 * numbers * config.head_dim
    assert kv_bytes_per_row(config, length, "bfloat16") == 2 * numbers * config.head_dim
    assert kv_bytes_per_row(config, length, "int8") == numbers * (config.head_dim + 4)
    cache = init_layer_cache(config, 3, length, "int8")
    assert 3 * kv_bytes_per_row(config, length, "int8") == config.num_layers * sum(x.nbytes for x in cache)


# Whole runs


@pytest.mark.parametrize("config", [TINY, pytest.param(SMALL, marks=pytest.mark.slow)], ids=["tiny", "smollm2-like"])
def test_int8_weights_shift_scores_little_and_repeat_to_the_bit(config):
    engine = make_engine(config, "int8")
    scores, exact = expected_scores(engine), expected_scores(make_engine(config))
    assert scores == expected_scores(engine) == expected_scores(make_engine(config, "int8"))
    effect = precision_effect(exact, scores)
    assert 0 < effect["mean_absolute"] < 0.05
    assert effect["rank_correlation"] > 0.99
    assert np.ptp(exact) > 1.0  # the scores differ enough for an order to mean something


@pytest.mark.slow
@pytest.mark.parametrize("config", [TINY, SMALL], ids=["tiny", "smollm2-like"])
def test_int8_cache_shifts_probed_scores_little(config):
    """The log-probabilities that a probe reads from the cache, against those of a float32 cache; greedy text."""
    question = Probe((1, 2, 3), (3, 5, 7, 11, 13))

    def probed(kv_dtype):
        engine = make_engine(config, kv_dtype=kv_dtype)
        return engine.generate(requests(60, GREEDY), 0, STOP_IDS, probe=lambda completion: question)

    exact, stored = probed("float32"), probed("int8")
    same = [(a, b) for a, b in zip(exact, stored, strict=True) if a.token_ids == b.token_ids]
    assert len(same) >= 45  # random weights make near-ties; where the text is another, so is the question
    log_probs = np.asarray([[one.probe_log_probs for one in pair] for pair in same])
    shift = np.abs(log_probs[:, 0] - log_probs[:, 1])
    assert 0 < shift.max() < 0.5
    assert shift.mean() < 0.05
    scores = [[rating_distribution(row).expected for row in log_probs[:, side]] for side in (0, 1)]
    assert precision_effect(*scores)["rank_correlation"] > 0.99


@pytest.mark.slow
def test_int8_cache_leaves_single_pass_scores_alone():
    """Scoring in one pass has no cache, and a shared prefix is kept in the compute dtype."""
    assert expected_scores(make_engine(TINY, kv_dtype="int8")) == expected_scores(make_engine(TINY))


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["float32", "int8"])
def test_text_from_an_int8_cache_does_not_depend_on_neighbours(weights):
    """Where chunks end depends on the neighbours; a token must read the same before and after it is merged."""
    engine = make_engine(TINY, weights, kv_dtype="int8", slots=4, decode_steps=8)
    jobs = requests(60)
    engine.job_prefix_ids = ()
    texts = engine.generate(jobs, 5, STOP_IDS)
    assert any(len(text.token_ids) > 5 for text in texts)
    assert engine.generate(jobs, 5, STOP_IDS) == texts
    assert engine.generate(jobs[::-1], 5, STOP_IDS) == texts[::-1]
    for start in range(0, 60, 12):
        part = jobs[start : start + 3]
        assert engine.generate(part, 5, STOP_IDS) == texts[start : start + 3]


@pytest.mark.slow
def test_all_options_at_once_in_bfloat16():
    engine = make_engine(SMALL, "int8", dtype=jnp.bfloat16, kv_dtype="int8")
    texts = engine.generate(requests(12), 5, STOP_IDS)
    assert len(texts) == 12
    assert any(text.token_ids for text in texts)
    assert precision_effect(expected_scores(make_engine(SMALL)), expected_scores(engine))["mean_absolute"] < 0.1


SHARDED = """
    import json, sys
    import jax, jax.numpy as jnp
    from humpback_jax.inference.engine import Engine
    from humpback_jax.inference.requests import EngineConfig, Request
    from humpback_jax.inference.precision import quantize_params
    from humpback_jax.models.config import get_config
    from humpback_jax.models.llama import Llama, init_params

    assert jax.device_count() == 2
    config = get_config("tiny")
    params = init_params(Llama(config), jax.random.key(0))
    prompts = [(f"r{i}", tuple(range(i, i + 6))) for i in range(6)]
    for parallel in (1, 2):
        shapes = EngineConfig(4, (8,), max_new_tokens=4, kv_dtype="int8", tensor_parallelism=parallel)
        engine = Engine(
            Llama(config), lambda s: jax.device_put(params, s), shapes, transform_params=quantize_params
        )
        kernel = engine.params["layers_0"]["attention"]["query"]["kernel"]
        out = engine.params["layers_0"]["attention"]["out"]["kernel"]
        texts = engine.generate([Request(name, ids, 4) for name, ids in prompts], 0, (0,))
        print(json.dumps({
            "log_probs": engine.candidate_log_probs(prompts, [(1, 2, 3)] * 6).tolist(),
            "query": list(kernel.values.addressable_shards[0].data.shape),
            "scales": list(kernel.scales.addressable_shards[0].data.shape),
            "out": list(out.values.addressable_shards[0].data.shape),
            "texts": len(texts),
        }))
"""


@pytest.mark.slow
def test_two_devices_share_int8_weights(tmp_path):
    script = tmp_path / "sharded.py"
    script.write_text(textwrap.dedent(SHARDED))
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.getcwd()}
    run = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    alone, shared = (json.loads(line) for line in run.stdout.splitlines())
    np.testing.assert_allclose(alone["log_probs"], shared["log_probs"], atol=1e-5)
    for name in ("query", "out", "scales"):
        assert np.prod(shared[name]) * 2 == np.prod(alone[name]), name
    assert alone["texts"] == shared["texts"] == 6


# The figures


def test_precision_effect_by_hand():
    effect = precision_effect([1.0, 2.0, 3.0, 4.0], [1.0, 2.5, 2.5, 5.0])
    assert effect["mean_absolute"] == pytest.approx(0.5)
    assert effect["max_absolute"] == 1.0
    # ranks 1 2 3 4 against 1 2.5 2.5 4: covariance 4.5 over sqrt(5 * 4.5)
    assert effect["rank_correlation"] == pytest.approx(4.5 / 22.5**0.5)
    assert precision_effect([1.0, 2.0], [5.0, 4.0])["rank_correlation"] == pytest.approx(-1.0)
    assert np.isnan(precision_effect([1.0, 2.0], [3.0, 3.0])["rank_correlation"])
    with pytest.raises(ValueError, match="3 reference scores and 2 scores"):
        precision_effect([1.0, 2.0, 3.0], [1.0, 2.0])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=3, max_size=30))
def test_rank_correlation_is_spearmans(pairs):
    before, after = (list(side) for side in zip(*pairs, strict=True))
    found = precision_effect(before, after)["rank_correlation"]
    ranks = [np.asarray(jax.scipy.stats.rankdata(jnp.asarray(side)), np.float64) for side in (before, after)]
    if min(np.ptp(rank) for rank in ranks) == 0:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(np.corrcoef(*ranks)[0, 1], abs=1e-6)
