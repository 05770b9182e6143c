"""`ridelake track` and `untrack`."""

import click

from ridelake.screen import say
from ridelake.settings import Settings

HINT = "pass the database of the table with --dsn"


@click.command()
@click.argument("table", metavar="SCHEMA.NAME")
@click.pass_obj
def track(settings: Settings, table: str) -> None:
    """Prepare a table of your own for incremental epochs.

    Adds a column `tx`, a BRIN index on it, and triggers that set `tx` in every written row and record the
    key of every deleted row. The next epoch still copies the table completely. `ridelake untrack` reverses
    it. Creates the schema `ridelake_tracking` if it does not exist.
    """
    from lakehouse.source.tracking import track as track_table
    from oltp.store import open_existing_store

    with open_existing_store(settings, rides=False, hint=HINT) as store:
        name = track_table(store, table)
    say(f"{name} is tracked: add it to a lake with `ridelake sync --table {name}`")


@click.command()
@click.argument("table", metavar="SCHEMA.NAME")
@click.pass_obj
def untrack(settings: Settings, table: str) -> None:
    """Remove from a table what `ridelake track` has added."""
    from lakehouse.source.tracking import untrack as untrack_table
    from oltp.store import open_existing_store

    with open_existing_store(settings, rides=False, hint=HINT) as store:
        name = untrack_table(store, table)
    say(f"{name} is no longer tracked: each epoch copies it completely")
