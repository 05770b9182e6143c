"""`ridelake snapshot`."""

import click

from lakehouse.commands.options import (
    check_no_tables_left_out,
    store_and_lake,
    table_option,
    verify_option,
    without_option,
)
from ridelake.progress import format_elapsed, progress
from ridelake.screen import note, say, say_json
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
    """Publish all rows of all tables, in one snapshot, as the next epoch."""
    from lakehouse.capture.publish import estimate_rows, publish_snapshot, tables_of
    from lakehouse.source.tracking import renew_tracking

    with store_and_lake(settings, tables) as (store, lake):
        names = tables_of(lake.newest(), tables)
        for remark in renew_tracking(store, names):
            note(remark)
        with progress("snapshot", estimate_rows(store, names)) as bar:
            epoch = publish_snapshot(store, lake, bar.advance, tables=tables, verify=verify, without=without)
    if "rides" in epoch.tables and "ridelake.rides" in names and not epoch.tables["rides"].rows:
        note("the ride store has no rides: run `ridelake seed`")
    if as_json:
        say_json(epoch.report())
    else:
        seconds, speed = format_elapsed(epoch.seconds), epoch.rows / epoch.seconds
        say(
            f"epoch {epoch.number}: {epoch.rows:,} rows in {len(epoch.files)} files, "
            f"{epoch.bytes / 1e6:,.1f} MB, {seconds}: {speed:,.0f} rows/s"
            + (", equal to Postgres" if epoch.verified else "")
        )
    check_no_tables_left_out(epoch)
