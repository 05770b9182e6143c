"""The catalog of a lake, open for writing. Its commit makes an epoch atomic.

An epoch is visible if and only if its row is in the table `epochs` of the catalog's database. `Lake.publish`
inserts that row, and updates the pointer of every Iceberg table to its new metadata, in one transaction of
that database. pyiceberg commits one table at a time, so a reader could see the rides of one epoch together
with the payments of another. Everything else (data files, manifests, metadata) is written and flushed before
the commit, and no reader sees it until then (`EpochDraft.stage` in `lakehouse/capture/writer.py`).

    LAKE/rides/data/*.parquet      immutable; an epoch lists the files that it consists of
    LAKE/rides/metadata/*          Iceberg manifests and metadata, for any Iceberg reader
    …/metadata/version-hint.text   the name of the current metadata, for readers that open a folder
    LAKE/epochs/00042.json         the manifest of epoch 42, for readers without ridelake
    LAKE/catalog.sqlite            the tables iceberg_tables (pyiceberg) and epochs (ridelake), updated in one
                                   transaction; with --catalog, in another database

Publishing is compare-and-set: epoch n + 1 is inserted only if n is still the newest epoch and no table's
pointer has changed. If two processes publish concurrently, one succeeds and the other gets an error. A
process that is killed before the commit leaves the previous epoch unchanged, and orphan files.
"""

import fcntl
import json
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import Any

from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from sqlalchemy import Connection, NullPool, create_engine, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError, ProgrammingError

from lakehouse.table.catalog_tables import EPOCHS, LAKE, create_tables, read_selection, write_selection
from lakehouse.table.epoch import Epoch, Selection, SnapshotToken
from lakehouse.table.epoch_json import tables_to_json, token_column
from lakehouse.table.layout import README, hint_location
from lakehouse.table.metadata import StagedTable, file_io_properties
from lakehouse.table.published import (
    BUSY_SECONDS,
    FORMAT,
    STORES_FORMAT,
    catalog_url,
    read_epochs,
)
from lakehouse.table.storage import FSYNC_THREADS, Storage, file_lock, lake_errors
from lakehouse.table.stores import (
    check_one_name_per_store,
    check_store_names,
    is_unchanged,
    seen_by,
    with_others,
)
from ridelake.errors import RidelakeError, UsageError
from ridelake.queries import load_script
from ridelake.settings import LakeAddress

NAMESPACE = "ridelake"

# How often a commit is repeated because another store of the lake has published first.
COMMIT_TRIES = 1_000
CREATE_TRIES = 5
METADATA_SUFFIX = ".metadata.json"  # readers append it to the name in a hint


class CommitConflict(RidelakeError):
    """Another process published first; this epoch is not published."""


def read_pointers(connection: Connection) -> dict[str, str]:
    """Table → location of its metadata."""
    query = select(IcebergTables.table_name, IcebergTables.metadata_location).filter_by(
        catalog_name=NAMESPACE, table_namespace=NAMESPACE
    )
    return {name: location for name, location in connection.execute(query) if location is not None}


def drop_pointers(connection: Connection, tables: Iterable[str]) -> None:
    """Remove the tables from the catalog, if they exist: their state is older than the epoch."""
    for table in tables:
        connection.execute(delete(IcebergTables).filter_by(**_pointer(table)))


def _pointer(table: str) -> dict[str, Any]:
    """The key of the table in Iceberg's table of pointers."""
    return {"catalog_name": NAMESPACE, "table_namespace": NAMESPACE, "table_name": table}


def move_pointers(connection: Connection, all_staged: Iterable[StagedTable]) -> None:
    """Move each table's pointer if it has not changed. Raises CommitConflict if it has, or
    sqlalchemy.exc.IntegrityError if a new table already exists; the caller must then roll back."""
    for staged in all_staged:
        key = _pointer(staged.table)
        new = {
            "metadata_location": staged.metadata_location,
            "previous_metadata_location": staged.previous_location,
        }
        if staged.previous_location is None:
            connection.execute(insert(IcebergTables).values(**key, **new, iceberg_type="TABLE"))
            continue
        moved = connection.execute(
            update(IcebergTables).filter_by(**key, metadata_location=staged.previous_location).values(**new)
        )
        if moved.rowcount != 1:
            raise CommitConflict(f"table {staged.table} was moved by another publisher")


