"""The group-by of a corpus at 10^8 segments, simulated: keys, sizes and edges as arrays, no text anywhere.

    python benchmarks/corpus_scale.py [--segments 100000000] [--folder DIR] [--json]

docs/scale.md quotes what it prints. Each part answers a question that a small corpus cannot:

  candidates    how many pairs the bands of MinHash bring together, how large the largest bucket is, and what that costs
                where every pair of a bucket is looked at, beside where each member is held against its first one;
  kept          memory and seconds of choosing what stays of all duplicates, in the order of ids (an independent set);
  domains       segments of the largest domain, and what a cap per domain and a uniform draw make of them;
  spill         DuckDB's group-by of one band under a bound on its memory: seconds, and bytes on disk.

The model. A part of the segments (`--copied`) comes in families, whose sizes follow a power law (`--family_exponent`)
from two up: the largest, a licence or a notice, has hundreds of thousands. A member is like its family's centre to a
degree s: half of them exactly, the others 0.75 to 1, so two members have Jaccard similarity s_i s_j. A band of r rows
is the family's with probability s^r, else the member's own. Strangers meet in a band of 64 bits about never.
Domains follow Zipf's law (`--zipf`). Only `--simulated_bands` of the bands are drawn, for they are alike.
"""

import argparse
import json
import pathlib
import resource
import sys
import tempfile
import threading
import time
from typing import Any

import duckdb
import numpy as np
import pyarrow
import pyarrow.parquet

LIKE_LOW = 0.75
LARGEST_FAMILY = 0.005  # of all segments
PARQUET_ROWS = 5_000_000
WATCH_SECONDS = 0.1


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def draw_families(count: int, copied: float, exponent: float, rng: np.random.Generator) -> np.ndarray:
    """The family of every segment; sizes from 2 by a power law that is cut off, till `copied` of all are in one."""
    uniform = rng.random(int(count * copied / 2))
    sizes = np.minimum(2 * uniform ** (-1 / (exponent - 1)), LARGEST_FAMILY * count).astype(np.int64)
    families = int(np.searchsorted(np.cumsum(sizes), count * copied)) + 1
    members = np.repeat(np.arange(families, dtype=np.int32), sizes[:families])[:count]
    alone = np.arange(families, families + count - len(members), dtype=np.int32)
    return rng.permutation(np.concatenate([members, alone]))


def draw_likeness(count: int, rng: np.random.Generator) -> np.ndarray:
    """How like every segment is to its family's centre, 0 to 1: half of them exactly."""
    likeness = rng.uniform(LIKE_LOW, 1.0, count).astype(np.float32)
    likeness[rng.random(count, dtype=np.float32) < 0.5] = 1.0
    return likeness


def band_keys(families: np.ndarray, likeness: np.ndarray, rows: int, rng: np.random.Generator) -> np.ndarray:
    """One band's 64-bit key of every segment: its family's, or its own."""
    shared = rng.random(len(families), dtype=np.float32) < likeness**rows
    keys = rng.integers(0, 2**63, len(families), dtype=np.int64)
    of_family = rng.integers(0, 2**63, int(families.max()) + 1, dtype=np.int64)
    keys[shared] = of_family[families[shared]]
    return keys


def bucket_sizes(keys: np.ndarray) -> np.ndarray:
    """Sizes of the buckets with more than one member."""
    ordered = np.sort(keys)
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    sizes = np.diff(np.append(starts, len(ordered)))
    return sizes[sizes > 1]


def candidates(keys: np.ndarray, bands: int) -> dict[str, float]:
    """Candidate pairs of one band, and of all of them if no pair were met twice."""
    sizes = bucket_sizes(keys)
    every, first = float((sizes * (sizes - 1.0) / 2).sum()), float((sizes - 1).sum())
    return {
        "buckets": len(sizes),
        "largest_bucket": int(sizes.max(initial=0)),
        "buckets_over_1000": int((sizes > 1000).sum()),
        "every_pair": every,
        "against_the_first": first,
        "every_pair_all_bands": every * bands,
        "against_the_first_all_bands": first * bands,
    }


def edges_to_first(keys: np.ndarray) -> np.ndarray:
    """(n, 2) pairs of a bucket's first member and each other one, members in the order of their numbers."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.concatenate(([True], ordered[1:] != ordered[:-1]))
    first = order[np.flatnonzero(starts)][np.cumsum(starts) - 1]
    return np.stack([first[~starts], order[~starts]], axis=1).astype(np.int32)


def choose_kept(count: int, edges: np.ndarray) -> dict[str, float]:
    """Greedy in the order of ids: a segment stays unless a smaller neighbour stays. Edges as int32 pairs, a bit each.

    Edges sorted by their larger end are one pass: when a segment's turn comes, all smaller ones are decided.
    """
    started = time.perf_counter()
    low, high = np.minimum(edges[:, 0], edges[:, 1]), np.maximum(edges[:, 0], edges[:, 1])
    order = np.lexsort((low, high))
    low, high = low[order], high[order]
    dropped = np.zeros(count, np.uint8)
    for smaller, larger in zip(memoryview(low), memoryview(high), strict=True):
        if not dropped[smaller]:
            dropped[larger] = 1
    return {
        "edges": len(edges),
        "kept": int(count - dropped.sum()),
        "megabytes": (2 * low.nbytes + 2 * order.nbytes + edges.nbytes + dropped.nbytes) / 1e6,
        "seconds": time.perf_counter() - started,
    }


def domains(count: int, number: int, exponent: float, caps: tuple[int, ...]) -> dict[str, Any]:
    """Segments by domain under Zipf's law: the largest ones, and what is left under a cap."""
    weights = np.arange(1, number + 1, dtype=np.float64) ** -exponent
    sizes = np.maximum(weights / weights.sum() * count, 1.0)
    left = {str(cap): float(np.minimum(sizes, cap).sum()) for cap in caps}
    return {
        "domains": number,
        "largest": float(sizes[0]),
        "largest_share": float(sizes[0] / sizes.sum()),
        "share_of_1000_largest": float(sizes[:1000].sum() / sizes.sum()),
        "left_under_a_cap": left,
    }


