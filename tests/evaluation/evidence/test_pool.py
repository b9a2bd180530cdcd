"""How pairs of A are chosen: at most one of a segment, best first, as many as are asked for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from humpback_jax.evaluation.evidence.pool import CURATED, NEXT, ORDERS, RANDOM, SINGLE, Pool


def row(segment: int, candidate: int, p_good: float, reason: str | None = None) -> dict:
    signals = {"rating": 1 + 4 * p_good, "fit": p_good - 0.5}
    fields = {"id": f"{segment:03d}#{candidate}", "segment": f"{segment:03d}", "output": "x" * (segment + 1)}
    return fields | {"p_good": p_good, "signals": signals} | ({"reason": reason} if reason else {})


rows_strategy = st.lists(st.floats(0, 1), min_size=24, max_size=24).map(
    lambda values: [row(i // 2, i % 2, value) for i, value in enumerate(values)]
)


def pool_of(rows: list[dict]) -> Pool:
    return Pool(rows, {each["id"]: 1 - each["p_good"] for each in rows})


@given(rows_strategy, st.sampled_from(sorted(ORDERS)), st.integers(1, 6), st.integers(0, 3))
def test_one_of_a_segment_and_as_many_as_asked(rows, order, size, repeat):
    chosen = pool_of(rows).choose(order, size, repeat)
    assert len({each["segment"] for each in chosen}) == len(chosen) == size


@given(rows_strategy)
def test_best_and_next_best_share_nothing_and_are_in_order(rows):
    pool = pool_of(rows)
    best, after = pool.choose(CURATED, 6, 0), pool.choose(NEXT, 6, 0)
    assert not {each["id"] for each in best} & {each["id"] for each in after}
    assert min(each["p_good"] for each in best) >= max(each["p_good"] for each in after)


def test_smaller_sets_are_part_of_larger_ones_and_repeats_differ():
    pool = pool_of([row(i // 2, i % 2, i / 100) for i in range(80)])
    small, large = pool.choose(RANDOM, 5, 0), pool.choose(RANDOM, 20, 0)
    assert large[:5] == small
    assert pool.choose(RANDOM, 20, 1) != large


def test_without_a_choice_there_is_the_first_instruction():
    pool = pool_of([row(i // 2, i % 2, 0.1 + 0.8 * (i % 2)) for i in range(40)])
    for order in (SINGLE, RANDOM):
        assert all(each["id"].endswith("#0") for each in pool.choose(order, 10, 0))
    assert all(each["id"].endswith("#1") for each in pool.choose(CURATED, 10, 0))


def test_unsound_pairs_are_only_in_what_is_not_chosen():
    rows = [row(i, 0, 0.9, "instruction_copies_output" if i < 10 else None) for i in range(20)]
    assert all("reason" not in each for each in pool_of(rows).choose(CURATED, 10, 0))
    assert any("reason" in each for each in pool_of(rows).choose(RANDOM, 20, 0))


def test_too_few_pairs_are_named():
    with pytest.raises(ValueError, match=r"next.*10 pairs.*12 are asked for"):
        pool_of([row(i, 0, 0.5) for i in range(10)]).choose(NEXT, 6, 0)
