"""`ridelake report`."""

from pathlib import Path

import click

from bench.commands.browser import open_page
from ridelake.errors import NotReady, UsageError
from ridelake.screen import say


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
@click.option("--terminal", is_flag=True, help="Advice, verdicts and ratios here, instead of a page.")
def report(record: Path, output: Path, in_browser: bool, terminal: bool) -> None:
    """Draw what `ridelake bench` has found [ridelake-bench.json]: one page that needs nothing else.

    Also of a run that is under way, was cut short, or failed: what is there is drawn.
    """
    from bench.record import read_record

    if in_browser and terminal:
        raise UsageError("--open and --terminal: a page or the terminal, not both")
    found = read_record(record)
    if terminal:
        from bench.report.terminal import told
        from ridelake.screen import draw, drawing_columns

        draw(list(told(found, drawing_columns())))
        return
    try:
        from bench.report.page import write_page
    except ModuleNotFoundError as error:
        raise NotReady(f"{error.name} is not installed: `pip install 'ridelake[bench]'`") from error
    write_page(output, found)
    say(f"The page: {output}", verbatim=True)
    if in_browser:
        open_page(output)