class Watch(threading.Thread):
    """Largest total of the files below a folder, until it is stopped."""

    def __init__(self, folder: pathlib.Path) -> None:
        super().__init__(daemon=True)
        self.folder, self.peak, self.ended = folder, 0, threading.Event()

    def run(self) -> None:
        while not self.ended.wait(WATCH_SECONDS):
            self.peak = max(self.peak, sum(path.stat().st_size for path in self.folder.glob("*") if path.exists()))

    def stop(self) -> int:
        self.ended.set()
        self.join()
        return self.peak


def write_keys(keys: np.ndarray, folder: pathlib.Path) -> int:
    """The keys with their ids as Parquet; bytes on disk."""
    for number, start in enumerate(range(0, len(keys), PARQUET_ROWS)):
        part = keys[start : start + PARQUET_ROWS]
        table = pyarrow.table({"key": part, "id": np.arange(start, start + len(part))})
        pyarrow.parquet.write_table(table, folder / f"keys-{number:04d}.parquet")
    return sum(path.stat().st_size for path in folder.iterdir())


def spill(keys: np.ndarray, folder: pathlib.Path, memory_limit: str) -> dict[str, float]:
    """DuckDB's pairs of one band against the first of each bucket, from Parquet to Parquet, within `memory_limit`."""
    inputs, temporary = folder / "keys", folder / "spilled"
    inputs.mkdir()
    temporary.mkdir()
    size = write_keys(keys, inputs)
    watch = Watch(temporary)
    watch.start()
    connection = duckdb.connect(config={"memory_limit": memory_limit, "temp_directory": str(temporary), "threads": 2})
    connection.execute("SET preserve_insertion_order = false")
    started = time.perf_counter()
    query = f"SELECT key, min(id) AS first, count(*) AS n FROM '{inputs}/*.parquet' GROUP BY key HAVING count(*) > 1"
    connection.execute(f"COPY ({query}) TO '{folder}/buckets.parquet'")
    seconds = time.perf_counter() - started
    connection.close()
    return {
        "rows": len(keys),
        "input_megabytes": size / 1e6,
        "spilled_megabytes": watch.stop() / 1e6,
        "seconds": seconds,
        "result_megabytes": (folder / "buckets.parquet").stat().st_size / 1e6,
    }


def simulate(arguments: argparse.Namespace, folder: pathlib.Path) -> dict[str, Any]:
    """Every part, one after another; arrays of a part are gone before the next."""
    rng = np.random.default_rng(arguments.seed)
    count = arguments.segments
    families = draw_families(count, arguments.copied, arguments.family_exponent, rng)
    likeness = draw_likeness(count, rng)
    members = np.bincount(families)
    figures: dict[str, Any] = {
        "segments": count,
        "families": {
            "count": len(members),
            "largest": int(members.max()),
            "segments_with_a_copy": float(members[members > 1].sum() / count),
        },
        "candidates": [],
    }
    del members
    edges = []
    for band in range(arguments.simulated_bands):
        say(f"band {band + 1} of {arguments.simulated_bands}")
        keys = band_keys(families, likeness, arguments.rows, rng)
        figures["candidates"].append(candidates(keys, arguments.bands))
        edges.append(edges_to_first(keys))
    del families, likeness
    say("what stays")
    figures["kept"] = choose_kept(count, np.unique(np.concatenate(edges), axis=0))
    del edges
    say("domains")
    figures["domains"] = domains(count, arguments.domains, arguments.zipf, (100, 1000, 10_000))
    say("DuckDB")
    figures["spill"] = spill(keys, folder, arguments.memory_limit)
    figures["peak_gigabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", type=int, default=100_000_000)
    parser.add_argument("--bands", type=int, default=16)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--simulated_bands", type=int, default=2)
    parser.add_argument("--copied", type=float, default=0.4)
    parser.add_argument("--family_exponent", type=float, default=2.5)
    parser.add_argument("--domains", type=int, default=10_000_000)
    parser.add_argument("--zipf", type=float, default=0.9)
    parser.add_argument("--memory_limit", default="2GB", help="of DuckDB")
    parser.add_argument("--folder", help="for the keys and what DuckDB spills; default: a temporary one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        figures = simulate(arguments, pathlib.Path(folder))
    if arguments.json:
        print(json.dumps(figures, indent=2))
        return
    for name, part in figures.items():
        print(f"{name}: {json.dumps(part) if isinstance(part, list | dict) else part}")


if __name__ == "__main__":
    main()
