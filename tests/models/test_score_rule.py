"""Windows, soft caps and scales: every kernel that is chosen for them computes what plain attention does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from humpback_jax.models.attention import Masks, Source, attention, causal_mask, scaled_rows, segment_mask, within
from humpback_jax.models.attention_kernels import choose_attention, prefill_attention
from humpback_jax.models.decode_kernel import ragged_attention
from humpback_jax.models.kv_cache import Context, KeyValues
from humpback_jax.models.score_rule import ScoreRule

RULES = {
    "window": ScoreRule(window=70),
    "cap": ScoreRule(soft_cap=2.0, scale=0.5),
    "all": ScoreRule(window=33, soft_cap=1.5, scale=0.3),
}


def tensors(length: int, prefix_length: int = 0) -> tuple[jax.Array, KeyValues, KeyValues]:
    random = np.random.default_rng(length)
    draw = lambda *shape: jnp.asarray(random.standard_normal(shape), jnp.float32)  # noqa: E731
    own = KeyValues(draw(1, 2, 8, length), draw(1, 2, length, 8))
    return draw(1, length, 4, 8), own, KeyValues(draw(2, 8, prefix_length), draw(2, prefix_length, 8))


def packed(length: int) -> tuple[np.ndarray, np.ndarray]:
    """Two segments and padding."""
    sizes = (length // 2 + 40, length // 2 - 60, 20)
    ids = np.repeat([1, 2, 0], sizes).astype(np.int32)
    return ids[None], np.concatenate([np.arange(size, dtype=np.int32) for size in sizes])[None]


@pytest.mark.parametrize(
    ("kernel", "name"),
    [("chunked", "all"), ("blockwise", "window"), ("splash", "all"), ("chunked", "cap")],
)
def test_kernels_of_packed_rows_follow_the_rule(kernel: str, name: str) -> None:
    rule, length = RULES[name], 600 if kernel == "blockwise" else 200
    query, own, _ = tensors(length)
    ids, positions = packed(length)
    mask = within(rule.window, Masks(segment_mask(positions, ids)), jnp.asarray(positions), Context()).new
    real = (ids > 0)[..., None, None]

    def plain(query: jax.Array, own: KeyValues) -> jax.Array:
        return attention(query, [Source(own, mask)], rule=rule) * real

    def by_kernel(query: jax.Array, own: KeyValues) -> jax.Array:
        options = {"implementation": kernel, "interpret": True, "rule": rule}
        return prefill_attention(query, own, jnp.asarray(ids), **options) * real

    np.testing.assert_allclose(by_kernel(query, own), plain(query, own), atol=2e-5)
    found, expected = (
        jax.grad(lambda q, kv, f=f: jnp.sum(jnp.sin(f(q, kv))), argnums=(0, 1))(query, own) for f in (by_kernel, plain)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=5e-5), found, expected)


@pytest.mark.parametrize("kernel", ["chunked", "splash", "blockwise"])
def test_a_window_begins_in_the_shared_prefix(kernel: str) -> None:
    rule, prefix_length, length = ScoreRule(window=50), 40, 150
    query, own, prefix = tensors(length, prefix_length)
    positions = prefix_length + jnp.arange(length)[None]
    masks = within(50, Masks(causal_mask(length)), positions, Context(prefix=prefix))
    expected = attention(query, [Source(prefix, masks.prefix), Source(own, masks.new)])
    options = {"implementation": kernel, "interpret": True, "rule": rule}
    np.testing.assert_allclose(prefill_attention(query, own, None, prefix, **options), expected, atol=2e-5)


def test_the_decode_kernel_follows_a_cap() -> None:
    rule, random = RULES["cap"], np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(random.standard_normal(shape), jnp.float32)  # noqa: E731
    query, cache = draw(2, 1, 4, 128), KeyValues(draw(2, 2, 128, 256), draw(2, 2, 256, 128))
    lengths = jnp.asarray([130, 7])
    seen = (jnp.arange(256) < lengths[:, None])[:, None]
    rows = scaled_rows(query, 2, rule)
    found = ragged_attention(rows, cache, lengths, device_kind="TPU v5 lite", interpret=True, rule=rule)
    own = KeyValues(draw(2, 2, 128, 1), draw(2, 2, 1, 128))
    expected = attention(query, [Source(cache, seen), Source(own, None)], rule=rule)
    np.testing.assert_allclose(attention(query, [Source(own, None)], found, rule), expected, atol=2e-5)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"platform": "tpu", "windowed": True}, "splash"),
        ({"platform": "tpu", "soft_capped": True, "segmented": True}, "splash"),
        ({"platform": "tpu", "query_length": 1, "cache_length": 1024, "soft_capped": True}, "ragged"),
        ({"platform": "tpu", "query_length": 1, "cache_length": 1024, "windowed": True}, "xla"),
        ({"platform": "gpu"}, "cudnn"),
        ({"platform": "gpu", "windowed": True}, "xla"),
        ({"platform": "gpu", "soft_capped": True}, "xla"),
        ({"platform": "cpu", "windowed": True, "soft_capped": True}, "chunked"),
        ({"platform": "cpu", "windowed": True, "segmented": True}, "blockwise"),
        ({"platform": "cpu", "soft_capped": True, "segmented": True}, "chunked"),
    ],
)
def test_a_kernel_that_does_not_know_a_rule_is_not_used(asked: dict, expected: str) -> None:
    usual = {"head_dim": 128, "query_length": 1024, "dtype": jnp.bfloat16}
    assert choose_attention(**(usual | asked)) == expected


@pytest.mark.parametrize(("kernel", "name"), [("cudnn", "window"), ("cudnn", "cap"), ("blockwise", "cap")])
def test_a_kernel_refuses_a_rule_that_it_does_not_know(kernel: str, name: str) -> None:
    query, own, _ = tensors(16)
    with pytest.raises(ValueError, match=f"{kernel}.*choose_attention"):
        prefill_attention(query, own, implementation=kernel, rule=RULES[name])
