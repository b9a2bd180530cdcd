"""The order of the training data: a pure function of (seed, epoch, index), so that one integer, the step, resumes it.

A batch is counted in examples, as in the paper. The examples of one update are packed together into rows, and the rows
are dealt into microbatches of one fixed shape, so that one compiled program serves every step.
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from humpback_jax.data.examples import Example
from humpback_jax.data.packing import FEATURES, fill_rows, pack


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
      max_microbatches: microbatches of the largest step, so of every step's arrays.
      fill: positions with a token, as a share of the positions of the microbatches in use, over all steps.
    """

    examples: tuple[Example, ...]
    batch_size: int
    row_length: int
    rows_per_microbatch: int
    seed: int
    num_steps: int
    packing: bool
    max_microbatches: int
    fill: float

    def batch(self, step: int) -> Batch:
        """The data of update `step`, 0 to num_steps - 1, whatever was asked for before."""
        if not 0 <= step < self.num_steps:
            raise ValueError(f"step {step} is outside the plan's {self.num_steps} steps; plan more steps")
        indices = _step_indices(step, self.batch_size, len(self.examples), self.seed)
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
) -> BatchPlan:
    """Plans `num_steps` updates of `batch_size` examples each.

    The stream is one epoch after another, each in its own order; example i is permutation(seed, i // N)[i % N]. A batch
    larger than the data runs into the next epoch. The steps are packed once here, by lengths alone, to learn the shape.

    Args:
      examples: N >= 1 of them, each of at most `row_length` positions.
      batch_size: examples per update.
      row_length: positions of a row.
      rows_per_microbatch: rows that go through the model at once.
      seed: not negative.
      num_steps: updates of the run.
      packing: False puts one example in a row.

    Raises:
      ValueError: no examples, a size below 1, or an example longer than a row.
    """
    sizes = {"batch_size": batch_size, "rows_per_microbatch": rows_per_microbatch, "num_steps": num_steps}
    if wrong := [f"{name} is {size}" for name, size in sizes.items() if size < 1]:
        raise ValueError(f"{wrong[0]}; it must be at least 1")
    if not examples:
        raise ValueError("no examples to train on; look at the counts of the pairs and of those that were too long")
    if seed < 0:
        raise ValueError(f"seed is {seed}; it must not be negative")
    lengths = [example.num_positions for example in examples]
    if max(lengths) > row_length:
        longest = examples[int(np.argmax(lengths))]
        raise ValueError(
            f"example {longest.id!r} takes {longest.num_positions} positions, a row holds {row_length}; "
            "give supervised_examples the row length as max_length"
        )
    most, tokens, used = 0, 0, 0
    for step in range(num_steps):
        chosen = [lengths[index] for index in _step_indices(step, batch_size, len(examples), seed)]
        microbatches = _ceil_div(len(_rows(chosen, row_length, packing)), rows_per_microbatch)
        most, tokens, used = max(most, microbatches), tokens + sum(chosen), used + microbatches
    return BatchPlan(
        examples=tuple(examples),
        batch_size=batch_size,
        row_length=row_length,
        rows_per_microbatch=rows_per_microbatch,
        seed=seed,
        num_steps=num_steps,
        packing=packing,
        max_microbatches=most,
        fill=tokens / (used * rows_per_microbatch * row_length),
    )


def _rows(lengths: Sequence[int], row_length: int, packing: bool) -> list[list[int]]:
    return pack(lengths, row_length) if packing else [[index] for index in range(len(lengths))]


def _step_indices(step: int, batch_size: int, num_examples: int, seed: int) -> list[int]:
    stream = range(step * batch_size, (step + 1) * batch_size)
    return [int(_permutation(seed, i // num_examples, num_examples)[i % num_examples]) for i in stream]


@functools.lru_cache(maxsize=8)
def _permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    """A permutation of range(size) from (seed, epoch).

    Sorts raw Philox output: NumPy keeps the raw stream over versions, which it does not promise for `permutation`.
    """
    draws = np.random.Philox(key=np.array([seed, epoch], np.uint64)).random_raw(size)
    return np.argsort(draws, kind="stable")


def _ceil_div(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)
