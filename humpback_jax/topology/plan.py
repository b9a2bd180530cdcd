"""How long a recipe takes on a slice or on this machine, and what it costs: units of work times stated assumptions.

On a slice the units (a microbatch, a prompt token, a decode step) are the estimates of compiled programs; of a machine
they follow from its FLOP/s and bandwidth.
"""

import dataclasses
import json
import math
import pathlib
import timeit
from collections.abc import Sequence
from typing import Any

from humpback_jax.align import Recipe
from humpback_jax.hardware import get_slice
from humpback_jax.models.config import LlamaConfig, get_config
from humpback_jax.run_files import MANIFEST
from humpback_jax.topology.corpus_work import corpus_line, corpus_work
from humpback_jax.topology.fit import Ask, candidate_meshes, fit_or_recall
from humpback_jax.topology.request import TRAINING, FitReport, FitRequest, Mesh, Step
from humpback_jax.topology.work import LENGTHS, StageWork, recipe_work

MACHINE = "cpu"
MACHINE_START_SECONDS = 20.0  # of a stage on one machine: it compiles less, and loads small models
CALL_TOKENS = 8192  # of a prefill or scoring call
CACHE_UNIT = 128  # lengths of caches are multiples of this


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
    """Seconds of the units of work: a microbatch, a prompt token, a decode step of all `rows`."""

    microbatch: float = 0.0
    prompt_token: float = 0.0
    decode_step: float = 0.0
    rows: int = 1

    def seconds(self, work: StageWork, assumptions: Assumptions) -> float:
        """Seconds of a stage: its units of work, and its start."""
        prompt = work.items * work.prompt_tokens * (1 + assumptions.padding) * self.prompt_token
        steps = work.items * work.new_tokens / self.rows / assumptions.row_step_efficiency
        training = work.updates * work.microbatches * self.microbatch
        return training + prompt + steps * self.decode_step + assumptions.start_seconds


@dataclasses.dataclass(frozen=True)
class PlanRequest:
    """What is planned, and where.

    Attributes:
      recipe: the recipe.
      slice: a name of `humpback_jax.hardware`, or `cpu`: this machine.
      model, segments, pages, …: as the options of `humpback plan`.
    """

    recipe: Recipe
    slice: str
    model: str | None = None
    segments: int | None = None
    pages: int | None = None
    price_per_chip_hour: float | None = None
    price_per_core_hour: float | None = None
    of_estimate: float | None = None
    slots: int | None = None
    machine_gflops: float | None = None
    run_dir: str | None = None

    @property
    def config(self) -> LlamaConfig:
        if self.model is None and self.recipe.architecture is None:
            raise ValueError("the recipe names no architecture (Recipe.architecture); give --model")
        return get_config(self.model or self.recipe.architecture.name)  # type: ignore[union-attr]

    @property
    def chips(self) -> int:
        """Of the slice; a machine counts as one."""
        return 1 if self.slice == MACHINE else get_slice(self.slice).num_devices

    def rows(self, stage: StageWork) -> int:
        """Rows that a stage decodes together."""
        return self.slots or stage.config.engine.slots


def plan_recipe(request: PlanRequest, ask: Ask = fit_or_recall) -> dict[str, Any]:
    """Stages with their work, hours and cost; the assumptions; the compiled programs. See the verb `plan`.

    Raises:
      ValueError: the model is none of the published sizes, or a program does not fit the slice.
    """
    assumptions = plan_assumptions(request)
    work = recipe_work(request.recipe, request.segments)
    programs: dict[str, FitReport] = {}
    if request.slice == MACHINE:
        rates = [machine_rates(request, stage, assumptions) for stage in work]
    else:
        asked = [stage_programs(request, stage) for stage in work]
        names = program_names(work, asked)
        reports = {program: ask(program) for program in names}
        programs = {names[program]: report for program, report in reports.items()}
        rates = [compiled_rates(stage, reports, assumptions.of_estimate) for stage in asked]
    stages = make_plan(request, work, rates, assumptions)
    corpus = plan_corpus(request)
    if request.run_dir is not None:
        add_measured(stages, pathlib.Path(request.run_dir))
    return {
        "model": request.config.name,
        "slice": request.slice,
        "chips": request.chips,
        "price_per_chip_hour": request.price_per_chip_hour,
        "corpus": corpus,
        "stages": stages,
        "assumptions": dataclasses.asdict(assumptions) | dataclasses.asdict(LENGTHS),
        "programs": {name: dataclasses.asdict(report) for name, report in programs.items()},
    }


