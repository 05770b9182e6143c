"""`ridelake epochs` and `ridelake maintain`."""

import click

from lakehouse.commands.options import json_option, store_and_lake
from ridelake.progress import progress
from ridelake.screen import note, say, say_json, say_table
from ridelake.settings import Settings

WHAT = {"full": "all rows", "changes": "changes", "maintenance": "no rows"}


@click.command()
@json_option
@click.pass_obj
def epochs(settings: Settings, as_json: bool) -> None:
    """List the published epochs, newest first."""
    from lakehouse.table.published import no_epoch_message, read_epochs

    found = read_epochs(settings.lake)
    if as_json:
        say_json([epoch.report() for epoch in found])
    elif not found:
        note(no_epoch_message(settings.lake))
    else:
        rows = [
            (
                epoch.number,
                f"{epoch.token.taken_at[5:19].replace('T', ' ')}",
                WHAT[epoch.kind],
                f"+{epoch.changed:,} −{epoch.deleted:,}",
                epoch.rows,
                len(epoch.files),
                f"{epoch.bytes / 1e6:,.1f}",
                f"{epoch.seconds:.2f}",
                "yes" if epoch.verified else "",
                epoch.token.snapshot,
            )
            for epoch in found
        ]
        heads = ("epoch", "as of (UTC)", "copied", "rows ±", "rows", "files", "MB", "s", "equal", "token")
        say_table(heads, rows)


@click.command()
@click.option(
    "--keep", "keep_epochs", type=click.IntRange(min=1), default=100, metavar="N",
    help="Keep the newest N epochs and epochs in use; expire the others [100].",
)  # fmt: skip
@json_option
@click.pass_obj
def maintain(settings: Settings, keep_epochs: int, as_json: bool) -> None:
    """Compact small files, expire old epochs, delete orphan files.

    It is safe to run during queries and `ridelake sync`. `ridelake sync` does the same every 50
    epochs or 200,000 changed rows.
    """
    from dataclasses import asdict

    from lakehouse.capture.maintain import maintain as maintain_lake

    with progress("maintaining"), store_and_lake(settings, begin=False) as (store, lake):
        done = maintain_lake(lake, store, keep_epochs=keep_epochs)
    if as_json:
        say_json(asdict(done) | {"epoch": done.epoch.number if done.epoch else None})
        return
    compacted = (
        f"compacted {done.files_before:,} files into {done.files_after:,}"
        if done.files_before != done.files_after
        else f"{done.files_after:,} files, nothing to compact"
    )
    say(
        f"{compacted}; expired {done.epochs_expired:,} epochs; removed {done.files_removed:,} orphan files "
        f"and {done.tombstones_cleared:,} tombstones"
        + (f"; published epoch {done.epoch.number}" if done.epoch else "")
    )
