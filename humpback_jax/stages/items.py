"""The items of a job, in the order in which they are run; their texts stay where they are.

A first pass over the rows that they are made from finds the order and what all prompts share. Of every item its id, the
length of its prompt and the position of its row are held; a shard's prompts are made again when the shard is.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from humpback_jax.files import JsonLines, PathLike, in_blocks, jsonl_line, sha256_of_bytes
from humpback_jax.inference.engine import shared_prefix
from humpback_jax.runtime.processes import is_leader
from humpback_jax.runtime.progress import progress_bar

Row = TypeVar("Row")
TOKENIZED_ROWS, JOINED_ROWS = 512, 4096  # rows that are in memory at a time
KEY = "key"  # of a row in a shard: what it was made from
REPORTED_ROWS = 20_000  # fewer are read too fast for a line about it


@dataclasses.dataclass(frozen=True)
class Prompted:
    """An item and its prompt.

    Attributes:
      id: unique in its job.
      prompt_ids: the prompt.
      given: the half of a pair that the prompt is made from, where it asks for the other.
      pair: instruction and output, where it asks about both.
      begun_ids: what the answer begins with, the last tokens of the prompt.
    """

    id: str
    prompt_ids: tuple[int, ...]
    given: str = ""
    pair: tuple[str, str] = ("", "")
    begun_ids: tuple[int, ...] = ()

    def key(self, job: str) -> str:
        """Names the row that a job makes of this item, by the hash of all that decides it.

        Args:
          job: the hash of model, settings and kind of the job.
        """
        ids = np.asarray(self.prompt_ids, np.int64).tobytes()
        texts = jsonl_line({"of": [job, self.id, self.given, *self.pair, len(self.begun_ids)]})
        return sha256_of_bytes(texts.encode() + ids)[:32]


class Rows(Protocol[Row]):
    """What items are made from, readable as often as wanted: `JsonLines`, or `InMemory`."""

    def __len__(self) -> int:
        """Number of rows."""

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        """(position, row) of every row, always in the same order."""

    def at(self, positions: Sequence[int]) -> list[Row]:
        """The rows at these positions, in the order given."""


@dataclasses.dataclass(frozen=True)
class InMemory(Generic[Row]):
    """Rows of a list."""

    rows: Sequence[Row]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        return iter(enumerate(self.rows))

    def at(self, positions: Sequence[int]) -> list[Row]:
        """The rows of these numbers."""
        return [self.rows[position] for position in positions]


@dataclasses.dataclass(frozen=True)
class Repeated:
    """Every row so many times, numbered: the k-th has `#k` behind its id."""

    rows: Rows[dict]
    times: int

    def __len__(self) -> int:
        return len(self.rows) * self.times

    def __iter__(self) -> Iterator[tuple[int, dict]]:
        for position, row in self.rows:
            for k in range(self.times):
                yield position * self.times + k, _numbered(row, k)

    def at(self, positions: Sequence[int]) -> list[dict]:
        """The rows at these positions, numbered."""
        rows = self.rows.at([position // self.times for position in positions])
        return [_numbered(row, position % self.times) for row, position in zip(rows, positions, strict=True)]


def _numbered(row: dict, k: int) -> dict:
    return row | {"id": f"{row['id']}#{k}"}


class KeptRows:
    """Rows in shard files that are at hand again by their key; key and position are held of each, no row."""

    def __init__(self, paths: Sequence[PathLike]) -> None:
        self._rows = JsonLines(paths)
        found = [(row[KEY].encode(), position) for position, row in self._rows if KEY in row]
        keys = np.asarray([key for key, _ in found], "S32")
        positions = np.asarray([position for _, position in found], np.int64)
        self._keys, first = np.unique(keys, return_index=True)
        self._positions = positions[first]

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, keys: Sequence[str]) -> list[dict | None]:
        """The rows of these keys; None where there is none."""
        wanted = np.asarray([key.encode() for key in keys], "S32")
        places = np.minimum(np.searchsorted(self._keys, wanted), len(self) - 1)
        found = self._keys[places] == wanted if len(self) else np.zeros(len(keys), bool)
        rows = iter(self._rows.at(self._positions[places[found]].tolist()))
        return [next(rows) if there else None for there in found]


class JobItems(Generic[Row]):
    """Items by the length of their prompts, those of equal length by id, so that a batch wastes little padding.

    A slice gives the items themselves. The order, and so what is in a shard, is a function of the items alone.

    Attributes:
      unit: what the rows are, for people: "segments".
      number: of rows.
      lengths: tokens of the prompts that fit, int32 [items], ascending.
      prefix_ids: what these prompts begin with.
    """

    def __init__(
        self,
        rows: Rows[Row],
        prompted: Callable[[list[Row]], list[Prompted]],
        max_length: int,
        unit: str = "items",
        frames: Sequence[tuple[int, ...]] = (),
    ) -> None:
        """Reads all rows once.

        Args:
          rows: what the items are made from.
          prompted: makes the items of some rows.
          max_length: longest prompt in tokens; a row whose prompt is longer is no item of the job.
          unit: see above.
          frames: prompts around other contents. What they do not share is no prefix either, so that the prefix, and
            with it the last bit of every number, is the template's and does not depend on which rows there are.

        Raises:
          ValueError: two items have one id.
        """
        self._rows, self._prompted, self.unit, self.number = rows, prompted, unit, len(rows)
        extremes = list(frames)
        columns = [_columns([], [])]
        show = self.number >= REPORTED_ROWS and is_leader()
        with progress_bar(f"prompts of {unit}", self.number, unit, show=show) as bar:
            for block in in_blocks(rows, TOKENIZED_ROWS):
                items = prompted([row for _, row in block])
                columns.append(_columns([position for position, _ in block], items))
                extremes = _extremes([*extremes, *(i.prompt_ids for i in items if len(i.prompt_ids) <= max_length)])
                bar.advance(len(block))
        positions, lengths, self._ids = map(np.concatenate, zip(*columns, strict=True))
        _check_unique(self._ids)
        fitting = np.flatnonzero(lengths <= max_length)
        self._order = fitting[np.lexsort((self._ids[fitting], lengths[fitting]))]
        self._positions, self.lengths = positions[self._order], lengths[self._order]
        self.prefix_ids = shared_prefix(extremes) if len(fitting) else ()

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, part: slice) -> list[Prompted]:
        positions = self._positions[part].tolist()
        blocks = (positions[i : i + TOKENIZED_ROWS] for i in range(0, len(positions), TOKENIZED_ROWS))
        return [item for block in blocks for item in self._prompted(self._rows.at(block))]

    @property
    def counts(self) -> dict[str, Any]:
        """Counts of a stage that rejects nothing but prompts that are too long."""
        too_long = self.number - len(self)
        return {"in": self.number, "out": len(self), "rejected": {"prompt_too_long": too_long} if too_long else {}}

    def joined(self, results: JsonLines) -> Iterator[tuple[Row, dict | None]]:
        """All rows in their own order, each with its result; None where the prompt is too long.

        Raises:
          ValueError: `results`, which are in the order of the items, are not theirs.
        """
        found = np.fromiter(results.positions(), np.int64)
        if len(found) != len(self):
            raise ValueError(f"{results}: {len(found)} rows for {len(self)} items; delete them and run again")
        places = np.full(self.number, -1)
        places[self._order] = found
        numbered = zip((row for _, row in self._rows), places, self._ids, strict=True)
        for block in in_blocks(numbered, JOINED_ROWS):
            of_block = iter(results.at([place for _, place, _ in block if place >= 0]))
            for row, place, name in block:
                result = next(of_block) if place >= 0 else None
                if result is not None:
                    result.pop(KEY, None)
                if result is not None and result["id"].encode() != name:
                    raise ValueError(f"{results}: {result['id']!r} stands where {name.decode()!r} should; delete them")
                yield row, result


def _columns(positions: Sequence[int], items: Sequence[Prompted]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions, lengths, and ids as UTF-8, whose order is that of the texts."""
    lengths = np.asarray([len(item.prompt_ids) for item in items], np.int32)
    return np.asarray(positions, np.int64), lengths, np.asarray([item.id.encode() for item in items], "S")


def _extremes(prompts: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """The first, the last and the shortest: they share with one another what all of them share."""
    return [min(prompts), max(prompts), min(prompts, key=len)] if prompts else []


def _check_unique(ids: np.ndarray) -> None:
    ordered = np.sort(ids)
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(repeated):
        raise ValueError(
            f"two items have the id {repeated[0].decode()!r}; ids decide the random draws and must be unique"
        )
