"""Finetuning beside the Hugging Face Trainer: same weights, examples, optimizer and float32, each side in a process.

    python benchmarks/training.py --pairs seed_pairs.jsonl [--json]

Every measurement runs in a process of its own, one after another, so that its peak memory is its own. The Trainer pads
to the longest example of its batch; it is tried with several batch sizes, with length-grouped and with random batches.
The loss curves of both, on the same examples in the same order, are compared at the end.
"""

import argparse
import functools
import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

from humpback_jax.data.batching import BatchConfig, plan_batches
from humpback_jax.data.examples import Example, supervised_examples
from humpback_jax.data.pairs import read_pairs
from humpback_jax.prompts.prompts import load_prompts
from humpback_jax.runtime.startup import prepare_process
from humpback_jax.stages.model import ModelHandle, open_model
from humpback_jax.weights.convert import export_weights
from humpback_jax.weights.fetch import fetch_weights

LEARNING_RATE, WEIGHT_DECAY, BETAS, EPS, CLIP = 1e-5, 0.1, (0.9, 0.95), 1e-8, 1.0


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def examples_of(model: ModelHandle, pairs: str, longest: int) -> list[Example]:
    """Training examples of the seed pairs that fit a row."""
    chosen, _ = supervised_examples(
        read_pairs(pairs).pairs, model.tokenizer, model.chat_format, "forward", load_prompts(), ("seed",), longest
    )
    return chosen


def stream(examples: list[Example], batch_size: int, steps: int) -> list[Example]:
    """The examples of the first updates, in the order in which both sides take them."""
    plan = plan_batches(examples, BatchConfig(batch_size, max(e.num_positions for e in examples), packing=False), steps)
    by_id = {example.id: example for example in examples}
    return [by_id[name] for step in range(steps) for name in plan.batch(step).example_ids]


def figures(seconds: list[float], examples: int, tokens: int, losses: list[float]) -> dict[str, Any]:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    total = sum(seconds)
    return {
        "examples_per_second": examples / total,
        "tokens_per_second": tokens / total,
        "seconds": seconds,
        "peak_bytes": peak,
        "losses": losses,
    }


def train_here(arguments: argparse.Namespace, model: ModelHandle, examples: list[Example]) -> dict[str, Any]:
    """Our packed update; the first step, which compiles, is not timed."""
    import jax
    import jax.numpy as jnp

    from humpback_jax.models.llama import Llama
    from humpback_jax.partitioning import LogicalAxisRules, MeshShape, make_mesh, put_global, use_mesh
    from humpback_jax.training.optimizer import OptimizerConfig
    from humpback_jax.training.step import BATCH_AXES, TrainSetup, batch_sharding, make_train_step

    llama = Llama(model.card.config, dtype=jnp.float32, remat_policy=arguments.remat_policy)
    optimizer = OptimizerConfig(LEARNING_RATE, LEARNING_RATE, 0, *BETAS, EPS, WEIGHT_DECAY, CLIP)
    mesh, rules = make_mesh(MeshShape(), jax.devices()[:1]), LogicalAxisRules()
    setup = TrainSetup(llama, mesh, rules, optimizer)
    batches = BatchConfig(arguments.batch_size, arguments.row_length, arguments.rows_per_microbatch)
    plan = plan_batches(examples, batches, arguments.steps)
    placed = batch_sharding(mesh, rules, BATCH_AXES)
    with use_mesh(mesh, rules):
        state = setup.initial_state(functools.partial(model.load_params, dtype="float32"), seed=0)
        step_function = make_train_step(setup)
        seconds, losses, count, tokens = [], [], 0, 0
        for step in range(arguments.steps):
            batch, started = plan.batch(step), time.perf_counter()
            arrays = {name: put_global(array, placed) for name, array in batch.arrays.items()}
            state, metrics = step_function(
                state, arrays, np.int32(batch.num_microbatches), np.float32(LEARNING_RATE), jax.random.key(0)
            )
            losses.append(float(metrics["loss"]))
            if step >= arguments.skip:
                seconds.append(time.perf_counter() - started)
                count += len(batch.example_ids)
                tokens += int((batch.arrays["decoder_segment_ids"] > 0).sum())
    return figures(seconds, count, tokens, losses) | {"packing_fill": plan.fill}


