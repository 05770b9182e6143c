"""`ridelake track` and `untrack`."""

import click

from ridelake.screen import say
from ridelake.settings import Settings

HINT = "name the database of the table with --dsn"


@click.command()
@click.argument("table", metavar="SCHEMA.NAME")
@click.pass_obj
def track(settings: Settings, table: str) -> None:
    """Make a table of your own ready for incremental epochs.

    Adds a column `tx`, a BRIN index on it, and triggers that stamp every row written and keep the key of
    every row deleted. The next epoch of the table is still a whole one. `ridelake untrack` undoes it.
    Creates the schema `ridelake_tracking` if the database has none.
    """
    from lakehouse.tracking import track as track_table
    from oltp.store import open_existing_store

    with open_existing_store(settings, rides=False, hint=HINT) as store:
        name = track_table(store, table)
    say(f"{name} is tracked: put it into a lake with `ridelake sync --table {name}`")


@click.command()
@click.argument("table", metavar="SCHEMA.NAME")
@click.pass_obj
def untrack(settings: Settings, table: str) -> None:
    """Take away again what `ridelake track` has added to a table."""
    from lakehouse.tracking import untrack as untrack_table
    from oltp.store import open_existing_store

    with open_existing_store(settings, rides=False, hint=HINT) as store:
        name = untrack_table(store, table)
    say(f"{name} is not tracked any more: each epoch takes it whole")
