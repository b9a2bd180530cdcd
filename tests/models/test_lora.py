"""Adapters: beside the weight = merged into it, forwards and backwards; nothing else trains; axes keep their names."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from humpback_jax.models.config import get_config
from humpback_jax.models.llama import Llama, init_params, logical_specs
from humpback_jax.models.lora import (
    PROJECTIONS,
    LoraConfig,
    adapted_params,
    adapter_shapes,
    adapter_specs,
    init_adapters,
    merge_adapters,
)
from humpback_jax.training.loss import summed_loss

MODEL = Llama(get_config("tiny"), remat_policy="full")
LORA = LoraConfig(rank=4, alpha=6.0)
TOKENS = jnp.asarray(np.random.default_rng(0).integers(0, 320, (2, 12)), jnp.int32)


@pytest.fixture(scope="module")
def params():
    return init_params(MODEL, jax.random.key(0))


@pytest.fixture(scope="module")
def adapters():
    random = np.random.default_rng(1)
    return jax.tree.map(lambda x: x + 0.05 * random.standard_normal(x.shape).astype(np.float32), initial())


def initial():
    return jax.jit(lambda: init_adapters(MODEL, LORA, jax.random.key(1)))()


@jax.jit
def logits(params):
    return MODEL.apply({"params": params}, TOKENS)


def loss(params):
    ones = jnp.ones_like(TOKENS)
    batch = {
        "decoder_input_tokens": TOKENS,
        "decoder_target_tokens": jnp.roll(TOKENS, -1, axis=1),
        "decoder_positions": jnp.cumsum(ones, axis=1) - 1,
        "decoder_segment_ids": ones,
        "decoder_loss_weights": ones.astype(jnp.float32),
    }
    return summed_loss(MODEL, params, batch, None, 4)[0]


def test_adapters_change_nothing_before_training(params):
    fresh = initial()
    np.testing.assert_array_equal(logits(adapted_params(params, fresh, LORA)), logits(params))


def test_beside_the_weights_equals_merged_into_them(params, adapters):
    beside, merged = logits(adapted_params(params, adapters, LORA)), logits(merge_adapters(params, adapters, LORA))
    np.testing.assert_allclose(beside, merged, atol=2e-5)
    assert np.abs(merged - logits(params)).max() > 0.1
    own = jax.jit(jax.grad(lambda a: loss(adapted_params(params, a, LORA))))(adapters)
    expected = jax.jit(jax.grad(lambda a: loss(merge_adapters(params, a, LORA))))(adapters)
    for a, b in zip(jax.tree.leaves(own), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * float(jnp.abs(b).max()))


def test_a_merged_weight_is_w_plus_alpha_over_rank_times_a_b(params, adapters):
    for block, name, equation in (("attention", "key", "ler,lrkd->lekd"), ("attention", "out", "lhdr,lre->lhde")):
        a, b = (np.asarray(adapters["layers"][block][name][part], np.float64) for part in "ab")
        expected = np.asarray(params["layers"][block][name]["kernel"], np.float64) + 1.5 * np.einsum(equation, a, b)
        merged = merge_adapters(params, adapters, LORA)["layers"][block][name]["kernel"]
        np.testing.assert_allclose(merged, expected, atol=1e-6)


def test_only_chosen_weights_are_touched(params, adapters):
    some = dataclasses.replace(LORA, targets=("q", "down"))
    merged = merge_adapters(params, adapters, some)
    changed = jax.tree.map(lambda new, old: bool((new != old).any()), merged, params)
    paths = {jax.tree_util.keystr(p, simple=True, separator="/") for p, c in jax.tree.leaves_with_path(changed) if c}
    assert paths == {"layers/attention/query/kernel", "layers/mlp/down/kernel"}


def test_dropout_needs_a_key_and_acts_on_the_adapters_alone(params, adapters):
    dropped = dataclasses.replace(LORA, dropout=0.5)
    whole = logits(adapted_params(params, adapters, LORA))
    np.testing.assert_array_equal(logits(adapted_params(params, adapters, dropped)), whole)
    draws = [logits(adapted_params(params, adapters, dropped, jax.random.key(seed))) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert np.abs(draws[0] - draws[2]).max() > 1e-3
    fresh = initial()
    np.testing.assert_array_equal(logits(adapted_params(params, fresh, dropped, jax.random.key(0))), logits(params))


@pytest.mark.slow
def test_no_gradient_of_a_frozen_weight_is_made():
    """Many layers: the gradients of their weights alone would be far larger than what the adapters' need."""
    deep = Llama(dataclasses.replace(get_config("tiny"), num_layers=16, mlp_dim=4096), remat_policy="full")
    params = jax.eval_shape(lambda: init_params(deep, jax.random.key(0)))
    shapes = adapter_shapes(deep, LORA)
    value = lambda params, own: summed_loss_of(deep, adapted_params(params, own, LORA))  # noqa: E731
    memory = lambda argnum: (  # noqa: E731
        jax.jit(jax.grad(value, argnums=argnum)).lower(params, shapes).compile().memory_analysis()
    )
    size = 16 * 3 * 32 * 4096 * 4
    assert memory(0).output_size_in_bytes >= size
    low = memory(1)
    assert low.output_size_in_bytes + low.temp_size_in_bytes < size / 2


def summed_loss_of(model, params):
    return jnp.sum(model.apply({"params": params}, TOKENS[:, :4]) ** 2)


def test_axes_keep_their_logical_names():
    weights, specs = logical_specs(MODEL)["layers"], adapter_specs(MODEL, LORA)["layers"]
    for block, name in PROJECTIONS.values():
        whole, own = tuple(weights[block][name]["kernel"]), specs[block][name]
        assert tuple(own["a"])[:-1] + tuple(own["b"])[2:] == whole
        assert (own["a"][-1], own["b"][:2]) == ("lora_rank", ("layers", "lora_rank"))
    expected = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), initial())
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), adapter_shapes(MODEL, LORA)) == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"targets": ("q", "query")}, "targets takes several texts among q, k, v, o, gate, up, down, found .*'query'"),
        ({"targets": ()}, "targets is empty"),
        ({"rank": 0}, "rank takes a whole number of at least 1"),
        ({"dropout": 1.0}, "dropout takes a number of at least 0 and below 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        LoraConfig(**fields)
