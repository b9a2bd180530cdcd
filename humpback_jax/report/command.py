"""`humpback report`: the figures of a run in the terminal, and its report as one page."""

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from etils import epath


@click.command()
@click.argument("run_dir", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@click.option("--max_pairs", type=click.IntRange(min=1), default=50_000, show_default=True, help="Pairs in the page.")
@click.option("--page/--no_page", default=True, help="Write RUN_DIR/report.html (default), or print only.")
@click.option("--serve", is_flag=True, help="Open the page in the browser.")
@click.option("--port", type=int, default=0, help="For --serve (default: a free one).")
def report(run_dir: str, as_json: bool, max_pairs: int, page: bool, serve: bool, port: int) -> None:
    """Show what each stage of a run took in, kept and dropped; write it as a page, RUN_DIR/report.html."""
    if serve and not page:
        raise ValueError("--serve shows the page that --no_page leaves out; give one of them")
    show_report(run_dir, as_json)
    if page:
        path = save_page(run_dir, max_pairs)
        if serve:
            from humpback_jax.report.serve import serve as serve_page

            serve_page(path.read_bytes(), port)


def show_report(run_dir: str, as_json: bool) -> None:
    """Prints the figures of a run: tables, or JSON alone."""
    from humpback_jax.report.tables import print_report, run_figures

    figures = run_figures(run_dir)
    if as_json:
        click.echo(json.dumps(figures, indent=2, ensure_ascii=False))
    else:
        print_report(run_dir, figures)


def save_page(run_dir: str, max_pairs: int | None = None) -> "epath.Path":
    """Writes the page, says on stderr where it lies, and returns that place."""
    from humpback_jax.report.page import MAX_PAIRS, write_report

    written = write_report(run_dir, max_pairs or MAX_PAIRS)
    click.echo(f"Report to open in a browser: {written.path}", err=True)
    return written.path
