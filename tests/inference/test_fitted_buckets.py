"""Few lengths to pad to: never too short, never more than asked for, and no better choice exists."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from humpback_jax.inference.requests import BUCKET_STEP, fitted_buckets


def padded(lengths, buckets):
    return sum(next(bucket for bucket in buckets if length <= bucket) for length in lengths)


def least_padded(lengths, most):
    """By trying every choice of lengths in whole steps."""
    sizes = sorted({-(-length // BUCKET_STEP) * BUCKET_STEP for length in lengths})
    choices = itertools.chain(*(itertools.combinations(sizes[:-1], k) for k in range(most)))
    return min(padded(lengths, (*choice, sizes[-1])) for choice in choices)


@given(st.lists(st.integers(1, 200), min_size=1, max_size=20), st.integers(1, 4))
def test_the_padding_is_the_least_that_so_many_buckets_can_have(lengths, most):
    buckets = fitted_buckets(lengths, most)
    assert len(buckets) <= most
    assert list(buckets) == sorted(set(buckets))
    assert padded(lengths, buckets) == least_padded(lengths, most)


def test_no_prompts_need_no_bucket():
    assert fitted_buckets([], 3) == ()
