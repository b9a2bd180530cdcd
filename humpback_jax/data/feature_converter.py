"""Our packing as a seqio FeatureConverter, for training under seqio and t5x."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import seqio
import tensorflow as tf

from humpback_jax.data.examples import Example
from humpback_jax.data.packing import FEATURES, packed_rows, unpacked_rows


class PackedDecoderFeatureConverter(seqio.FeatureConverter):
    """From "inputs" (prompt ids) and "targets" (answer ids) to `packing.FEATURES`, for a decoder-only model.

    Rows have the length of both task features together. With `pack`, every group of `group_size` consecutive examples
    is packed into rows of its own, exactly as `packed_rows` does; without, each example has a row, with the same
    features. All ids come from the task, nothing is added or cut, and id 0 is a word like any other, which it is not
    to seqio's own converters. The conversion keeps no state beside the group, so iterators can be checkpointed.
    """

    TASK_FEATURES: ClassVar[Mapping[str, seqio.FeatureConverter.FeatureSpec]] = {
        "inputs": seqio.FeatureConverter.FeatureSpec(dtype=tf.int32),
        "targets": seqio.FeatureConverter.FeatureSpec(dtype=tf.int32),
    }
    MODEL_FEATURES: ClassVar[Mapping[str, seqio.FeatureConverter.FeatureSpec]] = {
        name: seqio.FeatureConverter.FeatureSpec(dtype=tf.as_dtype(dtype)) for name, dtype in FEATURES.items()
    }
    PACKING_FEATURE_DTYPES: ClassVar[Mapping[str, tf.dtypes.DType]] = {}

    def __init__(self, pack: bool = True, group_size: int = 512, **kwargs: object) -> None:
        """`group_size`: examples packed together; more of them fill rows better. The rest goes to seqio's class."""
        super().__init__(pack=pack, **kwargs)
        if group_size < 1:
            raise ValueError(f"group_size is {group_size}; it must be at least 1")
        self._group_size = group_size

    def get_model_feature_lengths(self, task_feature_lengths: Mapping[str, int]) -> Mapping[str, int]:
        """Every model feature has the length of inputs and targets together."""
        return dict.fromkeys(FEATURES, sum(task_feature_lengths.values()))

    def _convert_features(self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]) -> tf.data.Dataset:
        row_length = sum(task_feature_lengths.values())
        to_rows = packed_rows if self.pack else unpacked_rows

        def convert(
            inputs: np.ndarray, input_splits: np.ndarray, targets: np.ndarray, target_splits: np.ndarray
        ) -> tuple[np.ndarray, ...]:
            prompts, answers = np.split(inputs, input_splits[1:-1]), np.split(targets, target_splits[1:-1])
            examples = [Example(*ids, id=str(index)) for index, ids in enumerate(zip(prompts, answers, strict=True))]
            rows = to_rows(examples, row_length)
            return tuple(rows[name] for name in FEATURES)

        def convert_group(group: Mapping[str, tf.RaggedTensor]) -> dict[str, tf.Tensor]:
            inputs, targets = group["inputs"], group["targets"]
            flat = [inputs.flat_values, inputs.row_splits, targets.flat_values, targets.row_splits]
            dtypes = [tf.as_dtype(dtype) for dtype in FEATURES.values()]
            # A stateful function would make the whole iterator impossible to checkpoint.
            rows = tf.numpy_function(convert, flat, dtypes, stateful=False)
            for tensor in rows:
                tensor.set_shape([None, row_length])
            return dict(zip(FEATURES, rows, strict=True))

        ds = ds.map(lambda example: {name: example[name] for name in self.TASK_FEATURES})
        number = ds.cardinality()
        ds = ds.ragged_batch(self._group_size)
        ds = ds.map(convert_group, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).unbatch()
        # A row for each example: t5x.eval asks how many.
        return ds if self.pack or number < 0 else ds.apply(tf.data.experimental.assert_cardinality(number))
