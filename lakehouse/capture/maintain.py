"""Maintenance, which limits the size of a lake that is synced continuously.

    compact    merge small sealed files of a table into few large ones; rewrite files with many deleted rows
               without them; merge the delete files
    expire     remove epochs older than the newest KEEP_EPOCHS, except those that a reader has pinned, and
               their Iceberg snapshots
    sweep      delete orphan files: files that no epoch references, left by a crash or by the steps above
    tidy       delete tombstones in Postgres that the newest epoch includes, and summarize the BRIN indexes

Compaction and expiry are one commit: an epoch with the token of the previous one. Concurrent readers and
writers see the lake before or after it.
"""

import fcntl
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import accumulate, pairwise
from time import perf_counter

import pyarrow as pa
from psycopg import errors

from lakehouse.capture.apply import read_rows
from lakehouse.capture.writer import EpochDraft, lake_lock, open_draft
from lakehouse.source.snapshot import check_server_history
from lakehouse.source.tables import TableSource, existing, read_sources
from lakehouse.table.catalog import CommitConflict, Lake
from lakehouse.table.deletes import merge_deletes
from lakehouse.table.epoch import DataFile, Epoch, TableState
from lakehouse.table.key_index import index_location, remove_local_indexes
from lakehouse.table.layout import README, RUN_BYTES, RUN_ROWS, epoch_tag, hint_location
from lakehouse.table.metadata import metadata_files
from lakehouse.table.published import read_epochs
from lakehouse.table.storage import Storage, file_lock, lake_errors
from oltp.store import Store, has_tracking, transaction
from ridelake.errors import UsageError
from ridelake.queries import load_queries

QUERIES = load_queries("lakehouse.capture")

KEEP_EPOCHS = 100

# Fewer small files than this are not compacted; one compaction rewrites at most this many rows and bytes.
COMPACT_FILES_MIN = 4
COMPACT_ROWS_MAX = 8 * RUN_ROWS
COMPACT_BYTES_MAX = 16 * RUN_BYTES

# A file is rewritten without its deleted rows if they are at least this share of its rows.
FOLD_SHARE = 0.1

# The names of files that ridelake creates in a lake: `layout.py`, `metadata.py`, `catalog.py`, `storage.py`.
# Other files in the folder belong to the user and are not deleted.
UUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
LAKE_FILE = re.compile(
    r"[^/]+/data/\d{5,}-[0-9a-f]{8}-[0-9a-f]{8}(-deletes)?\.parquet"
    r"|[^/]+/keys/\d{5,}-[0-9a-f]{8}-[0-9a-f]{8}\.(keys|[0-9a-f]{8})"
    rf"|[^/]+/metadata/(\d{{5,}}-{UUID}\.metadata\.json|{UUID}-m[01]\.avro|snap-\d+-0-{UUID}\.avro)"
    r"|epochs/(\d{5,}\.json(\.[0-9a-f]{8})?|probe-[0-9a-f]{8})"
    rf"|([^/]+/metadata/version-hint\.text|{README})(\.[0-9a-f]{{8}})?"
)

# A younger unreferenced file may belong to a draft. A remote lake has no lock that would show it.
GRACE_PERIOD = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class MaintenanceResult:
    """What was done. `epoch`: the new epoch; None if there was nothing to compact or expire."""

    epoch: Epoch | None
    files_before: int
    files_after: int
    epochs_expired: int
    files_removed: int
    tombstones_cleared: int


def maintain(
    lake: Lake,
    store: Store,
    *,
    keep_epochs: int = KEEP_EPOCHS,
    grace: timedelta = GRACE_PERIOD,
    tidy: bool = True,
) -> MaintenanceResult:
    """Safe with concurrent readers, syncs and maintenance. `tidy` False: change nothing in Postgres. Raises
    UsageError as `Lake.newest` and `publish_changes` do, and for `keep_epochs` below 1."""
    if keep_epochs < 1:
        raise UsageError(f"keep_epochs must be at least 1, not {keep_epochs}")
    with lake_errors(lake.address):
        lake.newest()  # raises before anything is written, if another program has changed the lake
        _write_missing_files(lake)
        try:
            epoch, before, expired = _compact_and_expire(lake, store, keep_epochs, grace)
        except CommitConflict:  # an epoch was published concurrently: the next maintenance does it
            epoch, before, expired = None, 0, 0
        newest = lake.newest()
        after = len(newest.files) if newest else 0
        removed = _sweep(lake, grace)
    cleared = _tidy(store, newest) if newest and tidy else 0
    return MaintenanceResult(epoch, before or after, after, expired, removed, cleared)


def _write_missing_files(lake: Lake) -> None:
    """Write what a publisher writes after its commit, if one was killed in between: manifests, the hints of
    the tables, and the explanation of the folder. A lake of an older version has no hints."""
    existing = {file.location for file in lake.storage.files_under("epochs")}
    epochs = read_epochs(lake.address)
    for epoch in epochs:
        if lake.address.manifest(epoch.number) not in existing:
            lake.write_manifest(epoch)
    if epochs:
        lake.write_hints(lake.tables_without_hint(epochs[0]))
        if not lake.storage.exists(lake.address.join(README)):
            lake.write_readme()