def plan_corpus(request: PlanRequest) -> dict[str, Any] | None:
    """The stage that cuts pages, which runs on cores and not on chips; None where another run's ratings are taken."""
    if request.recipe.scored_run is not None:
        return None
    segments = request.segments or request.recipe.segments.corpus.num_segments
    return corpus_line(corpus_work(segments, request.pages), request.price_per_core_hour)


def plan_assumptions(request: PlanRequest) -> Assumptions:
    """The defaults but for what is given; of a machine with its figures, which are measured now."""
    if request.slice != MACHINE:
        return Assumptions() if request.of_estimate is None else Assumptions(of_estimate=request.of_estimate)
    return Assumptions(
        machine_flops=_matmul_flops() if request.machine_gflops is None else request.machine_gflops * 1e9,
        machine_bandwidth=_bandwidth(),
        of_estimate=1.0,
        start_seconds=MACHINE_START_SECONDS,
    )


def stage_flops(config: LlamaConfig, work: StageWork) -> float:
    """FLOPs that the stage needs, recomputation and padding not counted: 2 N per token forwards, 6 N trained."""
    multiplied = config.num_params - (0 if config.tie_word_embeddings else config.vocab_size * config.emb_dim)
    length = work.prompt_tokens + work.new_tokens
    attention = 4 * config.num_layers * config.num_heads * config.head_dim * (length / 2 + work.shared_tokens)
    return (3 if work.trains else 1) * work.tokens * (2.0 * multiplied + attention)


def stage_bytes(config: LlamaConfig, work: StageWork, rows: int) -> float:
    """Bytes of memory that the stage moves at least: weights and moments per update, weights and caches per step."""
    if work.trains:
        return work.updates * 28.0 * config.num_params  # read and write f32 weights, two moments; write gradients
    steps = work.items * work.new_tokens / rows
    cache = 4.0 * config.num_layers * config.num_kv_heads * config.head_dim
    length = work.shared_tokens + work.prompt_tokens + work.new_tokens / 2
    return 2.0 * config.num_params * (steps + 1) + work.items * work.new_tokens * cache * length


