"""Write the files of an epoch: to a draft for publication, or to an overlay that is not published."""

import fcntl
import secrets
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import chain
from time import monotonic

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.source.copy.sorting import sort_run, sorted_runs
from lakehouse.source.tables import TableSource, store_tables
from lakehouse.table.catalog import CommitConflict, Lake
from lakehouse.table.columns import RowsNotComputed, UnsupportedValue
from lakehouse.table.epoch import (
    DataFile,
    DeleteFile,
    Epoch,
    Kind,
    Selection,
    SkippedTable,
    SnapshotToken,
    TableState,
)
from lakehouse.table.layout import (
    RUN_BYTES,
    RUN_ROWS,
    SEAL_BYTES,
    SEAL_ROWS,
    epoch_tag,
    table_folder,
    write_run,
)
from lakehouse.table.manifests import FileChanges
from lakehouse.table.metadata import StagedTable, TableDraft
from lakehouse.table.storage import Storage, file_lock


@dataclass(slots=True)
class TableWriter:
    """Writes new files of one table. Rows that may still change, and rows too few to be sealed, are collected
    for the table's open file. `add_run` may be called from several threads."""

    storage: Storage
    table: TableSource
    schema: pa.Schema  # the schema of the files
    stem: str
    files: list[DataFile] = field(default_factory=list)
    _open: list[pa.Table] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add_run(self, pieces: Iterable[pa.Table]) -> None:
        """The pieces of a run: at most RUN_ROWS rows, in the table's order."""
        unsettled: list[pa.Table] = []
        settled = self._settled(pieces, unsettled)
        first: list[pa.Table] = []
        for rows in settled:  # as few as fill a file
            first.append(rows)
            if _fills_a_file(pa.concat_tables(first)):
                file = self._write(chain(first, settled), sealed=True)
                with self._lock:
                    self.files.append(file)
                first.clear()
        with self._lock:
            self._open += [rows for rows in (*first, *unsettled) if rows.num_rows]

    def add_rows(self, rows: pa.Table) -> None:
        """Add any number of rows, in any order."""
        settled, unsettled = self._split(rows)
        for run in sorted_runs(settled, self.table.order_by, RUN_ROWS, RUN_BYTES):
            self.files.append(self._write([run], sealed=True))
        self._open += [unsettled] if unsettled.num_rows else []

    def finish(self, kept: Sequence[DataFile] = ()) -> tuple[DataFile, ...]:
        """Write the open file, if it has rows or the table has no other file. Returns all files of the table:
        `kept` and the new ones. `kept` must not contain an open file if there are rows for a new one."""
        rows = pa.concat_tables([*self._open, self.table.arrow_schema.empty_table()])
        if _fills_a_file(rows) and self.table.layout.settled is None:
            self._open.clear()
            self.add_rows(rows)
        elif rows.num_rows or not (kept or self.files):
            self.files.append(self._write([sort_run(rows, self.table.order_by)], sealed=False))
        return (*kept, *self.files)

    def _settled(self, pieces: Iterable[pa.Table], unsettled: list[pa.Table]) -> Iterator[pa.Table]:
        """The settled rows of each piece. The other rows are appended to `unsettled`."""
        for rows in pieces:
            if self.table.layout.settled is not None:
                mask = self.table.layout.settled(rows)
                unsettled.append(rows.filter(pc.invert(mask)))
                rows = rows.filter(mask)
            yield rows

    def _split(self, rows: pa.Table) -> tuple[pa.Table, pa.Table]:
        """The rows for sealed files, and the rows for the open file: rows that may change, or all rows if the
        settled rows do not fill a file."""
        none = rows.slice(0, 0)
        settled, unsettled = rows, none
        if self.table.layout.settled is not None:
            mask = self.table.layout.settled(rows)
            settled, unsettled = rows.filter(mask), rows.filter(pc.invert(mask))
        return (settled, unsettled) if _fills_a_file(settled) else (none, rows)

    def _write(self, pieces: Iterable[pa.Table], *, sealed: bool) -> DataFile:
        table = self.table
        return write_run(
            self.storage, self.stem, table.columns, self.schema, table.order_by, pieces, sealed=sealed
        )


def _fills_a_file(rows: pa.Table) -> bool:
    """Whether the rows are enough for a separate sealed file."""
    return bool(rows.num_rows >= SEAL_ROWS or rows.nbytes >= SEAL_BYTES)


