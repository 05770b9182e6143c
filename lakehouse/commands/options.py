"""What the commands that take epochs share."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from ridelake.errors import NotReady, RidelakeError

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
    """Both, opened. The store's schema is installed only where the lake has tables of it, or is to begin with
    them. Raises NotReady with `begin` False if there is no epoch, and of somebody's own database without a
    ride store, whose tables have to be named."""
    from lakehouse.catalog import Lake
    from lakehouse.published import newest_epoch
    from lakehouse.take import tables_of
    from oltp.store import open_store

    if not begin:
        newest_epoch(settings.lake)
    lake = Lake.create(settings.lake)
    newest = lake.newest()
    is_own_database = settings.dsn is not None and newest is None and not tables
    wanted = tables_of(newest, tables)
    install = any(name.startswith("ridelake.") for name in wanted) and not is_own_database
    with open_store(settings, install=install) as store:
        if is_own_database and not store.has_schema():
            raise NotReady(
                "there is no ride store in that database: name tables of yours with --table, or begin a "
                "store with `ridelake seed`"
            )
        yield store, lake
