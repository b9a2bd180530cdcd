"""The verbs `fit` and `plan`."""

import dataclasses
import sys
from typing import Any

import click

from humpback_jax.hardware import get_slice
from humpback_jax.runtime.console import print_json
from humpback_jax.topology.request import STEPS, FitReport, FitRequest, Mesh


def _pairs(text: str | None, value_type: Any) -> tuple[tuple[str, Any], ...]:
    """`a=1,b=2` as pairs."""
    pairs = []
    for part in filter(None, (text or "").replace(" ", ",").split(",")):
        name, separator, value = part.partition("=")
        if not separator:
            raise ValueError(f"{part!r}: write NAME=VALUE, several of them separated by commas")
        pairs.append((name, value_type(value)))
    return tuple(pairs)


def _mesh(text: str | None) -> Mesh | None:
    from humpback_jax.partitioning import MESH_AXES

    if text is None:
        return None
    mesh = _pairs(text, int)
    unknown = [axis for axis, _ in mesh if axis not in MESH_AXES]
    if unknown:
        raise ValueError(f"--mesh {text}: unknown axis {unknown[0]!r}; the axes are {', '.join(MESH_AXES)}")
    return mesh


@click.command()
@click.option("--model", required=True, help="A published size, such as llama_65b.")
@click.option("--slice", "slice_name", required=True, help="As in v4-256, v5e-16 (v5litepod-16), v5p-128, v6e-64.")
@click.option("--step", type=click.Choice(STEPS), default="train", show_default=True)
@click.option("--mesh", metavar="AXIS=N,…", help="data, fsdp, sequence, tensor; default: searched.")
@click.option(
    "--batch", type=click.IntRange(min=1), help="Rows, per device in training, else in all; default: searched."
)
@click.option("--length", type=int, default=2048, show_default=True, help="Positions per row; of the cache for decode.")
@click.option("--prefix", type=int, default=0, show_default=True, help="Prompt tokens that all rows share (not train).")
@click.option("--packed/--unpacked", default=True, show_default=True, help="Rows of several examples (train).")
@click.option("--dropout", type=float, default=0.1, show_default=True, help="Residual dropout (train).")
@click.option("--remat", default="full", show_default=True, help="What the backward pass keeps (train).")
@click.option("--param_dtype", type=click.Choice(["float32", "bfloat16"]), default="float32", show_default=True)
@click.option("--gradient_dtype", type=click.Choice(["float32", "bfloat16"]), default="bfloat16", show_default=True)
@click.option("--logits_chunk", type=int, default=256, show_default=True, help="Positions with logits at once (train).")
@click.option("--microbatches", type=int, default=1, show_default=True, help="Parts of an update (train).")
@click.option("--kv_dtype", type=click.Choice(["bfloat16", "int8"]), help="Of the cache (decode).")
@click.option("--weight_dtype", type=click.Choice(["bfloat16", "int8"]), default="bfloat16", help="Not train.")
@click.option("--xla", metavar="OPTION=VALUE,…", help="Compiler options on top of the program's own.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def fit(slice_name: str, mesh: str | None, batch: int | None, xla: str | None, as_json: bool, **settings: Any) -> None:
    """Compile a program for a TPU slice, without one: does it fit, and how fast would it be?

    Exit status: 0 it fits, 2 it does not, 1 anything else.
    """
    from humpback_jax.topology.fit import fit_or_recall, search

    given, name = _mesh(mesh), get_slice(slice_name).name
    request = FitRequest(slice=name, options=_pairs(xla, str), mesh=given or (), batch=batch or 1, **settings)
    meshes, batches = None if given is None else [given], None if batch is None else [batch]
    request, report = search(request, meshes, batches, fit_or_recall)
    if as_json:
        asked = {key: value for key, value in dataclasses.asdict(request).items() if key not in ("mesh", "options")}
        print_json(dataclasses.asdict(report) | {"request": asked})
    else:
        _print_report(request, report)
    sys.exit(0 if report.fits else 2)


def _print_report(request: FitRequest, report: FitReport) -> None:
    mesh = " x ".join(f"{axis} {size}" for axis, size in report.mesh.items() if size > 1) or "one device"
    rows = f"{request.batch} rows{' per device' if request.trains else ''} of {request.length}"
    click.echo(f"{request.model} {request.step} on {request.slice} ({mesh}), {rows}")
    if not report.fits:
        needed = f"needs {report.peak_gib:.2f} GiB" if report.peak_gib else "does not fit"
        click.secho(f"does not fit: {needed}, the chip has {report.hbm_gib:.2f} GiB", fg="red")
        click.echo(f"  compiler: {report.error}")
        click.echo("  change first: " + ", ".join(f"--{name} {value}" for name, value in report.knob.items()))
        return
    click.secho(f"fits: {report.peak_gib:.2f} of {report.hbm_gib:.2f} GiB per device", fg="green")
    parts = f"arguments {report.argument_gib:.2f} (updated in place {report.alias_gib:.2f})"
    click.echo(f"  {parts}, temporaries {report.temp_gib:.2f}")
    click.echo(
        f"estimate, not a measurement: {report.estimated_seconds:.4f} s = {report.fusion_seconds:.4f} s by the "
        f"compiler's cycles + {report.kernel_seconds:.4f} s in kernels; at peak FLOPs {report.bound_seconds:.4f} s"
    )
    click.echo(f"  {report.hlo_flops:.4g} FLOPs per device; kernels {report.kernels or 'none'}")
    for name, (count, size) in report.collectives.items():
        click.echo(f"  {name}: {count:.0f} of {size:.2f} GiB together")


@click.command()
@click.argument("gin_file")
@click.option("--slice", "slice_name", required=True, help="A slice, as for `fit`; or cpu: this machine.")
@click.option("--model", help="A published size; default: the recipe's architecture.")
@click.option("--segments", type=int, help="Segments of the corpus; default: what the recipe keeps at most.")
@click.option("--pages", type=click.IntRange(min=1), help="Web pages to cut; default: as many as the segments need.")
@click.option("--price_per_chip_hour", type=float, help="Adds what every stage costs.")
@click.option("--price_per_core_hour", type=float, help="Adds what cutting the pages costs.")
@click.option("--of_estimate", type=float, help="Share of the compiler's speed that a run reaches (an assumption).")
@click.option("--slots", type=int, help="Rows that are decoded together; default: the recipe's.")
@click.option("--machine_gflops", type=float, help="Of matrix products, with --slice cpu; default: measured now.")
@click.option("--run_dir", type=click.Path(), help="A finished run of this recipe, to compare its times with.")
@click.option("--gin_bindings", multiple=True, hidden=True)
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def plan(gin_file: str, slice_name: str, gin_bindings: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Say how long a recipe takes on a TPU slice, and what it costs, stage by stage: an estimate, with assumptions."""
    from humpback_jax.gin_utils import parse_recipe
    from humpback_jax.topology.plan import PlanRequest, plan_recipe

    planned = plan_recipe(PlanRequest(parse_recipe((gin_file,), gin_bindings), slice_name, **options))
    print_json(planned) if as_json else _print_plan(planned)


def _print_plan(planned: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    columns = ("stage", "items", "tokens", "FLOPs", "bytes", "hours", "cost")
    compared = any(stage.get("measured_hours") for stage in planned["stages"])
    table = Table(*columns, *(("measured", "ratio") if compared else ()))
    for stage in planned["stages"]:
        cost = "" if stage["cost"] is None else f"{stage['cost']:,.2f}"
        amounts = [f"{stage[key]:.3g}" for key in ("tokens", "flops", "bytes_moved")]
        figures = [stage["name"], f"{stage['items']:,}", *amounts, f"{stage['hours']:.3f}", cost]
        if compared and stage.get("measured_hours"):
            ratio = stage.get("hours_of_measured", stage["hours"]) / stage["measured_hours"]
            figures += [f"{stage['measured_hours']:.3f}", f"{ratio:.2f}"]
        table.add_row(*figures)
    if planned["corpus"]:
        _print_corpus(planned["corpus"])
    Console().print(table)
    click.echo("Assumed, not measured: " + ", ".join(f"{key} {value}" for key, value in planned["assumptions"].items()))
    for name, program in planned["programs"].items():
        click.echo(f"Compiled: {name}: {program['estimated_seconds']} s, {program['peak_gib']} GiB, {program['mesh']}")


def _print_corpus(corpus: dict[str, Any]) -> None:
    """The stage before all others, on processors; docs/scale.md has the rates."""
    shuffled = sum(corpus["shuffled_bytes"].values())
    cost = "" if corpus["cost"] is None else f", {corpus['cost']:,.2f}"
    click.echo(
        f"segments: {corpus['pages']:,} pages ({corpus['archive_bytes']:.3g} bytes of archives) to "
        f"{corpus['segments']:,} segments ({corpus['segment_bytes']:.3g} bytes): {corpus['core_hours']:,.2f} core-hours"
        f"{cost}, {shuffled:.3g} bytes between its steps"
    )


def show_stages(recipe: Any, run_dir: str, as_json: bool) -> None:
    """What a run will do: its stages, the seconds of those that are complete, on a CPU an estimate of the others'."""
    import jax

    from humpback_jax.preflight import finished_seconds

    on_cpu = jax.default_backend() == "cpu"
    estimated = _estimated_seconds(recipe) if on_cpu else {}
    stages: list[dict[str, Any]] = [
        {"stage": name, "complete": seconds is not None, "seconds": seconds, "estimated_seconds": estimated.get(name)}
        for name, seconds in finished_seconds(recipe, run_dir)
    ]
    if as_json:
        print_json({"run_dir": run_dir, "stages": stages})
        return
    click.echo(f"{run_dir}: everything that the run needs is there.")
    for stage in stages:
        seconds = stage["seconds"] if stage["complete"] else stage["estimated_seconds"]
        state = "complete" if stage["complete"] else "to do"
        about = "about " if not stage["complete"] else ""
        click.echo(f"  {stage['stage']:16}{state:10}{'' if seconds is None else about + _duration(seconds)}")
    left = [stage["estimated_seconds"] for stage in stages if not stage["complete"]]
    if any(left):
        total = _duration(sum(filter(None, left)))
        click.echo(f"To do: about {total} on this machine, an estimate (`humpback plan` says of what).")
    elif left:
        click.echo("How long it may take: `humpback plan GIN_FILE --slice NAME`.")


def _estimated_seconds(recipe: Any) -> dict[str, float]:
    """By stage, on this machine; empty where the recipe does not say how large its model or corpus is."""
    from humpback_jax.topology.plan import PlanRequest, plan_recipe

    try:
        planned = plan_recipe(PlanRequest(recipe, "cpu"))
    except (ValueError, KeyError):
        return {}
    return {stage["name"]: 3600 * stage["hours"] for stage in planned["stages"]}


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
