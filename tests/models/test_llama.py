"""The decoder: cache against no cache, packing against single rows, dropout, remat, sharding constraints."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from humpback_jax.models.attention import causal_mask
from humpback_jax.models.config import RopeScaling, get_config
from humpback_jax.models.kv_cache import (
    Context,
    KeyValues,
    init_layer_cache,
    insert_rows,
    merge_recent,
    take_rows,
)
from humpback_jax.models.llama import (
    REMAT_POLICIES,
    Llama,
    Masks,
    abstract_params,
    hidden_states_in_context,
    init_params,
    logical_specs,
    rope_frequencies,
    unstack_layers,
)
from humpback_jax.partitioning import LogicalAxisRules, constrain, make_mesh, use_mesh

TINY = get_config("tiny")


@pytest.fixture(scope="module")
def params():
    return init_params(Llama(TINY), jax.random.key(0))


@pytest.fixture(scope="module")
def tokens():
    return np.random.default_rng(0).integers(0, TINY.vocab_size, (3, 12)).astype(np.int32)


def test_parameter_count_and_abstract_tree_agree_with_the_config(params):
    assert sum(x.size for x in jax.tree.leaves(params)) == TINY.num_params
    assert jax.tree.map(lambda x: (x.shape, x.dtype), params) == jax.tree.map(
        lambda x: (x.shape, x.dtype), abstract_params(Llama(TINY))
    )


def test_tied_model_has_no_head():
    tied = dataclasses.replace(TINY, tie_word_embeddings=True)
    tree = abstract_params(Llama(tied))
    assert "lm_head" not in tree
    assert sum(x.size for x in jax.tree.leaves(tree)) == tied.num_params


@pytest.mark.parametrize("prefix_length", [0, 3])
def test_cached_steps_equal_the_whole_sequence_at_ragged_lengths(params, tokens, prefix_length):
    """A shared prefix, prompts of three lengths in a cache, and a chunk of steps: logits as from whole sequences."""
    model, layers = Llama(TINY, scan_layers=False), range(TINY.num_layers)
    split = unstack_layers(params, TINY.num_layers)
    tokens = np.concatenate([np.repeat(tokens[:1, :prefix_length], 3, axis=0), tokens], axis=1)
    full = Llama(TINY).apply({"params": params}, tokens)
    at = lambda length: np.broadcast_to(prefix_length + np.arange(length), (3, length))  # noqa: E731
    run = lambda *arguments: hidden_states_in_context(model, split, *arguments)  # noqa: E731

    contexts = [Context() for _ in layers]
    if prefix_length:
        head = tokens[:1, :prefix_length]
        _, written = run(head, np.arange(prefix_length)[None], Masks(causal_mask(prefix_length)), contexts)
        contexts = [Context(prefix=KeyValues(kv.keys[0], kv.values[0])) for kv in written]
    lengths, rest = np.array([4, 6, 1]), tokens[:, prefix_length:]
    # Garbage after each row's length must never be seen.
    padded = np.where(np.arange(8) < lengths[:, None], rest[:, :8], 299)
    _, written = run(padded, at(8), Masks(causal_mask(8)), contexts)
    slots = jnp.asarray([2, 0, 9])  # the last is out of range and enters by a call of its own
    caches = [insert_rows(init_layer_cache(TINY, 4, 16, jnp.float32), kv, slots) for kv in written]
    last = [take_rows(kv, jnp.asarray([2])) for kv in written]
    caches = [insert_rows(cache, kv, jnp.asarray([1])) for cache, kv in zip(caches, last, strict=True)]
    rows = jnp.asarray([2, 0, 1])  # the slots of the three rows
    caches = [take_rows(cache, rows) for cache in caches]
    for chunk in range(2):
        starts = jnp.asarray(lengths + 3 * chunk)
        recents = [init_layer_cache(TINY, 3, 3, jnp.float32) for _ in layers]
        for step in range(3):
            masks = Masks((np.arange(3) <= step)[None, None], (np.arange(16) < starts[:, None])[:, None])
            places = lengths + 3 * chunk + step
            inner = [c._replace(cache=k, recent=r) for c, k, r in zip(contexts, caches, recents, strict=True)]
            token = rest[np.arange(3), places][:, None]
            hidden, recents = run(token, prefix_length + places[:, None], masks, inner, jnp.asarray(step))
            logits = model.apply({"params": split}, hidden, method="logits")[:, 0]
            np.testing.assert_allclose(logits, full[np.arange(3), prefix_length + places], atol=1e-5)
        caches = [merge_recent(cache, new, starts) for cache, new in zip(caches, recents, strict=True)]


def test_packed_segments_do_not_see_each_other(params, tokens):
    model = Llama(TINY)
    packed = np.concatenate([tokens[0, :5], tokens[1, :4], [0, 0, 0]])[None]
    segments = np.array([[1] * 5 + [2] * 4 + [0] * 3])
    positions = np.array([[0, 1, 2, 3, 4, 0, 1, 2, 3, 0, 1, 2]])
    logits = model.apply({"params": params}, packed, positions, segments)
    np.testing.assert_allclose(logits[0, :5], model.apply({"params": params}, tokens[:1, :5])[0], atol=1e-5)
    np.testing.assert_allclose(logits[0, 5:9], model.apply({"params": params}, tokens[1:2, :4])[0], atol=1e-5)
    assert bool(jnp.isfinite(logits).all())


@pytest.mark.parametrize("policy", [p for p in REMAT_POLICIES if p != "none"])
def test_remat_changes_no_gradient(params, tokens, policy):
    def loss(params, policy):
        return jnp.mean(Llama(TINY, remat_policy=policy).apply({"params": params}, tokens) ** 2)

    expected = jax.grad(loss)(params, "none")
    for found, want in zip(jax.tree.leaves(jax.grad(loss)(params, policy)), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-6)


def test_dropout_needs_an_rng_and_leaves_undropped_layers_alone(params, tokens):
    plain = Llama(TINY).apply({"params": params}, tokens)
    model = Llama(TINY, dropout_rates=(0.0, 0.5))
    np.testing.assert_array_equal(model.apply({"params": params}, tokens), plain)
    rngs = {"dropout": jax.random.key(1)}
    dropped = model.apply({"params": params}, tokens, rngs=rngs)
    assert not np.allclose(dropped, plain, atol=1e-3)
    np.testing.assert_array_equal(dropped, model.apply({"params": params}, tokens, rngs=rngs))
    none = Llama(TINY, dropout_rates=(0.0, 0.0)).apply({"params": params}, tokens, rngs=rngs)
    np.testing.assert_allclose(none, plain, atol=1e-6)


def test_dropout_keeps_the_expected_branch():
    from humpback_jax.models.llama import Compute, DecoderLayer

    layer = DecoderLayer(TINY, Compute())
    branch, zeros = jnp.ones((1, 64, TINY.emb_dim)), jnp.zeros((1, 64, TINY.emb_dim))
    out = layer.apply({}, zeros, branch, jnp.float32(0.25), method="_residual", rngs={"dropout": jax.random.key(0)})
    assert float(out.mean()) == pytest.approx(1.0, abs=0.05)
    np.testing.assert_allclose(np.unique(np.asarray(out)), [0.0, 4 / 3], rtol=1e-6)


def test_llama31_rope_scaling_keeps_short_waves_and_stretches_long_ones():
    scaling = RopeScaling(factor=8.0, original_max_position_embeddings=8192)
    plain, scaled = (np.asarray(rope_frequencies(128, 500_000.0, s), np.float64) for s in (None, scaling))
    waves = 2 * np.pi / plain
    np.testing.assert_allclose(scaled[waves < 8192 / 4], plain[waves < 8192 / 4], rtol=1e-6)
    np.testing.assert_allclose(scaled[waves > 8192], plain[waves > 8192] / 8, rtol=1e-6)
    between = (waves >= 8192 / 4) & (waves <= 8192)
    assert between.any()
    assert ((scaled < plain) & (scaled > plain / 8))[between].all()


def test_every_axis_of_every_parameter_is_named_and_every_name_has_a_rule():
    rules = LogicalAxisRules()
    specs = jax.tree.leaves(logical_specs(Llama(TINY)), is_leaf=lambda x: isinstance(x, jax.sharding.PartitionSpec))
    shapes = jax.tree.leaves(abstract_params(Llama(TINY)))
    for spec, shape in zip(specs, shapes, strict=True):
        assert len(spec) == len(shape.shape)
        assert None not in tuple(spec)
        rules.partition_spec(tuple(spec))


def test_mistyped_activation_axis_is_an_error():
    with use_mesh(make_mesh(), LogicalAxisRules()), pytest.raises(ValueError, match="activation_bach"):
        jax.jit(lambda x: constrain(x, "activation_bach"))(jnp.ones(4))


def test_unknown_remat_policy_lists_the_known_ones(tokens):
    with pytest.raises(ValueError, match=r"ful'.*full"):
        nn.unbox(Llama(TINY, remat_policy="ful").init(jax.random.key(0), tokens))