def open_catalog(address: LakeAddress, timeout_seconds: float) -> SqlCatalog:
    """Locations are absolute paths, because pyiceberg splits a file:// URI at `#`, `?` and `%`. Connections
    are not pooled, so an open catalog has no open connection and need not be closed."""
    url = catalog_url(address, timeout_seconds)
    catalog = SqlCatalog(
        NAMESPACE, uri=url.render_as_string(hide_password=False), **file_io_properties(address)
    )
    catalog.engine.dispose()
    catalog.engine = create_engine(url, poolclass=NullPool)
    catalog.create_namespace_if_not_exists(NAMESPACE)
    return catalog


def _opened_catalog(address: LakeAddress) -> SqlCatalog:
    """Open the catalog, and create its tables if they are missing. Repeated, because another process may
    create them at the same time, and only a SQLite catalog has a lock."""
    engine = create_engine(catalog_url(address, BUSY_SECONDS), poolclass=NullPool)
    for tries in range(CREATE_TRIES, 0, -1):
        try:
            create_tables(engine)  # first, because SqlCatalog leaves its connection open if it fails
            return open_catalog(address, BUSY_SECONDS)
        except (IntegrityError, ProgrammingError):
            if tries == 1:
                raise
    raise AssertionError("unreachable")


@dataclass(frozen=True, slots=True)
class Lake:
    """A lake that is open for writing. `store`: the name of the store that is published, in a lake of several
    stores. The epochs that are published and returned are then those of this store (`Epoch.of`)."""

    address: LakeAddress
    storage: Storage
    catalog: SqlCatalog
    store: str = ""

    @classmethod
    def create(cls, address: LakeAddress, store: str = "") -> "Lake":
        """Open the lake at that address; create it if it does not exist.

        Raises UsageError if its folder cannot be written, if it has another format, or for an invalid name of
        a store."""
        check_store_names([store] if store else [])
        file = address.catalog_file
        with lake_errors(address):
            storage = Storage.of(address)
            storage.try_writing()
            with ExitStack() as stack:  # two processes must not create the catalog's tables at the same time
                if file is not None:
                    file.parent.mkdir(parents=True, exist_ok=True)
                    stack.enter_context(file_lock(file.parent))
                catalog = _opened_catalog(address)
            _refuse_epochs_of_another_catalog(storage)
        return cls(address, storage, catalog, store)

    def epochs(self) -> list[Epoch]:
        """The published epochs, newest first."""
        return [seen for epoch in read_epochs(self.address) if (seen := self.seen(epoch)) is not None]

    def seen(self, epoch: Epoch) -> Epoch | None:
        """The epoch as a publisher of this store sees it: see `seen_by`."""
        return seen_by(self.store, epoch)

    def stored_name(self, table: str) -> str:
        """The name of a table of this store in the catalog."""
        return f"{self.store}_{table}" if self.store else table

    def newest(self) -> Epoch | None:
        """The newest epoch, or None. Raises UsageError if another program has changed a table of the lake,
        and as `seen` does."""
        epochs = read_epochs(self.address, limit=1)
        with self.catalog.engine.connect() as connection:
            found = read_pointers(connection)
        published = {n: t.metadata for n, t in epochs[0].tables.items()} if epochs else {}
        _refuse_another_place(self.address, found.values())
        if foreign := sorted(n for n in found.keys() | published.keys() if found.get(n) != published.get(n)):
            if read_epochs(self.address, limit=1) != epochs:
                return self.newest()  # an epoch was published between the two reads
            raise UsageError(
                f"{', '.join(foreign)} in the lake {self.address.root} was written by another program, so "
                "it may differ from Postgres: drop that table from the catalog, or choose another "
                "folder with --lake, and run `ridelake snapshot`"
            )
        return self.seen(epochs[0]) if epochs else None

    def check_source(self, token: SnapshotToken) -> None:
        """Check that this database can be a store of the lake. Raises UsageError."""
        for newest in read_epochs(self.address, limit=1) if self.store else ():
            check_store_names({*newest.stores, self.store})
            check_one_name_per_store(newest.tokens, self.store, token)

    def selection(self) -> Selection | None:
        """The stored selection of tables; None if all are known by name."""
        with self.catalog.engine.connect() as connection:
            return read_selection(connection, self.store)

    def store_selection(self, selection: Selection) -> None:
        with self.catalog.engine.begin() as connection:
            write_selection(connection, self.store, selection)

    def publish(
        self,
        epoch: Epoch,
        staged: Sequence[StagedTable],
        expired: Sequence[int] = (),
        departed: Collection[str] = (),
        selection: Selection | None = None,
        previous: Epoch | None = None,
    ) -> Epoch:
        """Make the epoch the newest one, move the Iceberg pointers to the same state, remove the pointers of
        `departed` tables, and remove the `expired` epochs from the catalog. `selection`: to be stored.
        `previous`: the epoch that a store's changes are based on. Returns the epoch with its number, which is
        greater than expected if other stores have published since then.

        Raises CommitConflict if its number is taken, a pointer was moved, or this store was published
        concurrently."""
        left = {self.stored_name(name) for name in departed}
        for tries in range(COMMIT_TRIES, 0, -1):
            whole = self._with_others(epoch, previous) if self.store else epoch
            try:
                with self.catalog.engine.begin() as connection:
                    self._commit(connection, whole, staged, expired, left, selection)
                break
            except (IntegrityError, CommitConflict) as error:
                newest = read_epochs(self.address, limit=1) if self.store and tries > 1 else []
                if not newest or newest[0].number < whole.number:
                    raise self._conflict(epoch) from error
        self.write_manifest(whole)
        self.write_hints({*(one.table for one in staged), *whole.left_out, *left})
        if whole.number == 1:
            self.write_readme()
        return replace(epoch, number=whole.number, published_at=whole.published_at)

    def _with_others(self, epoch: Epoch, previous: Epoch | None) -> Epoch:
        """The next epoch of all stores. Raises CommitConflict if this store was published since `previous`;
        UsageError as `check_source` and `seen` do."""
        newest = next(iter(read_epochs(self.address, limit=1)), None)
        self.check_source(epoch.token)
        if not is_unchanged(self.store, previous, newest):
            raise self._conflict(epoch)
        return with_others(self.store, epoch, newest)

    def _conflict(self, epoch: Epoch) -> CommitConflict:
        what = f"an epoch of {self.store}" if self.store else f"epoch {epoch.number}"
        return CommitConflict(
            f"cannot publish {what}: another process published it first; "
            "run the command again, or stop one of the two processes"
        )

    def _commit(
        self,
        connection: Connection,
        epoch: Epoch,
        staged: Sequence[StagedTable],
        expired: Sequence[int],
        departed: Collection[str],
        selection: Selection | None,
    ) -> None:
        # First, because it takes the write lock: a concurrent publisher waits and fails here.
        connection.execute(
            insert(EPOCHS).values(
                number=epoch.number,
                kind=epoch.kind,
                published_at=epoch.published_at.isoformat(),
                token=token_column(epoch),
                tables=json.dumps(tables_to_json(self.address, epoch)),
                seconds=epoch.seconds,
                verified=epoch.verified,
            )
        )
        # The number is free again if an epoch was published and expired since the draft began.
        if connection.execute(select(func.max(EPOCHS.c.number))).scalar_one() != epoch.number:
            raise CommitConflict(f"epoch {epoch.number} is not the newest epoch")
        connection.execute(update(LAKE).values(format=_format(epoch)))
        move_pointers(connection, staged)
        drop_pointers(connection, {*epoch.left_out, *departed})
        if selection is not None:
            write_selection(connection, self.store, selection)
        connection.execute(delete(EPOCHS).where(EPOCHS.c.number.in_(expired)))
        found = read_pointers(connection)
        if any(found.get(name) != table.metadata for name, table in epoch.tables.items()):
            raise CommitConflict("a table was moved by another program")

    def record_verified(self, epoch: Epoch) -> Epoch:
        """Record that the published epoch was compared with Postgres and is equal."""
        verified = replace(epoch, verified=True)
        if self.store:
            return verified  # the published epoch has other stores' tables, which were not compared
        with self.catalog.engine.begin() as connection:
            connection.execute(update(EPOCHS).where(EPOCHS.c.number == epoch.number).values(verified=True))
        self.write_manifest(verified)
        return verified

    def write_manifest(self, epoch: Epoch) -> None:
        """Write the epoch's manifest, which can be read without the catalog. One that a reader has locked is
        not replaced: the lock would be that of a deleted file."""
        report = epoch.report() | {"format": _format(epoch), "tables": tables_to_json(self.address, epoch)}
        location, content = self.address.manifest(epoch.number), json.dumps(report, indent=1).encode()
        with ExitStack() as held:
            with suppress(FileNotFoundError):
                lock = file_lock(location, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not self.address.remote and not held.enter_context(lock):
                    return
            self.storage.write_whole(location, content)

    def write_hints(self, tables: Collection[str]) -> None:
        """Write the `version-hint.text` of these tables: the name of the metadata that the catalog refers to,
        for readers that open a folder. The hint of a table that is not in the catalog is deleted."""
        written: dict[str, str | None] = {}
        while True:  # another process may publish meanwhile: after a write, check again
            with self.catalog.engine.connect() as connection:
                pointers = read_pointers(connection)
            due = {name: pointers.get(name) for name in tables}
            if due == written:
                return
            with ThreadPoolExecutor(FSYNC_THREADS) as threads:
                list(threads.map(self._write_hint, *zip(*(due.items() - written.items()), strict=True)))
            written = due

    def _write_hint(self, table: str, metadata: str | None) -> None:
        location = hint_location(self.address, table)
        if metadata is None:
            self.storage.delete([location])
        else:
            self.storage.write_whole(location, _hint(metadata))

    def tables_without_hint(self, epoch: Epoch) -> list[str]:
        """The tables whose hint is missing or does not name the metadata of the epoch."""

        def hint(table: str) -> bytes:
            try:
                with self.storage.open(hint_location(self.address, table)) as file:
                    return bytes(file.read())
            except FileNotFoundError:
                return b""

        with ThreadPoolExecutor(FSYNC_THREADS) as threads:
            hints = threads.map(hint, epoch.tables)
            return [
                name
                for (name, table), found in zip(epoch.tables.items(), hints, strict=True)
                if found != _hint(table.metadata)
            ]

    def write_readme(self) -> None:
        """Write the file that explains the folder to readers who have only the files."""
        text = load_script("lakehouse.table", "read_me_first.txt")
        self.storage.write_whole(self.address.join(README), text.encode())

    def has(self, number: int, metadata: set[str]) -> bool:
        """Whether epoch `number`, or a later one if there are several stores, is published with these
        metadata files."""
        return any(
            metadata <= {table.metadata for table in epoch.tables.values()}
            for epoch in read_epochs(self.address, None if self.store else number)
        )


def _format(epoch: Epoch) -> int:
    return STORES_FORMAT if epoch.stores else FORMAT


def _hint(metadata: str) -> bytes:
    return metadata.rsplit("/", 1)[1].removesuffix(METADATA_SUFFIX).encode()


def _refuse_another_place(address: LakeAddress, locations: Collection[str]) -> None:
    """Iceberg metadata contains absolute paths. Raises UsageError if a path is outside of this lake."""
    others = {at.rsplit("/", 3)[0] for at in locations if not at.startswith(address.join(""))}
    if others:
        raise UsageError(
            f"the catalog belongs to the lake {min(others)}, not to {address.root}: a lake that was moved, "
            "or that shares the catalog of another lake, is read-only; use the original location, or create "
            "a new lake in an empty folder with its own catalog"
        )


def _refuse_epochs_of_another_catalog(storage: Storage) -> None:
    """Check that the catalog belongs to the lake. Raises UsageError if the catalog has no epochs but the lake
    has manifests: the catalog is then the wrong one, or an empty one that was just created. `maintain` would
    remove all files as orphans."""
    address = storage.address
    if read_epochs(address, limit=1):
        return
    if any(file.location.endswith(".json") for file in storage.files_under("epochs")):
        if read_epochs(address, limit=1):
            return  # the first epoch was published between the two reads
        raise UsageError(
            f"{address.root} has epochs that the catalog {address.catalog_file or 'at RIDELAKE_CATALOG'} "
            "does not list: pass the catalog they were published with (--catalog, or its --home), or "
            "choose another location with --lake"
        )
