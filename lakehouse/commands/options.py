"""What several commands of the lakehouse share: an option, and how they open the store and the lake."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from ridelake.errors import RidelakeError

if TYPE_CHECKING:
    from lakehouse.table.catalog import Lake
    from lakehouse.table.epoch import Epoch
    from oltp.store import Store
    from ridelake.settings import Settings

json_option = click.option("--json", "as_json", is_flag=True, help="Print a JSON document.")


def check_no_tables_left_out(epoch: "Epoch") -> None:
    """Check that the published epoch has all tables. Raises RidelakeError if tables were left out of the
    published epoch, with a message for each."""
    if missing := epoch.missing():
        raise RidelakeError("; ".join(missing))


@contextmanager
def store_and_lake(
    settings: "Settings", tables: Sequence[str] = (), *, begin: bool = True
) -> "Iterator[tuple[Store, Lake]]":
    """Open both. The lake is created if it does not exist and `begin` is True; the ride store is not created.

    Raises NotReady if there is no epoch (`begin` False), or if the lake needs the store's tables and there
    is no ride store."""
    from lakehouse.capture.publish import tables_of
    from lakehouse.table.catalog import Lake
    from lakehouse.table.published import newest_epoch, read_epochs
    from oltp.store import open_existing_store

    if begin:
        epochs = read_epochs(settings.lake, limit=1)
        newest = epochs[0] if epochs else None
    else:
        newest = newest_epoch(settings.lake)
    is_new = newest is None and not tables
    rides = any(name.startswith("ridelake.") for name in tables_of(newest, tables))
    hint = "run `ridelake seed`" + (", or pass tables of your own with --table" if is_new else "")
    with open_existing_store(settings, rides=rides, hint=hint) as store:
        yield store, Lake.create(settings.lake)