@dataclass(slots=True, kw_only=True)
class EpochWriter(ABC):
    """Collects the tables of a new epoch. The files of the previous epoch are read from `reading`."""

    previous: Epoch | None
    reading: Storage
    tables: dict[str, TableState] = field(default_factory=dict)

    @abstractmethod
    def writer(self, table: TableSource) -> TableWriter:
        """A writer for the table's new files."""

    def before(self, table: str) -> TableState | None:
        return self.previous.tables.get(table) if self.previous else None

    @contextmanager
    def reading_table(self, table: TableSource) -> Iterator[None]:
        """A context in which one table is read and written."""
        yield

    def put(
        self,
        table: TableSource,
        files: tuple[DataFile, ...],
        changed: int = 0,
        deleted: int = 0,
        deletes: tuple[DeleteFile, ...] = (),
    ) -> None:
        """Set the table's files in this epoch. Its Iceberg metadata is written later."""
        self.tables[table.lake_name] = TableState(
            table.qualified,
            table.relation,
            table.shape,
            files,
            0,
            "",
            changed,
            deleted,
            table.without,
            deletes,
            table.key,
            table.forms,
            tuple(one.state for one in table.partitions),
        )

    def keep(self, table: TableSource) -> None:
        """Use the table's files of the previous epoch. Its schema may have another name."""
        state = self.before(table.lake_name)
        assert state is not None
        self.tables[table.lake_name] = replace(state, source=table.qualified, changed=0, deleted=0)


# In a bucket, `maintain` removes unreferenced files that are older than one hour. A draft older than half of
# that checks that its files still exist before it publishes.
RECHECK_AFTER_SECONDS = 1_800.0


