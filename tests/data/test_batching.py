"""The data order: one integer resumes it, every example comes once an epoch."""

import collections
import itertools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from humpback_jax.data.batching import BatchConfig, plan_batches
from humpback_jax.data.examples import Example
from humpback_jax.data.packing import FEATURES


def make_examples(lengths):
    return [Example([0] * (length - 2), [index % 5, 0, 1], f"e{index}") for index, length in enumerate(lengths)]


LENGTHS = st.lists(st.integers(3, 16), min_size=1, max_size=20)
SIZES = st.integers(1, 30)


def _equal(left, right):
    return left.example_ids == right.example_ids and all(
        np.array_equal(left.arrays[name], right.arrays[name]) for name in FEATURES
    )


@settings(max_examples=60, deadline=None)
@given(LENGTHS, SIZES, st.integers(1, 3), st.integers(0, 2**40), st.booleans())
def test_steps_are_a_slice_of_the_stream_in_any_order(lengths, batch_size, rows, seed, packing):
    examples = make_examples(lengths)
    plan = plan_batches(examples, BatchConfig(batch_size, 16, rows, seed, packing), 6)
    batches = [plan.batch(step) for step in range(6)]
    resumed = plan_batches(examples, BatchConfig(batch_size, 16, rows, seed, packing), 6)
    for step in (4, 1, 5, 0):
        assert _equal(resumed.batch(step), batches[step])
    ids = [name for batch in batches for name in batch.example_ids]
    assert len(ids) == 6 * batch_size
    for epoch in range(len(ids) // len(examples)):
        once = ids[epoch * len(examples) : (epoch + 1) * len(examples)]
        assert sorted(once) == sorted(example.id for example in examples)
    longer = plan_batches(examples, BatchConfig(batch_size, 16, rows, seed, packing), 9)
    assert [longer.batch(step).example_ids for step in range(6)] == [batch.example_ids for batch in batches]


@settings(max_examples=60, deadline=None)
@given(LENGTHS, SIZES, st.integers(1, 3), st.booleans())
def test_microbatches_hold_the_steps_examples_and_then_padding(lengths, batch_size, rows, packing):
    examples = make_examples(lengths)
    plan = plan_batches(examples, BatchConfig(batch_size, 16, rows, 1, packing), 4)
    by_id = {example.id: example for example in examples}
    real, used, most = 0, 0, 0
    for step in range(4):
        batch = plan.batch(step)
        assert {array.shape for array in batch.arrays.values()} == {(plan.max_microbatches, rows, 16)}
        segments = batch.arrays["decoder_segment_ids"]
        filled = [bool(microbatch.any()) for microbatch in segments]
        assert filled == [True] * batch.num_microbatches + [False] * (plan.max_microbatches - batch.num_microbatches)
        expected = collections.Counter(by_id[name].num_positions for name in batch.example_ids)
        found = [np.bincount(row)[1:] for microbatch in segments for row in microbatch if row.any()]
        assert collections.Counter(np.concatenate(found).tolist()) == expected
        assert batch.arrays["decoder_loss_weights"].sum() == 3 * batch_size
        real, used, most = real + (segments > 0).sum(), used + batch.num_microbatches, max(most, batch.num_microbatches)
    assert plan.max_microbatches == most
    assert plan.fill == pytest.approx(real / (used * rows * 16))


def test_epochs_and_seeds_have_orders_of_their_own():
    examples = make_examples([3] * 40)
    orders = {
        (seed, epoch): plan_batches(examples, BatchConfig(40, 16, 1, seed), 3).batch(epoch).example_ids
        for seed in (0, 1)
        for epoch in range(3)
    }
    assert len(set(orders.values())) == 6


# Runs that were interrupted under an older NumPy must go on with the data they would have had.
FIXED = [[7, 4, 3, 2, 0, 1, 5, 6], [6, 4, 0, 3, 1, 5, 7, 2]]


def test_the_order_is_fixed_for_all_time():
    plan = plan_batches(make_examples([3] * 8), BatchConfig(8, 16, 1, seed=17), 2)
    assert [[int(name[1:]) for name in plan.batch(step).example_ids] for step in range(2)] == FIXED


@settings(max_examples=60, deadline=None)
@given(LENGTHS, st.integers(1, 3), st.integers(1, 3), st.booleans())
def test_steps_counted_in_tokens_hold_as_much_as_fits(lengths, rows, microbatches, packing):
    examples = make_examples(lengths)
    tokens = rows * microbatches * 16
    config = BatchConfig(tokens, 16, rows, 1, packing, "tokens")
    plan, again = plan_batches(examples, config, 5), plan_batches(examples, config, 3)
    batches = [plan.batch(step) for step in range(5)]
    assert _equal(again.batch(2), batches[2])
    sizes = {example.id: example.num_positions for example in examples}
    for batch in batches:
        assert 1 <= batch.num_microbatches <= microbatches
        if not packing:
            assert len(batch.example_ids) == rows * microbatches
    ids = [name for batch in batches for name in batch.example_ids]
    one_by_one = plan_batches(examples, BatchConfig(1, 16, 1, seed=1), len(ids))
    assert ids == [one_by_one.batch(step).example_ids[0] for step in range(len(ids))]
    if packing and microbatches == rows == 1:
        for batch, after in itertools.pairwise(batches):
            assert sum(sizes[name] for name in batch.example_ids) + sizes[after.example_ids[0]] > 16


def test_packing_needs_fewer_microbatches():
    examples = make_examples([4] * 32)
    packed, alone = (plan_batches(examples, BatchConfig(32, 16, packing=packing), 1) for packing in (True, False))
    assert (packed.max_microbatches, alone.max_microbatches) == (8, 32)
    assert (packed.fill, alone.fill) == (1.0, 0.25)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"examples": []}, "no examples"),
        ({"batch_size": 0}, "batch_size takes a whole number of at least 1, found 0"),
        ({"rows_per_microbatch": 0}, "rows_per_microbatch takes a whole number of at least 1, found 0"),
        ({"num_steps": 0}, "num_steps is 0"),
        ({"seed": -1}, "seed takes a whole number of at least 0, found -1"),
        ({"batch_unit": "rows"}, "batch_unit takes a text among examples, tokens, found 'rows'"),
        ({"batch_unit": "tokens", "batch_size": 40}, "40 tokens, a microbatch holds 1 x 16; choose .* such as 48"),
        ({"row_length": 8}, "example 'e1' takes 9 positions, a row holds 8"),
    ],
)
def test_bad_plans(change, message):
    fields = {"batch_size": 2, "row_length": 16} | change
    examples, num_steps = fields.pop("examples", make_examples([4, 9])), fields.pop("num_steps", 1)
    with pytest.raises(ValueError, match=message):
        plan_batches(examples, BatchConfig(**fields), num_steps)