def _compact_and_expire(
    lake: Lake, store: Store, keep_epochs: int, grace: timedelta
) -> tuple[Epoch | None, int, int]:
    started = perf_counter()
    with ExitStack() as held, open_draft(lake) as draft:
        newest = draft.previous
        if newest is None:
            return None, 0, 0
        old = [
            epoch
            for epoch in _superfluous(read_epochs(lake.address), keep_epochs)
            if held.enter_context(_unread(lake, epoch, grace))
        ]
        with store.connect() as connection:
            check_server_history(connection, newest.token)
            there = existing(connection, [state.source for state in newest.tables.values()])
            sources = read_sources(connection, there, newest.without, newest.forms, newest.names)
        draft.left_out.update(newest.left_out)
        draft.tables.update(newest.tables)  # a dropped table stays until the next epoch
        for source in sources:
            _compact(draft, source)
        expired = {epoch.number for epoch in old}
        kept = [epoch for epoch in lake.epochs() if epoch.number not in expired]
        alive = {
            name: {epoch_tag(one.number): one.tables[name].snapshot_id for one in kept if name in one.tables}
            for name in newest.tables
        }
        listed = lake.store and _lists_expired(lake, newest, alive)
        if not draft.drafts and not old and not listed:
            return None, len(newest.files), 0
        for source in sources if old or listed else ():
            if source.lake_name not in draft.drafts:
                draft.writer(source)
                draft.keep(source)
        draft.stage(newest.token, alive if old or listed else None)
        epoch = draft.publish(
            "maintenance", newest.token, perf_counter() - started, None, expired=[e.number for e in old]
        )
        lake.storage.delete(lake.address.manifest(one.number) for one in old)
        return epoch, len(newest.files), len(old)


def _lists_expired(lake: Lake, newest: Epoch, alive: Mapping[str, Mapping[str, int]]) -> bool:
    """Whether the metadata of a table lists a snapshot whose epoch has expired: the maintenance of another
    store expires epochs of the whole lake, and writes the metadata of its own tables only."""
    for name, table in newest.tables.items():
        with lake.storage.open(table.metadata) as file:
            listed = {one["snapshot-id"] for one in json.loads(file.read()).get("snapshots", ())}
        if listed - {table.snapshot_id, *alive[name].values()}:
            return True
    return False


def _superfluous(epochs: Sequence[Epoch], keep_epochs: int) -> list[Epoch]:
    """All epochs except those of the newest states: `keep_epochs` times the number of stores. A state is the
    tokens of all stores: maintenance creates epochs with the same tokens, which must not displace others."""
    states = [tuple(sorted(epoch.tokens.items())) for epoch in epochs]
    kept = list(dict.fromkeys(states))[: keep_epochs * max(map(len, states), default=1)]
    return [epoch for epoch, state in zip(epochs, states, strict=True) if state not in kept]


def _compact(draft: EpochDraft, source: TableSource) -> None:
    """Rewrite files with many deleted rows and small files, and merge the delete files."""
    state = draft.before(source.lake_name)
    assert state is not None
    if (state.shape, state.relation) != (source.shape, source.relation):
        draft.keep(source)  # the next epoch copies the table, because its changes are unknown
        return
    small = _small(state.files)
    chosen = [*_worn(state.files), *(small if len(small) >= COMPACT_FILES_MIN else ())]
    read = _read_some(draft.lake.storage, state, chosen, source)
    merged = [file for file in state.deletes if file.rows <= COMPACT_ROWS_MAX]
    if not read and len(merged) < 2:
        draft.keep(source)
        return
    writer = draft.writer(source)
    files = tuple(file for file in state.files if file not in read)
    if read:
        writer.add_rows(pa.concat_tables(read.values()))
        files = writer.finish(files)
    deletes = merge_deletes(draft.lake.address, writer.storage, writer.stem, files, state.deletes, merged)
    draft.put(source, files, deletes=deletes)
    written = draft.tables[source.lake_name]
    draft.tables[source.lake_name] = replace(written, partitions=state.partitions)  # not read again


def _read_some(
    storage: Storage, state: TableState, files: Sequence[DataFile], source: TableSource
) -> dict[DataFile, pa.Table]:
    """As many of the files as fit in COMPACT_BYTES_MAX, except files without deleted rows that are already
    large in memory."""
    read, size = dict[DataFile, pa.Table](), 0
    for file in files:
        rows = read_rows(storage, state, [file], source)
        size += rows.nbytes
        if size > COMPACT_BYTES_MAX:
            break
        if file.deleted or rows.nbytes < RUN_BYTES // 2:
            read[file] = rows
    folded = any(file.deleted for file in read)
    return read if folded or len(read) >= COMPACT_FILES_MIN else {}


