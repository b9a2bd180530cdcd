"""One accelerator, measured: its limits, our kernels, training and decoding of a 1B LLaMA, beside torch on the card.

    python benchmarks/device.py SECTION --out FOLDER [--tiny]

`benchmarks/device.sh` runs all sections, each in a process of its own, and then what needs real weights. A section
writes FOLDER/SECTION.json. Weights are random here: speed does not depend on them. `--tiny` is for a dry run on a CPU.

Rates are of useful work: padding and recomputation are not counted. MFU is over the dense bfloat16 peak of the card's
data sheet (`humpback_jax.hardware`), and `of_limit` over the largest product measured here.
"""

import argparse
import contextlib
import functools
import json
import os
import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from humpback_jax.data.batching import BatchConfig, BatchPlan, plan_batches
from humpback_jax.data.examples import Example
from humpback_jax.hardware import peak_flops
from humpback_jax.models.config import LlamaConfig, get_config
from humpback_jax.models.kv_cache import kv_bytes_per_row
from humpback_jax.training.throughput import model_flops, workload

ROW_LENGTH = 2048
# Our own packed rows against torch's dense ones: lengths of examples as seed pairs have them, log-normal.
EXAMPLE_TOKENS, EXAMPLE_SPREAD = 300, 0.7


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def median_seconds(run: Callable[[], Any], repeats: int) -> float:
    """Of `repeats` runs, after one that compiles and one that warms up; `run` returns when its work is done."""
    run(), run()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def limits(tiny: bool) -> dict[str, Any]:
    """FLOP/s of a large bfloat16 product of random numbers, bytes/s of a large copy, read and written."""
    import jax
    import jax.numpy as jnp

    size, count = (512, 2**20) if tiny else (8192, 2**30)
    a, b = (jax.random.normal(jax.random.key(i), (size, size), jnp.bfloat16) for i in range(2))
    x = jax.random.normal(jax.random.key(2), (count,), jnp.bfloat16)
    product, copy = jax.jit(lambda a, b: a @ b), jax.jit(lambda x: x + 1)
    seconds = {
        "product": median_seconds(lambda: product(a, b).block_until_ready(), 20),
        "copy": median_seconds(lambda: copy(x).block_until_ready(), 20),
    }
    device = jax.devices()[0]
    return {
        "device": device.device_kind,
        "jax": jax.__version__,
        "product_flops": 2 * size**3 / seconds["product"],
        "copy_bytes_per_second": 2 * x.nbytes / seconds["copy"],
        "peak_flops": peak_flops(device.device_kind),
    }


