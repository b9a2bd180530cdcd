"""Bulk generation and grading beside Hugging Face `generate`: same weights, prompts, sampling and limits, in one run.

    python benchmarks/inference.py --warc pages.warc.gz --pairs seed_pairs.jsonl [--llama_cpp llama.cpp] [--json]

Every figure is a ratio or a rate measured here, beside what this machine can do at best: a large matrix product and a
large copy. The sides take turns (--rounds), so that a machine whose speed drifts is the same for all. The peers, being
slow, run some of the prompts (--peer_documents), spaced evenly over all of them, other ones in every round.

llama.cpp is the second peer where its sources are at hand, with its server built in them:
`cmake -B build -DLLAMA_CURL=OFF && cmake --build build --target llama-server`.
"""

import argparse
import contextlib
import dataclasses
import json
import pathlib
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from inference_peers import SAMPLING, HuggingFace, LlamaServer, Prompts

from humpback_jax.files import read_jsonl
from humpback_jax.inference.engine import Engine, shared_prefix
from humpback_jax.inference.precision import precision_effect, weight_bytes
from humpback_jax.inference.requests import DEFAULT_BUCKETS, Completion, EngineConfig, Probe, Request
from humpback_jax.inference.sampling import SamplingConfig
from humpback_jax.inference.scoring import force_rating, rating_distribution
from humpback_jax.models.kv_cache import kv_bytes_per_row
from humpback_jax.prompts.prompts import SCORE_PREFIX, load_prompts
from humpback_jax.runtime.startup import prepare_process
from humpback_jax.stages.model import ModelHandle, open_model
from humpback_jax.weights.fetch import fetch_weights


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def best_seconds(function: Callable[[], Any], repeats: int = 5) -> float:
    """Shortest of several runs, after one that does not count."""
    jax.block_until_ready(function())
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        jax.block_until_ready(function())
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def machine_limits(dtype: Any) -> dict[str, float]:
    """FLOP/s of a large product in `dtype` and bytes/s of a large copy (read and written)."""
    size, count = (8192, 2**28) if jax.devices()[0].platform == "gpu" else (2048, 2**26)
    a = jnp.ones((size, size), dtype)
    product = jax.jit(lambda x: x @ x)
    x, passes = jnp.ones((count,), jnp.float32), 8
    copy = jax.jit(lambda x: jax.lax.fori_loop(0, passes, lambda _, x: x + 1, x))
    return {
        "product_gflops": 2 * size**3 / best_seconds(lambda: product(a)) / 1e9,
        "copy_gbytes": 8 * count * passes / best_seconds(lambda: copy(x)) / 1e9,
    }


def document_prompts(model: ModelHandle, pages: str, count: int, longest: int) -> Prompts:
    """Backward prompts of segments, cut from real pages or of a file, chosen at random among those that fit."""
    if pages.endswith(".jsonl"):
        rows = [row for _, row in read_jsonl(pages)]
    else:
        from humpback_jax.corpus.build import build_corpus
        from humpback_jax.corpus.config import CorpusConfig
        from humpback_jax.corpus.segment_files import read_segments

        with tempfile.TemporaryDirectory() as folder:
            build_corpus([pages], folder, CorpusConfig())
            rows = list(read_segments(folder))
    random.Random(0).shuffle(rows)
    backward = load_prompts().backward
    prompts = ((row["id"], model.prompt_ids(backward(row["text"]))) for row in rows)
    fitting = ((name, ids) for name, ids in prompts if len(ids) <= longest)
    return [prompt for prompt, _ in zip(fitting, range(count), strict=False)]


def rating_prompts(model: ModelHandle, pairs: str, count: int, longest: int) -> Prompts:
    """Rating prompts with the whole rubric, of real pairs chosen at random."""
    rows = [row for _, row in read_jsonl(pairs)]
    random.Random(0).shuffle(rows)
    rating = load_prompts().rating
    prompts = [(f"pair-{i}", model.prompt_ids(rating(row["instruction"], row["output"]))) for i, row in enumerate(rows)]
    return [prompt for prompt in prompts if len(prompt[1]) <= longest][:count]


def one_per_bucket(engine: Engine, prompts: Prompts) -> tuple[Prompts, tuple[int, ...]]:
    """The last prompt of every bucket in use, to compile with, and the shared prefix of all prompts."""
    shared = shared_prefix([ids for _, ids in prompts]) if engine.config.share_prefix else ()
    buckets = engine.config.prompt_buckets
    chosen = {next(b for b in buckets if len(ids) - len(shared) <= b): (name, ids) for name, ids in prompts}
    return list(chosen.values()), shared


