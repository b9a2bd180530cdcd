"""Gradients of weights: of looked-up embeddings, and of products that leave in another dtype than the weight's."""

import jax
import jax.numpy as jnp
import numpy as np

from humpback_jax.models.llama import _embedding_lookup
from humpback_jax.models.products import einsum


def test_the_gradient_of_looked_up_rows_is_their_sum_in_the_dtype_of_the_table():
    random = np.random.default_rng(0)
    table = jnp.asarray(random.normal(size=(7, 4)), jnp.float32)
    tokens, weights = jnp.asarray([[1, 1, 6], [0, 1, 2]]), jnp.asarray(random.normal(size=(2, 3, 4)), jnp.bfloat16)

    def loss(table, lookup):
        return jnp.sum((lookup(table, tokens, jnp.bfloat16) * weights).astype(jnp.float32))

    plain = lambda table, tokens, dtype: table[tokens].astype(dtype)  # noqa: E731
    found, expected = (jax.grad(loss)(table, lookup) for lookup in (_embedding_lookup, plain))
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, expected)


def test_a_gradient_may_leave_its_product_in_bfloat16_and_keeps_the_dtype_of_the_weight():
    random = np.random.default_rng(0)
    x = jnp.asarray(random.normal(size=(2, 8, 16)), jnp.bfloat16)
    weight = jnp.asarray(random.normal(size=(16, 4)), jnp.float32)
    product = lambda w, dtype: jnp.sum(einsum("bte,ef->btf", x, w, jnp.float32, dtype) ** 2)  # noqa: E731
    found, expected = (jax.grad(product)(weight, dtype) for dtype in (jnp.bfloat16, None))
    assert found.dtype == expected.dtype == jnp.float32
    assert (found == found.astype(jnp.bfloat16)).all() and not (expected == expected.astype(jnp.bfloat16)).all()
    np.testing.assert_allclose(found, expected, rtol=2**-8)
