"""What the signals of a pair cost beside its rating alone, in turns on the same pairs.

    python benchmarks/signals.py --model runs/quickstart/m0 --pairs pairs.jsonl [--count 64] [--rounds 3] [--json]

Prints seconds per pair of the mode `expected` alone and with all signals, and their ratio: the median over the rounds.
Programs are compiled and the weights loaded before anything is timed.
"""

import argparse
import dataclasses
import json
import os
import statistics
import time
from collections.abc import Sequence

import numpy as np

from humpback_jax.data.pairs import read_pairs
from humpback_jax.inference.engine import Engine
from humpback_jax.prompts.prompts import load_prompts
from humpback_jax.run_files import MODEL
from humpback_jax.stages.items import InMemory, JobItems
from humpback_jax.stages.jobs import GenerationConfig, Job
from humpback_jax.stages.model import open_model
from humpback_jax.stages.rating import CurationConfig, rating_items, ratings_job


def seconds(engine: Engine, job: Job, items: JobItems[dict]) -> float:
    """Of rating all items once."""
    started = time.monotonic()
    job.run(engine, items[:], ignore)
    return time.monotonic() - started


def ignore(_: int) -> None:
    """Progress is not shown."""


def measure(model_dir: str, rows: Sequence[dict], rounds: int, dtype: str) -> dict[str, float]:
    """Seconds per pair of both jobs, and the ratio."""
    inner = os.path.join(model_dir, MODEL)
    model, prompts = open_model(inner if os.path.isdir(inner) else model_dir), load_prompts()
    generation = GenerationConfig(dtype=dtype)
    configs = {
        "expected": CurationConfig("expected", generation),
        "signals": CurationConfig("expected", generation, signals=True),
    }
    engine = model.engine(generation.engine, dtype)
    jobs = {name: ratings_job(model, prompts, config) for name, config in configs.items()}
    items = rating_items(InMemory(rows), model, prompts, configs["expected"])
    engine.job_prefix_ids = items.prefix_ids
    for job in jobs.values():
        job.compile(engine, np.unique(items.lengths).tolist())
        seconds(engine, job, items)
    taken: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            taken[name].append(seconds(engine, job, items))
    ratios = [b / a for a, b in zip(taken["expected"], taken["signals"], strict=True)]
    per_pair = {f"{name}_seconds_per_pair": statistics.median(each) / len(items) for name, each in taken.items()}
    return per_pair | {
        "ratio": statistics.median(ratios),
        "pairs": len(items),
        "mean_tokens": float(items.lengths.mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--pairs", required=True)
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = [dataclasses.asdict(pair) for pair in read_pairs(arguments.pairs).pairs[: arguments.count]]
    figures = measure(arguments.model, rows, arguments.rounds, arguments.dtype)
    print(json.dumps(figures) if arguments.json else "\n".join(f"{k}: {v:.4g}" for k, v in figures.items()))


if __name__ == "__main__":
    main()
