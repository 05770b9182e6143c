"""`ridelake epochs` and `ridelake maintain`."""

from typing import TYPE_CHECKING, Any

import click

from lakehouse.commands.options import json_option, store_and_lake
from lakehouse.commands.stores import for_each_source, source_option, sources_of
from ridelake.errors import RidelakeError
from ridelake.progress import progress
from ridelake.screen import note, say, say_json, say_table
from ridelake.settings import Settings

if TYPE_CHECKING:
    from lakehouse.capture.maintain import MaintenanceResult
    from lakehouse.table.catalog import Lake
    from lakehouse.table.epoch import Epoch, SnapshotToken
    from oltp.store import Store

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
                *([epoch.moved] if epoch.stores else []),
                f"{_token(epoch).taken_at[5:19].replace('T', ' ')}",
                WHAT[epoch.kind],
                f"+{epoch.changed:,} −{epoch.deleted:,}",
                epoch.rows,
                len(epoch.files),
                f"{epoch.bytes / 1e6:,.1f}",
                f"{epoch.seconds:.2f}",
                "yes" if epoch.verified else "",
                _token(epoch).snapshot,
            )
            for epoch in found
        ]
        heads = ("as of (UTC)", "copied", "rows ±", "rows", "files", "MB", "s", "equal", "token")
        say_table(("epoch", *(["source"] if found[0].stores else []), *heads), rows)
        for name in found[0].stores:
            note(f"{name} is as of {found[0].tokens[name].taken_at[:19].replace('T', ' ')} UTC")


def _token(epoch: "Epoch") -> "SnapshotToken":
    """The token of the store that published the epoch."""
    return epoch.tokens[epoch.moved]


@click.command()
@click.option(
    "--keep", "keep_epochs", type=click.IntRange(min=1), default=100, metavar="N",
    help="Keep the newest N epochs and epochs in use; expire the others [100].",
)  # fmt: skip
@source_option
@json_option
@click.pass_obj
def maintain(settings: Settings, keep_epochs: int, sources: tuple[str, ...], as_json: bool) -> None:
    """Compact small files, expire old epochs, delete orphan files.

    It is safe to run during queries and `ridelake sync`. `ridelake sync` does the same every 50
    epochs or 200,000 changed rows. With --source NAME=DSN, several times, it compacts the tables of these
    stores. A lake of several stores keeps N epochs times the number of its stores.
    """
    from lakehouse.capture.maintain import maintain as maintain_lake

    def work(store: "Store", lake: "Lake") -> "MaintenanceResult":
        return maintain_lake(lake, store, keep_epochs=keep_epochs)

    failures: list[str] = []
    if named := sources_of(settings, sources):
        with progress("maintaining"):
            results, failures = for_each_source(settings, named, work)
    else:
        with progress("maintaining"), store_and_lake(settings, begin=False) as (store, lake):
            results = {"": work(store, lake)}
    if as_json:
        reports = {name: _report(done) for name, done in results.items()}
        say_json(reports if named else reports[""])
    else:
        for name, done in results.items():
            say(f"{name}: {_line(done)}" if name else _line(done))
    if failures:
        raise RidelakeError("; ".join(failures))


def _report(done: "MaintenanceResult") -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(done) | {"epoch": done.epoch.number if done.epoch else None}


def _line(done: "MaintenanceResult") -> str:
    compacted = (
        f"compacted {done.files_before:,} files into {done.files_after:,}"
        if done.files_before != done.files_after
        else f"{done.files_after:,} files, nothing to compact"
    )
    return (
        f"{compacted}; expired {done.epochs_expired:,} epochs; removed {done.files_removed:,} orphan files "
        f"and {done.tombstones_cleared:,} tombstones"
        + (f"; published epoch {done.epoch.number}" if done.epoch else "")
    )