def stage_programs(request: PlanRequest, stage: StageWork) -> dict[Step, FitRequest]:
    """The programs that a stage runs on the slice: an update; or a prefill or scoring call, and a decode step."""
    devices, config = request.chips, stage.config
    base = FitRequest(request.config.name, request.slice)
    if stage.trains:
        rows = config.batches.rows_per_microbatch
        copies = math.gcd(rows, devices)
        program = dataclasses.replace(
            base,
            mesh=(("tensor", devices // copies),) if devices > copies else (),
            batch=rows // copies,
            length=config.batches.row_length,
            param_dtype=config.compute.param_dtype,
            remat=config.compute.remat_policy,
            dropout=config.compute.dropout,
        )
        step: Step = "prefer" if stage.kind == "prefer" else "train"
        return {step: dataclasses.replace(program, step=step)}
    tensor = min(config.engine.tensor_parallelism, devices)
    mesh: Mesh = (("tensor", tensor),)
    if tensor == 1:  # the recipe does not say
        mesh = candidate_meshes(dataclasses.replace(base, step="decode"))[0]
    copies = devices // mesh[0][1]
    bucket = 2 ** math.ceil(math.log2(max(stage.prompt_tokens, CACHE_UNIT)))
    first: Step = "score" if stage.kind == "score" else "prefill"
    batch, prefix = copies * max(1, CALL_TOKENS // bucket // copies), round(stage.shared_tokens)
    call = dataclasses.replace(base, step=first, mesh=mesh, length=bucket, batch=batch, prefix=prefix)
    if not stage.new_tokens:
        return {first: call}
    length = (-(-int(stage.prompt_tokens + stage.new_tokens) // CACHE_UNIT) + 1) * CACHE_UNIT
    slots = -(-request.rows(stage) // copies) * copies
    return {first: call, "decode": dataclasses.replace(call, step="decode", batch=slots, length=length)}


def program_names(work: Sequence[StageWork], programs: Sequence[dict[Step, FitRequest]]) -> dict[FitRequest, str]:
    """A name for every program once: of the first stage that runs it and the step, or `train` for the first update."""
    names: dict[FitRequest, str] = {}
    for stage, of_stage in zip(work, programs, strict=True):
        for step, program in of_stage.items():
            name = step if step in TRAINING and step not in names.values() else f"{stage.name} {step}"
            names.setdefault(program, name)
    return names


def compiled_rates(
    programs: dict[Step, FitRequest], reports: dict[FitRequest, FitReport], of_estimate: float = 1.0
) -> Rates:
    """Rates of a stage from its programs, of whose estimated speed a run reaches `of_estimate`.

    Raises:
      ValueError: a program does not fit; says what to change.
    """
    seconds = {}
    for step, program in programs.items():
        report = reports[program]
        if report.estimated_seconds is None:
            knob = ", ".join(f"--{key} {value}" for key, value in report.knob.items())
            raise ValueError(f"{step}: {program.model} does not fit on {program.slice} ({report.error}); try {knob}")
        seconds[step] = report.estimated_seconds / of_estimate
    for update in TRAINING:
        if update in programs:
            return Rates(microbatch=seconds[update])
    call = next(step for step in programs if step != "decode")
    prompt_token = seconds[call] / programs[call].batch / programs[call].length
    if "decode" not in programs:
        return Rates(prompt_token=prompt_token)
    return Rates(prompt_token=prompt_token, decode_step=seconds["decode"], rows=programs["decode"].batch)


def machine_rates(request: PlanRequest, work: StageWork, assumptions: Assumptions) -> Rates:
    """Rates of a machine by its FLOP/s and bandwidth, without a compiler."""
    speed = assumptions.machine_flops * assumptions.machine_utilisation
    per_token = stage_flops(request.config, work) / max(work.tokens, 1)
    if work.trains:
        positions = work.config.batches.rows_per_microbatch * work.config.batches.row_length
        return Rates(microbatch=positions * per_token * 4 / 3 / speed)  # rematerialization runs the forward pass twice
    rows = request.rows(work)
    step = max(rows * per_token / speed, 2.0 * request.config.num_params / assumptions.machine_bandwidth)
    return Rates(prompt_token=per_token / speed, decode_step=step, rows=rows)


def make_plan(
    request: PlanRequest, work: Sequence[StageWork], rates: Sequence[Rates], assumptions: Assumptions
) -> list[dict[str, Any]]:
    """What every stage takes: tokens, FLOPs of the model, bytes of weights and caches read or written, hours and cost.

    The last line, `total`, has the sums.
    """
    config, price = request.config, request.price_per_chip_hour
    stages: list[dict[str, Any]] = [
        {
            "name": stage.name,
            "kind": stage.kind,
            "items": stage.items,
            "tokens": stage.tokens,
            "flops": stage_flops(config, stage),
            "bytes_moved": stage_bytes(config, stage, rate.rows),
            "hours": rate.seconds(stage, assumptions) / 3600,
        }
        for stage, rate in zip(work, rates, strict=True)
    ]
    summed = ("items", "tokens", "flops", "bytes_moved", "hours")
    stages.append({"name": "total", "kind": ""} | {name: sum(stage[name] for stage in stages) for name in summed})
    return [stage | {"cost": None if price is None else stage["hours"] * request.chips * price} for stage in stages]


def _matmul_flops(size: int = 1024) -> float:
    """FLOP/s of a bfloat16 product with a float32 result on this machine, the best of a few."""
    import jax
    import jax.numpy as jnp

    x = jnp.ones((size, size), jnp.bfloat16)
    multiply = jax.jit(lambda a: jnp.matmul(a, a, preferred_element_type=jnp.float32))
    multiply(x).block_until_ready()
    return 2.0 * size**3 / min(timeit.repeat(lambda: multiply(x).block_until_ready(), number=1))


def _bandwidth(megabytes: int = 256) -> float:
    """Bytes per second that a reduction reads from memory, the best of a few."""
    import numpy as np

    array = np.ones(megabytes << 18, np.float32)
    return array.nbytes / min(timeit.repeat(array.sum, number=1))


def add_measured(stages: list[dict[str, Any]], run_dir: pathlib.Path) -> None:
    """Adds `measured_hours` to every stage that the run has finished.

    Raises:
      ValueError: it has finished none of them.
    """
    for stage in stages:
        manifest = run_dir / stage["name"] / MANIFEST
        if manifest.is_file():
            stage["measured_hours"] = json.loads(manifest.read_text())["seconds"] / 3600
    measured = [stage for stage in stages if "measured_hours" in stage]
    if not measured:
        raise ValueError(
            f"{run_dir} holds no finished stage of this recipe; give the folder of a run of `humpback align`"
        )
    # The total compares like with like: only stages that were measured.
    stages[-1]["measured_hours"] = sum(stage["measured_hours"] for stage in measured)
    stages[-1]["hours_of_measured"] = sum(stage["hours"] for stage in measured)
