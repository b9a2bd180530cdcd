"""What a verb prints: figures on standard output, for people or programs; lines for the person watching on stderr."""

import functools
import json
from collections.abc import Mapping
from typing import Any

import click


@functools.cache
def error_console() -> Any:
    """rich's console on standard error, one for all, so that lines appear above a progress bar."""
    from rich.console import Console

    return Console(stderr=True)


def say(message: str) -> None:
    """One line for the person watching."""
    error_console().print(message, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """JSON on standard output."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_figures(figures: Mapping[str, Any], as_json: bool) -> None:
    """One figure per line, nested ones indented, numbers to six digits; or JSON, in full."""
    if as_json:
        print_json(figures)
    else:
        _print_lines(figures, "")


def _print_lines(figures: Mapping[str, Any], indent: str) -> None:
    for key, value in figures.items():
        if isinstance(value, Mapping):
            click.echo(f"{indent}{key}:")
            _print_lines(value, indent + "  ")
        else:
            click.echo(f"{indent}{key}: {f'{value:.6g}' if isinstance(value, float) else value}")
