"""`ridelake up`, `down`, `seed` and `load`: run the store's server, and fill the store."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from oltp.cluster import server
from oltp.commands import json_option, seed_option
from oltp.store import ensure_database
from ridelake.errors import UsageError
from ridelake.progress import format_elapsed
from ridelake.screen import note, say, say_json, say_table
from ridelake.settings import Settings


@click.command()
@click.pass_obj
def up(settings: Settings) -> None:
    """Start the embedded Postgres and keep it running until `ridelake down`."""
    cluster = server.keep_running(_embedded(settings).home)
    ensure_database(cluster.conninfo("postgres"), "ridelake")
    note(f"up: psql '{cluster.conninfo('ridelake')}'", verbatim=True)


@click.command()
@click.pass_obj
def down(settings: Settings) -> None:
    """Stop the embedded Postgres once no command uses it."""
    stopped = server.stop_when_unused(_embedded(settings).home)
    note("down" if stopped else "the server is in use; it stops when the last command that uses it ends")


def _embedded(settings: Settings) -> Settings:
    if settings.dsn is not None:
        raise UsageError(
            "ridelake does not start or stop the server of --dsn; leave out --dsn and RIDELAKE_DSN"
        )
    return settings


@click.command()
@click.option(
    "--rides",
    type=click.IntRange(1, 1_000_000_000),
    default=100_000,
    show_default=True,
    help="Number of past rides.",
)
@seed_option("The same seed gives the same rides.", name="seed_number")
@json_option
@click.pass_obj
def seed(settings: Settings, rides: int, seed_number: int, as_json: bool) -> None:
    """Generate one year of plausible past rides and load them into the store.

    Creates the ride store (schemas `ridelake` and `ridelake_tracking`) if the database has none.
    """
    from oltp.ingest.seed import seed_rides
    from oltp.store import open_store

    with open_store(settings) as store:
        done = seed_rides(store, rides, seed_number)
    if as_json:
        say_json({**dataclasses.asdict(done), "rides_per_second": done.rides_per_second})
    else:
        there = f" ({done.there_before:,} were already loaded)" if done.there_before else ""
        speed = f"{done.rides_per_second:,.0f} rides/s"
        say(f"{done.rides:,} rides in {format_elapsed(done.seconds)}{there}: {speed}, seed {seed_number}")


if TYPE_CHECKING:
    from oltp.ingest.tlc import LoadReport


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE…", type=click.Path(path_type=Path))
@click.option(
    "--quarantine",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the rejected rows [HOME/quarantine].",
)
@click.option(
    "--time-format",
    metavar="FORM",
    help="Format of the times in a CSV file, such as '%d/%m/%Y %H:%M'; needed if the format is ambiguous.",
)
@json_option
@click.pass_obj
def load(
    settings: Settings,
    files: tuple[Path, ...],
    quarantine: Path | None,
    time_format: str | None,
    as_json: bool,
) -> None:
    """Check real trip files and load the trips into the store.

    Reads the trip records that New York's Taxi and Limousine Commission publishes (yellow, green, HVFHV;
    Parquet, CSV or gzipped CSV). Every row is loaded, or rejected with one reason. A trip that is already
    in the store is not loaded again. If one file is invalid, no file is loaded.

    Times in a CSV file are wall-clock times of New York, or have Z or an offset. The other times of the file
    determine whether 3/4/2019 is in March or in April.

    Creates the ride store (schemas `ridelake` and `ridelake_tracking`) if the database has none.
    """
    from oltp.ingest.tlc import check_files, load_files
    from oltp.ingest.tlc.times import DATE_ORDER_NAMES
    from oltp.store import open_store

    checked = check_files(files, time_format=time_format)
    for one in checked:
        if order := one.layout.date_order:
            decided_by = one.layout.decided_by
            note(
                f"{one.path.name}: dates are read as {DATE_ORDER_NAMES[order]}, "
                f"because of the value '{decided_by}'"
            )
    with open_store(settings) as store:
        report = load_files(store, checked, quarantine or settings.home / "quarantine")

    for file in report.files:
        if file.quarantine is not None:
            note(f"rejected rows of {file.file.name}: {file.quarantine}")
    if as_json:
        say_json(report.as_dict())
    else:
        _print(report)


def _print(report: "LoadReport") -> None:
    from oltp.ingest.tlc.rules import MEANING, RejectReason

    for file in report.files:
        there = file.rejected.get(RejectReason.ALREADY_LOADED, 0)
        rejected = sum(file.rejected.values()) - there
        what = f"{file.file.name}: {file.kind} {file.period}".rstrip()
        parts = f"{file.loaded:,} loaded + {there:,} already loaded + {rejected:,} rejected"
        say(f"{what}, {file.read:,} read = {parts}")
    if report.rejected:
        say_table(
            ("not loaded", "rows", "reason: the row"),
            [(why, rows, MEANING[RejectReason(why)]) for why, rows in report.rejected.items()],
        )
    for file in report.files:
        for reason, examples in file.examples.items():
            for example in examples:
                say(f"{file.file.name}: {reason}: {example}")
