"""`ridelake maintain`."""

import click

from ridelake.progress import progress
from ridelake.screen import say, say_json
from ridelake.settings import Settings


@click.command()
@click.option(
    "--keep", "keep_epochs", type=click.IntRange(min=1), default=100, metavar="N",
    help="Expire all but the newest N epochs; never one that somebody reads [100].",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document.")
@click.pass_obj
def maintain(settings: Settings, keep_epochs: int, as_json: bool) -> None:
    """Compact small files, expire old epochs, remove what nobody points at.

    Safe while others read and sync; `ridelake sync` does the same every 50 epochs.
    """
    from dataclasses import asdict

    from lakehouse.commands.options import store_and_lake
    from lakehouse.maintain import maintain as maintain_lake

    with progress("maintaining"), store_and_lake(settings, begin=False) as (store, lake):
        done = maintain_lake(lake, store, keep_epochs=keep_epochs)
    if as_json:
        say_json(asdict(done) | {"epoch": done.epoch.number if done.epoch else None})
        return
    say(
        f"{done.files_before:,} files are {done.files_after:,}; {done.epochs_expired:,} epochs expired, "
        f"{done.files_removed:,} files nobody points at removed, "
        f"{done.tombstones_cleared:,} tombstones cleared"
        + (f"; this is epoch {done.epoch.number}" if done.epoch else "")
    )
