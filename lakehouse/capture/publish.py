"""Publish an epoch: the tables of one snapshot, in full or by their changes.

    BEGIN REPEATABLE READ READ ONLY
      token                     the transactions that the snapshot can see
      for each table            the changes since the last epoch's token, or all rows if they are unknown
      with --verify             compare the rows of Postgres and the new files, in the same snapshot
    COMMIT
    wait for the WAL flush      so that a crash of Postgres cannot undo a published epoch
    stage, then publish         all tables and the epoch, in one commit

Nothing is visible before the last step. If it fails earlier, its files are deleted.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypedDict, Unpack

import psycopg
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakehouse.capture.apply import apply_changes
from lakehouse.capture.writer import EpochWriter, open_draft
from lakehouse.source.changes import TableChanges, read_changes, set_since
from lakehouse.source.copy import add_row_key_to_errors, computed_row_errors, export
from lakehouse.source.copy.throttle import NO_THROTTLE, Throttle
from lakehouse.source.selection import ChosenTables, choose_tables
from lakehouse.source.snapshot import SourceSnapshot, open_source_snapshot, wait_until_flushed
from lakehouse.source.tables import (
    TableSource,
    check_exclusions,
    store_tables,
    table_name_errors,
    tombstones_deleted_before,
)
from lakehouse.table.catalog import Lake
from lakehouse.table.columns import TableNotCopied
from lakehouse.table.deletes import NONE, add_deletes, deleted_rows, without_rows
from lakehouse.table.epoch import (
    DEFAULT_FORMS,
    Epoch,
    Infinity,
    Kind,
    Nested,
    Numeric,
    Selection,
    SnapshotToken,
    TableState,
)
from lakehouse.table.published import check_files_exist, read_epochs
from lakehouse.table.s3 import bucket_errors
from lakehouse.table.storage import Storage, lake_errors
from oltp.audit import EpochTotals
from oltp.store import Store, has_tracking
from ridelake.errors import CannotConnect, first_line
from ridelake.settings import LakeAddress


def newest_epoch_sums(store: Store, lake: LakeAddress) -> EpochTotals | None:
    """None if there is no epoch, if it lacks a table that the audit sums, if it has several stores, or if it
    was taken from another server, whose transaction IDs are not comparable with those of the store's
    server."""
    newest = read_epochs(lake, limit=1)
    if not newest or newest[0].stores or newest[0].token.system_identifier != store.system_identifier():
        return None
    epoch, storage = newest[0], Storage.of(lake)
    if any(epoch.names.get(f"ridelake.{name}") != name for name in ("ledger", "requests")):
        return None
    check_files_exist(lake, epoch)
    with bucket_errors(lake):
        ledger_rows, ledger_cents = _rows_and_cents(storage, epoch, "ledger", "amount_cents")
        request_rows, request_cents = _rows_and_cents(storage, epoch, "requests", "fare_cents")
    return EpochTotals(
        epoch.number, epoch.token.snapshot, ledger_rows, ledger_cents, request_rows, request_cents
    )


def _rows_and_cents(storage: Storage, epoch: Epoch, table: str, column: str) -> tuple[int, int]:
    rows = cents = 0
    deleted = deleted_rows(storage.address, epoch.tables[table])
    for location in epoch.tables[table].locations:
        with storage.open(location) as file:
            values = pq.ParquetFile(file).read(columns=[column])
        values = without_rows(values, deleted.get(location, NONE)).column(0)
        rows, cents = rows + len(values), cents + (pc.sum(values).as_py() or 0)
    return rows, cents


# A worker and the server process that it reads from share one core.
WORKERS = min(os.cpu_count() or 1, 4)


def ignore_rows(count: int) -> None:
    pass


def ignore_age(seconds: float) -> None:
    pass


def ignore_note(sentence: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class PublishResult:
    """`epoch`: the new epoch, or the newest existing one if nothing has changed."""

    epoch: Epoch
    is_new: bool


class PublishOptions(TypedDict, total=False):
    """`tables`: more tables to add to the lake. `verify`: compare the files with Postgres before publishing.
    `without`: columns to exclude from now on, as TABLE.COLUMN. `infinity`: what to store from now on instead
    of a value without an exact form; None: as before, `refuse` at first. `numeric`: the precision and scale
    of numeric columns without them from now on, or `text`. `nested`: `typed` to store arrays and composites
    as lists and structs from now on, or `text`. `selection`: tables to follow from
    now on, also those that are created later. `on_note`: called with a sentence for each table that joins or
    leaves the lake, or that each epoch copies completely. `fast`: copy at full speed, also beside a live
    store. `max_snapshot_seconds`: the maximum age of the snapshot, which holds back vacuum; None: no limit.
    `on_age`: called with the age of the snapshot in seconds, often, from several threads."""

    tables: Sequence[str]
    verify: bool
    without: Sequence[str]
    infinity: Infinity | None
    numeric: Numeric | None
    nested: Nested | None
    selection: Selection | None
    on_note: Callable[[str], None]
    fast: bool
    max_snapshot_seconds: float | None
    on_age: Callable[[float], None]


def publish_snapshot(
    store: Store,
    lake: Lake,
    on_rows: Callable[[int], None] = ignore_rows,
    **options: Unpack[PublishOptions],
) -> Epoch:
    """Publish all current rows of all tables. `on_rows` is called with the number of rows after each read.

    A table with a value that the lake cannot store, and a view whose query fails, is left out of the epoch
    (`Epoch.left_out`), unless it is a table of the ride store.

    Raises TableNotCopied if no table could be copied, CommitConflict if another epoch is published
    concurrently, SnapshotTooOld after `max_snapshot_seconds`, ProofFailed if the files differ from Postgres,
    UsageError if the lake cannot be written or the server is a standby, CannotConnect if the connection is
    lost. Nothing is published then."""
    return _publish(store, lake, "full", on_rows, **options).epoch


def publish_changes(
    store: Store,
    lake: Lake,
    on_rows: Callable[[int], None] = ignore_rows,
    **options: Unpack[PublishOptions],
) -> PublishResult:
    """Publish the changes since the newest epoch; a table whose changes are unknown is copied completely.

    Raises as `publish_snapshot` does, and UsageError if the server's history is not the newest epoch's."""
    return _publish(store, lake, "changes", on_rows, **options)


def _publish(
    store: Store,
    lake: Lake,
    kind: Kind,
    on_rows: Callable[[int], None],
    *,
    tables: Sequence[str] = (),
    verify: bool = False,
    without: Sequence[str] = (),
    infinity: Infinity | None = None,
    numeric: Numeric | None = None,
    nested: Nested | None = None,
    selection: Selection | None = None,
    on_note: Callable[[str], None] = ignore_note,
    fast: bool = False,
    max_snapshot_seconds: float | None = None,
    on_age: Callable[[float], None] = ignore_age,
) -> PublishResult:
    started = time.perf_counter()
    throttle = Throttle(fast=fast, limit_seconds=max_snapshot_seconds, on_age=on_age)
    with (
        _connection_errors(), lake_errors(lake.address), open_draft(lake) as draft,
        store.connect() as connection, throttle.watching(store, connection),
    ):  # fmt: skip
        previous = draft.previous
        since = previous.token if previous and kind == "changes" else None
        kind = kind if since else "full"
        chosen = choose_tables(connection, previous, tables, lake.selection(), selection)
        forms = previous.forms if previous else DEFAULT_FORMS
        forms = forms.changed(infinity=infinity, numeric=numeric, nested=nested)
        skip = [one.source for one in previous.left_out.values()] if previous else []
        excluded = [*chosen.without, *without]
        with (
            open_source_snapshot(
                store, connection, chosen.names, since, excluded, forms, chosen.lake_names, skip
            ) as snapshot,
            throttle.snapshot(connection),
        ):
            check_exclusions(connection, without, snapshot.sources)
            lake.check_source(snapshot.token)
            draft.left_out |= chosen.skipped(previous)
            write_changes(snapshot, draft, since, on_rows, throttle)
            if not draft.tables and draft.left_out:
                raise TableNotCopied("; ".join(one.reason for one in draft.left_out.values()))
            if verify:
                _verify(snapshot, lake, draft, throttle)
            if previous and since and not draft.has_changes:
                if chosen.selection:
                    lake.store_selection(chosen.selection)
                epoch = lake.record_verified(previous) if verify and not previous.verified else previous
                return PublishResult(epoch, is_new=False)
        wait_until_flushed(connection, snapshot.token.lsn)
        draft.stage(snapshot.token)
        seconds = time.perf_counter() - started
        epoch = draft.publish(kind, snapshot.token, seconds, verify or None, selection=chosen.selection)
        for sentence in _notes(previous, epoch, chosen, snapshot.sources):
            on_note(sentence)
        return PublishResult(epoch, is_new=True)


def _verify(snapshot: SourceSnapshot, lake: Lake, draft: EpochWriter, throttle: Throttle) -> None:
    from lakehouse.verify import verify_at_token  # imported here, because it loads DuckDB

    taken = [source for source in snapshot.sources if source.lake_name in draft.tables]
    limited = throttle.limited(snapshot.connection, taken)
    verify_at_token(snapshot.connection, lake.address, limited, draft.tables)


@contextmanager
def _connection_errors() -> Iterator[None]:
    try:
        yield
    except psycopg.OperationalError as error:
        raise CannotConnect(
            f"Postgres ended the transaction ({first_line(error)}), so no epoch was published; "
            "run the command again"
        ) from error


def _notes(
    previous: Epoch | None, epoch: Epoch, chosen: ChosenTables, sources: Sequence[TableSource]
) -> Iterator[str]:
    """A sentence for each table that joins or leaves the lake, or that cannot be tracked."""
    for table, why in chosen.leaving.items():
        yield f"{table} leaves the lake: {why}"
    known = {table.source for table in previous.tables.values()} if previous else set()
    for source in sources:
        if source.qualified in known or source.lake_name not in epoch.tables:
            continue
        if previous:
            yield f"{source.qualified} joins the lake"
        if source.why_untrackable:
            yield f"{source.qualified} is copied completely in each epoch: {source.why_untrackable}"


def tables_of(epoch: Epoch | None, more: Sequence[str]) -> list[str]:
    """The tables of the newest epoch and `more`; for a new lake `more` alone, or the store's tables."""
    known = epoch.sources if epoch else []
    return [*known, *more] or store_tables()


