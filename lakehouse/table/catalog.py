"""The catalog of a lake: read the published epochs, and open it for writing.

This must not take longer than a query on an epoch, so with a SQLite catalog the module imports only the
standard library: importing pyiceberg takes 1 s, SQLAlchemy almost 0.5 s.

    LAKE/rides/data/*.parquet      immutable; an epoch lists the files that it consists of
    LAKE/rides/metadata/*          Iceberg manifests and metadata, for any Iceberg reader
    LAKE/epochs/00042.json         the manifest of epoch 42, for readers without ridelake
    LAKE/catalog.sqlite            the tables iceberg_tables (pyiceberg) and epochs (ridelake), updated in one
                                   transaction; with --catalog, in another database

Publishing is compare-and-set: epoch n + 1 is inserted only if n is still the newest epoch and no table's
pointer has changed. If two processes publish concurrently, one succeeds and the other gets an error. A
process that is killed before the commit leaves the previous epoch unchanged, and orphan files.
"""

import errno
import fcntl
import json
import os
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pyiceberg.catalog.sql import SqlCatalog
from sqlalchemy import (
    Boolean,
    Column,
    Float,
    Integer,
    MetaData,
    NullPool,
    String,
    Table,
    create_engine,
    delete,
    insert,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError, ProgrammingError

from lakehouse.table.commit import (
    CommitConflict,
    StagedTable,
    catalog_url,
    drop_pointers,
    move_pointers,
    open_catalog,
    read_pointers,
)
from lakehouse.table.epoch import Epoch, SnapshotToken, tables_from_json, tables_to_json
from lakehouse.table.errors import lake_errors
from lakehouse.table.storage import Storage, folder_lock
from ridelake.errors import NotReady, RidelakeError, UsageError
from ridelake.settings import LakeAddress

FORMAT = 2
"""The version of the catalog's tables and of the manifests. Other versions are rejected."""

# A publisher locks the catalog for some milliseconds. After this time it is assumed to be stopped.
BUSY_SECONDS = 30.0

EPOCHS_QUERY = (
    "SELECT number, kind, published_at, token, tables, seconds, verified FROM epochs"
    " WHERE number = coalesce(:number, number) ORDER BY number DESC LIMIT :limit"
)


def read_epochs(address: LakeAddress, number: int | None = None, limit: int = -1) -> list[Epoch]:
    """The published epochs of the lake, newest first; only epoch `number` if it is given. Empty if there are
    no epochs. Raises UsageError if the file is not a catalog, or is one of another version."""
    if (file := address.catalog_file) is None:
        # here, because it imports SQLAlchemy

        rows = epoch_rows(address, number, limit)
    elif not _is_file(address, file):
        return []
    else:
        try:
            rows = _rows(file, number, limit)
        except sqlite3.Error as error:
            if "no such table" in str(error):
                return []  # a catalog that is being created
            raise UsageError(
                f"{file} cannot be read as a catalog ({error}): choose another folder with --lake"
            ) from error
    return [_epoch(address, row) for row in rows]


def _is_file(address: LakeAddress, file: Path) -> bool:
    """Whether the catalog exists. Raises UsageError or CannotConnect if its lake cannot be reached."""
    try:
        if file.is_file():
            return True
        if address.remote:
            from lakehouse.table.storage import Storage  # here, because it imports pyarrow

            Storage.of(address).refuse_without_bucket()
        for folder in (file, *file.parents):
            if folder.exists():
                if folder != file and not folder.is_dir():
                    raise NotADirectoryError(errno.ENOTDIR, f"{folder} is a file")
                break
    except OSError as error:
        raise UsageError(
            f"the lake {address.root} cannot be read, {error.strerror or error}: "
            "choose another folder with --lake or --home"
        ) from error
    return False


def _rows(file: Path, number: int | None, limit: int, mode: str = "ro") -> list[Sequence[Any]]:
    try:
        with closing(
            sqlite3.connect(f"{file.absolute().as_uri()}?mode={mode}", BUSY_SECONDS, uri=True)
        ) as connection:
            check_format(connection.execute("SELECT format FROM lake").fetchall())
            return connection.execute(EPOCHS_QUERY, {"number": number, "limit": limit}).fetchall()
    except sqlite3.OperationalError as error:
        # A publisher was killed, and SQLite must roll its transaction back, which needs write access.
        if mode == "ro" and error.sqlite_errorcode == sqlite3.SQLITE_READONLY_ROLLBACK:
            return _rows(file, number, limit, "rw")
        raise


def check_format(found: Sequence[Sequence[Any]]) -> None:
    """Raises UsageError unless the lake has the format of this version."""
    if found and found[0][0] != FORMAT:
        than = "a newer" if found[0][0] > FORMAT else "an older"
        raise UsageError(
            f"this lake has format {found[0][0]} of {than} version of ridelake; this version supports format "
            f"{FORMAT}: use that version, or choose another folder with --lake and run `ridelake snapshot`"
        )


def _epoch(address: LakeAddress, row: Sequence[Any]) -> Epoch:
    number, kind, published_at, token, found, seconds, verified = row
    tables, left_out = tables_from_json(address, _loaded(found))
    return Epoch(
        number=number,
        kind=kind,
        published_at=datetime.fromisoformat(published_at),
        token=SnapshotToken(**_loaded(token)),
        tables=tables,
        seconds=seconds,
        verified=None if verified is None else bool(verified),
        left_out=left_out,
    )


def _loaded(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def newest_epoch(address: LakeAddress) -> Epoch:
    """Raises NotReady if there is no epoch."""
    for epoch in read_epochs(address, limit=1):
        return epoch
    raise NotReady(no_epoch_message(address))


def no_epoch_message(address: LakeAddress) -> str:
    """The message if there is no epoch: the lake is new, or its catalog is missing."""
    if not address.remote and any(address.folder.glob("epochs/*.json")):
        where = address.catalog_file or "the catalog of --catalog"
        return (
            f"the lake {address.root} has epochs that {where} does not list: pass the catalog they were "
            "published with (--catalog), or choose another folder with --lake"
        )
    return f"no epoch yet in {address.root}: run `ridelake snapshot`"


def check_files_exist(address: LakeAddress, epoch: Epoch) -> None:
    """Raises RidelakeError if a file of the epoch was deleted, which each engine reports differently."""
    if address.remote:
        return
    for table in epoch.tables.values():
        for location in table.locations:
            if not Path(location).exists():
                raise RidelakeError(
                    f"epoch {epoch.number} is damaged, {location} is missing: restore the file, or publish "
                    "all rows to another folder with `ridelake snapshot --lake DIR`"
                )


def numbered_epoch(address: LakeAddress, number: int) -> Epoch:
    """Raises NotReady if there are no epochs, UsageError if there is no epoch `number`."""
    for epoch in read_epochs(address, number):
        return epoch
    raise UsageError(
        f"there is no epoch {number}, the newest is {newest_epoch(address).number}: see `ridelake epochs`"
    )


def epoch_as_of(address: LakeAddress, when: str) -> Epoch:
    """The epoch of that number, or the newest that was taken at or before that time (ISO 8601, UTC if it has
    no offset). Raises UsageError if `when` is neither, or if there is no such epoch."""
    if when.isascii() and when.isdecimal() and len(when) <= 9:
        return numbered_epoch(address, int(when))
    try:
        moment = datetime.fromisoformat(when)
    except ValueError:
        raise UsageError(
            f"--as-of must be an epoch number or a time such as 2026-07-01T12:00:00+00:00, not {when!r}"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    for epoch in read_epochs(address):
        if datetime.fromisoformat(epoch.token.taken_at) <= moment:
            return epoch
    newest_epoch(address)
    raise UsageError(f"no epoch was published at or before {when}: see `ridelake epochs`")


@contextmanager
def pin_epoch(address: LakeAddress, epoch: Epoch) -> Iterator[None]:
    """Keep `ridelake maintain` from expiring the epoch until the end of the block. It locks the manifest; the
    kernel releases the lock when the process ends. A remote lake has no locks; there, `maintain` does not
    expire an epoch in its first hour. Raises NotReady if the epoch has just been expired."""
    try:
        descriptor = os.open(address.manifest(epoch.number), os.O_RDONLY) if not address.remote else None
    except FileNotFoundError:
        descriptor = None  # killed between commit and manifest, or expired; the catalog shows which
    try:
        if descriptor is not None:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        if not read_epochs(address, epoch.number):
            raise NotReady(f"epoch {epoch.number} has just been expired; run the command again")
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


METADATA = MetaData()
LAKE = Table("lake", METADATA, Column("format", Integer, primary_key=True, autoincrement=False))
EPOCHS = Table(
    "epochs",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("kind", String, nullable=False),
    Column("published_at", String, nullable=False),
    Column("token", String, nullable=False),  # JSON, and so are the tables
    Column("tables", String, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("verified", Boolean),
)


@dataclass(frozen=True, slots=True)
class Lake:
    """A lake that is open for writing."""

    address: LakeAddress
    storage: Storage
    catalog: SqlCatalog

    @classmethod
    def create(cls, address: LakeAddress) -> "Lake":
        """Open the lake at that address; create it if it does not exist.

        Raises UsageError if its folder cannot be written, or if it has another format."""
        file = address.catalog_file
        with lake_errors(address):
            storage = Storage.of(address)
            storage.try_writing()
            with folder_lock(file.parent if file else None):
                catalog = open_catalog(address, BUSY_SECONDS)
                _make_tables(catalog)
            _refuse_epochs_of_another_catalog(storage)
        return cls(address, storage, catalog)

    def newest(self) -> Epoch | None:
        """The newest epoch, or None. Raises UsageError if another program has changed a table of the lake."""
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
        return epochs[0] if epochs else None

    def publish(self, epoch: Epoch, staged: Sequence[StagedTable], expired: Sequence[int] = ()) -> None:
        """Make the epoch the newest one, move the Iceberg pointers to the same state, and remove the
        `expired` epochs from the catalog.

        Raises LostRace if its number is taken or a pointer was moved concurrently."""
        try:
            with self.catalog.engine.begin() as connection:
                # First, because it takes the write lock: a concurrent publisher waits and fails here.
                connection.execute(
                    insert(EPOCHS).values(
                        number=epoch.number,
                        kind=epoch.kind,
                        published_at=epoch.published_at.isoformat(),
                        token=json.dumps(asdict(epoch.token)),
                        tables=json.dumps(tables_to_json(self.address, epoch)),
                        seconds=epoch.seconds,
                        verified=epoch.verified,
                    )
                )
                move_pointers(connection, staged)
                drop_pointers(connection, epoch.left_out)
                connection.execute(delete(EPOCHS).where(EPOCHS.c.number.in_(expired)))
                found = read_pointers(connection)
                if any(found.get(name) != table.metadata for name, table in epoch.tables.items()):
                    raise CommitConflict("a table was moved by another program")
        except (IntegrityError, CommitConflict) as error:
            raise CommitConflict(
                f"cannot publish epoch {epoch.number}: another process published it first; "
                "run the command again, or stop one of the two processes"
            ) from error
        self.write_manifest(epoch)

    def record_verified(self, epoch: Epoch) -> Epoch:
        """Record that the published epoch was compared with Postgres and is equal."""
        verified = replace(epoch, verified=True)
        with self.catalog.engine.begin() as connection:
            connection.execute(update(EPOCHS).where(EPOCHS.c.number == epoch.number).values(verified=True))
        self.write_manifest(verified)
        return verified

    def write_manifest(self, epoch: Epoch) -> None:
        """Write the epoch's manifest, which can be read without the catalog."""
        report = epoch.report() | {"format": FORMAT, "tables": tables_to_json(self.address, epoch)}
        self.storage.write_whole(self.address.manifest(epoch.number), json.dumps(report, indent=1).encode())

    def has(self, number: int, metadata: set[str]) -> bool:
        """Whether epoch `number` is published with these metadata files."""
        return any(
            metadata <= {table.metadata for table in epoch.tables.values()}
            for epoch in read_epochs(self.address, number)
        )


def epoch_rows(address: LakeAddress, number: int | None, limit: int) -> list[Sequence[Any]]:
    """The query of `published.read_epochs` for a catalog other than SQLite. Raises CannotConnect,
    UsageError."""
    query = EPOCHS_QUERY.replace(":number,", "CAST(:number AS integer),")
    bound: Mapping[str, Any] = {"number": number, "limit": limit if limit >= 0 else None}
    with lake_errors(address):
        engine = create_engine(catalog_url(address, BUSY_SECONDS), poolclass=NullPool)
        try:
            with engine.connect() as connection:
                check_format(connection.execute(text("SELECT format FROM lake")).fetchall())
                return list(connection.execute(text(query), bound).fetchall())
        except ProgrammingError:
            return []  # the tables do not exist yet


def _refuse_another_place(address: LakeAddress, locations: Collection[str]) -> None:
    """Iceberg metadata contains absolute paths. Raises UsageError if a path is outside of this lake."""
    others = {at.rsplit("/", 3)[0] for at in locations if not at.startswith(address.join(""))}
    if others:
        raise UsageError(
            f"the catalog belongs to the lake {min(others)}, not to {address.root}: a lake that was moved, "
            "or that shares the catalog of another lake, is read-only; use the original location, or create "
            "a new lake in an empty folder with its own catalog"
        )


def _make_tables(catalog: SqlCatalog) -> None:
    METADATA.create_all(catalog.engine)
    with catalog.engine.begin() as connection:
        found = connection.execute(LAKE.select()).fetchall()
        check_format([tuple(row) for row in found])
        if not found:
            connection.execute(insert(LAKE).values(format=FORMAT))


def _refuse_epochs_of_another_catalog(storage: Storage) -> None:
    """Raises UsageError if the catalog has no epochs but the lake has manifests: the catalog is then the
    wrong one, or an empty one that was just created. `maintain` would remove all files as orphans."""
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