def prepare_generation(engine: Engine, model: ModelHandle, prompts: Prompts) -> None:
    """Compiles, by running one prompt of every bucket."""
    few, engine.job_prefix_ids = one_per_bucket(engine, prompts)
    engine.generate([Request(name, ids, 2, SAMPLING) for name, ids in few], 1, model.stop_ids)


def generate_here(engine: Engine, model: ModelHandle, prompts: Prompts, new_tokens: int) -> dict[str, Any]:
    """Rates of our engine."""
    requests = [Request(name, ids, new_tokens, SAMPLING) for name, ids in prompts]
    engine.stats = type(engine.stats)(engine.config.slots)
    started = time.perf_counter()
    completions = engine.generate(requests, 0, model.stop_ids)
    seconds = time.perf_counter() - started
    tokens = sum(len(completion.token_ids) for completion in completions)
    stats = engine.stats
    return {
        "documents": len(prompts),
        "seconds": seconds,
        "new_tokens": tokens,
        "prefilled_tokens": stats.prefill_tokens,
        "decode_steps": stats.steps,
        "row_step_efficiency": stats.row_step_efficiency,
        "padding_waste": stats.padding_waste,
    }


def grade_here(engine: Engine, model: ModelHandle, prompts: Prompts) -> dict[str, float]:
    """Rate of `expected` grading."""
    forced = force_rating(model.tokenizer.encode, "", SCORE_PREFIX)
    asked = [(name, ids + forced.prefix_ids) for name, ids in prompts]
    candidates = [forced.rating_ids] * len(asked)
    few, engine.job_prefix_ids = one_per_bucket(engine, asked)
    engine.candidate_log_probs(few, candidates[: len(few)])
    started = time.perf_counter()
    log_probs = engine.candidate_log_probs(asked, candidates)
    seconds = time.perf_counter() - started
    scores = [rating_distribution(row).expected for row in log_probs]
    return {"documents": len(asked), "seconds": seconds, "unscored": sum(not 1 <= score <= 5 for score in scores)}


def grade_from_cache(engine: Engine, model: ModelHandle, prompts: Prompts) -> list[float]:
    """Expected scores read from the slots' caches, so that the cache's precision shows."""
    forced = force_rating(model.tokenizer.encode, "", SCORE_PREFIX)
    requests = [Request(name, ids, 1, SamplingConfig(0.0)) for name, ids in prompts]

    def probe(completion: Completion) -> Probe:
        return Probe(forced.prefix_ids, forced.rating_ids)

    # Every token stops a row: the probe follows the prompt itself.
    completions = engine.generate(requests, 0, range(model.card.config.vocab_size), probe=probe)
    return [rating_distribution(np.asarray(completion.probe_log_probs)).expected for completion in completions]


def precision_figures(model: ModelHandle, config: EngineConfig, prompts: Prompts) -> dict[str, Any]:
    """What int8 and bfloat16 weights and caches do to expected scores, and what they save."""
    length = config.max_prompt_length + config.max_new_tokens
    figures, reference = {}, None
    settings = {
        "float32": ("float32", None, "float32"),
        "int8 cache": ("float32", None, "int8"),
        "int8 weights": ("float32", "int8", "float32"),
        "bfloat16": ("bfloat16", None, "bfloat16"),
    }
    for name, (dtype, weight_dtype, kv_dtype) in settings.items():
        engine = model.engine(dataclasses.replace(config, slots=16, kv_dtype=kv_dtype), dtype, weight_dtype)
        scores = grade_from_cache(engine, model, prompts)
        reference = scores if reference is None else reference
        figures[name] = {
            "cache_bytes_per_row": kv_bytes_per_row(model.card.config, length, kv_dtype),
            "weight_bytes": weight_bytes(engine.params),
            **precision_effect(reference, scores),
        }
        say(f"{name}: {figures[name]}")
    return figures


def rate(rounds: Sequence[dict[str, Any]], what: str = "documents") -> float:
    """Documents (or `what`) per second over all rounds."""
    return sum(one[what] for one in rounds) / sum(one["seconds"] for one in rounds)


def flop_utilisation(here: Sequence[dict[str, Any]], model: ModelHandle, limits: dict[str, float]) -> float:
    """Share of the machine's best product that generation used, from 2 FLOPs per weight and token."""
    config = model.card.config
    table = config.vocab_size * config.emb_dim
    body = config.num_params - table * (1 if config.tie_word_embeddings else 2)
    flops_of = lambda what, weights: 2 * weights * rate(here, what)  # noqa: E731
    flops = flops_of("prefilled_tokens", body) + flops_of("new_tokens", body + table)
    return flops / 1e9 / limits["product_gflops"]