def attention(tiny: bool) -> dict[str, Any]:
    """The kernel chosen here against plain attention in float32: relative errors of outputs and gradients, times."""
    import jax
    import jax.numpy as jnp

    from humpback_jax.models.attention import Source, attention, causal_mask, segment_mask
    from humpback_jax.models.attention_kernels import choose_attention, prefill_attention
    from humpback_jax.models.kv_cache import KeyValues

    platform = jax.devices()[0].platform
    rows, length, heads, kv_heads, head_dim = (1, 256, 4, 2, 64) if tiny else (4, 2048, 32, 8, 64)
    keys = jax.random.split(jax.random.key(0), 4)
    query = jax.random.normal(keys[0], (rows, length, heads, head_dim))
    kv = KeyValues(
        jax.random.normal(keys[1], (rows, kv_heads, head_dim, length)),
        jax.random.normal(keys[2], (rows, kv_heads, length, head_dim)),
    )
    weights = jax.random.normal(keys[3], query.shape)
    segment_ids = jnp.broadcast_to(1 + jnp.arange(length) // (length // 5), (rows, length)).astype(jnp.int32)
    positions = jnp.broadcast_to(jnp.arange(length) % (length // 5), (rows, length)).astype(jnp.int32)
    narrow = jax.tree.map(lambda x: x.astype(jnp.bfloat16), (query, kv))
    exact = jax.jit(lambda q, kv, mask: attention(q, [Source(kv, mask)]))
    masks = {"causal": causal_mask(length), "segmented": segment_mask(positions, segment_ids)}
    results: dict[str, Any] = {}
    for name, mask in masks.items():
        kernel = choose_attention(
            platform, head_dim=head_dim, query_length=length, dtype=jnp.bfloat16, segmented=name != "causal"
        )
        ids = None if name == "causal" else segment_ids
        if kernel == "xla":
            ours, last = exact, mask
        else:
            ours, last = functools.partial(prefill_attention, implementation=kernel), ids
        with jax.default_matmul_precision("highest"):
            wanted = forward_and_backward(exact, query, kv, mask, weights)
        forward = jax.jit(ours)
        both = jax.jit(functools.partial(forward_and_backward, ours))
        arguments = (*narrow, last)
        got = both(*arguments, weights.astype(jnp.bfloat16))
        errors = jax.tree.map(relative_error, got, wanted)
        results[name] = {
            "kernel": kernel,
            "error": errors[0],
            "query_gradient_error": errors[1],
            "key_value_gradient_error": max(jax.tree.leaves(errors[2])),
            "forward_seconds": median_seconds(functools.partial(done, forward, *arguments), 10),
            "forward_and_backward_seconds": median_seconds(
                functools.partial(done, both, *arguments, weights.astype(jnp.bfloat16)), 10
            ),
        }
    return results


def forward_and_backward(attend: Callable[..., Any], query: Any, kv: Any, last: Any, weights: Any) -> tuple:
    """Output, and the gradients of the query and of keys and values for the cotangent `weights`."""
    import jax

    out, pull = jax.vjp(lambda query, kv: attend(query, kv, last), query, kv)
    return (out, *pull(weights.astype(out.dtype)))


def done(function: Callable[..., Any], *arguments: Any) -> None:
    """Runs it to its end."""
    import jax

    jax.block_until_ready(function(*arguments))


def relative_error(got: Any, wanted: Any) -> float:
    """‖got − wanted‖ / ‖wanted‖ in float32."""
    got, wanted = np.asarray(got, np.float32), np.asarray(wanted, np.float32)
    return float(np.linalg.norm(got - wanted) / np.linalg.norm(wanted))


def random_examples(count: int, vocab_size: int, longest: int) -> list[Example]:
    """Examples of random ids whose lengths are spread as those of seed pairs, a third of each a prompt."""
    random = np.random.default_rng(0)
    lengths = np.clip(random.lognormal(np.log(EXAMPLE_TOKENS), EXAMPLE_SPREAD, count), 16, longest).astype(int)
    examples = []
    for i, length in enumerate(lengths):
        ids = random.integers(0, vocab_size, length).astype(np.int32)
        examples.append(Example(ids[: length // 3], ids[length // 3 :], f"example-{i}"))
    return examples


def training_plan(config: LlamaConfig, rows: int, row_length: int, steps: int) -> BatchPlan:
    """Updates of so many full rows."""
    tokens = BatchConfig(rows * row_length, row_length, rows, batch_unit="tokens")
    count = 2 * (steps + 2) * rows * row_length // EXAMPLE_TOKENS
    return plan_batches(random_examples(count, config.vocab_size, row_length), tokens, steps)


def train(tiny: bool) -> dict[str, Any]:
    """Packed finetuning, float32 master weights and bfloat16 products, at several sizes of microbatch; the fastest."""
    config, row_length = (get_config("tiny"), 256) if tiny else (get_config("llama3_2_1b"), ROW_LENGTH)
    tried = {}
    for policy, rows in (("none", 4), ("none", 8), ("qkv", 8), ("dots", 8)):
        with only_what_fits(f"{policy}, {rows} rows", tried):
            tried[f"{policy}, {rows} rows"] = train_once(config, policy, rows, row_length, 3 if tiny else 8)
    return summary_of(tried)


@contextlib.contextmanager
def only_what_fits(name: str, tried: dict[str, Any]) -> Iterator[None]:
    """Goes on after a size that the memory does not hold, and says so in its place."""
    try:
        yield
    except Exception as error:  # each library has its own
        if not any(word in str(error) for word in ("RESOURCE_EXHAUSTED", "out of memory", "Out of memory")):
            raise
        tried[name] = {"error": "out of memory"}
    say(f"{name}: {tried[name]}")


def summary_of(tried: dict[str, Any]) -> dict[str, Any]:
    """All sizes, and the fastest of them by name."""
    rates = {name: figures["tokens_per_second"] for name, figures in tried.items() if "error" not in figures}
    if not rates:
        raise RuntimeError(f"no size fits this device: {tried}")
    return {"best": max(rates, key=lambda name: rates[name]), "tried": tried}


def train_once(config: LlamaConfig, remat_policy: str, rows: int, row_length: int, steps: int) -> dict[str, Any]:
    """Figures of a few updates after two that are not timed."""
    import jax
    import jax.numpy as jnp

    from humpback_jax.models.llama import Llama, init_params
    from humpback_jax.partitioning import LogicalAxisRules, MeshShape, make_mesh, put_global, use_mesh
    from humpback_jax.training.step import BATCH_AXES, TrainSetup, batch_sharding, make_train_step
    from humpback_jax.training.throughput import memory_high_water

    device = jax.devices()[0]
    llama = Llama(config, dtype=jnp.bfloat16, remat_policy=remat_policy, platform=device.platform)
    mesh, rules = make_mesh(MeshShape(), [device]), LogicalAxisRules()
    setup = TrainSetup(llama, mesh, rules)
    plan = training_plan(config, rows, row_length, steps + 2)
    placed = batch_sharding(mesh, rules, BATCH_AXES)
    seconds, losses, work = [], [], []
    with use_mesh(mesh, rules):
        state = setup.initial_state(lambda _: init_params(llama, jax.random.key(0)), seed=0)
        step_function = make_train_step(setup)
        for step in range(steps + 2):
            batch, started = plan.batch(step), time.perf_counter()
            arrays = {name: put_global(array, placed) for name, array in batch.arrays.items()}
            state, metrics = step_function(
                state, arrays, np.int32(batch.num_microbatches), np.float32(1e-5), jax.random.key(0)
            )
            losses.append(float(metrics["loss"]))
            seconds.append(time.perf_counter() - started)
            work.append(workload(batch.arrays, batch.num_microbatches, len(batch.example_ids)))
    del state
    figures = training_figures(config, seconds[2:], [(w.tokens, w.attended, w.examples) for w in work[2:]])
    fill = sum(w.tokens for w in work) / sum(w.positions for w in work)
    return figures | {"packing_fill": fill, "loss": losses[-1], "peak_bytes": memory_high_water([device])}


def training_figures(config: LlamaConfig, seconds: list[float], work: list[tuple[int, int, int]]) -> dict[str, Any]:
    """Rates and MFU of updates; `work` is (tokens, attended pairs, examples) of each."""
    tokens, attended, examples = map(sum, zip(*work, strict=True))
    total, device_kind = sum(seconds), accelerator_name()
    flops = model_flops(config, tokens, attended) / total
    peak = peak_flops(device_kind)
    return {
        "tokens_per_second": tokens / total,
        "examples_per_second": examples / total,
        "step_seconds": statistics.median(seconds),
        "flops": flops,
        "mfu": flops / peak if peak else None,
    }


def accelerator_name() -> str:
    """As JAX or, in the peer's process, torch names the device."""
    if "jax" in sys.modules:
        return str(sys.modules["jax"].devices()[0].device_kind)
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def train_peer(tiny: bool) -> dict[str, Any]:
    """transformers' LlamaForCausalLM with torch's FlashAttention: dense rows, float32 weights, bfloat16 autocast.

    Dense rows spare the peer padding and masks: every row is one example of full length, which FlashAttention takes
    without a mask. Its FLOPs are counted by the same formula.
    """
    import torch

    config, length = (get_config("tiny"), 256) if tiny else (get_config("llama3_2_1b"), ROW_LENGTH)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tried: dict[str, Any] = {}
    for compiled, checkpointing, rows in ((False, False, 4), (False, True, 8), (True, False, 4)):
        if compiled and device == "cpu":
            continue
        name = f"{'compiled' if compiled else 'eager'}{', checkpointing' if checkpointing else ''}, {rows} rows"
        with only_what_fits(name, tried):
            tried[name] = train_peer_once(config, device, rows, length, compiled, checkpointing, 3 if tiny else 8)
    return summary_of(tried)


def peer_config(config: LlamaConfig) -> Any:
    """transformers' configuration of the same architecture."""
    import transformers

    return transformers.LlamaConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.emb_dim,
        intermediate_size=config.mlp_dim,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        num_key_value_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        max_position_embeddings=config.max_position_embeddings,
        tie_word_embeddings=config.tie_word_embeddings,
    )


def train_peer_once(
    config: LlamaConfig, device: str, rows: int, length: int, compiled: bool, checkpointing: bool, steps: int
) -> dict[str, Any]:
    """Figures of a few updates after three that are not timed."""
    import torch
    import transformers

    torch.manual_seed(0)
    with torch.device(device):
        network = transformers.LlamaForCausalLM._from_config(peer_config(config), attn_implementation="sdpa")
    network.train()
    if checkpointing:
        network.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    forward = torch.compile(network) if compiled else network
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5, fused=device == "cuda")
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(steps + 3):
        ids = torch.randint(0, config.vocab_size, (rows, length), device=device)
        started = time.perf_counter()
        with torch.autocast(device, torch.bfloat16):
            loss = forward(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    work = [(rows * length, rows * length * (length + 1) // 2, rows)] * steps
    figures = training_figures(config, seconds[3:], work)
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else None
    del network, forward, optimizer, loss
    if device == "cuda":
        torch.cuda.empty_cache()
    return figures | {"peak_bytes": peak}


def decode(tiny: bool) -> dict[str, Any]:
    """Prefill tokens/s and the time of a decode step of 64 rows, against the bytes that a step must read."""
    import jax
    import jax.numpy as jnp

    from humpback_jax.inference.engine import Engine
    from humpback_jax.inference.requests import EngineConfig, Request
    from humpback_jax.inference.sampling import SamplingConfig
    from humpback_jax.models.llama import Llama, init_params

    config = get_config("tiny" if tiny else "llama3_2_1b")
    rows, prompt, new = (4, 64, 32) if tiny else (64, 1024, 256)
    model = Llama(config, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16)
    shapes = EngineConfig(rows, (prompt,), new, prefill_tokens=16 * prompt, kv_dtype="bfloat16")
    engine = Engine(model, lambda _: init_params(model, jax.random.key(0)), shapes)
    random = np.random.default_rng(0)
    prompts = [tuple(random.integers(3, config.vocab_size, prompt - 8).tolist()) for _ in range(rows)]

    def seconds(new_tokens: int) -> float:
        requests = [Request(str(i), ids, new_tokens, SamplingConfig(0.0)) for i, ids in enumerate(prompts)]
        return median_seconds(lambda: engine.generate(requests, 0, (1,)), 3)

    prefill_seconds = seconds(1)
    step = (seconds(new) - prefill_seconds) / (new - 1)
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(engine.params))
    cache = rows * kv_bytes_per_row(config, prompt + new // 2, "bfloat16")
    return {
        "rows": rows,
        "prompt_tokens": prompt,
        "prefill_tokens_per_second": rows * (prompt - 8) / prefill_seconds,
        "decode_step_seconds": step,
        "bytes_of_a_step": weights + cache,
        "bytes_per_second": (weights + cache) / step,
        "tokens_per_second": rows / step,
    }


SECTIONS: Mapping[str, Callable[[bool], dict[str, Any]]] = {
    "limits": limits,
    "attention": attention,
    "train": train,
    "train_peer": train_peer,
    "decode": decode,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section", choices=list(SECTIONS))
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--tiny", action="store_true")
    arguments = parser.parse_args()
    started = time.perf_counter()
    figures = SECTIONS[arguments.section](arguments.tiny)
    figures["wall_seconds"] = time.perf_counter() - started
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / f"{arguments.section}.json").write_text(json.dumps(figures, indent=2))
    print(json.dumps(figures), flush=True)
    # A peer's threads and an accelerator's runtime have nothing left to save.
    os._exit(0)


if __name__ == "__main__":
    main()
