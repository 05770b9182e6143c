"""What keeps a lake that is synced for ever from growing for ever.

    compact    small sealed files of a table become few large ones; nothing else changes
    expire     epochs beyond the newest KEEP_EPOCHS, unless a reader holds one; their Iceberg snapshots too
    sweep      files that no epoch is made of: left by a crash, or by the two above
    tidy       tombstones in Postgres that the newest epoch has taken, and the summaries of its BRIN indexes

Compaction and expiry are one commit, an epoch of its own with the token of the one before; so whoever
reads or writes meanwhile sees the lake before it or after it.
"""

import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from itertools import pairwise
from time import perf_counter

import pyarrow as pa
from psycopg import errors

from lakehouse.catalog import Lake
from lakehouse.draft import Draft, drafting, sharing
from lakehouse.epoch import DataFile, Epoch
from lakehouse.faults import refusing_a_bad_lake
from lakehouse.layout import RUN_BYTES, RUN_ROWS
from lakehouse.moment import refuse_another_history
from lakehouse.pointers import LostRace, metadata_files
from lakehouse.published import read_epochs
from lakehouse.source import TableSource, read_sources
from lakehouse.storage import Storage
from lakehouse.swap import read_rows
from oltp.store import Store, has_tracking, transaction

KEEP_EPOCHS = 100

# Fewer small files than this are left alone; more rows than this are not rewritten at once.
COMPACT_FILES_MIN = 4
COMPACT_ROWS_MAX = 4 * RUN_ROWS
COMPACT_BYTES_MAX = 8 * RUN_BYTES

# Of a lake's folder; see `sink.py`, `commit.py`, `catalog.py` and `Storage.try_writing`, which name them.
UUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
OURS = re.compile(
    r"[^/]+/data/\d{5,}-[0-9a-f]{8}-[0-9a-f]{8}\.parquet"
    rf"|[^/]+/metadata/(\d{{5,}}-{UUID}\.metadata\.json|{UUID}-m0\.avro|snap-\d+-0-{UUID}\.avro)"
    r"|epochs/(\d{5,}\.json(\.[0-9a-f]{8})?|probe-[0-9a-f]{8})"
)

# What nobody points at and is younger may belong to an epoch in the making, where there is no lock to ask.
GRACE = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Maintained:
    """What was done. `epoch` is the one that says so, if there was anything to compact or expire."""

    epoch: Epoch | None
    files_before: int
    files_after: int
    epochs_expired: int
    files_removed: int
    tombstones_cleared: int


def maintain(
    lake: Lake, store: Store, *, keep_epochs: int = KEEP_EPOCHS, grace: timedelta = GRACE
) -> Maintained:
    """Safe while others read, sync or maintain. Raises UsageError as `Lake.newest` and `take_changes` do."""
    with refusing_a_bad_lake(lake.address):
        lake.newest()  # refuses a lake that is not ours, before anything is written
        _heal_manifests(lake)
        try:
            epoch, before, expired = _compact_and_expire(lake, store, keep_epochs, grace)
        except LostRace:  # an epoch was published meanwhile: the next maintenance does it
            epoch, before, expired = None, 0, 0
        newest = lake.newest()
        after = len(newest.files) if newest else 0
        removed = _sweep(lake, grace)
    cleared = _tidy(store, newest) if newest else 0
    return Maintained(epoch, before or after, after, expired, removed, cleared)


def _heal_manifests(lake: Lake) -> None:
    """A process may have been killed between the commit and the manifest."""
    there = {file.location for file in lake.storage.files_under("epochs")}
    for epoch in read_epochs(lake.address):
        if lake.address.manifest(epoch.number) not in there:
            lake.write_manifest(epoch)


def _compact_and_expire(
    lake: Lake, store: Store, keep_epochs: int, grace: timedelta
) -> tuple[Epoch | None, int, int]:
    started = perf_counter()
    with ExitStack() as held, drafting(lake) as draft:
        newest = draft.previous
        if newest is None:
            return None, 0, 0
        old = [
            epoch
            for epoch in _superfluous(read_epochs(lake.address), keep_epochs)
            if held.enter_context(_unread(lake, epoch, grace))
        ]
        with store.connect() as connection:
            refuse_another_history(connection, newest.token)
            named = [state.source for state in newest.tables.values()]
            sources = read_sources(connection, named, newest.without)
        draft.left_out.update(newest.left_out)
        for source in sources:
            _compact(draft, source)
        if not draft.drafts and not old:
            return None, len(newest.files), 0
        kept = [epoch for epoch in read_epochs(lake.address) if epoch not in old]
        for source in sources if old else ():
            if source.name not in draft.drafts:
                draft.writer(source)
                draft.keep(source.name)
        alive = {n: {e.tables[n].snapshot_id for e in kept if n in e.tables} for n in newest.tables}
        draft.stage(newest.token, alive if old else None)
        epoch = draft.publish(
            "maintenance", newest.token, perf_counter() - started, None, expired=[e.number for e in old]
        )
        lake.storage.delete(lake.address.manifest(one.number) for one in old)
        return epoch, len(newest.files), len(old)


