"""A with its signals and ratings of all rounds, and the orders in which pairs of it can be chosen."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from humpback_jax.files import read_jsonl, sha256_of_bytes
from humpback_jax.run_files import CURATED as CURATED_FILE
from humpback_jax.run_files import DROPPED
from humpback_jax.stages.stage import Stage

Row = dict[str, Any]
UNSOUND = ("unscored", "instruction_too_short", "instruction_too_long", "instruction_copies_output")

CURATED, FIRST_ROUND, NEXT, RATING, FIT = "curated", "first_round", "next", "rating", "fit"
SINGLE, RANDOM, LONGEST, WORST = "single", "random", "longest", "worst"


@dataclasses.dataclass(frozen=True)
class Pool:
    """All pairs of A: rows as selection leaves them, by the curator of the last round and of the first."""

    rows: Sequence[Row]
    first_round: Mapping[str, float]

    def choose(self, order: str, size: int, repeat: int) -> list[Row]:
        """The first `size` pairs in one of `ORDERS`, at most one of a segment.

        Raises:
          ValueError: there are not so many.
        """
        skipped = size if order == NEXT else 0
        place = ORDERS[order]
        ordered = sorted(self._candidates(order), key=lambda row: (place(self, row, repeat), row["id"]))
        chosen = _one_per_segment(ordered)
        if len(chosen) < skipped + size:
            raise ValueError(
                f"order {order!r} has {len(chosen)} pairs of different segments, and {skipped + size} are asked for; "
                "lower Evidence.sizes, or cut more segments (CorpusConfig.num_segments)"
            )
        return chosen[skipped : skipped + size]

    def _candidates(self, order: str) -> list[Row]:
        """What an order chooses from: without a choice there would be one instruction per segment, sound or not."""
        rows = self.rows
        if order in (RANDOM, LONGEST, SINGLE):
            rows = [row for row in rows if row["id"].endswith("#0") or "segment" not in row]
        return [row for row in rows if order in (RANDOM, LONGEST) or row.get("reason") not in UNSOUND]


def _one_per_segment(rows: Sequence[Row]) -> list[Row]:
    seen: dict[str, Row] = {}
    for row in rows:
        seen.setdefault(str(row.get("segment") or row["id"]), row)
    return list(seen.values())


# The place of a pair in each order, in one repeat: less comes first, ties are decided by the ids.
ORDERS: Mapping[str, Callable[[Pool, Row, int], Any]] = {
    CURATED: lambda pool, row, repeat: -row["p_good"],
    NEXT: lambda pool, row, repeat: -row["p_good"],
    FIRST_ROUND: lambda pool, row, repeat: -pool.first_round[row["id"]],
    RATING: lambda pool, row, repeat: -row["signals"]["rating"],
    FIT: lambda pool, row, repeat: -row["signals"]["fit"],
    SINGLE: lambda pool, row, repeat: -row["p_good"],
    RANDOM: lambda pool, row, repeat: sha256_of_bytes(f"{repeat} {row['id']}".encode()),
    LONGEST: lambda pool, row, repeat: -len(row["output"]),
    WORST: lambda pool, row, repeat: row["p_good"],
}
SHORT_ORDERS = (CURATED, NEXT, FIRST_ROUND, RANDOM)


def read_pool(first: Stage, last: Stage) -> Pool:
    """A, from what the selections of the first and of the last round kept and dropped, in the order of the ids."""
    rows = sorted(_rows(last), key=lambda row: row["id"])
    return Pool(rows, {row["id"]: row["p_good"] for row in _rows(first) if row["p_good"] is not None})


def _rows(curated: Stage) -> list[Row]:
    return [row for name in (CURATED_FILE, DROPPED) for _, row in read_jsonl(curated.directory / name)]
