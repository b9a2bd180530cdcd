"""Packing: several examples share a row, apart by segment ids. Our own, because id 0 is a word in many vocabularies.

What is padding is told by segment id 0 alone, never by a token id. Features have the names of t5x and are shifted
already: an example of n tokens takes n - 1 positions, with tokens[:-1] as inputs and tokens[1:] as targets.
"""

import bisect
from collections.abc import Sequence

import numpy as np

from humpback_jax.data.examples import Example, ExamplePair, Trainable

FEATURES = {
    "decoder_input_tokens": np.int32,
    "decoder_target_tokens": np.int32,
    "decoder_segment_ids": np.int32,
    "decoder_positions": np.int32,
    "decoder_loss_weights": np.float32,
}
# Of pairs also the log-probability of an answer under the reference model, at its first token and 0 elsewhere.
REFERENCE = "decoder_reference"
PAIR_FEATURES = FEATURES | {REFERENCE: np.float32}


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
    rows: Sequence[Sequence[int]],
    examples: Sequence[Trainable],
    row_length: int,
    num_rows: int | None = None,
) -> dict[str, np.ndarray]:
    """Writes examples into the rows that are given as indices; see `packed_rows`.

    Of pairs the k-th of a row has segment 2k - 1, the chosen answer, and 2k, the rejected one; the features are
    `PAIR_FEATURES`, with references of 0 where none are known.
    """
    num_rows = len(rows) if num_rows is None else num_rows
    if len(rows) > num_rows:
        raise ValueError(f"the examples need {len(rows)} rows of {row_length} positions, {num_rows} are given")
    in_pairs = any(isinstance(example, ExamplePair) for example in examples)
    dtypes = PAIR_FEATURES if in_pairs else FEATURES
    features = {name: np.zeros((num_rows, row_length), dtype) for name, dtype in dtypes.items()}
    for row, indices in enumerate(rows):
        of_row = {name: array[row] for name, array in features.items()}
        start, segment = 0, 1
        for index in indices:
            for part, reference in _parts(examples[index]):
                start = _write(of_row, part, reference, start, segment)
                segment += 1
    return features


def _parts(example: Trainable) -> list[tuple[Example, float | None]]:
    """The segments of an example, each with its reference."""
    if isinstance(example, Example):
        return [(example, None)]
    return list(zip((example.chosen, example.rejected), example.reference or (0.0, 0.0), strict=True))


def _write(row: dict[str, np.ndarray], example: Example, reference: float | None, start: int, segment: int) -> int:
    """Writes an example into the features of one row from `start` on; returns where it ends."""
    end, length = start + example.num_positions, len(row["decoder_segment_ids"])
    if end > length:
        raise ValueError(
            f"example {example.id!r} ends at position {end} of a row of {length}; leave longer examples out"
        )
    tokens, answer = np.concatenate([example.prompt_ids, example.answer_ids]), start + len(example.prompt_ids) - 1
    row["decoder_input_tokens"][start:end] = tokens[:-1]
    row["decoder_target_tokens"][start:end] = tokens[1:]
    row["decoder_segment_ids"][start:end] = segment
    row["decoder_positions"][start:end] = np.arange(end - start)
    row["decoder_loss_weights"][answer:end] = 1.0
    if reference is not None:
        row[REFERENCE][answer] = reference
    return end
