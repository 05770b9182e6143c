"""`ridelake snapshot` and `ridelake sync`."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lakehouse.commands.options import (
    check_no_tables_left_out,
    json_option,
    open_for_publishing,
    selection_of,
    selection_options,
)
from lakehouse.commands.stores import of_source, source_option, sources_of, sync_sources
from lakehouse.commands.sync_display import SyncDisplay
from ridelake.errors import UsageError
from ridelake.progress import format_elapsed, progress
from ridelake.screen import note, say, say_json
from ridelake.settings import Settings

if TYPE_CHECKING:
    from lakehouse.capture.metrics import SyncMetrics
    from lakehouse.capture.publish import PublishOptions
    from lakehouse.capture.sync import SyncResult
    from lakehouse.table.epoch import Infinity, Nested, Numeric


def _numeric(context: click.Context, parameter: click.Parameter, text: str | None) -> "Numeric | None":
    match (text or "").split(","):
        case [""]:
            return None
        case ["text"]:
            return "text"
        case [precision, scale] if precision.isascii() and (precision + scale).isdecimal():
            return int(precision), int(scale)
    raise click.BadParameter("write two numbers such as 38,9, or text", context, parameter)


def _number(context: click.Context, parameter: click.Parameter, seconds: float | None) -> float | None:
    if seconds is not None and seconds != seconds:  # NaN is in any range
        raise click.BadParameter("not a number of seconds", context, parameter)
    return seconds


table_option = click.option(
    "--table",
    "tables",
    multiple=True,
    metavar="SCHEMA.NAME",
    help="Add a table of your own to the lake. A new lake then has only these tables. Repeat it for several.",
)
without_option = click.option(
    "--without-column",
    "without",
    multiple=True,
    metavar="TABLE.COLUMN",
    help="Exclude the column from the lake, from now on. Repeat it for several.",
)
infinity_option = click.option(
    "--infinity",
    type=click.Choice(["null", "refuse"]),
    help="From now on, for a value that the lake cannot store, such as an infinite date: store NULL (null), "
    "or leave its table out (refuse) [refuse].",
)
numeric_option = click.option(
    "--numeric",
    metavar="P,S",
    callback=_numeric,
    help="From now on, store numeric columns without a precision as decimals of P digits, S of them after "
    "the point, and leave a table out if a value does not fit; or store them as `text` [text].",
)
nested_option = click.option(
    "--nested",
    type=click.Choice(["typed", "text"]),
    help="From now on, store arrays as lists and composites as structs, and leave a table out if one of its "
    "arrays has several dimensions or does not begin at 1; or store both as `text` [text].",
)
verify_option = click.option(
    "--verify",
    is_flag=True,
    help="Compare with Postgres, row by row in the same snapshot, before publishing.",
)
fast_option = click.option(
    "--fast",
    is_flag=True,
    help="Copy at full speed. By default the copy slows down while other sessions use the server.",
)
age_option = click.option(
    "--max-snapshot-seconds",
    type=click.FloatRange(min=0, min_open=True),
    callback=_number,
    metavar="N",
    help="Publish nothing if the snapshot, which holds back vacuum, is open for longer than N seconds. After "
    "half of this time the copy continues at full speed [no limit].",
)


def _give_memory_back() -> None:
    """Use the allocator of the system, because that of pyarrow keeps freed memory."""
    import pyarrow as pa

    pa.set_memory_pool(pa.system_memory_pool())


@click.command()
@source_option
@table_option
@selection_options
@without_option
@infinity_option
@numeric_option
@nested_option
@verify_option
@fast_option
@age_option
@json_option
@click.pass_obj
def snapshot(
    settings: Settings,
    sources: tuple[str, ...],
    tables: tuple[str, ...],
    all_tables: bool,
    schemas: tuple[str, ...],
    exclude: tuple[str, ...],
    without: tuple[str, ...],
    infinity: "Infinity | None",
    numeric: "Numeric | None",
    nested: "Nested | None",
    verify: bool,
    fast: bool,
    max_snapshot_seconds: float | None,
    as_json: bool,
) -> None:
    """Publish all rows of all tables, in one snapshot, as the next epoch."""
    from lakehouse.capture.publish import estimate_rows, publish_snapshot
    from lakehouse.source.copy.throttle import lower_priority

    _give_memory_back()
    selection = selection_of(all_tables, schemas, exclude)
    settings, name = of_source(settings, sources_of(settings, sources), "snapshot")
    notes: list[str] = []
    opened = open_for_publishing(settings, tables, selection, note, by_changes=False, store=name)
    with opened as (store, lake, names), progress("snapshot", estimate_rows(store, names)) as bar:
        if not fast:
            lower_priority()  # after the start of the embedded server, which would inherit the priority
        epoch = publish_snapshot(
            store, lake, bar.advance, tables=tables, verify=verify, without=without, infinity=infinity,
            numeric=numeric, nested=nested, selection=selection, on_note=notes.append, fast=fast,
            max_snapshot_seconds=max_snapshot_seconds, on_age=bar.show_age,
        )  # fmt: skip
    for sentence in notes:
        note(sentence)
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
            + f"; the snapshot held back vacuum for {bar.age_seconds:.1f} s"
        )
    check_no_tables_left_out(epoch)


EVERY_SECONDS = 1.0


@click.command()
@click.option("--once", is_flag=True, help="Publish one epoch and exit.")
@click.option(
    "--every", "every_seconds", type=click.FloatRange(min=0, max=86_400), callback=_number,
    metavar="SECONDS", help="Start an epoch every SECONDS, until Ctrl-C [1]. 0: without a pause.",
)  # fmt: skip
@source_option
@table_option
@selection_options
@without_option
@infinity_option
@numeric_option
@nested_option
@verify_option
@fast_option
@age_option
@click.option(
    "--metrics",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write metrics to FILE after each epoch, in Prometheus' text format. Not with --once.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document per epoch, each on one line.")
@click.pass_obj
def sync(
    settings: Settings,
    once: bool,
    every_seconds: float | None,
    sources: tuple[str, ...],
    tables: tuple[str, ...],
    all_tables: bool,
    schemas: tuple[str, ...],
    exclude: tuple[str, ...],
    without: tuple[str, ...],
    infinity: "Infinity | None",
    numeric: "Numeric | None",
    nested: "Nested | None",
    verify: bool,
    fast: bool,
    max_snapshot_seconds: float | None,
    metrics: Path | None,
    as_json: bool,
) -> None:
    """Publish the changes since the newest epoch, repeatedly.

    A table that is not tracked (see `ridelake track`), or that is new in the lake, is copied completely.
    A table that is dropped or renamed leaves the lake, and the others continue. If nothing has changed, no
    epoch is published. Ctrl-C stops at any time; the lake then has the last published epoch.

    With --source NAME=DSN, several times, the lake has the tables of several stores. Each store is published
    separately; an unreachable store does not delay the others.
    """
    if once and every_seconds is not None:
        raise UsageError("--once publishes one epoch and --every repeats: give one of them")
    if once and metrics is not None:
        raise UsageError("--metrics is for repeated epochs: leave out --once, or use its exit code")
    _give_memory_back()
    named = sources_of(settings, sources)
    recorded = _metrics(settings, metrics, named)
    notes: list[str] = []
    options: PublishOptions = {
        "tables": tables, "verify": verify, "without": without, "infinity": infinity,
        "numeric": numeric, "nested": nested, "selection": selection_of(all_tables, schemas, exclude),
        "on_note": notes.append, "fast": fast, "max_snapshot_seconds": max_snapshot_seconds,
    }  # fmt: skip
    pace = None if once else EVERY_SECONDS if every_seconds is None else every_seconds
    if named:
        _begin(settings, pace, fast=fast)
        sync_sources(settings, named, pace, options, recorded, as_json=as_json)
    else:
        _sync_store(settings, pace, options, notes, recorded, as_json=as_json)


def _sync_store(
    settings: Settings,
    pace: float | None,
    options: "PublishOptions",
    notes: list[str],
    recorded: "SyncMetrics | None",
    *,
    as_json: bool,
) -> None:
    """`notes`: sentences on tables, added while an epoch is published."""
    from lakehouse.capture.sync import sync_once, sync_repeatedly

    tables, selection = options["tables"], options["selection"]
    with open_for_publishing(settings, tables, selection, note, by_changes=True) as (store, lake, _):
        _begin(settings, pace, fast=options["fast"])
        if pace is not None:
            _show(sync_repeatedly(pace, store, lake, **options), notes, recorded, as_json)
            return
        with progress("sync"):
            synced = sync_once(store, lake, **options)
        for sentence in notes:
            note(sentence)
        say_json(synced.report()) if as_json else say(synced.line())
        assert synced.epoch is not None
        check_no_tables_left_out(synced.epoch)


def _metrics(settings: Settings, path: Path | None, sources: Iterable[str]) -> "SyncMetrics | None":
    from lakehouse.capture.metrics import StoreMetrics, SyncMetrics

    if path is None:
        return None
    stores = {name: StoreMetrics() for name in sources} or {"": StoreMetrics()}
    recorded = SyncMetrics(path, settings.lake.root, stores)
    recorded.write()  # an error before the first epoch
    return recorded


def _begin(settings: Settings, every_seconds: float | None, *, fast: bool) -> None:
    from lakehouse.source.copy.throttle import lower_priority

    if not fast:
        lower_priority()
    if every_seconds is not None:
        pace = f"every {every_seconds:g} s" if every_seconds else "without a pause"
        note(f"publishing an epoch to {settings.lake.root} {pace}; press Ctrl-C to stop")


def _show(
    epochs: "Iterable[SyncResult]", notes: list[str], recorded: "SyncMetrics | None", as_json: bool
) -> None:
    """Show and record each epoch. `notes`: sentences on tables, added while an epoch is published."""
    ticker = SyncDisplay(as_json)
    try:
        for synced in epochs:
            ticker.show(synced, notes)
            notes.clear()
            if recorded is not None and (problem := recorded.record(synced)):
                note(problem)
    finally:
        ticker.close()
