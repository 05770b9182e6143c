"""`ridelake maintain`."""

import click

from ridelake.progress import progress
from ridelake.screen import say, say_json
from ridelake.settings import Settings


@click.command()
@click.option(
    "--keep", "keep_epochs", type=click.IntRange(min=1), default=100, metavar="N",
    help="Keep the newest N epochs and epochs in use; expire the others [100].",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document.")
@click.pass_obj
def maintain(settings: Settings, keep_epochs: int, as_json: bool) -> None:
    """Compact small files, expire old epochs, delete orphan files.

    It is safe to run during queries and `ridelake sync`. `ridelake sync` does the same every 50 epochs.
    """
    from dataclasses import asdict

    from lakehouse.capture.maintain import maintain as maintain_lake
    from lakehouse.commands.options import store_and_lake

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
