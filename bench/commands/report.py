"""`ridelake report`, and opening a page in the browser."""

import webbrowser
from pathlib import Path

import click

from ridelake.errors import NotReady, UsageError
from ridelake.screen import note, say


def open_page(page: Path) -> None:
    """Print a note if there is no browser; this is not an error."""
    try:
        opened = webbrowser.open(page.resolve().as_uri())
    except (webbrowser.Error, OSError):
        opened = False
    if not opened:
        note(f"no browser found; open {page} by hand")


@click.command()
@click.argument(
    "record",
    type=click.Path(path_type=Path, dir_okay=False),
    default="ridelake-bench.json",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default="ridelake-report.html",
    show_default=True,
    help="The page to write.",
)
@click.option("--open", "in_browser", is_flag=True, help="Open the page in the browser.")
@click.option(
    "--terminal", is_flag=True, help="Print results, verdicts and ratios instead of writing a page."
)
def report(record: Path, output: Path, in_browser: bool, terminal: bool) -> None:
    """Write an HTML report from a benchmark record [ridelake-bench.json].

    The page is self-contained. The record may be of a run that is in progress, was interrupted, or failed.
    """
    from bench.record import read_record

    if in_browser and terminal:
        raise UsageError("--open and --terminal exclude each other; choose one of them")
    found = read_record(record)
    if terminal:
        from bench.report.terminal import report_lines
        from ridelake.screen import draw, drawing_columns

        draw(list(report_lines(found, drawing_columns())))
        return
    try:
        from bench.report.page import write_page
    except ModuleNotFoundError as error:
        raise NotReady(f"{error.name} is not installed: `pip install 'ridelake[bench]'`") from error
    write_page(output, found)
    say(f"Report: {output}", verbatim=True)
    if in_browser:
        open_page(output)
