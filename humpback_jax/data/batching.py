"""The order of the training data: a pure function of (seed, epoch, index), so that one integer, the step, resumes it.

A batch is counted in examples, as in the paper, or in tokens. The examples of one update are packed together into
rows, and the rows are dealt into microbatches of one fixed shape, so that one compiled program serves every step. A few
examples seldom fill a whole number of rows; an update of so many tokens takes examples as long as they fit.
"""

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from humpback_jax.data.examples import Example
from humpback_jax.data.packing import FEATURES, fill_rows, pack

BATCH_UNITS = ("examples", "tokens")


@dataclasses.dataclass(frozen=True)
class Batch:
    """The data of one update.

    Attributes:
      arrays: the packing features, each [max_microbatches, rows_per_microbatch, row_length].
      num_microbatches: how many of them hold examples; the others are all padding.
      example_ids: ids of the examples, in the order of the stream.
    """

    arrays: dict[str, np.ndarray]
    num_microbatches: int
    example_ids: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class BatchPlan:
    """What every update of a run reads; built by `plan_batches`.

    Attributes:
      starts: where in the stream each step's examples begin, and last where those of the last step end.
      max_microbatches: microbatches of the largest step, so of every step's arrays.
      fill: positions with a token, as a share of the positions of the microbatches in use, over all steps.
    """

    examples: tuple[Example, ...]
    starts: tuple[int, ...]
    row_length: int
    rows_per_microbatch: int
    seed: int
    packing: bool
    max_microbatches: int
    fill: float

    @property
    def num_steps(self) -> int:
        """Updates that are planned."""
        return len(self.starts) - 1

    def batch(self, step: int) -> Batch:
        """The data of update `step`, 0 to num_steps - 1, whatever was asked for before."""
        if not 0 <= step < self.num_steps:
            raise ValueError(f"step {step} is outside the plan's {self.num_steps} steps; plan more steps")
        stream = range(self.starts[step], self.starts[step + 1])
        indices = _stream_indices(stream, len(self.examples), self.seed)
        chosen = [self.examples[index] for index in indices]
        rows = _rows([example.num_positions for example in chosen], self.row_length, self.packing)
        features = fill_rows(rows, chosen, self.row_length, self.max_microbatches * self.rows_per_microbatch)
        shape = (self.max_microbatches, self.rows_per_microbatch, self.row_length)
        return Batch(
            arrays={name: features[name].reshape(shape) for name in FEATURES},
            num_microbatches=_ceil_div(len(rows), self.rows_per_microbatch),
            example_ids=tuple(example.id for example in chosen),
        )


def plan_batches(
    examples: Sequence[Example],
    batch_size: int,
    row_length: int,
    rows_per_microbatch: int,
    seed: int,
    num_steps: int,
    packing: bool = True,
    batch_unit: str = "examples",
) -> BatchPlan:
    """Plans `num_steps` updates.

    The stream is one epoch after another, each in its own order; example i is permutation(seed, i // N)[i % N]. Every
    update takes the examples that follow those of the one before, running on into the next epoch. The steps are packed
    once here, by lengths alone, to learn the shape.

    Args:
      examples: N >= 1 of them, each of at most `row_length` positions.
      batch_size: examples per update; or tokens, padding included: as many examples as pack into so many positions.
      row_length: positions of a row.
      rows_per_microbatch: rows that go through the model at once.
      seed: not negative.
      num_steps: updates of the run.
      packing: False puts one example in a row.
      batch_unit: what `batch_size` counts, `"examples"` or `"tokens"`.

    Raises:
      ValueError: no examples, a size below 1, an unknown unit, an example longer than a row, or a number of tokens that
        is no multiple of a microbatch's.
    """
    _check_sizes(batch_size, row_length, rows_per_microbatch, num_steps, seed, batch_unit)
    if not examples:
        raise ValueError("no examples to train on; look at the counts of the pairs and of those that were too long")
    lengths = [example.num_positions for example in examples]
    if max(lengths) > row_length:
        longest = examples[int(np.argmax(lengths))]
        raise ValueError(
            f"example {longest.id!r} takes {longest.num_positions} positions, a row holds {row_length}; "
            "give supervised_examples the row length as max_length"
        )
    starts, most, tokens, used = [0], 0, 0, 0
    for _ in range(num_steps):
        stream = range(starts[-1], starts[-1] + batch_size)  # an example has at least one token
        chosen = (lengths[index] for index in _stream_indices(stream, len(examples), seed))
        num_rows = batch_size // row_length
        step = list(chosen) if batch_unit == "examples" else _longest_fit(chosen, row_length, num_rows, packing)
        microbatches = _ceil_div(len(_rows(step, row_length, packing)), rows_per_microbatch)
        most, tokens, used = max(most, microbatches), tokens + sum(step), used + microbatches
        starts.append(starts[-1] + len(step))
    return BatchPlan(
        examples=tuple(examples),
        starts=tuple(starts),
        row_length=row_length,
        rows_per_microbatch=rows_per_microbatch,
        seed=seed,
        packing=packing,
        max_microbatches=most,
        fill=tokens / (used * rows_per_microbatch * row_length),
    )


def _check_sizes(
    batch_size: int, row_length: int, rows_per_microbatch: int, num_steps: int, seed: int, batch_unit: str
) -> None:
    sizes = {"batch_size": batch_size, "rows_per_microbatch": rows_per_microbatch, "num_steps": num_steps}
    if wrong := [f"{name} is {size}" for name, size in sizes.items() if size < 1]:
        raise ValueError(f"{wrong[0]}; it must be at least 1")
    if seed < 0:
        raise ValueError(f"seed is {seed}; it must not be negative")
    if batch_unit not in BATCH_UNITS:
        raise ValueError(f"unknown batch_unit {batch_unit!r}; choose one of {', '.join(BATCH_UNITS)}")
    microbatch = rows_per_microbatch * row_length
    if batch_unit == "tokens" and batch_size % microbatch:
        raise ValueError(
            f"batch_size is {batch_size} tokens, a microbatch holds {rows_per_microbatch} x {row_length}; "
            f"choose a multiple of it, such as {_ceil_div(batch_size, microbatch) * microbatch}"
        )


def _longest_fit(lengths: Iterable[int], row_length: int, num_rows: int, packing: bool) -> list[int]:
    """The first lengths of a stream, as many as fit into `num_rows` rows."""
    taken, room = [], num_rows * row_length
    for length in lengths:
        room -= length
        if room < 0:
            break
        taken.append(length)
    while len(_rows(taken, row_length, packing)) > num_rows:
        taken.pop()
    return taken


def _rows(lengths: Sequence[int], row_length: int, packing: bool) -> list[list[int]]:
    return pack(lengths, row_length) if packing else [[index] for index in range(len(lengths))]


def _stream_indices(stream: range, num_examples: int, seed: int) -> Iterator[int]:
    return (int(_permutation(seed, i // num_examples, num_examples)[i % num_examples]) for i in stream)


@functools.lru_cache(maxsize=8)
def _permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    """A permutation of range(size) from (seed, epoch).

    Sorts raw Philox output: NumPy keeps the raw stream over versions, which it does not promise for `permutation`.
    """
    draws = np.random.Philox(key=np.array([seed, epoch], np.uint64)).random_raw(size)
    return np.argsort(draws, kind="stable")


def _ceil_div(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)