@dataclass(slots=True, kw_only=True)
class EpochDraft(EpochWriter):
    """What has been written so far of the epoch after `previous`."""

    lake: Lake
    stems: dict[str, str] = field(default_factory=dict)  # table → prefix of its new files' names
    drafts: dict[str, TableDraft] = field(default_factory=dict)
    left_out: dict[str, SkippedTable] = field(default_factory=dict)
    staged: list[StagedTable] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    begun: float = field(default_factory=monotonic)

    @property
    def number(self) -> int:
        return self.previous.number + 1 if self.previous else 1

    @property
    def has_changes(self) -> bool:
        known = self.previous.left_out.keys() if self.previous else set()
        renamed = any(
            before is not None and before.source != state.source
            for before, state in ((self.before(name), state) for name, state in self.tables.items())
        )
        return bool(self.drafts) or self.left_out.keys() != known or bool(self.departed) or renamed

    @property
    def departed(self) -> set[str]:
        """The tables of the previous epoch that are not in this one."""
        return set(self.previous.tables) - self.tables.keys() if self.previous else set()

    @contextmanager
    def reading_table(self, table: TableSource) -> Iterator[None]:
        """Leave a table out of the epoch if the lake cannot store one of its values, or the server
        cannot compute its rows. For a table of the ride store, raise the error instead: these tables are
        published together."""
        try:
            yield
        except (RowsNotComputed, UnsupportedValue) as error:
            if table.qualified in store_tables():
                raise
            self.drafts.pop(table.lake_name, None)
            self.tables.pop(table.lake_name, None)
            self._delete_files(self.stems.pop(table.lake_name, None))
            self.left_out[table.lake_name] = SkippedTable(
                table.qualified, str(error), table.without, table.forms, table.relation
            )

    def writer(self, table: TableSource) -> TableWriter:
        state = self.before(table.lake_name)
        pointer = state.metadata if state else None
        name = self.lake.stored_name(table.lake_name)
        draft = TableDraft(self.lake.address, name, table.arrow_schema, pointer)
        self.drafts[table.lake_name] = draft
        folder = self.lake.address.join(table_folder(name), "data")
        self.lake.storage.make_folder(folder)
        stem = f"{folder}/{self.number:05d}-{secrets.token_hex(4)}"  # concurrent drafts have the same number
        self.stems[table.lake_name] = stem
        return TableWriter(self.lake.storage, table, draft.file_schema, stem)

    def stage(self, token: SnapshotToken, alive: Mapping[str, Mapping[str, int]] | None = None) -> None:
        """Write the Iceberg metadata of every table that has a draft, and flush it and all new files to disk.
        `alive`: the snapshots that each table keeps, by tag; None: all."""
        # With several stores the number of the epoch is known at the commit only.
        store = self.lake.store
        epoch = {"ridelake.source": store} if store else {"ridelake.epoch": str(self.number)}
        properties = epoch | {"pg.snapshot": token.snapshot, "pg.lsn": token.lsn}
        tag = None if store else epoch_tag(self.number)
        for name, draft in self.drafts.items():
            changes = _file_changes(self.before(name), self.tables[name])
            self.added += [*changes.added, *(file.location for file in changes.deletes_added)]
            staged = draft.stage(changes, properties, alive[name] if alive else None, tag)
            self.staged.append(staged)
            self.tables[name] = replace(
                self.tables[name], snapshot_id=staged.snapshot_id, metadata=staged.metadata_location
            )
        self.added += chain.from_iterable(one.written for one in self.staged)
        self.lake.storage.settle(self.added)

    def publish(
        self,
        kind: Kind,
        token: SnapshotToken,
        seconds: float,
        verified: bool | None,
        expired: Sequence[int] = (),
        selection: Selection | None = None,
    ) -> Epoch:
        """Publish the epoch and remove the `expired` ones. `selection`: of tables, to be stored.
        Raises CommitConflict if another epoch was published concurrently, or if `maintain` has removed this
        draft's files because it took too long."""
        took_long = self.lake.address.remote and monotonic() - self.begun > RECHECK_AFTER_SECONDS
        if took_long and not all(map(self.lake.storage.exists, self.added)):
            raise CommitConflict(
                "cannot publish the epoch: it took so long that a concurrent `ridelake maintain` removed its "
                "files; run the command again"
            )
        tokens = {"": token}
        epoch = Epoch(
            self.number, kind, datetime.now(UTC), tokens, self.tables, seconds, verified, self.left_out
        )
        return self.lake.publish(epoch, self.staged, expired, self.departed, selection, self.previous)

    def discard(self) -> None:
        """Delete its files, unless it was published: an interrupt can arrive after the commit."""
        metadata = {one.metadata_location for one in self.staged}
        if metadata and self.lake.has(self.number, metadata):
            return
        for stem in self.stems.values():
            self._delete_files(stem)
        self.lake.storage.delete(chain.from_iterable(one.written for one in self.staged))

    def _delete_files(self, stem: str | None) -> None:
        if stem is None:
            return
        folder = stem.rsplit("/", 1)[0].removeprefix(f"{self.lake.address.root}/")
        self.lake.storage.delete(
            file.location
            for file in self.lake.storage.files_under(folder)
            if file.location.startswith(f"{stem}-")
        )


def _file_changes(before: TableState | None, now: TableState) -> FileChanges:
    old = {file.location for file in before.files} if before else set()
    old_deletes = {file.location for file in before.deletes} if before else set()
    return FileChanges(
        added=[location for location in now.locations if location not in old],
        removed=old - set(now.locations),
        deletes_added=[file for file in now.deletes if file.location not in old_deletes],
        deletes_removed=old_deletes - {file.location for file in now.deletes},
    )


@contextmanager
def open_draft(lake: Lake) -> Iterator[EpochDraft]:
    """A draft of the next epoch; discarded if the block fails. It holds a lock, so that `maintain` does not
    remove its files as orphans. Raises CommitConflict if the previous epoch was expired concurrently."""
    with lake_lock(lake):
        draft = EpochDraft(previous=lake.newest(), reading=lake.storage, lake=lake)
        try:
            yield draft
        except BaseException as error:  # also Ctrl-C
            draft.discard()
            if isinstance(error, FileNotFoundError) and lake.newest() != draft.previous:
                raise CommitConflict(
                    "cannot publish the epoch: other epochs were published concurrently; "
                    "run the command again"
                ) from error
            raise


@contextmanager
def lake_lock(lake: Lake, operation: int = fcntl.LOCK_SH) -> Iterator[bool]:
    """Hold the lake's lock, shared with other drafts or (LOCK_EX | LOCK_NB) exclusive; yields whether it was
    acquired. A remote lake has no lock: always False."""
    if lake.address.remote:
        yield False
        return
    with file_lock(lake.address.join("epochs"), operation) as acquired:
        yield acquired
