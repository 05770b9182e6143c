"""`ridelake seed`."""

import dataclasses

import click

from ridelake.progress import format_elapsed
from ridelake.screen import say, say_json
from ridelake.settings import Settings


@click.command()
@click.option(
    "--rides",
    type=click.IntRange(1, 1_000_000_000),
    default=100_000,
    show_default=True,
    help="Number of past rides.",
)
@click.option(
    "--seed",
    "seed_number",
    type=int,
    default=1,
    show_default=True,
    help="The same seed gives the same rides.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document.")
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
