"""`humpback report`: a run in the terminal and as one page; `humpback judge`: people compare two systems, blind."""

import functools
import json
from typing import Any

import click

from humpback_jax.command_options import json_option
from humpback_jax.run_files import REPORT
from humpback_jax.runtime.console import print_json


@click.command()
@click.argument("run_dir", type=click.Path())
@click.option("--max_pairs", type=click.IntRange(min=1), default=50_000, show_default=True, help="Pairs in the page.")
@click.option("--page/--no_page", default=True, help="Write RUN_DIR/report.html (default), or print only.")
@click.option("--serve", is_flag=True, help="Open the page in the browser.")
@click.option("--port", type=int, default=0, help="For --serve (default: a free one).")
@json_option
def report(run_dir: str, max_pairs: int, page: bool, serve: bool, port: int, as_json: bool) -> None:
    """Show what each stage of a run took in, kept and dropped; write it as a page, RUN_DIR/report.html."""
    if serve and not page:
        raise ValueError("--serve shows the page that --no_page leaves out; give one of them")
    show_report(run_dir, as_json)
    if page:
        path = save_page(run_dir, max_pairs)
        if serve:
            from humpback_jax.report.serve import PageServer
            from humpback_jax.report.serve import serve as serve_page

            serve_page(PageServer(path.read_bytes(), port))


def show_report(run_dir: str, as_json: bool) -> None:
    """Prints the figures of a run: tables, or JSON alone."""
    from humpback_jax.report.tables import print_report, run_figures

    figures = run_figures(run_dir)
    print_json(figures) if as_json else print_report(run_dir, figures)


def save_page(run_dir: str, max_pairs: int | None = None, keep: bool = False) -> Any:
    """Writes the page, says on stderr where it lies, and returns that place; `keep`: one that is there will do."""
    from etils import epath

    path = epath.Path(run_dir) / REPORT
    if not (keep and path.exists()):
        from humpback_jax.report.page import MAX_PAIRS, write_report

        path = write_report(run_dir, max_pairs or MAX_PAIRS)
    click.echo(f"Report to open in a browser: {path}", err=True)
    return path


@click.group()
def judge() -> None:
    """Let people judge two systems side by side, blind."""


def _sheet_options(verb: Any) -> Any:
    """What `make_sheet` takes, and --json."""
    for option in (
        json_option,
        click.option("--limit", type=click.IntRange(min=1), help="Judge so many items, drawn at random."),
        click.option("--seed", type=int, default=0, show_default=True, help="Of the sides and of the drawn items."),
        click.argument("b", type=click.Path()),
        click.argument("a", type=click.Path()),
    ):
        verb = option(verb)
    return verb


@judge.command("page")
@_sheet_options
@click.option("--out", type=click.Path(), required=True, help="The page; its key is written beside it.")
def judge_page(out: str, as_json: bool, **answers: Any) -> None:
    """Write a page that raters open anywhere; each saves a file of judgments. Do not send them the key."""
    from humpback_jax.report.blind_test import key_path, make_sheet, write_sheet

    sheet = make_sheet(**answers)
    write_sheet(sheet, out)
    if as_json:
        click.echo(json.dumps({"page": out, "key": str(key_path(out)), "items": len(sheet.items)}))
    else:
        click.echo(f"{out}: {len(sheet.items)} items to judge; the key, for the tally only: {key_path(out)}")


@judge.command("serve")
@_sheet_options
@click.option("--out", type=click.Path(), required=True, help="Judgments are added here, one JSON line each.")
@click.option("--port", type=int, default=0, help="Default: a free one.")
@click.option("--browser/--no_browser", default=True, help="Open the browser.")
def judge_serve(out: str, port: int, browser: bool, as_json: bool, **answers: Any) -> None:
    """Judge on this machine: every judgment is saved at once, and a rater goes on where they were."""
    from humpback_jax.files import GrowingFile
    from humpback_jax.report.blind_test import make_sheet, save_judgment, write_sheet
    from humpback_jax.report.serve import PageServer, serve

    sheet, results = make_sheet(**answers), GrowingFile(out)
    page = write_sheet(sheet, out, posts=True)
    serve(PageServer(page, port, functools.partial(save_judgment, sheet, results)), browser, as_json)


@judge.command("tally")
@click.argument("key", type=click.Path())
@click.argument("results", nargs=-1, required=True, type=click.Path())
@json_option
def judge_tally(key: str, results: tuple[str, ...], as_json: bool) -> None:
    """Count judgments: wins, ties and losses of A with 95 % intervals."""
    from humpback_jax.report.blind_test import tally

    counted = tally(key, results)
    if as_json:
        print_json(counted)
        return
    click.echo(f"{counted['a']} against {counted['b']}: {counted['items']} items, {counted['judgments']} judgments")
    for name in ("win", "tie", "loss"):
        low, high = counted["intervals"][name]
        click.echo(f"  {name:5}{counted[name]:5}  {counted[name + '_percent']:6.2f} %  (95 %: {low:.2f} to {high:.2f})")
    click.echo(f"  sign test p = {counted['p_value']:.4f}; {counted['raters']} raters")
    if counted["agreement"] is not None:
        click.echo(f"  raters agree in {counted['agreement']:.1f} % of their pairs")
    if counted["left"] is not None:
        click.echo(f"  {counted['left']:.1f} % of the choices went to the left side (50 %: the side does not matter)")