@pytest.mark.parametrize("step", [-1, 1])
def test_steps_outside_the_plan(step):
    with pytest.raises(ValueError, match=f"step {step} is outside the plan's 1 steps"):
        plan_batches(make_examples([4]), BatchConfig(1, 16), 1).batch(step)


def test_the_data_order_needs_neither_tensorflow_nor_jax():
    code = (
        "import sys, humpback_jax.data.batching, humpback_jax.data.show\n"
        "assert not {'tensorflow', 'seqio', 'jax', 'gin'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("unit", ["examples", "tokens"])
def test_rows_that_a_mesh_asks_for_change_no_update(unit):
    examples = make_examples([4, 9, 3, 7, 5, 8, 6])
    config = BatchConfig(
        batch_size=4 if unit == "examples" else 64, row_length=16, rows_per_microbatch=2, batch_unit=unit
    )
    declared, raised = plan_batches(examples, config, 5), plan_batches(examples, config, 5, rows_per_microbatch=8)
    assert raised.starts == declared.starts
    for step in range(5):
        ours, theirs = declared.batch(step), raised.batch(step)
        assert ours.example_ids == theirs.example_ids
        assert theirs.arrays["decoder_input_tokens"].shape[1:] == (8, 16)
        for name in ours.arrays:
            flat, wide = (each.arrays[name].reshape(-1, 16) for each in (ours, theirs))
            rows = flat[ours.arrays["decoder_segment_ids"].reshape(-1, 16).any(axis=1)]
            assert (wide[: len(rows)] == rows).all() and not wide[len(rows) :].any()
