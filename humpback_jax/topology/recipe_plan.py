"""The plan of a whole recipe on a slice or on this machine, as plain values that a program can read."""

import dataclasses
import json
import pathlib
import time
from typing import Any

from humpback_jax.align import Recipe
from humpback_jax.hardware import get_slice
from humpback_jax.models.config import LlamaConfig, get_config
from humpback_jax.runtime.compilation_cache import default_cache
from humpback_jax.topology.fit import fit
from humpback_jax.topology.plan import (
    Assumptions,
    Programs,
    compile_programs,
    compiled_rates,
    machine_rates,
    make_plan,
)
from humpback_jax.topology.work import Lengths, StageWork, recipe_work

MACHINE = "cpu"
MACHINE_START_SECONDS = 20.0  # of a stage on one machine: it compiles less, and loads small models


def plan_recipe(
    recipe: Recipe,
    slice_name: str,
    model: str | None = None,
    segments: int | None = None,
    price_per_chip_hour: float | None = None,
    of_estimate: float | None = None,
    slots: int | None = None,
    machine_gflops: float | None = None,
    run_dir: str | None = None,
) -> dict[str, Any]:
    """Stages with their work, hours and cost; the assumptions; the compiled programs. See the verb `plan`.

    Raises:
      ValueError: the model is none of the published sizes, or a program does not fit the slice.
    """
    if model is None and recipe.architecture is None:
        raise ValueError("the recipe names no architecture (Recipe.architecture); give --model")
    config = get_config(model or recipe.architecture.name)  # type: ignore[union-attr]
    work = recipe_work(recipe, segments)
    assumptions = Assumptions() if of_estimate is None else Assumptions(of_estimate=of_estimate)
    rows, chips = recipe.forward.rows_per_microbatch, 1
    programs = Programs({})
    if slice_name == MACHINE:
        assumptions = machine_assumptions(machine_gflops)
        rates = lambda stage: _machine_rates(config, stage, recipe, slots, assumptions)  # noqa: E731
    else:
        chips = get_slice(slice_name).num_devices
        programs = compile_programs(
            config.name,
            slice_name,
            work,
            program_settings(recipe, slots),
            lambda asked: fit(asked, default_cache() / "topology"),
        )
        rates = lambda stage: _slower(compiled_rates(programs, stage), assumptions.of_estimate)  # noqa: E731
    stages = [
        dataclasses.asdict(stage)
        for stage in make_plan(config, work, rates, assumptions, rows, chips, price_per_chip_hour)
    ]
    if run_dir is not None:
        add_measured(stages, pathlib.Path(run_dir))
    reports = {name: dataclasses.asdict(report) for name, (_, report) in programs.reports.items()}
    return {
        "model": config.name,
        "slice": slice_name,
        "chips": chips,
        "price_per_chip_hour": price_per_chip_hour,
        "stages": stages,
        "assumptions": dataclasses.asdict(assumptions) | dataclasses.asdict(Lengths()),
        "programs": reports,
    }


def program_settings(recipe: Recipe, slots: int | None) -> dict[str, Any]:
    """What of a recipe decides the shapes of its programs."""
    engine = recipe.augmentation.engine
    return {
        "row_length": recipe.forward.row_length,
        "rows_per_microbatch": recipe.forward.rows_per_microbatch,
        "param_dtype": recipe.forward.param_dtype,
        "remat": recipe.forward.remat_policy,
        "dropout": recipe.forward.dropout,
        "slots": slots or engine.slots,
        "tensor": engine.tensor_parallelism if engine.tensor_parallelism > 1 else None,
    }


def _slower(rates: Any, factor: float) -> Any:
    """Rates of which a run reaches only this share."""
    times = {name: getattr(rates, name) / factor for name in ("update", "prompt_token", "decode_step")}
    return dataclasses.replace(rates, **times)


def _machine_rates(
    config: LlamaConfig, stage: StageWork, recipe: Recipe, slots: int | None, assumptions: Assumptions
) -> Any:
    own = recipe.augmentation if stage.name == "augmented" else recipe.curation.generation
    train = recipe.forward
    rows = slots or own.engine.slots
    return machine_rates(config, stage, rows, train.rows_per_microbatch, train.row_length, assumptions)


def machine_assumptions(gflops: float | None) -> Assumptions:
    """Assumptions with this machine's figures: of matrix products as given or timed, of memory as timed."""
    bandwidth = _bandwidth()
    flops = _matmul_flops() if gflops is None else gflops * 1e9
    return Assumptions(
        machine_flops=flops, machine_bandwidth=bandwidth, of_estimate=1.0, start_seconds=MACHINE_START_SECONDS
    )


def _matmul_flops(size: int = 1024, repeats: int = 5) -> float:
    """FLOP/s of a bfloat16 product with a float32 result, the best of a few."""
    import jax
    import jax.numpy as jnp

    x = jnp.ones((size, size), jnp.bfloat16)
    multiply = jax.jit(lambda a: jnp.matmul(a, a, preferred_element_type=jnp.float32))
    multiply(x).block_until_ready()
    return 2.0 * size**3 / min(_seconds(lambda: multiply(x).block_until_ready()) for _ in range(repeats))


def _bandwidth(megabytes: int = 256, repeats: int = 3) -> float:
    """Bytes per second that a reduction reads from memory, the best of a few."""
    import numpy as np

    array = np.ones(megabytes << 18, np.float32)
    return array.nbytes / min(_seconds(array.sum) for _ in range(repeats))


def _seconds(function: Any) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def add_measured(stages: list[dict[str, Any]], run_dir: pathlib.Path) -> None:
    """Adds `measured_hours` to every stage that the run has finished.

    Raises:
      ValueError: it has finished none of them.
    """
    for stage in stages:
        manifest = run_dir / stage["name"] / "manifest.json"
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
