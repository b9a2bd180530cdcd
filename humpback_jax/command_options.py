"""Options that verbs of every room share: experiment, run directory, processes, SIGTERM, monitoring."""

import functools
import os
import pathlib
from typing import Any

import click

from humpback_jax.runtime.distributed import join_processes
from humpback_jax.runtime.processes import is_leader, set_process
from humpback_jax.runtime.stopping import stop_on_sigterm

json_option = click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")


def experiment_options(function: Any) -> Any:
    for option in (
        click.option("--run_dir", type=click.Path(), help="Where results go (default: runs/NAME of the gin file)."),
        click.option("--gin_bindings", multiple=True, hidden=True),
        click.option("--gin_file", "gin_files", multiple=True, help="Gin file (needed); overrides: --gin.NAME=VALUE."),
    ):
        function = option(function)
    return function


def monitoring_options(function: Any) -> Any:
    for option in (
        click.option("--wandb_project", help="Report the metrics to this project of Weights & Biases too."),
        click.option("--profile_steps", metavar="A:B", help="Trace updates A to B into the stage's profile/."),
    ):
        function = option(function)
    return function


def process_options(verb: Any) -> Any:
    """Gives a verb the options that name one process of several, and SIGTERM its meaning."""

    @functools.wraps(verb)
    def joined(
        *args: Any, process_index: int | None, process_count: int | None, coordinator: str | None, **kwargs: Any
    ) -> Any:
        set_process(process_index, process_count)
        with stop_on_sigterm():
            join_processes(coordinator)
            return verb(*args, **kwargs)

    for option in (
        click.option("--coordinator", metavar="HOST:PORT", help="Of process 0: all processes train together."),
        click.option("--process_count", type=int, help="Processes that share this job (default: 1)."),
        click.option("--process_index", type=int, help="Which of them this is, from 0; all run the same command."),
    ):
        joined = option(joined)
    return joined


def open_alignment(
    gin_files: tuple[str, ...],
    gin_bindings: tuple[str, ...],
    run_dir: str | None,
    profile_steps: str | None = None,
    wandb_project: str | None = None,
) -> Any:
    from humpback_jax.align import Alignment
    from humpback_jax.gin_utils import config_texts, parse_recipe
    from humpback_jax.runtime.compilation_cache import use_default_compilation_cache
    from humpback_jax.training.metrics import Monitoring
    from humpback_jax.training.profiling import parse_profile_steps

    monitoring = Monitoring(parse_profile_steps(profile_steps) if profile_steps else None, wandb_project)
    use_default_compilation_cache()
    recipe = parse_recipe(gin_files, gin_bindings)
    alignment = Alignment(recipe, run_dir or os.path.join("runs", pathlib.Path(gin_files[-1]).stem), monitoring)
    if is_leader():
        alignment.save_config(*config_texts())
    return alignment
