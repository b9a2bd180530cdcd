"""The schedule and AdamW against formulas written out in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from humpback_jax.training.config import dropout_rates
from humpback_jax.training.optimizer import OptimizerConfig, apply_updates, decay_mask, make_optimizer


def test_learning_rate_falls_linearly_from_first_to_last_update():
    config = OptimizerConfig()
    rates = [config.learning_rate_at(step, 500) for step in range(500)]
    assert rates[0] == 1e-5
    assert rates[-1] == pytest.approx(9e-6)
    np.testing.assert_allclose(np.diff(rates), -1e-6 / 499, rtol=1e-6)


def test_warmup_rises_to_the_first_rate_and_one_update_is_allowed():
    config = OptimizerConfig(learning_rate=1.0, final_learning_rate=0.5, warmup_steps=3)
    assert [config.learning_rate_at(step, 8) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert config.learning_rate_at(7, 8) == 0.5
    assert OptimizerConfig().learning_rate_at(0, 1) == 1e-5


def test_norm_scales_are_not_decayed():
    tree = {"final_norm": {"scale": 1}, "mlp": {"kernel": 1}, "token_embedder": {"embedding": 1}}
    assert decay_mask(tree) == {
        "final_norm": {"scale": False}, "mlp": {"kernel": True}, "token_embedder": {"embedding": True},
    }  # fmt: skip


def test_two_updates_equal_adamw_written_out():
    config = OptimizerConfig(weight_decay=0.1, max_grad_norm=1.0)
    optimizer = make_optimizer(config)
    p = np.array([0.5, -2.0, 3.0], np.float64)
    params = {"kernel": jnp.asarray(p, jnp.float32)}
    state = optimizer.init(params)
    m = v = np.zeros(3)
    for t, gradient in enumerate(([3.0, 4.0, 0.0], [0.1, -0.2, 0.3]), start=1):
        g = np.asarray(gradient)
        updates, state = optimizer.update({"kernel": jnp.asarray(g, jnp.float32)}, state, params)
        g = g / max(1.0, np.linalg.norm(g))
        m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g * g
        expected = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.95**t)) + 1e-8) + 0.1 * p
        np.testing.assert_allclose(updates["kernel"], expected, rtol=1e-4)


def test_dropout_schedules():
    assert dropout_rates(0.1, 3, "constant") == (0.1, 0.1, 0.1)
    assert dropout_rates(0.3, 4, "linear") == pytest.approx((0.0, 0.1, 0.2, 0.3))
    assert dropout_rates(0.0, 4, "linear") is None
    with pytest.raises(ValueError, match="cosine"):
        dropout_rates(0.1, 4, "cosine")


def test_moments_of_bfloat16_weights_are_float32():
    optimizer = make_optimizer(OptimizerConfig())
    params = {"kernel": jnp.ones(4, jnp.bfloat16)}
    updates, state = optimizer.update({"kernel": jnp.ones(4, jnp.float32)}, optimizer.init(params), params)
    found = {x.dtype for x in jax.tree.leaves((updates, state)) if x.ndim}
    assert found == {jnp.dtype(jnp.float32)}


def test_bfloat16_weights_follow_steps_that_are_smaller_than_their_spacing():
    """Two hundred steps of 1e-5 from 0.1, where neighbours are 5e-4 apart: the mean moves as float32 does."""
    updates = {"kernel": jnp.ones(20_000), "scale": jnp.ones(3)}
    start = {"kernel": jnp.full(20_000, 0.1, jnp.bfloat16), "scale": jnp.full(3, 0.1, jnp.float32)}
    step = jax.jit(lambda params, key: apply_updates(params, updates, jnp.float32(1e-5), key))
    params = start
    for i in range(200):
        params = step(params, jax.random.key(i))
    assert params["kernel"].dtype == jnp.bfloat16 and params["scale"].dtype == jnp.float32
    moved = params["kernel"].astype(jnp.float32).mean() - start["kernel"].astype(jnp.float32).mean()
    assert float(moved) == pytest.approx(-200e-5, rel=0.02)
    np.testing.assert_allclose(params["scale"], 0.1 - 200e-5, rtol=1e-4)
    assert jnp.array_equal(step(start, jax.random.key(0))["kernel"], step(start, jax.random.key(0))["kernel"])
