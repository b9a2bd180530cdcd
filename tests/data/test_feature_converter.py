"""The seqio FeatureConverter gives exactly our packing, whatever the ids."""

import numpy as np
import pytest
import seqio
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from humpback_jax.data.examples import Example
from humpback_jax.data.feature_converter import PackedDecoderFeatureConverter
from humpback_jax.data.packing import FEATURES, packed_rows, unpacked_rows

LENGTHS = {"inputs": 6, "targets": 8}
ROW = sum(LENGTHS.values())
IDS = st.lists(st.integers(0, 2), min_size=1, max_size=6)


def _dataset(pairs):
    """A dataset of (inputs, targets), built without any Python generator."""
    inputs, targets = (
        tf.ragged.constant([row[side] for row in pairs], dtype=tf.int32, ragged_rank=1) for side in (0, 1)
    )
    return tf.data.Dataset.from_tensor_slices({"inputs": inputs, "targets": targets}).map(
        lambda row: {name: tf.ensure_shape(ids, [None]) for name, ids in row.items()}
    )


def _converted(pairs, **options):
    rows = list(PackedDecoderFeatureConverter(**options)(_dataset(pairs), LENGTHS).as_numpy_iterator())
    return {name: np.stack([row[name] for row in rows]) for name in FEATURES}


def _assert_equal(features, expected):
    for name, dtype in FEATURES.items():
        assert features[name].dtype == dtype
        np.testing.assert_array_equal(features[name], expected[name], err_msg=name)


@pytest.mark.parametrize(("pack", "to_rows"), [(True, packed_rows), (False, unpacked_rows)])
@settings(max_examples=4, deadline=None)
@given(st.lists(st.tuples(IDS, IDS), min_size=30, max_size=60))
def test_rows_are_those_of_our_packing(pack, to_rows, pairs):
    examples = [Example(*ids, str(index)) for index, ids in enumerate(pairs)]
    _assert_equal(_converted(pairs, pack=pack), to_rows(examples, ROW))


@pytest.mark.parametrize(("pack", "to_rows"), [(True, packed_rows), (False, unpacked_rows)])
def test_each_group_is_packed_by_itself(pack, to_rows):
    examples = [Example([0] * (1 + index % 5), [0, index % 3], str(index)) for index in range(23)]
    groups = [to_rows(examples[start : start + 5], ROW) for start in range(0, 23, 5)]
    expected = {name: np.concatenate([group[name] for group in groups]) for name in FEATURES}
    pairs = [(example.prompt_ids, example.answer_ids) for example in examples]
    _assert_equal(_converted(pairs, pack=pack, group_size=5), expected)


@pytest.mark.parametrize(("pack", "number"), [(False, 3), (True, tf.data.UNKNOWN_CARDINALITY)])
def test_unpacked_rows_keep_their_number(pack, number):
    pairs = [([1, 2], [3])] * 3
    assert PackedDecoderFeatureConverter(pack=pack)(_dataset(pairs), LENGTHS).cardinality() == number


def test_ids_0_survive_where_seqios_converter_loses_them():
    # Two examples with id 0 inside: seqio's own packing drops tokens and tears the segments apart.
    pairs = [([5], [0, 6, 2]), ([0], [7, 2])]
    features = _converted(pairs, pack=True)
    assert features["decoder_input_tokens"].tolist() == [[5, 0, 6, 0, 7] + [0] * (ROW - 5)]
    assert features["decoder_target_tokens"].tolist() == [[0, 6, 2, 7, 2] + [0] * (ROW - 5)]
    assert features["decoder_segment_ids"].tolist() == [[1, 1, 1, 2, 2] + [0] * (ROW - 5)]
    assert features["decoder_loss_weights"].tolist() == [[1.0] * 5 + [0.0] * (ROW - 5)]
    assert features["decoder_positions"].tolist() == [[0, 1, 2, 0, 1] + [0] * (ROW - 5)]
    theirs = seqio.LMFeatureConverter(pack=True)(
        tf.data.Dataset.from_tensor_slices({"targets": tf.ragged.constant([[5, 0, 6, 2], [0, 7, 2]])}).map(
            lambda row: {"targets": tf.ensure_shape(row["targets"], [None])}
        ),
        {"targets": ROW},
    )
    assert next(iter(theirs.as_numpy_iterator()))["decoder_segment_ids"].tolist()[:5] != [1, 1, 1, 1, 2]


def test_an_example_that_is_too_long_is_an_error_not_a_cut():
    with pytest.raises(tf.errors.InvalidArgumentError, match="inputs"):
        _converted([([1] * 7, [1])])


def test_the_iterator_is_restored_exactly(tmp_path):
    pairs = [([0] * (1 + index % 5), [index % 7, 0]) for index in range(60)]

    def rows():
        dataset = _dataset(pairs).shuffle(60, seed=3).repeat()
        return iter(PackedDecoderFeatureConverter(group_size=8)(dataset, LENGTHS))

    first = rows()
    for _ in range(13):
        next(first)
    path = tf.train.Checkpoint(iterator=first).write(str(tmp_path / "state"))
    expected = [next(first) for _ in range(20)]
    second = rows()
    tf.train.Checkpoint(iterator=second).read(path)
    for row in expected:
        _assert_equal({k: v.numpy() for k, v in next(second).items()}, {k: v.numpy() for k, v in row.items()})


def test_bad_group_size():
    with pytest.raises(ValueError, match="group_size is 0"):
        PackedDecoderFeatureConverter(group_size=0)
