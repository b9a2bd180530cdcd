"""The group-bys of a corpus at 10^8 segments, simulated: keys, sizes and pairs as arrays, no text anywhere.

    python benchmarks/corpus_scale.py [--segments 100000000] [--folder DIR] [--json]
    python benchmarks/corpus_scale.py --tables

docs/scale.md quotes what it prints; `--tables` prints the two tables of that page, from the rates that `humpback plan`
takes. Each part answers a question that a small corpus cannot:

  candidates    how many pairs the bands of MinHash bring together, how large the largest bucket is, and what that costs
                where every pair of a bucket is compared, beside comparing each member with the bucket's first ones;
  pairs         how many of these are different pairs, whose texts are sent and compared;
  near          seconds and memory of the step that chooses what is dropped, in the order of ids, by one worker;
  domains       segments of the largest domain, and what a cap per domain makes of them;
  spill         DuckDB's sort of one band under a bound on its memory: seconds, and bytes on disk.

The model. A part of the segments (`--copied`) comes in families, whose sizes follow a power law (`--family_exponent`)
from two up: the largest, a licence or a notice, has hundreds of thousands. A member is like its family's centre to a
degree s: half of them exactly, which makes them copies that an earlier step drops, the others 0.75 to 1, so two members
have Jaccard similarity s_i s_j. A band of r rows is the family's with probability s^r, else the member's own. Strangers
meet in a band of 64 bits about never. Domains follow Zipf's law (`--zipf`). Only `--simulated_bands` of the bands are
drawn, for they are alike.
"""

import argparse
import dataclasses
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

from humpback_jax.corpus.pipeline.duplicates import LEADERS
from humpback_jax.corpus.pipeline.signatures import bands_for
from humpback_jax.topology.corpus_work import RATES, corpus_work

LIKE_LOW = 0.75
LARGEST_FAMILY = 0.005  # of all segments
ID_CHARS, BYTES_OF_ID = 20, 8  # of an id, and of it as the step holds it
PAIR_CHARS = 160  # of what is said of a duplicate: ids, similarity, URL, header
WATCH_SECONDS = 0.1
TABLE_PAGES = (30_000, 1_000_000, 100_000_000, 3_000_000_000)
COUNTS = ((1e9, "billion"), (1e6, "million"), (1e3, "thousand"))
SIZES = ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"))


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


def without_copies(families: np.ndarray, likeness: np.ndarray) -> np.ndarray:
    """The segments of which an earlier step leaves one per text: of those exactly like a centre, the first."""
    exact = np.flatnonzero(likeness == 1.0)
    _, first = np.unique(families[exact], return_index=True)
    left = likeness < 1.0
    left[exact[first]] = True
    return left


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
    """Candidate pairs of one band: if all pairs of a bucket were compared, and with the first LEADERS of it alone."""
    sizes = bucket_sizes(keys).astype(np.float64)
    led = np.minimum(sizes, LEADERS)
    with_leaders = led * (led - 1) / 2 + (sizes - led) * LEADERS
    return {
        "buckets": len(sizes),
        "largest_bucket": int(sizes.max(initial=0)),
        "buckets_over_1000": int((sizes > 1000).sum()),
        "every_pair": float((sizes * (sizes - 1) / 2).sum()),
        "with_leaders": float(with_leaders.sum()),
        "with_leaders_all_bands": float(with_leaders.sum()) * bands,
    }


def pairs_with_leaders(keys: np.ndarray) -> np.ndarray:
    """The pairs of a bucket's first LEADERS and each later member, both numbers in one."""
    order = np.argsort(keys, kind="stable").astype(np.int32)
    ordered = keys[order]
    starts = np.concatenate(([True], ordered[1:] != ordered[:-1]))
    del ordered
    first = np.flatnonzero(starts).astype(np.int32)[np.cumsum(starts, dtype=np.int32) - 1]
    place = np.arange(len(keys), dtype=np.int32) - first
    found = []
    for leader in range(LEADERS):
        later = np.flatnonzero(place > leader)
        found.append(order[first[later] + leader].astype(np.int64) << 32 | order[later])
    return np.concatenate(found)


def choose_dropped(count: int, low: np.ndarray, high: np.ndarray) -> dict[str, float]:
    """What the similar pairs drop, in the order of the later of each: an earlier one that is kept drops it.

    The memory is that of the stage's own step, which holds 8 bytes of the id of all that is dropped.
    """
    order = np.lexsort((low, high))
    low, high = low[order], high[order]
    del order
    dropped = bytearray(count)
    started = time.perf_counter()
    for smaller, larger in zip(memoryview(low), memoryview(high), strict=True):
        if not dropped[smaller]:
            dropped[larger] = 1
    seconds = time.perf_counter() - started
    number = dropped.count(1)
    return {"dropped": number, "seconds_of_the_loop": seconds, "megabytes_of_their_ids": number * BYTES_OF_ID / 1e6}


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


