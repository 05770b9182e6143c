"""`ridelake snapshot`."""

import click

from ridelake.screen import progress, say, say_json
from ridelake.settings import Settings


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document.")
@click.pass_obj
def snapshot(settings: Settings, as_json: bool) -> None:
    """Publish all tables, as they are at one moment, as the next epoch."""
    from lakehouse.catalog import Lake
    from lakehouse.snapshot import estimate_rows, take_snapshot
    from oltp.store import open_store

    lake = Lake.create(settings.lake)
    with open_store(settings) as store, progress("snapshot", estimate_rows(store)) as bar:
        epoch = take_snapshot(store, lake, bar.advance)
    if as_json:
        say_json(epoch.report())
    else:
        say(
            f"epoch {epoch.number}: {epoch.rows:,} rows in {len(epoch.files)} files, "
            f"{epoch.bytes / 1e6:,.1f} MB, {epoch.seconds:.1f} s ({epoch.rows / epoch.seconds:,.0f} rows/s)"
        )
