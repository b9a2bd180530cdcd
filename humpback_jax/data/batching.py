"""The order of the training data: a pure function of (seed, epoch, index), so that one integer, the step, resumes it.

A batch is counted in examples, as in the paper, or in tokens. The examples of one update are packed together into
rows, and the rows are dealt into microbatches of one fixed shape, so that one compiled program serves every step. A few
examples seldom fill a whole number of rows; an update of so many tokens takes examples as long as they fit.
"""

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated

import numpy as np

from humpback_jax.data.examples import Trainable
from humpback_jax.data.packing import fill_rows, pack
from humpback_jax.ranges import NaturalInt, OneOf, PositiveInt, check_fields

BATCH_UNITS = ("examples", "tokens")


@dataclasses.dataclass(frozen=True)
class BatchConfig:
    """What an update reads: every field must agree where a run goes on from the checkpoint of another.

    Attributes:
      batch_size: per update, in the unit of `batch_unit`; in tokens a multiple of row_length x rows_per_microbatch.
      row_length: positions per packed row; a longer example is rejected and counted.
      rows_per_microbatch: rows whose activations exist at one time; a multiple of the mesh's data x fsdp.
      seed: of the order of the data, not negative; dropout and adapters draw from it too.
      packing: several examples per row; off, one example per row.
      batch_unit: `examples`, as in the paper, or `tokens`, padding included, of which examples fill nearly all.
    """

    batch_size: PositiveInt = 32
    row_length: PositiveInt = 2048
    rows_per_microbatch: PositiveInt = 1
    seed: NaturalInt = 0
    packing: bool = True
    batch_unit: Annotated[str, OneOf(*BATCH_UNITS)] = "examples"

    def __post_init__(self) -> None:
        check_fields(self)


@dataclasses.dataclass(frozen=True)
class Batch:
    """The data of one update.

    Attributes:
      arrays: the packing features, of pairs or of examples, each [max_microbatches, rows_per_microbatch, row_length].
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

    examples: tuple[Trainable, ...]
    config: BatchConfig
    starts: tuple[int, ...]
    max_microbatches: int
    fill: float

    @property
    def num_steps(self) -> int:
        """Updates that are planned."""
        return len(self.starts) - 1

    @property
    def seed(self) -> int:
        """Of the order of the data."""
        return self.config.seed

    def batch(self, step: int) -> Batch:
        """The data of update `step`, 0 to num_steps - 1, whatever was asked for before."""
        if not 0 <= step < self.num_steps:
            raise ValueError(f"step {step} is outside the plan's {self.num_steps} steps; plan more steps")
        config, stream = self.config, range(self.starts[step], self.starts[step + 1])
        chosen = [self.examples[index] for index in stream_indices(stream, len(self.examples), config.seed)]
        rows = _rows([example.num_positions for example in chosen], config)
        shape = (self.max_microbatches, config.rows_per_microbatch, config.row_length)
        features = fill_rows(rows, chosen, config.row_length, shape[0] * shape[1])
        return Batch(
            arrays={name: array.reshape(shape) for name, array in features.items()},
            num_microbatches=_ceil_div(len(rows), config.rows_per_microbatch),
            example_ids=tuple(example.id for example in chosen),
        )


def plan_batches(
    examples: Sequence[Trainable],
    config: BatchConfig,
    num_steps: int,
    rows_per_microbatch: int | None = None,
) -> BatchPlan:
    """Plans `num_steps` updates.

    The stream is one epoch after another, each in its own order; example i is permutation(seed, i // N)[i % N]. Every
    update takes the examples that follow those of the one before, running on into the next epoch. The steps are packed
    once here, by lengths alone, to learn the shape. `rows_per_microbatch`, where given, replaces that of the config, as
    a mesh wants it: the examples of an update are the same for any.

    Raises:
      ValueError: no examples, a size below 1, an unknown unit, an example longer than a row, or a number of tokens that
        is no multiple of a microbatch's.
    """
    check_batch(config)
    config = dataclasses.replace(config, rows_per_microbatch=rows_per_microbatch or config.rows_per_microbatch)
    if num_steps < 1:
        raise ValueError(f"num_steps is {num_steps}; it must be at least 1")
    if not examples:
        raise ValueError("no examples to train on; look at the counts of the pairs and of those that were too long")
    lengths = [example.num_positions for example in examples]
    if max(lengths) > config.row_length:
        longest = examples[int(np.argmax(lengths))]
        raise ValueError(
            f"example {longest.id!r} takes {longest.num_positions} positions, a row holds {config.row_length}; "
            "give supervised_examples the row length as max_length"
        )
    starts, most, tokens, used = [0], 0, 0, 0
    for _ in range(num_steps):
        stream = range(starts[-1], starts[-1] + config.batch_size)  # an example has at least one token
        chosen = (lengths[index] for index in stream_indices(stream, len(examples), config.seed))
        step = list(chosen) if config.batch_unit == "examples" else _longest_fit(chosen, config)
        microbatches = _ceil_div(len(_rows(step, config)), config.rows_per_microbatch)
        most, tokens, used = max(most, microbatches), tokens + sum(step), used + microbatches
        starts.append(starts[-1] + len(step))
    fill = tokens / (used * config.rows_per_microbatch * config.row_length)
    return BatchPlan(tuple(examples), config, tuple(starts), most, fill)


def check_batch(config: BatchConfig) -> None:
    """ValueError where an update of so many tokens is no whole number of microbatches."""
    microbatch = config.rows_per_microbatch * config.row_length
    if config.batch_unit == "tokens" and config.batch_size % microbatch:
        raise ValueError(
            f"batch_size is {config.batch_size} tokens, a microbatch holds {config.rows_per_microbatch} x "
            f"{config.row_length}; choose a multiple of it, such as "
            f"{_ceil_div(config.batch_size, microbatch) * microbatch}"
        )


def _longest_fit(lengths: Iterable[int], config: BatchConfig) -> list[int]:
    """The first lengths of a stream, as many as fit into the rows of `batch_size` tokens."""
    num_rows = config.batch_size // config.row_length
    taken, room = [], num_rows * config.row_length
    for length in lengths:
        room -= length
        if room < 0:
            break
        taken.append(length)
    while len(_rows(taken, config)) > num_rows:
        taken.pop()
    return taken


def _rows(lengths: Sequence[int], config: BatchConfig) -> list[list[int]]:
    return pack(lengths, config.row_length) if config.packing else [[index] for index in range(len(lengths))]


def stream_indices(stream: range, num_examples: int, seed: int) -> Iterator[int]:
    """Which examples stand at these places of the endless stream."""
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
