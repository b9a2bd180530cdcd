"""Arms: what M_t is compared with, so that nobody has to believe that choosing helps (Diddee and Ippolito, 2024).

An arm has as many pairs of the same A as the curated set, chosen otherwise.
"""

import heapq
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from humpback_jax.files import PathLike, read_jsonl, sha256_of_bytes, sha256_of_file
from humpback_jax.run_files import CURATED, DROPPED
from humpback_jax.stages.stage import Identity, Stage, StageResult, begin_stage, write_by_reason


def _random_place(row: dict) -> str:
    """A place in a random order that depends on the pair's id alone."""
    return sha256_of_bytes(f"arm {row['id']}".encode())


def _longest_first(row: dict) -> tuple[int, str]:
    return -len(row["output"]), row["id"]


# How each arm orders the pairs of A, of which it takes the first.
ARMS: Mapping[str, Callable[[dict], Any]] = {"random": _random_place, "longest": _longest_first}


def draw_arm(directory: PathLike, curated: Stage, arm: str) -> Stage:
    """Writes DIRECTORY/curated.jsonl with as many pairs of A as `curated` holds, and dropped.jsonl with the others."""
    claim = begin_stage(directory, *arm_identity(arm, curated.outputs["curated"]), replaces=True)
    if claim.finished:
        return claim.stage

    number, order = curated.counts["out"], ARMS[arm]
    # Of several candidates of a segment the first one: what there would be without a choice.
    drawn = (row for row in _pairs(curated) if "segment" not in row or row["id"].endswith("#0"))
    taken = {row["id"] for row in heapq.nsmallest(number, drawn, key=order)}
    rows = ((None if row["id"] in taken else "not_of_this_arm", row) for row in _pairs(curated))
    path = claim.folder / CURATED
    counts = write_by_reason(path, claim.folder / DROPPED, rows)
    return claim.finish(StageResult(counts, {"curated": sha256_of_file(path)}))


def arm_identity(arm: str, curated: str) -> Identity:
    """What decides the pairs of an arm, with the hash of the curated set."""
    return {"arm": arm}, {"curated": curated}


def _pairs(curated: Stage) -> Iterator[dict]:
    """All of A, those of the curated set first, without the reason why one was dropped."""
    files = (read_jsonl(curated.directory / name) for name in (CURATED, DROPPED))
    for _, row in itertools.chain.from_iterable(files):
        yield {key: value for key, value in row.items() if key != "reason"}
