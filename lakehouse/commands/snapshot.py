"""`ridelake snapshot`."""

import click

from lakehouse.commands.options import (
    refuse_missing_tables,
    store_and_lake,
    table_option,
    verify_option,
    without_option,
)
from ridelake.screen import progress, say, say_json
from ridelake.settings import Settings


@click.command()
@table_option
@without_option
@verify_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document.")
@click.pass_obj
def snapshot(
    settings: Settings, tables: tuple[str, ...], without: tuple[str, ...], verify: bool, as_json: bool
) -> None:
    """Publish all rows of all tables, as they are at one moment, as the next epoch."""
    from lakehouse.take import estimate_rows, tables_of, take_snapshot

    with (
        store_and_lake(settings, tables) as (store, lake),
        progress("snapshot", estimate_rows(store, tables_of(lake.newest(), tables))) as bar,
    ):
        epoch = take_snapshot(store, lake, bar.advance, tables=tables, verify=verify, without=without)
    if as_json:
        say_json(epoch.report())
    else:
        say(
            f"epoch {epoch.number}: {epoch.rows:,} rows in {len(epoch.files)} files, "
            f"{epoch.bytes / 1e6:,.1f} MB, {epoch.seconds:.1f} s ({epoch.rows / epoch.seconds:,.0f} rows/s)"
            + (", equal to Postgres" if epoch.verified else "")
        )
    refuse_missing_tables(epoch)
