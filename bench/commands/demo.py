"""`ridelake demo`."""

from contextlib import closing
from pathlib import Path

import click

from bench.commands.report import open_page
from ridelake.errors import UsageError
from ridelake.progress import progress
from ridelake.screen import note, say
from ridelake.settings import Settings


@click.command()
@click.option("--rides", type=click.IntRange(min=1), help="Past rides to generate [500,000; quick: 50,000].")
@click.option(
    "--from",
    "paths",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A file of real trips. Repeatable.",
)
@click.option("--quick", is_flag=True, help="A tenth of the rides, in about half a minute.")
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False),
    default="ridelake-demo.html",
    show_default=True,
    help="The page to write.",
)
@click.option("--open", "in_browser", is_flag=True, help="Open the page in the browser.")
@click.argument("more_paths", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE…]")
@click.pass_obj
def demo(
    settings: Settings,
    rides: int | None,
    paths: tuple[Path, ...],
    quick: bool,
    report: Path,
    in_browser: bool,
    more_paths: tuple[Path, ...],
) -> None:
    """Run the whole pipeline on this machine: bookings, epochs, queries, times, one HTML page.

    `--from FILE FILE …` uses real trip files instead of generated rides. Creates the ride store (schemas
    `ridelake` and `ridelake_tracking`) if the database has none.
    """
    if more_paths and not paths:
        raise UsageError(f"unexpected argument {more_paths[0]}; pass trip files with --from")
    if paths and rides is not None:
        raise UsageError("--rides and --from exclude each other; choose generated rides or real trips")
    from dataclasses import replace

    from bench.demo import FULL, QUICK, check_free_space, demo_steps, write_demo
    from bench.machine import this_machine
    from oltp.ingest.tlc import check_files

    plan = QUICK if quick else FULL
    trip_files = check_files([*paths, *more_paths]) if paths else []
    plan = replace(plan, rides=rides or plan.rides, trip_files=trip_files)
    check_free_space(settings, plan)
    machine = this_machine()
    for warning in machine.warnings:
        note(f"warning: {warning}")
    results = []
    with closing(demo_steps(settings, plan)) as steps:
        for number, step in enumerate(steps, 1):
            say(f"{number}. {step.title}\n   {step.description}")
            with progress(step.title):
                result = step.run()
            say(f"   ✓ {result.verdict}\n")
            results.append((step, result))
    write_demo(report, results, machine)
    say(f"Report: {report}", verbatim=True)
    say("Next:   ridelake ask, or")
    say(
        '        ridelake sql "SELECT City, AVG(Price) FROM RideTable GROUP BY City"',
        verbatim=True,
    )
    if in_browser:
        open_page(report)
