"""Packing: several examples share a row, apart by segment ids. Our own, because id 0 is a word in many vocabularies.

What is padding is told by segment id 0 alone, never by a token id. Features have the names of t5x and are shifted
already: an example of n tokens takes n - 1 positions, with tokens[:-1] as inputs and tokens[1:] as targets.
"""

import bisect
from collections.abc import Sequence

import numpy as np

from humpback_jax.data.examples import Example

FEATURES = {
    "decoder_input_tokens": np.int32,
    "decoder_target_tokens": np.int32,
    "decoder_segment_ids": np.int32,
    "decoder_positions": np.int32,
    "decoder_loss_weights": np.float32,
}


def pack(lengths: Sequence[int], row_length: int) -> list[list[int]]:
    """Puts items into as few rows as best-fit decreasing finds: each, longest first, into the fullest row it fits.

    Args:
      lengths: positions that each item takes, 1 to `row_length`.
      row_length: positions of a row.

    Returns:
      The items' indices, row by row; rising within a row, rows by their first index. Equal input, equal output.

    Raises:
      ValueError: a length that does not fit; nothing is ever cut or split.
    """
    for index, length in enumerate(lengths):
        if not 1 <= length <= row_length:
            raise ValueError(f"item {index} has {length} positions; a row holds 1 to {row_length}")
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (positions left, row), sorted
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        place = bisect.bisect_left(room, (lengths[index], 0))
        if place == len(room):
            left, row = row_length, len(rows)
            rows.append([])
        else:
            left, row = room.pop(place)
        rows[row].append(index)
        if left > lengths[index]:
            bisect.insort(room, (left - lengths[index], row))
    return sorted(sorted(row) for row in rows)


def packed_rows(examples: Sequence[Example], row_length: int, num_rows: int | None = None) -> dict[str, np.ndarray]:
    """Packs examples into rows.

    Args:
      examples: each of at most `row_length` positions.
      row_length: positions of a row.
      num_rows: rows of the result, the last ones empty; None: as many as are filled.

    Returns:
      The `FEATURES`, each [rows, row_length]: targets' loss weight is 1 on answer tokens and 0 elsewhere, positions
      start again at 0 with each example, segments count from 1 in each row, and padding is 0 in every feature.

    Raises:
      ValueError: an example is longer than a row, or the examples need more rows than `num_rows`.
    """
    return fill_rows(pack([example.num_positions for example in examples], row_length), examples, row_length, num_rows)


def unpacked_rows(examples: Sequence[Example], row_length: int, num_rows: int | None = None) -> dict[str, np.ndarray]:
    """As `packed_rows`, with one example in a row."""
    return fill_rows([[index] for index in range(len(examples))], examples, row_length, num_rows)


def fill_rows(
    rows: Sequence[Sequence[int]], examples: Sequence[Example], row_length: int, num_rows: int | None = None
) -> dict[str, np.ndarray]:
    """Writes examples into the rows that are given as indices; see `packed_rows`."""
    num_rows = len(rows) if num_rows is None else num_rows
    if len(rows) > num_rows:
        raise ValueError(f"the examples need {len(rows)} rows of {row_length} positions, {num_rows} are given")
    features = {name: np.zeros((num_rows, row_length), dtype) for name, dtype in FEATURES.items()}
    for row, indices in enumerate(rows):
        start = 0
        for segment, index in enumerate(indices, start=1):
            example = examples[index]
            end = start + example.num_positions
            if end > row_length:
                raise ValueError(
                    f"example {example.id!r} ends at position {end} of a row of {row_length}; leave longer examples out"
                )
            tokens = np.concatenate([example.prompt_ids, example.answer_ids])
            features["decoder_input_tokens"][row, start:end] = tokens[:-1]
            features["decoder_target_tokens"][row, start:end] = tokens[1:]
            features["decoder_segment_ids"][row, start:end] = segment
            features["decoder_positions"][row, start:end] = np.arange(end - start)
            features["decoder_loss_weights"][row, start + len(example.prompt_ids) - 1 : end] = 1.0
            start = end
    return features