def _superfluous(epochs: Sequence[Epoch], keep_epochs: int) -> list[Epoch]:
    """All but those of the newest `keep_epochs` tokens. Maintenance makes epochs of the same token, which
    must not drive out the states of before."""
    kept = list(dict.fromkeys(epoch.token for epoch in epochs))[:keep_epochs]
    return [epoch for epoch in epochs if epoch.token not in kept]


def _compact(draft: Draft, source: TableSource) -> None:
    state = draft.before(source.name)
    assert state is not None
    small = _small(state.files) if state.shape == source.shape else []
    read = _read_some(draft.lake.storage, small, source) if len(small) >= COMPACT_FILES_MIN else {}
    if len(read) < COMPACT_FILES_MIN:
        draft.keep(source.name)
        return
    writer = draft.writer(source)
    writer.add_rows(pa.concat_tables(read.values()))
    kept = [file for file in state.files if file not in read]
    draft.put(source, writer.finish(kept))


def _read_some(storage: Storage, files: Sequence[DataFile], source: TableSource) -> dict[DataFile, pa.Table]:
    """As many of the files as fit in COMPACT_BYTES_MAX, without those that are large in memory already."""
    read, size = dict[DataFile, pa.Table](), 0
    for file in files:
        rows = read_rows(storage, [file], source)
        size += rows.nbytes
        if size > COMPACT_BYTES_MAX:
            break
        if rows.nbytes < RUN_BYTES // 2:
            read[file] = rows
    return read


def _small(of: Sequence[DataFile]) -> list[DataFile]:
    """The smallest sealed files, as many as fit into one rewriting."""
    chosen: list[DataFile] = []
    rows = 0
    for file in sorted(
        (f for f in of if f.sealed and f.rows < RUN_ROWS // 2 and f.bytes < RUN_BYTES // 4),
        key=lambda f: f.rows,
    ):
        rows += file.rows
        if rows > COMPACT_ROWS_MAX:
            break
        chosen.append(file)
    return chosen


@contextmanager
def _unread(lake: Lake, epoch: Epoch, grace: timedelta) -> Iterator[bool]:
    """Whether no reader holds the epoch; none can take it up while this is open. Of a remote lake nobody
    can tell: there an epoch is left alone until it is older than the grace."""
    if lake.address.remote:
        yield epoch.published_at < datetime.now(UTC) - grace
        return
    try:
        descriptor = os.open(lake.address.manifest(epoch.number), os.O_RDONLY)
    except FileNotFoundError:
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)


def _sweep(lake: Lake, grace: timedelta) -> int:
    """Remove what no published epoch is made of. Alone in the lake, all of it; else what is older than the
    grace, because the rest may be somebody's epoch in the making."""
    with sharing(lake, fcntl.LOCK_EX | fcntl.LOCK_NB) as alone:
        found = [
            file for file in lake.storage.files_under() if _is_ours(lake.address.relative(file.location))
        ]
        epochs = read_epochs(lake.address)  # after the listing: what was published meanwhile is known
        known = {file.location for epoch in epochs for file in epoch.files}
        known |= {lake.address.manifest(epoch.number) for epoch in epochs}
        known |= {table.metadata for epoch in epochs for table in epoch.tables.values()}
        newest_of = {n: t.metadata for epoch in reversed(epochs) for n, t in epoch.tables.items()}
        last_of = {  # of a table that a later epoch left out; it came back with new metadata
            table.metadata
            for later, epoch in pairwise(epochs)
            for name, table in epoch.tables.items()
            if name not in later.tables
        }
        try:  # which remember every snapshot that is alive
            known |= metadata_files(lake.catalog, {*newest_of.values(), *last_of})
        except FileNotFoundError:  # somebody else has just swept
            return 0
        limit = datetime.now(UTC) - grace
        orphans = [f.location for f in found if f.location not in known and (alone or f.modified_at < limit)]
        lake.storage.delete(orphans)
    return len(orphans)


def _is_ours(place: str) -> bool:
    """Whether it lies where the lake puts its files and is named as it names them, also for a table whose
    first epoch was never published. Whatever else somebody keeps in the folder is not ours to remove."""
    return OURS.fullmatch(place) is not None


def _tidy(store: Store, newest: Epoch) -> int:
    """Of a role that may not, nothing is asked: then the tombstones stay, and do no harm."""
    with store.connect() as connection:
        if not has_tracking(connection):
            return 0
        try:
            with transaction(connection):
                connection.execute("SET LOCAL lock_timeout = '1s'")
                cleared = connection.execute(
                    files("lakehouse").joinpath("clear_tombstones.sql").read_bytes(),
                    {"before_tx": newest.token.xmin},
                ).rowcount
            connection.execute(files("lakehouse").joinpath("summarize.sql").read_bytes())
        except (errors.InsufficientPrivilege, errors.LockNotAvailable):
            return 0
    return cleared
