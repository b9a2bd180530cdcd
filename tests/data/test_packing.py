"""Packing: every token is found again, whatever its id, and rows are full."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from humpback_jax.chat.formats import ChatFormat
from humpback_jax.data.batching import BatchConfig, plan_batches
from humpback_jax.data.examples import Example, supervised_examples
from humpback_jax.data.packing import FEATURES, pack, packed_rows, unpacked_rows
from humpback_jax.data.pairs import read_pairs
from humpback_jax.tokenizers import load_tokenizer

ROW = 24
IDS = st.lists(st.integers(0, 3), min_size=1, max_size=ROW // 2)
EXAMPLES = st.lists(st.tuples(IDS, IDS), max_size=12).map(
    lambda rows: [Example(prompt, answer, str(index)) for index, (prompt, answer) in enumerate(rows)]
)


def recovered(features):
    """(prompt ids, answer ids) of every segment, read from the features alone."""
    found = []
    for row in range(len(features["decoder_segment_ids"])):
        inputs, targets, segments, positions, weights = (features[name][row] for name in FEATURES)
        for segment in range(1, segments.max(initial=0) + 1):
            places = np.flatnonzero(segments == segment)
            assert places.size and np.array_equal(places, np.arange(places[0], places[-1] + 1)), "not contiguous"
            assert np.array_equal(positions[places], np.arange(places.size))
            assert np.array_equal(inputs[places][1:], targets[places][:-1])
            tokens = [inputs[places[0]], *targets[places]]
            start = 1 + int(np.flatnonzero(weights[places])[0])
            assert weights[places].tolist() == [0.0] * (start - 1) + [1.0] * (len(tokens) - start)
            found.append((tokens[:start], tokens[start:]))
        padding = segments == 0
        assert not any(array[padding].any() for array in (inputs, targets, positions, weights))
        assert np.array_equal(np.sort(padding), padding), "padding before a token"
    return found


def as_lists(examples):
    return [(example.prompt_ids.tolist(), example.answer_ids.tolist()) for example in examples]


@pytest.mark.parametrize("to_rows", [packed_rows, unpacked_rows])
@given(EXAMPLES)
def test_every_token_is_recovered(to_rows, examples):
    features = to_rows(examples, ROW)
    assert {name: array.dtype for name, array in features.items()} == FEATURES
    assert {array.shape[1] for array in features.values()} == {ROW}
    assert sorted(recovered(features)) == sorted(as_lists(examples))
    if to_rows is unpacked_rows:
        assert recovered(features) == as_lists(examples)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12))
def test_examples_of_nothing_but_id_0_are_recovered(sizes):
    examples = [Example([0] * prompt, [0] * answer, str(index)) for index, (prompt, answer) in enumerate(sizes)]
    features = packed_rows(examples, ROW)
    assert sorted(recovered(features)) == sorted(as_lists(examples))
    assert features["decoder_loss_weights"].sum() == sum(answer for _, answer in sizes)


@given(st.lists(st.integers(1, 50), max_size=80), st.integers(50, 70))
def test_pack_places_every_item_once_and_no_two_rows_could_be_one(lengths, row_length):
    rows = pack(lengths, row_length)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    filled = sorted(sum(lengths[index] for index in row) for row in rows)
    assert all(used <= row_length for used in filled)
    assert len(filled) < 2 or filled[0] + filled[1] > row_length
    assert rows == pack(lengths, row_length)
    assert rows == sorted(sorted(row) for row in rows)


def test_pack_takes_the_row_that_an_item_fills_best():
    assert pack([6, 5, 4, 5], 10) == [[0, 2], [1, 3]]
    assert pack([], 10) == []


@pytest.mark.parametrize("length", [0, 11])
def test_pack_names_an_item_that_does_not_fit(length):
    with pytest.raises(ValueError, match=f"item 1 has {length} positions; a row holds 1 to 10"):
        pack([3, length], 10)


def test_the_layout_of_a_row():
    examples = [Example([5, 0], [6, 2], "a"), Example([0], [7, 2], "b")]
    features = packed_rows(examples, 7, num_rows=2)
    expected = {
        "decoder_input_tokens": [5, 0, 6, 0, 7, 0, 0],
        "decoder_target_tokens": [0, 6, 2, 7, 2, 0, 0],
        "decoder_segment_ids": [1, 1, 1, 2, 2, 0, 0],
        "decoder_positions": [0, 1, 2, 0, 1, 0, 0],
        "decoder_loss_weights": [0, 1, 1, 1, 1, 0, 0],
    }
    assert {name: array[0].tolist() for name, array in features.items()} == expected
    assert not any(array[1].any() for array in features.values())


def test_too_few_rows_and_too_long_examples_are_errors():
    examples = [Example([1] * 4, [2] * 4, "a"), Example([1] * 4, [2] * 4, "b")]
    with pytest.raises(ValueError, match="need 2 rows of 8 positions, 1 are given"):
        packed_rows(examples, 8, num_rows=1)
    with pytest.raises(ValueError, match="example 'a' ends at position 7 of a row of 6"):
        unpacked_rows(examples, 6)
    with pytest.raises(ValueError, match="item 0 has 7 positions"):
        packed_rows(examples, 6)


@pytest.mark.parametrize("ids", [([], [1]), ([1], []), ([[1]], [1])])
def test_an_example_needs_a_prompt_and_an_answer(ids):
    with pytest.raises(ValueError, match=r"example 'x': (prompt|answer)_ids has shape"):
        Example(*ids, "x")


@pytest.fixture(scope="module")
def seed_examples(shared_data):
    tokenizer = load_tokenizer(shared_data / "tokenizer" / "mistral_v1_tokenizer.model")
    pairs = read_pairs(shared_data / "seed" / "seed_pairs.jsonl").pairs
    return supervised_examples(pairs, tokenizer, ChatFormat("inst"), tags=["seed"], max_length=2048)


@pytest.mark.parametrize("rows_per_update", [4, 8, 32])
def test_updates_counted_in_tokens_are_full_of_real_seeds(seed_examples, rows_per_update):
    examples, _ = seed_examples
    tokens = rows_per_update * 2048
    plan = plan_batches(examples, BatchConfig(tokens, 2048, rows_per_update, batch_unit="tokens"), 40)
    assert plan.fill >= 0.95


def test_the_real_seed_set_fills_rows_of_2048(seed_examples):
    examples, counts = seed_examples
    rows = packed_rows(examples, 2048)["decoder_segment_ids"]
    fill = float((rows > 0).mean())
    assert counts["read"] == 465 == counts["kept"] + sum(counts["rejected"].values())
    assert fill >= 0.95, (fill, rows.shape)
