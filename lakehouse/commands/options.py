"""What the commands that take epochs share."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from ridelake.errors import RidelakeError

if TYPE_CHECKING:
    from lakehouse.catalog import Lake
    from lakehouse.epoch import Epoch
    from oltp.store import Store
    from ridelake.settings import Settings

table_option = click.option(
    "--table",
    "tables",
    multiple=True,
    metavar="SCHEMA.NAME",
    help="A table of your own joins the lake; a new lake is then of such tables alone.",
)
without_option = click.option(
    "--without-column",
    "without",
    multiple=True,
    metavar="TABLE.COLUMN",
    help="Leave the column out of the lake, from now on. Repeat it for several.",
)
verify_option = click.option(
    "--verify", is_flag=True, help="Compare with Postgres, row by row at the same moment, before publishing."
)


def refuse_missing_tables(epoch: "Epoch") -> None:
    """The epoch is published. Raises RidelakeError with a sentence for each table that it lacks."""
    if missing := epoch.missing():
        raise RidelakeError("; ".join(missing))


@contextmanager
def store_and_lake(
    settings: "Settings", tables: Sequence[str] = (), *, begin: bool = True
) -> "Iterator[tuple[Store, Lake]]":
    """Both, opened. The lake is created if there is none and `begin` is True; the ride store is not.

    Raises NotReady if there is no epoch (`begin` False), or if the lake is to have the store's tables and
    there is no ride store."""
    from lakehouse.catalog import Lake
    from lakehouse.published import newest_epoch, read_epochs
    from lakehouse.take import tables_of
    from oltp.store import open_existing_store

    if begin:
        epochs = read_epochs(settings.lake, limit=1)
        newest = epochs[0] if epochs else None
    else:
        newest = newest_epoch(settings.lake)
    is_new = newest is None and not tables
    rides = any(name.startswith("ridelake.") for name in tables_of(newest, tables))
    hint = "run `ridelake seed`" + (", or name tables of your own with --table" if is_new else "")
    with open_existing_store(settings, rides=rides, hint=hint) as store:
        yield store, Lake.create(settings.lake)
