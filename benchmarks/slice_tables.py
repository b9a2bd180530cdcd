"""The generated tables of the documentation: `python benchmarks/slice_tables.py docs/slices`.

Every figure is the compiler's; answers are cached, so a table that was cut off goes on where it was.
"""

import concurrent.futures
import dataclasses
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence

import click

from humpback_jax.hardware import CHIPS, SLICES
from humpback_jax.models.config import get_config
from humpback_jax.topology.compiler import libtpu_version
from humpback_jax.topology.fit import Ask, candidate_meshes, fit_or_recall, resident_gib, rows_per_second, search
from humpback_jax.topology.request import FitReport, FitRequest

PAPER_SIZES = ("llama_7b", "llama_13b", "llama_33b", "llama_65b", "llama2_70b")
TABLES = ("maxtext", "training", "decoding")
STATE_SHARE = 0.4  # of the memory that the state of training may take where a slice is recommended
WEIGHT_SHARE = 0.6  # of the memory that the weights may take in generation


@dataclasses.dataclass(frozen=True)
class Bar:
    """A program, and what MaxText 0.2.5 takes for the same work: GiB, and seconds by the compiler's cycles."""

    request: FitRequest
    peak_gib: float
    seconds: float | None


def _bar(model: str, slice_name: str, batch: int, peak_gib: float, seconds: float | None) -> Bar:
    return Bar(FitRequest(model, slice_name, batch=batch, packed=False, dropout=0.0), peak_gib, seconds)


BARS = (
    _bar("llama_7b", "v5e-16", 1, 8.12, 1.03),
    _bar("llama_7b", "v5e-16", 4, 10.71, 2.99),
    _bar("llama_7b", "v4-32", 4, 11.13, 2.08),
    _bar("llama_7b", "v5p-32", 4, 11.14, None),
    _bar("llama2_70b", "v4-256", 1, 13.71, 4.84),
    _bar("llama2_70b", "v5p-256", 1, 13.71, 2.84),
    _bar("llama2_70b", "v5e-256", 1, 9.64, 7.07),
)


def bar_rows(ask: Ask, bars: Sequence[Bar] = BARS) -> Iterator[str]:
    """Rows of the comparison with MaxText: the same work, and beside it the trainer's real step."""
    yield "| model | slice | batch | peak GiB | MaxText | cycles s | MaxText | packed, dropout 0.1: GiB | s |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for bar in bars:
        same, real = ask(bar.request), ask(dataclasses.replace(bar.request, packed=True, dropout=0.1))
        figures = [_figure(same.peak_gib), bar.peak_gib, _figure(same.fusion_seconds), bar.seconds or "-"]
        figures += [_figure(real.peak_gib), _figure(real.fusion_seconds)]
        request = bar.request
        yield f"| {request.model} | {request.slice} | {request.batch} | " + " | ".join(map(str, figures)) + " |"


def recommendation_rows(
    ask: Ask, make: Callable[[str, str], FitRequest], models: Sequence[str] = PAPER_SIZES, jobs: int = 1
) -> Iterator[str]:
    """A slice, mesh and batch for every size on every kind of chip; `make` gives the request of a model and a chip.

    On the likeliest mesh, the largest batch that fits; `humpback fit` without `--mesh` compares meshes. `jobs` searches
    run at a time.
    """
    yield "| model | step | weights | slice | mesh | batch | peak GiB | of | estimate s | rows or tokens per s |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    requests = [make(model, chip) for model in models for chip in CHIPS]
    with concurrent.futures.ThreadPoolExecutor(jobs) as executor:
        searches = [executor.submit(search, r, candidate_meshes(r)[:1], None, ask) for r in requests]
        for done in searches:
            yield _recommendation(*done.result())


def training_request(model: str, chip: str) -> FitRequest:
    """Training on the smallest slice of this chip whose memory the state takes `STATE_SHARE` of at most."""
    requests = [FitRequest(model, name) for name, slice_ in SLICES.items() if slice_.chip.name == chip]
    share = STATE_SHARE * CHIPS[chip].hbm_gib
    return next((request for request in requests if resident_gib(request) <= share), requests[-1])


def decode_request(model: str, chip: str) -> FitRequest:
    """Generation on the smallest slice of this chip on which one copy of the weights leaves room for caches.

    Where key heads can be split over too few devices for bfloat16 weights, they are int8.
    """
    config = get_config(model)
    slices = [name for name, slice_ in SLICES.items() if slice_.chip.name == chip]
    types = ("bfloat16", "int8")
    requests = [FitRequest(model, name, step="decode", weight_dtype=dtype) for dtype in types for name in slices]
    for request in requests:
        if config.num_kv_heads % request.devices:
            continue
        if resident_gib(request.on((("tensor", request.devices),))) <= WEIGHT_SHARE * request.hbm_gib:
            return request
    return requests[-1]


def _recommendation(request: FitRequest, report: FitReport) -> str:
    mesh = " ".join(f"{axis} {size}" for axis, size in report.mesh.items() if size > 1) or "1 device"
    speed = f"{rows_per_second(request, report):.3g}" if report.fits else "does not fit"
    figures = [_figure(report.peak_gib), report.hbm_gib, _figure(report.estimated_seconds), speed]
    weights = request.param_dtype if request.step == "train" else request.weight_dtype
    start = f"| {request.model} | {request.step} | {weights} | {request.slice} | {mesh} | {request.batch} | "
    return start + " | ".join(map(str, figures)) + " |"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}".rstrip("0").rstrip(".")


@click.command()
@click.argument("folder", type=click.Path(path_type=pathlib.Path))
@click.option("--table", "tables", type=click.Choice(TABLES), multiple=True, help="Default: all.")
@click.option("--model", "models", type=click.Choice(PAPER_SIZES), multiple=True, help="Default: all.")
@click.option("--jobs", type=int, default=1, show_default=True, help="Compilers at a time.")
def main(folder: pathlib.Path, tables: tuple[str, ...], models: tuple[str, ...], jobs: int) -> None:
    """Write FOLDER/maxtext.md, FOLDER/training.md and FOLDER/decoding.md."""

    def ask(request: FitRequest) -> FitReport:
        click.echo(f"{request.model} {request.step} on {request.slice}, batch {request.batch}", err=True)
        return fit_or_recall(request)

    rows = {
        "maxtext": lambda: bar_rows(ask),
        "training": lambda: recommendation_rows(ask, training_request, models or PAPER_SIZES, jobs),
        "decoding": lambda: recommendation_rows(ask, decode_request, models or PAPER_SIZES, jobs),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name in tables or TABLES:
        head = f"Written by `python benchmarks/slice_tables.py {folder}` with libtpu {libtpu_version()}.\n"
        text = "\n".join([head, *rows[name]()]) + "\n"
        (folder / f"{name}.md").write_text(text)
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
