"""Cross-entropy in chunks against the plain formula on all logits, with gradients."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from humpback_jax.models.config import get_config
from humpback_jax.models.llama import Llama, init_params, logits
from humpback_jax.training.loss import summed_cross_entropy, token_losses

ROWS, LENGTH = 2, 37


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def model(request):
    return Llama(dataclasses.replace(get_config("tiny"), tie_word_embeddings=request.param))


@pytest.fixture(scope="module")
def tensors(model):
    """(params, hidden states, targets, weights with a third of zeros)."""
    rng, config = np.random.default_rng(0), model.config
    hidden = rng.standard_normal((ROWS, LENGTH, config.emb_dim))
    targets, weights = rng.integers(0, config.vocab_size, (ROWS, LENGTH)), rng.integers(0, 3, (ROWS, LENGTH))
    params = init_params(model, jax.random.key(0))
    return params, jnp.asarray(hidden, jnp.float32), jnp.asarray(targets, jnp.int32), jnp.asarray(weights, jnp.float32)


def plain_losses(model, params, hidden, targets, z_loss=0.0):
    scores = logits(model, params, hidden)
    normalizer = jax.nn.logsumexp(scores, axis=-1)
    picked = jnp.take_along_axis(scores, targets[..., None], axis=-1)[..., 0]
    return normalizer - picked + z_loss * normalizer**2


def gradients_of(loss, params, hidden):
    value, gradients = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(params, hidden)
    return float(value), gradients


@pytest.mark.parametrize("chunk", [1, 5, 37, 100])
@pytest.mark.parametrize("z_loss", [0.0, 0.01])
def test_value_and_gradients_are_those_of_the_plain_formula(model, tensors, chunk, z_loss):
    params, hidden, targets, weights = tensors
    ours = lambda p, h: 3.0 * summed_cross_entropy(model, p, h, targets, weights, chunk, z_loss)  # noqa: E731
    plain = lambda p, h: 3.0 * jnp.sum(plain_losses(model, p, h, targets, z_loss) * weights)  # noqa: E731
    (value, found), (expected_value, expected) = gradients_of(ours, params, hidden), gradients_of(plain, params, hidden)
    assert value == pytest.approx(expected_value, rel=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, expected)


def test_the_value_alone_is_the_same(model, tensors):
    params, hidden, targets, weights = tensors
    value = jax.jit(lambda h: summed_cross_entropy(model, params, h, targets, weights, 5))(hidden)
    assert float(value) == pytest.approx(
        float(jnp.sum(plain_losses(model, params, hidden, targets) * weights)), rel=1e-6
    )


def test_chunks_without_a_weighted_token_are_not_computed(model, tensors):
    """Not-a-number in them reaches nothing: three weighted tokens and the first other one fill a chunk of four."""
    params, hidden, targets, _ = tensors
    weights = jnp.zeros((ROWS, LENGTH)).at[:, jnp.asarray([5, 20, 36])].set(1.0)
    spoiled = jnp.where((weights == 0)[..., None] & (jnp.arange(LENGTH) > 0)[:, None], jnp.nan, hidden)
    loss = lambda p, h: summed_cross_entropy(model, p, h, targets, weights, 4)  # noqa: E731
    (value, found), (expected_value, expected) = gradients_of(loss, params, spoiled), gradients_of(loss, params, hidden)
    assert value == expected_value
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_token_losses_are_those_of_the_plain_formula(model, tensors):
    params, hidden, targets, _ = tensors
    found = jax.jit(lambda h: token_losses(model, params, h, targets, 5))(hidden)
    np.testing.assert_allclose(found, plain_losses(model, params, hidden, targets), rtol=1e-5, atol=1e-5)
