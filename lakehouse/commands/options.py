"""What several commands of the lakehouse share: an option, and how they open the store and the lake."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from ridelake.errors import NotReady, RidelakeError, UsageError

if TYPE_CHECKING:
    from lakehouse.table.catalog import Lake
    from lakehouse.table.epoch import Epoch, Selection
    from oltp.store import Store
    from ridelake.settings import Settings


def selection_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options --all-tables, --schema and --exclude; see `selection_of`."""
    for option in (
        click.option(
            "--exclude", multiple=True, metavar="PATTERN",
            help="Exclude tables from --all-tables or --schema by name, with * and ?. Repeat it for several.",
        ),
        click.option(
            "--schema", "schemas", multiple=True, metavar="NAME",
            help="All tables of a schema; a lake also follows tables created later. Repeat it for several.",
        ),
        click.option(
            "--all-tables", is_flag=True,
            help="All tables of the database, without views; a lake also follows tables created later.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def selection_of(all_tables: bool, schemas: Sequence[str], exclude: Sequence[str]) -> "Selection | None":
    """None if no option was given: the lake keeps its selection. Raises UsageError for --exclude alone."""
    from lakehouse.table.epoch import Selection

    if exclude and not (all_tables or schemas):
        raise UsageError(
            "--exclude needs --all-tables or --schema: pass one of them, too; the new selection replaces the "
            "old one"
        )
    if all_tables and schemas:
        raise UsageError("--all-tables includes all schemas: pass only one of --all-tables and --schema")
    if not (all_tables or schemas):
        return None
    return Selection(all_tables, tuple(schemas), tuple(exclude))


json_option = click.option("--json", "as_json", is_flag=True, help="Print a JSON document.")


def check_no_tables_left_out(epoch: "Epoch") -> None:
    """Check that the published epoch has all tables. Raises RidelakeError if tables were left out of the
    published epoch, with a message for each."""
    if missing := epoch.missing():
        raise RidelakeError("; ".join(missing))


@contextmanager
def store_and_lake(
    settings: "Settings",
    tables: Sequence[str] = (),
    *,
    begin: bool = True,
    selection: "Selection | None" = None,
    store: str = "",
) -> "Iterator[tuple[Store, Lake]]":
    """Open both. The lake is created if it does not exist and `begin` is True; the ride store is not created.
    `store`: the name of the store in a lake of several stores.

    Raises NotReady if there is no epoch of the store (`begin` False), or if the lake needs the store's tables
    and there is no ride store; UsageError if the lake has stores with names and `store` is empty, or the
    reverse."""
    from lakehouse.capture.publish import tables_of
    from lakehouse.table.catalog import Lake
    from lakehouse.table.published import newest_epoch, read_epochs
    from lakehouse.table.stores import seen_by
    from oltp.store import open_existing_store

    if begin:
        epochs = read_epochs(settings.lake, limit=1)
        newest = epochs[0] if epochs else None
    else:
        newest = newest_epoch(settings.lake)
    stores = newest.stores if newest else []
    newest = seen_by(store, newest) if newest else None
    is_new = begin and not (newest or tables or selection)
    rides = (newest is not None or is_new or bool(tables)) and any(
        name.startswith("ridelake.") for name in tables_of(newest, tables)
    )
    hint = "run `ridelake seed`" + (
        ", or pass tables of your own with --table or --all-tables" if is_new else ""
    )
    with open_existing_store(settings, rides=rides, hint=hint) as opened:
        # Checked after the connection, so that an unreachable store is reported as such.
        if not (newest or begin):
            raise NotReady(
                f"no epoch of {store} yet in {settings.lake.root}, which has {', '.join(stores)}: correct "
                f"the name, or run `ridelake sync --source {store}=DSN`"
            )
        yield opened, Lake.create(settings.lake, store)


@contextmanager
def open_for_publishing(
    settings: "Settings",
    tables: Sequence[str],
    selection: "Selection | None",
    on_note: Callable[[str], None],
    *,
    by_changes: bool,
    store: str = "",
) -> "Iterator[tuple[Store, Lake, list[str]]]":
    """Open both, and renew the tracking of the tables that the next epoch will have; the third value is their
    names. `on_note` is called with a sentence for each table that this role cannot track. `store`: as in
    `store_and_lake`."""
    from lakehouse.capture.publish import choose_names
    from lakehouse.source.tracking import renew_tracking

    with store_and_lake(settings, tables, selection=selection, store=store) as (opened, lake):
        newest = lake.newest()
        names = choose_names(opened, lake, tables, selection)
        for remark in renew_tracking(opened, names, newest.token if newest and by_changes else None):
            on_note(remark)
        yield opened, lake, names
