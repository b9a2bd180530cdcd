"""What the steps of the pipeline need of an engine: a map over shards, and one group-by whose groups come sorted.

Data between steps are rows of three texts: a key, which decides the group; an order, which decides the place in the
group; and a payload. Functions of a step name the data set that each row goes to, so one step may feed several.

Where keys are many and small, and nearly all alone in their group, they are numbers: whole arrays of them go from step
to step, and become rows only in groups that are large enough to be of interest.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np


class Row(NamedTuple):
    """One row for the data set `dataset`. Rows of equal key and order must be equal."""

    dataset: str
    key: str
    order: str
    payload: str = ""


class NumberedRows(NamedTuple):
    """Rows of equal order and no payload, one under each of several 64-bit numbers (an array of uint64).

    All rows of a data set are of this kind, or none. The key of a group is then `number_text` of its number.
    """

    dataset: str
    keys: np.ndarray
    order: str


def number_text(number: int) -> str:
    """A number as the key of a group; in the order of numbers."""
    return f"{number:016x}"


class Monitor(Protocol):
    """Is told which record of a shard is being worked on, and says which to leave out; see `pool`."""

    def reading(self, record: int) -> str | None:
        """Before the record is read: None, or the reason why the shard ends here."""

    def cutting(self, record: int) -> str | None:
        """Before the record is cut: None, or the reason why it is left out."""


class Unwatched:
    """The monitor where nobody watches: no record is left out."""

    def reading(self, record: int) -> str | None:
        return None

    def cutting(self, record: int) -> str | None:
        return None


AnyRow = Row | NumberedRows
MapFunction = Callable[[Any, Monitor], Iterable[AnyRow]]
GroupRows = Iterator[tuple[str, str]]  # (order, payload) of a group, in ascending order
GroupFunction = Callable[[str, GroupRows], Iterable[AnyRow]]
Outputs = dict[str, Any]


class Engine(Protocol):
    """Runs steps. A data set is whatever the engine makes of it; `outputs` names those that a step feeds."""

    def map_shards(self, step: str, shards: Sequence[Any], function: MapFunction, outputs: Sequence[str]) -> Outputs:
        """Calls function(shard, monitor) for every shard."""

    def group_by_key(
        self, step: str, datasets: Sequence[Any], function: GroupFunction, outputs: Sequence[str], least: int = 1
    ) -> Outputs:
        """Calls function(key, its (order, payload) in ascending order) for every key of the data sets together.

        Groups of fewer than `least` rows are of no interest. Texts are compared by their code points.
        """

    def settle(self, *datasets: Any) -> None:
        """Runs what is needed for these; only settled data sets can be counted and read, and none is made twice."""

    def num_rows(self, dataset: Any) -> int:
        """Rows of a settled data set."""

    def sum_by_key(self, dataset: Any, most_common: int | None = None) -> dict[str, int]:
        """The sum of the payloads, which are whole numbers, per key; of all keys or of those with the largest sums.

        In descending order of sums; ties in the order of the keys.
        """

    def payloads(self, dataset: Any) -> Iterator[str]:
        """The payloads of a settled data set, in any order."""