def choose_names(
    store: Store, lake: Lake, tables: Sequence[str] = (), selection: Selection | None = None
) -> list[str]:
    """The tables of the next epoch, as SQL identifiers. Raises BadInput if no table is selected."""
    with store.connect() as connection:
        return choose_tables(connection, lake.newest(), tables, lake.selection(), selection).names


def write_changes(
    snapshot: SourceSnapshot,
    sink: EpochWriter,
    old: SnapshotToken | None,
    on_rows: Callable[[int], None] = ignore_rows,
    throttle: Throttle = NO_THROTTLE,
) -> None:
    """Write the changes from `old` to the snapshot; all rows of a table if its changes are unknown or `old`
    is None."""
    connection = snapshot.connection
    tombstones = set_since(connection, old) if old and has_tracking(connection) else {}
    cleared = tombstones_deleted_before(connection)
    for source in throttle.limited(connection, snapshot.sources):
        state = sink.before(source.lake_name)
        by_changes = old and source.can_be_taken_by_changes_since(old, state, cleared)
        if not by_changes:
            _ = snapshot.name  # a subtransaction cannot export it
        with sink.reading_table(source):
            if failure := snapshot.failures.get(source.relation):
                raise failure
            with computed_row_errors(connection, source), add_row_key_to_errors(connection, source):
                if state and by_changes:
                    found = read_changes(connection, source, tombstones, state, throttle.pause)
                    _write_difference(sink, source, state, found, on_rows)
                else:
                    _write_all(snapshot, sink, source, on_rows, throttle)