def _worn(files: Sequence[DataFile]) -> list[DataFile]:
    """The sealed files with the greatest share of deleted rows, as many as one compaction may rewrite."""
    worn = [file for file in files if file.sealed and file.deleted >= FOLD_SHARE * file.rows > 0]
    return _limited(sorted(worn, key=lambda file: file.deleted / file.rows, reverse=True))


def _small(files: Sequence[DataFile]) -> list[DataFile]:
    """The smallest sealed files, as many as one compaction may rewrite."""
    small = [
        file
        for file in files
        if file.sealed and file.rows < RUN_ROWS // 2 and file.bytes < RUN_BYTES // 4
        if file.deleted < FOLD_SHARE * file.rows or not file.rows
    ]
    return _limited(sorted(small, key=lambda file: file.rows))


def _limited(files: Sequence[DataFile]) -> list[DataFile]:
    totals = accumulate(file.rows for file in files)
    return [file for file, rows in zip(files, totals, strict=True) if rows <= COMPACT_ROWS_MAX]


@contextmanager
def _unread(lake: Lake, epoch: Epoch, grace: timedelta) -> Iterator[bool]:
    """Whether no reader has pinned the epoch; none can pin it inside the block. A remote lake has no locks:
    there, whether the epoch is older than the grace period."""
    if lake.address.remote:
        yield epoch.published_at < datetime.now(UTC) - grace
        return
    with ExitStack() as stack:
        try:
            lock = file_lock(lake.address.manifest(epoch.number), fcntl.LOCK_EX | fcntl.LOCK_NB)
            acquired = stack.enter_context(lock)
        except FileNotFoundError:
            acquired = False
        yield acquired


def _sweep(lake: Lake, grace: timedelta) -> int:
    """Delete orphan files; return their number. Without the exclusive lock, delete only files of this store
    that are older than the grace period: the others may belong to a draft."""
    with lake_lock(lake, fcntl.LOCK_EX | fcntl.LOCK_NB) as exclusive:
        found = [
            file
            for file in lake.storage.files_under()
            if LAKE_FILE.fullmatch(lake.address.relative(file.location))
        ]
        epochs = read_epochs(lake.address)  # after the listing, so it includes all epochs of listed files
        known = {file.location for epoch in epochs for file in epoch.stored_files}
        known |= {index_location(file.location) for epoch in epochs for file in epoch.files}
        known |= {lake.address.manifest(epoch.number) for epoch in epochs} | {lake.address.join(README)}
        known |= {hint_location(lake.address, name) for epoch in epochs[:1] for name in epoch.tables}
        known |= {table.metadata for epoch in epochs for table in epoch.tables.values()}
        newest_of = {n: t.metadata for epoch in reversed(epochs) for n, t in epoch.tables.items()}
        last_of = {  # a table that a later epoch omits: it is added again with new metadata
            table.metadata
            for later, epoch in pairwise(epochs)
            for name, table in epoch.tables.items()
            if name not in later.tables
        }
        try:  # the newest metadata lists every snapshot that is kept
            known |= metadata_files(lake.catalog, {*newest_of.values(), *last_of})
        except FileNotFoundError:  # a concurrent maintenance has deleted it
            return 0
        limit = datetime.now(UTC) - grace
        orphans = [
            file.location
            for file in found
            if file.location not in known
            if exclusive or (file.modified_at < limit and _is_own(lake, file.location))
        ]
        lake.storage.delete(orphans)
        if lake.address.remote:
            remove_local_indexes(lake.address, {file.sha256 for epoch in epochs for file in epoch.files})
    return len(orphans)


def _is_own(lake: Lake, location: str) -> bool:
    """Whether no other store of the lake writes a file there. The maintenance of a store runs between its own
    drafts; a draft of another one may take longer than the grace period."""
    folder, _, file = lake.address.relative(location).partition("/")
    return not lake.store or not file or folder == "epochs" or folder.startswith(f"{lake.store}_")


def _tidy(store: Store, newest: Epoch) -> int:
    """Delete old tombstones; return their number. A role without the privilege skips it: tombstones that stay
    are harmless."""
    cleared = 0
    with store.connect() as connection:
        if not has_tracking(connection):
            return 0
        with suppress(errors.InsufficientPrivilege, errors.LockNotAvailable), transaction(connection):
            connection.execute("SET LOCAL lock_timeout = '1s'")
            cleared = connection.execute(
                QUERIES["clear_tombstones"],
                {"before_tx": newest.token.xmin},
            ).rowcount
        with suppress(errors.InsufficientPrivilege, errors.LockNotAvailable), transaction(connection):
            connection.execute("SET LOCAL lock_timeout = '1s'")
            connection.execute(QUERIES["forget_dropped"])
        with suppress(errors.InsufficientPrivilege):
            connection.execute(QUERIES["summarize"])  # only the owner of the tables may
    return cleared
