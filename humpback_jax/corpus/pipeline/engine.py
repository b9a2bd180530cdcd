"""What the steps of the pipeline need of an engine: a map over shards, and one group-by whose groups come sorted.

Data between steps are rows of three texts: a key, which decides the group; an order, which decides the place in the
group; and a payload. Functions of a step name the data set that each row goes to, so one step may feed several.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol


class Row(NamedTuple):
    """One row for the data set `dataset`. Rows of equal key and order must be equal."""

    dataset: str
    key: str
    order: str
    payload: str = ""


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


MapFunction = Callable[[Any, Monitor], Iterable[Row]]
GroupRows = Iterator[tuple[str, str]]  # (order, payload) of a group, in ascending order
GroupFunction = Callable[[str, GroupRows], Iterable[Row]]
Outputs = dict[str, Any]


class Engine(Protocol):
    """Runs steps. A data set is whatever the engine makes of it; `outputs` names those that a step feeds."""

    def map_shards(self, step: str, shards: Sequence[Any], function: MapFunction, outputs: Sequence[str]) -> Outputs:
        """Calls function(shard, monitor) for every shard."""

    def group_by_key(
        self, step: str, datasets: Sequence[Any], function: GroupFunction, outputs: Sequence[str]
    ) -> Outputs:
        """Calls function(key, its (order, payload) in ascending order) for every key of the data sets together.

        Texts are compared by their code points.
        """

    def settle(self, *datasets: Any) -> None:
        """Runs what is needed for these; only settled data sets can be counted and read, and none is made twice."""

    def num_rows(self, dataset: Any) -> int:
        """Rows of a settled data set."""

    def count_keys(self, dataset: Any, most_common: int | None = None) -> dict[str, int]:
        """Rows per key, or those of the most common keys; ties in the order of the keys."""

    def payloads(self, dataset: Any) -> Iterator[str]:
        """The payloads of a settled data set, in any order."""