def in_turns(
    model: ModelHandle, config: EngineConfig, dtype: str, documents: Prompts, pairs: Prompts, arguments: Any
) -> dict[str, list[dict[str, Any]]]:
    """All figures of all sides, a list of rounds each."""
    engine = model.engine(config, dtype)
    prepare_generation(engine, model, documents)
    alone = model.engine(dataclasses.replace(config, share_prefix=False), dtype)
    peer = HuggingFace(model, dtype)
    results: dict[str, list[dict[str, Any]]] = {}

    def record(name: str, figures: dict[str, Any]) -> None:
        results.setdefault(name, []).append(figures)
        say(f"{name}: {figures}")

    share, pair_share = arguments.peer_documents // arguments.rounds, arguments.peer_pairs // arguments.rounds
    for size in map(int, arguments.peer_batch_sizes.split(",")):
        record("peer sizes", peer.generate(documents, size, 64, True, share))
    best = max(results["peer sizes"], key=lambda one: one["documents"] / one["seconds"])["batch_size"]
    row_tokens = max(len(ids) + limit for prompts, limit in ((documents, 64), (pairs, 256)) for _, ids in prompts)
    with contextlib.ExitStack() as running:
        server = None
        if arguments.llama_cpp:
            server = running.enter_context(LlamaServer(model, arguments.llama_cpp, arguments.llama_slots, row_tokens))
        for turn in range(arguments.rounds):
            part = (turn + 0.5) / arguments.rounds
            record("peer sorted", peer.generate(documents, best, 64, True, share, part))
            engine.job_prefix_ids = None
            record("generate", generate_here(engine, model, documents, 64))
            record("peer unsorted", peer.generate(documents, best, 64, False, share, part))
            record("expected", grade_here(engine, model, pairs))
            record("peer rationale", peer.generate(pairs, best, 256, True, pair_share, part))
            record("expected without prefix", grade_here(alone, model, pairs))
            if server:
                # Its slots are as many batches at once: enough prompts to fill them several times.
                record("llama.cpp", server.generate(documents, 64, 2 * share, part))
                record("llama.cpp rationale", server.generate(pairs, 256, 2 * pair_share, part))
    return results


def speeds(rounds: dict[str, list[dict[str, Any]]], model: ModelHandle, limits: dict[str, float]) -> dict[str, Any]:
    """Rates and ratios over all rounds, and the rounds."""
    rates = {name: rate(figures) for name, figures in rounds.items() if name != "peer sizes"}
    beside = {
        "generate": ("peer sorted", "peer unsorted", "llama.cpp"),
        "expected": ("peer rationale", "llama.cpp rationale", "expected without prefix"),
    }
    ratios = {
        f"{ours} / {peer}": rates[ours] / rates[peer]
        for ours, peers in beside.items()
        for peer in peers
        if peer in rates
    }
    say(f"documents per second: {rates}\nratios: {ratios}")
    utilisation = flop_utilisation(rounds["generate"], model, limits)
    return {"documents_per_second": rates, "ratios": ratios, "flop_utilisation": utilisation, "rounds": rounds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2_135m", help="native model folder, or a name to fetch")
    parser.add_argument("--warc", required=True, help="pages, or a segments.jsonl cut from them")
    parser.add_argument("--pairs", required=True)
    parser.add_argument("--documents", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=2, help="0: no speeds")
    parser.add_argument("--peer_documents", type=int, default=48)
    parser.add_argument("--peer_pairs", type=int, default=16)
    parser.add_argument("--precision_pairs", type=int, default=200, help="0: no effects of precision")
    parser.add_argument("--peer_batch_sizes", default="8,16,32")
    parser.add_argument("--llama_cpp", type=pathlib.Path, help="sources with build/bin/llama-server, the second peer")
    parser.add_argument("--llama_slots", type=int, default=16)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--prefill_tokens", type=int, help="default: the engine's")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()

    path = pathlib.Path(arguments.model)
    model = open_model(path if path.exists() else fetch_weights(arguments.model))
    config = EngineConfig(arguments.slots, DEFAULT_BUCKETS, 64, arguments.prefill_tokens)
    limits = machine_limits(jnp.dtype(arguments.dtype))
    say(f"limits: {limits}")
    documents = document_prompts(model, arguments.warc, arguments.documents, config.max_prompt_length)
    pairs = rating_prompts(model, arguments.pairs, arguments.documents, config.max_prompt_length - 16)
    results: dict[str, Any] = {"limits": limits, "prompt_tokens": sum(len(ids) for _, ids in documents)}

    if arguments.rounds:
        results |= speeds(in_turns(model, config, arguments.dtype, documents, pairs, arguments), model, limits)
    if arguments.precision_pairs:
        results["precision"] = precision_figures(model, config, pairs[: arguments.precision_pairs])
    print(json.dumps(results, indent=2 if arguments.json else None))


if __name__ == "__main__":
    prepare_process()
    main()
