"""How long a recipe takes on a slice, and what it costs: compiled programs' estimates times stated assumptions."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from humpback_jax.hardware import get_slice
from humpback_jax.models.config import LlamaConfig
from humpback_jax.topology.fit import candidate_meshes
from humpback_jax.topology.request import FitReport, FitRequest, Step
from humpback_jax.topology.work import StageWork


@dataclasses.dataclass(frozen=True)
class Assumptions:
    """What no compiler says. Every figure of a plan is an estimate under these.

    Attributes:
      of_estimate: share of the compiler's estimated speed that a real run reaches: collectives that nothing hides,
        the input pipeline, checkpoints.
      row_step_efficiency: decode steps of a row that give a token that is kept.
      padding: padded tokens per prompt token, from prompt buckets.
      start_seconds: of a stage: loading weights, compiling.
      machine_flops, machine_bandwidth: of a machine that is not a slice: FLOP/s of its matrix products, bytes/s.
      machine_utilisation: share of `machine_flops` in whole programs.
    """

    of_estimate: float = 0.75
    row_step_efficiency: float = 0.8
    padding: float = 0.15
    start_seconds: float = 120.0
    machine_flops: float = 0.0
    machine_bandwidth: float = 0.0
    machine_utilisation: float = 0.5


@dataclasses.dataclass(frozen=True)
class Rates:
    """Seconds of the units of work: an update, a prompt token, a decode step of all rows."""

    update: float
    prompt_token: float
    decode_step: float
    rows: int


@dataclasses.dataclass(frozen=True)
class StagePlan:
    """What a stage takes: tokens, FLOPs of the model, bytes of weights and caches read or written, time and cost."""

    name: str
    kind: str
    items: int
    tokens: float
    flops: float
    bytes_moved: float
    hours: float
    cost: float | None


def stage_flops(config: LlamaConfig, work: StageWork) -> float:
    """FLOPs that the stage needs, recomputation and padding not counted: 2 N per token forwards, 6 N trained."""
    multiplied = config.num_params - (0 if config.tie_word_embeddings else config.vocab_size * config.emb_dim)
    length = work.prompt_tokens + work.new_tokens
    attention = 4 * config.num_layers * config.num_heads * config.head_dim * (length / 2 + work.shared_tokens)
    return (3 if work.kind == "train" else 1) * work.tokens * (2.0 * multiplied + attention)


def stage_bytes(config: LlamaConfig, work: StageWork, rows: int) -> float:
    """Bytes of memory that the stage moves at least: weights and moments per update, weights and caches per step."""
    if work.kind == "train":
        return work.updates * 28.0 * config.num_params  # read and write f32 weights, two moments; write gradients
    steps = work.items * work.new_tokens / rows
    cache = 4.0 * config.num_layers * config.num_kv_heads * config.head_dim
    length = work.shared_tokens + work.prompt_tokens + work.new_tokens / 2
    return 2.0 * config.num_params * (steps + 1) + work.items * work.new_tokens * cache * length


def stage_seconds(work: StageWork, rates: Rates, assumptions: Assumptions, rows_per_update: int) -> float:
    """Seconds of a stage: its units of work at their rates, and its start."""
    if work.kind == "train":
        microbatches = math.ceil(work.rows / rows_per_update)
        busy = work.updates * microbatches * rates.update
    else:
        prompt = work.items * work.prompt_tokens * (1 + assumptions.padding) * rates.prompt_token
        steps = work.items * work.new_tokens / rates.rows / assumptions.row_step_efficiency
        busy = prompt + steps * rates.decode_step
    return busy + assumptions.start_seconds


def machine_rates(config: LlamaConfig, work: StageWork, slots: int, rows: int, length: int, a: Assumptions) -> Rates:
    """Rates of a machine by its FLOP/s and bandwidth, without a compiler: of one microbatch of `rows` x `length`."""
    speed = a.machine_flops * a.machine_utilisation
    per_token = stage_flops(config, work) / max(work.tokens, 1)
    # Full rematerialization runs the forward pass twice.
    update = rows * length * per_token * (4 / 3 if work.kind == "train" else 1) / speed
    step = max(slots * per_token / speed, 2.0 * config.num_params / a.machine_bandwidth)
    return Rates(update, per_token / speed, step, slots)


@dataclasses.dataclass(frozen=True)
class Programs:
    """What the compiler said of the programs of a recipe on a slice: requests with their reports, by name."""

    reports: dict[str, tuple[FitRequest, FitReport]]

    def seconds(self, name: str) -> float:
        """Estimated seconds of one unit."""
        request, report = self.reports[name]
        if report.estimated_seconds is None:
            knob = ", ".join(f"--{key} {value}" for key, value in report.knob.items())
            raise ValueError(f"{name}: {request.model} does not fit on {request.slice} ({report.error}); try {knob}")
        return report.estimated_seconds


def compile_programs(
    model: str, slice_name: str, work: list[StageWork], settings: dict[str, Any], ask: Callable[[FitRequest], FitReport]
) -> Programs:
    """Compiles an update, and the prefill and decode programs of every stage that generates.

    Args:
      model: a published size.
      slice_name: of the slice.
      work: of the recipe.
      settings: `row_length`, `rows_per_microbatch`, `param_dtype` and `remat` of training; `slots`, `tensor` of
        generation.
      ask: compiles one.
    """
    devices = get_slice(slice_name).num_devices
    rows = math.gcd(settings["rows_per_microbatch"], devices)
    tensor = devices // rows
    base = FitRequest(model, slice_name)
    train = dataclasses.replace(
        base,
        mesh=(("tensor", tensor),) if tensor > 1 else (),
        batch=settings["rows_per_microbatch"] // rows,
        length=settings["row_length"],
        param_dtype=settings["param_dtype"],
        remat=settings["remat"],
        dropout=settings["dropout"],
    )
    asked = {"train": train}
    for stage in work:
        if stage.kind == "train" or stage.name[-1] in "23456789":  # later rounds run the programs of the first
            continue
        mesh: tuple[tuple[str, int], ...] = (("tensor", min(settings["tensor"] or 1, devices)),)
        if settings["tensor"] is None:
            mesh = candidate_meshes(dataclasses.replace(base, step="decode"))[0]
        copies = devices // mesh[0][1]
        bucket = 2 ** math.ceil(math.log2(max(stage.prompt_tokens, 128)))
        prefix = round(stage.shared_tokens)
        call = dataclasses.replace(base, mesh=mesh, length=bucket, batch=copies * max(1, 8192 // bucket // copies))
        kind: Step = "score" if stage.kind == "score" else "prefill"
        asked[f"{stage.name} {kind}"] = dataclasses.replace(call, step=kind, prefix=prefix)
        if stage.new_tokens:
            length = -(-int(stage.prompt_tokens + stage.new_tokens) // 128) * 128 + 128
            slots = -(-settings["slots"] // copies) * copies
            asked[f"{stage.name} decode"] = dataclasses.replace(
                call, step="decode", batch=slots, length=length, prefix=prefix
            )
    return Programs({name: (request, ask(request)) for name, request in asked.items()})


def compiled_rates(programs: Programs, stage: StageWork) -> Rates:
    """Rates of a stage from its programs; rounds after the first run those of the first."""
    if stage.kind == "train":
        return Rates(programs.seconds("train"), 0.0, 0.0, 1)
    name = "scores1" if stage.name.startswith("scores") else stage.name
    kind = "score" if stage.kind == "score" else "prefill"
    request, _ = programs.reports[f"{name} {kind}"]
    prompt_token = programs.seconds(f"{name} {kind}") / request.batch / request.length
    if not stage.new_tokens:
        return Rates(0.0, prompt_token, 0.0, 1)
    decode = programs.reports[f"{name} decode"][0]
    return Rates(0.0, prompt_token, programs.seconds(f"{name} decode"), decode.batch)


def make_plan(
    config: LlamaConfig,
    work: list[StageWork],
    rates: Callable[[StageWork], Rates],
    assumptions: Assumptions,
    rows_per_update: int,
    chips: int = 1,
    price_per_chip_hour: float | None = None,
) -> list[StagePlan]:
    """Tokens, FLOPs, bytes, hours and cost of every stage, and of all of them in a last line `total`."""
    plans = []
    for stage in work:
        rate = rates(stage)
        hours = stage_seconds(stage, rate, assumptions, rows_per_update) / 3600
        cost = None if price_per_chip_hour is None else hours * chips * price_per_chip_hour
        size = stage_bytes(config, stage, rate.rows)
        flops = stage_flops(config, stage)
        plans.append(StagePlan(stage.name, stage.kind, stage.items, stage.tokens, flops, size, hours, cost))
    total = StagePlan(
        "total",
        "",
        sum(plan.items for plan in plans),
        sum(plan.tokens for plan in plans),
        sum(plan.flops for plan in plans),
        sum(plan.bytes_moved for plan in plans),
        sum(plan.hours for plan in plans),
        None if price_per_chip_hour is None else sum(plan.cost or 0.0 for plan in plans),
    )
    return [*plans, total]