def spill(rows: int, folder: pathlib.Path, memory_limit: str) -> dict[str, float]:
    """The sort before the step that chooses what is dropped, whose pairs all have one key: one file, one worker.

    A row is two ids and what is said of a duplicate, as the stage writes it.
    """
    temporary, pairs = folder / "spilled", folder / "pairs.parquet"
    temporary.mkdir()
    config = {"memory_limit": memory_limit, "temp_directory": str(temporary), "threads": 1}
    with duckdb.connect(config=config) as connection:
        ids = f"md5(i::VARCHAR)[1:{ID_CHARS}] || chr(9) || md5((i // 2)::VARCHAR)[1:{ID_CHARS}]"
        payload = f"repeat(md5((i + 1)::VARCHAR), {PAIR_CHARS // 32})"
        made = f'SELECT {ids} AS "order", {payload} AS payload FROM range({rows}) t(i)'
        connection.execute(f"COPY ({made}) TO '{pairs}' (COMPRESSION zstd)")
        watch = Watch(temporary)
        watch.start()
        started = time.perf_counter()
        ordered = f'SELECT "order", payload FROM \'{pairs}\' ORDER BY "order", payload'
        read = sum(batch.num_rows for batch in connection.sql(ordered).to_arrow_reader(1024))
        seconds = time.perf_counter() - started
    megabytes = watch.stop() / 1e6
    return {
        "rows": read,
        "input_megabytes": pairs.stat().st_size / 1e6,
        "spilled_megabytes": megabytes,
        "seconds": seconds,
    }


def simulate(arguments: argparse.Namespace, folder: pathlib.Path) -> dict[str, Any]:
    """Every part, one after another; arrays of a part are gone before the next."""
    rng = np.random.default_rng(arguments.seed)
    count = arguments.segments
    families = draw_families(count, arguments.copied, arguments.family_exponent, rng)
    likeness = draw_likeness(count, rng)
    members = np.bincount(families)
    bands, rows = bands_for(arguments.threshold)
    figures: dict[str, Any] = {
        "segments": count,
        "bands": bands,
        "rows_of_a_band": rows,
        "families": {
            "count": len(members),
            "largest": int(members.max()),
            "segments_with_a_copy": float(members[members > 1].sum() / count),
        },
        "candidates": [],
        "different_pairs": [],
    }
    del members
    unique = without_copies(families, likeness)
    families, likeness = families[unique], likeness[unique]
    figures["copies"] = count - len(families)
    pairs = np.empty(0, np.int64)
    for band in range(arguments.simulated_bands):
        say(f"band {band + 1} of {arguments.simulated_bands}")
        keys = band_keys(families, likeness, rows, rng)
        figures["candidates"].append(candidates(keys, bands))
        pairs = np.union1d(pairs, pairs_with_leaders(keys))
        figures["different_pairs"].append(len(pairs))
        del keys
    del families
    say("what is dropped")
    low, high = (pairs >> 32).astype(np.int32), (pairs & 0xFFFFFFFF).astype(np.int32)
    del pairs
    similar = likeness[low] * likeness[high] >= arguments.threshold
    low, high = low[similar], high[similar]
    figures["similar_pairs"] = len(low)
    figures["near"] = choose_dropped(len(likeness), low, high)
    del low, high, likeness, similar
    figures["domains"] = domains(count, arguments.domains, arguments.zipf, (100, 1000, 10_000))
    say("DuckDB")
    figures["spill"] = spill(figures["similar_pairs"], folder, arguments.memory_limit)
    figures["peak_gigabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return figures


def print_tables() -> None:
    """The rates, and what follows from them for corpora of four sizes."""
    rates = dataclasses.asdict(RATES)
    for name, value in [*((n, v) for n, v in rates.items() if n != "shuffled_bytes"), *RATES.shuffled_bytes]:
        print(f"| `{name}` | {value:,g} |")
    for pages in TABLE_PAGES:
        work = corpus_work(pages=pages)
        cells = [
            in_words(pages, COUNTS),
            in_words(work.archive_bytes, SIZES),
            f"{work.core_hours:,.2g}" if work.core_hours < 10 else f"{work.core_hours:,.0f}",
            in_words(sum(work.shuffled_bytes.values()), SIZES),
            in_words(work.segments, COUNTS),
            in_words(work.segment_bytes, SIZES),
        ]
        print(f"| {' | '.join(cells)} |")


def in_words(value: float, units: tuple[tuple[float, str], ...]) -> str:
    """`3 billion`, `1.2 TB`: two digits and the largest unit that fits."""
    size, unit = next((each for each in units if value >= each[0]), units[-1])
    return f"{float(f'{value / size:.2g}'):g} {unit}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", type=int, default=100_000_000)
    parser.add_argument("--threshold", type=float, default=0.8)
    parser.add_argument("--simulated_bands", type=int, default=2)
    parser.add_argument("--copied", type=float, default=0.4)
    parser.add_argument("--family_exponent", type=float, default=2.5)
    parser.add_argument("--domains", type=int, default=10_000_000)
    parser.add_argument("--zipf", type=float, default=0.9)
    parser.add_argument("--memory_limit", default="512MB", help="of DuckDB")
    parser.add_argument("--folder", help="for the keys and what DuckDB spills; default: a temporary one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--tables", action="store_true", help="print the tables of docs/scale.md and simulate nothing")
    arguments = parser.parse_args()
    if arguments.tables:
        print_tables()
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        figures = simulate(arguments, pathlib.Path(folder))
    if arguments.json:
        print(json.dumps(figures, indent=2))
        return
    for name, part in figures.items():
        print(f"{name}: {json.dumps(part) if isinstance(part, list | dict) else part}")


if __name__ == "__main__":
    main()
