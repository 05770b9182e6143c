"""`ridelake track` and `untrack`."""

from shlex import quote

import click

from lakehouse.commands.options import selection_of, selection_options
from ridelake.errors import BadInput, UsageError
from ridelake.screen import note, say
from ridelake.settings import Settings

HINT = "pass the database of the table with --dsn"


@click.command()
@click.argument("table", metavar="[SCHEMA.NAME]", required=False)
@selection_options
@click.pass_obj
def track(
    settings: Settings,
    table: str | None,
    all_tables: bool,
    schemas: tuple[str, ...],
    exclude: tuple[str, ...],
) -> None:
    """Prepare a table of your own for incremental epochs.

    Adds a column `tx`, a BRIN index on it, and triggers that set `tx` in every written row and record the
    key of every deleted row. The next epoch still copies the table completely. `ridelake untrack` reverses
    it. Creates the schema `ridelake_tracking` if it does not exist.

    Instead of one table, --all-tables or --schema track each table that can be tracked and is not tracked
    yet. Run the command again for tables that are created later.
    """
    from lakehouse.source.tracking import track as track_table
    from lakehouse.source.tracking import untracked_tables
    from oltp.store import open_existing_store

    selection = selection_of(all_tables, schemas, exclude)
    if (table is None) == (selection is None):
        raise UsageError("name one table, or pass --all-tables or --schema")
    with open_existing_store(settings, rides=False, hint=HINT) as store:
        if selection is None:
            name = track_table(store, str(table))
            say(f"{name} is tracked: add it to a lake with `ridelake sync --table {quote(name)}`")
            return
        failures: list[str] = []
        for name in untracked_tables(store, selection):
            try:
                say(f"{track_table(store, name)} is tracked")
            except (BadInput, UsageError) as error:
                failures.append(str(error))
        for failure in failures:
            note(failure)


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