def _write_difference(
    sink: EpochWriter,
    source: TableSource,
    state: TableState,
    found: TableChanges,
    on_rows: Callable[[int], None],
) -> None:
    if not found:
        sink.keep(source)
        return
    writer = sink.writer(source)
    applied = apply_changes(sink.reading, state, source, found)
    writer.add_rows(applied.rows)
    files = writer.finish(applied.kept)
    deletes = add_deletes(
        sink.reading.address, writer.storage, writer.stem, files, state.deletes, applied.marked
    )
    sink.put(source, files, found.changed.num_rows, found.deleted.num_rows, deletes)
    on_rows(found.changed.num_rows)


def _write_all(
    snapshot: SourceSnapshot,
    sink: EpochWriter,
    source: TableSource,
    on_rows: Callable[[int], None],
    throttle: Throttle,
) -> None:
    writer = sink.writer(source)
    export(
        snapshot.store,
        snapshot.name,
        source,
        writer.add_run,
        workers=WORKERS,
        on_rows=on_rows,
        coordinator=snapshot.connection,
        throttle=throttle,
    )
    files = writer.finish()
    sink.put(source, files, changed=sum(file.rows for file in files))


def estimate_rows(store: Store, tables: Sequence[str] | None = None) -> int:
    """The planner's row estimate of the tables (None: the store's), for a progress bar."""
    with table_name_errors(), store.connect() as connection:
        found = connection.execute(
            "SELECT sum(greatest(reltuples, 0))::bigint FROM unnest(%s::text[]) AS t (name)"
            " JOIN pg_class ON oid = to_regclass(t.name)",
            (list(tables or store_tables()),),
        ).fetchone()
    return int(found[0]) if found and found[0] else 0
