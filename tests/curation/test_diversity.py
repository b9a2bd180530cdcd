"""The k-centre choice against the definition, and vectors as text."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from humpback_jax.curation.diversity import DIMENSIONS, k_centre, projected, vector_of_text, vector_to_text


def directions_of(vectors):
    centred = vectors - vectors.mean(axis=0)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 40), st.integers(1, 40), st.integers(0, 2**31))
def test_each_pair_taken_is_the_farthest_from_those_before_it(n, count, seed):
    rng = np.random.default_rng(seed)
    vectors, ids = rng.normal(size=(n, 8)), [f"p{i}".encode() for i in rng.permutation(n)]
    first = int(rng.integers(n))
    taken = k_centre(vectors, ids, first, count)
    assert taken[0] == first
    assert len(set(taken.tolist())) == len(taken) == min(n, count)
    distances = 1 - directions_of(vectors) @ directions_of(vectors).T
    for i in range(1, len(taken)):
        nearest = distances[:, taken[:i]].min(axis=1)
        rest = np.setdiff1d(np.arange(n), taken[:i])
        assert nearest[taken[i]] >= nearest[rest].max() - 1e-4


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 30), st.integers(0, 2**31))
def test_the_choice_does_not_depend_on_the_order(n, seed):
    rng = np.random.default_rng(seed)
    vectors = np.repeat(rng.normal(size=(n, 6)), 2, axis=0)  # every vector twice, so that ids decide
    ids = np.asarray([f"p{i:03d}".encode() for i in range(2 * n)])
    order = rng.permutation(2 * n)
    straight = ids[k_centre(vectors, ids, 0, n)]
    shuffled = ids[order][k_centre(vectors[order], ids[order], int(np.flatnonzero(order == 0)[0]), n)]
    assert straight.tolist() == shuffled.tolist()


def test_copies_of_a_pair_come_last():
    rng = np.random.default_rng(1)
    distinct = rng.normal(size=(10, 16))
    vectors = np.concatenate([np.repeat(distinct[:1], 50, axis=0), distinct[1:]])
    taken = k_centre(vectors, [f"{i:03d}".encode() for i in range(59)], 0, 10)
    assert sum(place < 50 for place in taken) == 1


def test_distances_survive_the_projection_and_text():
    rng = np.random.default_rng(2)
    hidden = rng.normal(size=(60, 2048)).astype(np.float32)
    small = projected(hidden)
    assert small.shape == (60, DIMENSIONS)
    assert small.dtype == np.float16
    before = np.linalg.norm(hidden[:, None] - hidden[None], axis=-1)[np.triu_indices(60, 1)]
    after = np.linalg.norm((small[:, None] - small[None]).astype(np.float32), axis=-1)[np.triu_indices(60, 1)]
    assert np.abs(after / before - 1).max() < 0.25
    assert vector_of_text(vector_to_text(small[0])).tolist() == small[0].tolist()
    assert projected(hidden[:, :32]).shape == (60, 32)
    assert projected(hidden[:1])[0].tolist() == pytest.approx(small[0].tolist(), abs=0.02)