def train_peer(arguments: argparse.Namespace, model: ModelHandle, examples: list[Example]) -> dict[str, Any]:
    """The Trainer, gradients accumulated up to the same number of examples per update."""
    import torch
    import transformers

    rows = stream(examples, arguments.batch_size, arguments.steps) if arguments.order == "same" else examples
    items = [
        {
            "input_ids": np.concatenate([row.prompt_ids, row.answer_ids]).tolist(),
            "labels": [-100] * len(row.prompt_ids) + row.answer_ids.tolist(),
        }
        for row in rows
    ]
    seen = {"tokens": 0}

    def collate(batch: list[dict]) -> dict[str, Any]:
        width = max(len(item["input_ids"]) for item in batch)
        seen["tokens"] += sum(len(item["input_ids"]) for item in batch)
        pad = lambda values, fill: [*values, *[fill] * (width - len(values))]  # noqa: E731
        return {
            "input_ids": torch.tensor([pad(item["input_ids"], 0) for item in batch]),
            "labels": torch.tensor([pad(item["labels"], -100) for item in batch]),
            "attention_mask": torch.tensor([pad([1] * len(item["input_ids"]), 0) for item in batch]),
        }

    class Times(transformers.TrainerCallback):
        """Seconds of every update, and the tokens handed out before the first that counts."""

        def __init__(self) -> None:
            self.marks = [time.perf_counter()]

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            if len(self.marks) == 1:
                self.marks[0] = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.marks.append(time.perf_counter())

    class Ordered(transformers.Trainer):
        def _get_train_sampler(self, *dataset: Any) -> Any:
            if arguments.order == "same":
                return torch.utils.data.SequentialSampler(items)
            return super()._get_train_sampler(*dataset)

    with tempfile.TemporaryDirectory() as folder:
        export_weights(model.path, folder + "/hf")
        network = transformers.AutoModelForCausalLM.from_pretrained(folder + "/hf", dtype=torch.float32)
        settings = transformers.TrainingArguments(
            output_dir=folder + "/out",
            per_device_train_batch_size=arguments.peer_batch_size,
            gradient_accumulation_steps=arguments.batch_size // arguments.peer_batch_size,
            max_steps=arguments.steps,
            learning_rate=LEARNING_RATE,
            lr_scheduler_type="constant",
            weight_decay=WEIGHT_DECAY,
            adam_beta1=BETAS[0],
            adam_beta2=BETAS[1],
            adam_epsilon=EPS,
            max_grad_norm=CLIP,
            train_sampling_strategy="group_by_length" if arguments.order == "grouped" else "random",
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
            seed=0,
        )
        times = Times()
        trainer = Ordered(network, settings, train_dataset=items, data_collator=collate, callbacks=[times])
        trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    seconds = np.diff(times.marks).tolist()[arguments.skip :]
    counted = len(seconds) * arguments.batch_size
    tokens = seen["tokens"] * len(seconds) // arguments.steps
    return figures(seconds, counted, tokens, [float(loss) for loss in losses])


def in_a_process(arguments: argparse.Namespace, **settings: Any) -> dict[str, Any]:
    """Runs one measurement in a process of its own."""
    values = vars(arguments) | settings
    command = [sys.executable, __file__]
    for name, value in values.items():
        if name not in ("json", "peer_batch_sizes", "curve_steps", "curve_batch_size"):
            command += [f"--{name}", str(value)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    say(f"{settings}: { ({k: v for k, v in result.items() if k != 'losses'}) }")
    return result


def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    """All measurements, and the ratios of speed and of peak memory.

    Speed is tokens of examples per second, padding not counted: examples per second over the same mix of lengths, where
    a few updates draw a longer or shorter mix by chance.
    """
    ours = in_a_process(arguments, side="here")
    sizes = [int(size) for size in arguments.peer_batch_sizes.split(",")]
    # The peer compiles nothing, and its longest batch comes first: all of its steps count.
    peer = {"side": "peer", "skip": 0}
    grouped = [in_a_process(arguments, **peer, order="grouped", peer_batch_size=size) for size in sizes]
    rate = lambda run: run["tokens_per_second"]  # noqa: E731
    best = max(range(len(sizes)), key=lambda i: rate(grouped[i]))
    scattered = in_a_process(arguments, **peer, order="random", peer_batch_size=sizes[best])
    curve = {"batch_size": arguments.curve_batch_size, "steps": arguments.curve_steps, "skip": 0}
    here = in_a_process(arguments, side="here", **curve)
    there = in_a_process(
        arguments, side="peer", order="same", **(curve | {"peer_batch_size": arguments.curve_batch_size})
    )
    differences = np.abs(np.subtract(here["losses"], there["losses"])) / np.asarray(there["losses"])
    return {
        "ours": ours,
        "peer_grouped": dict(zip(map(str, sizes), grouped, strict=True)),
        "peer_random": scattered,
        "curves": {"ours": here["losses"], "peer": there["losses"]},
        "ratios": {
            "speed, ours / peer grouped": rate(ours) / rate(grouped[best]),
            "speed, ours / peer random": rate(ours) / rate(scattered),
            "peak memory, ours / peer grouped": ours["peak_bytes"] / grouped[best]["peak_bytes"],
            "largest relative difference of losses": float(differences.max()),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2_135m", help="native model folder, or a name to fetch")
    parser.add_argument("--pairs", required=True)
    parser.add_argument("--batch_size", type=int, default=32, help="examples per update")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--skip", type=int, default=1, help="first steps that are not timed")
    parser.add_argument("--row_length", type=int, default=1024)
    parser.add_argument("--rows_per_microbatch", type=int, default=1)
    parser.add_argument("--remat_policy", default="none")
    parser.add_argument("--peer_batch_sizes", default="4,8,16")
    parser.add_argument("--peer_batch_size", type=int, default=8)
    parser.add_argument("--curve_steps", type=int, default=20)
    parser.add_argument("--curve_batch_size", type=int, default=8)
    parser.add_argument("--side", choices=["all", "here", "peer"], default="all")
    parser.add_argument("--order", choices=["grouped", "random", "same"], default="grouped")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.side == "all":
        results = compare(arguments)
        say(f"ratios: {results['ratios']}")
        print(json.dumps(results, indent=2 if arguments.json else None))
        return
    path = pathlib.Path(arguments.model)
    model = open_model(path if path.exists() else fetch_weights(arguments.model))
    examples = examples_of(model, arguments.pairs, arguments.row_length)
    side = train_here if arguments.side == "here" else train_peer
    print(json.dumps(side(arguments, model, examples)))


if __name__ == "__main__":
    prepare_process()
    main()
