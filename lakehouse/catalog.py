"""The lake: a folder, and in it the catalog that says what is published.

    LAKE/catalog.sqlite            iceberg_tables (pyiceberg's) and epochs (ours), moved in one transaction
    LAKE/rides/data/*.parquet      immutable; an epoch pins the ones it is made of
    LAKE/rides/metadata/*          Iceberg's own: manifests and metadata, for any Iceberg reader

Publishing is compare-and-set: epoch n + 1 is written only where n is still the newest and every table's
pointer is where it was. Of two publishers at once, one wins and the other is told; whoever is killed
before the commit leaves the old epoch as it was, and some files that nobody points at.
"""

import errno
import fcntl
import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from pyiceberg.catalog.sql import SqlCatalog
from sqlalchemy import JSON, Column, Float, Integer, MetaData, String, Table, insert
from sqlalchemy.exc import DBAPIError, IntegrityError

from lakehouse.commit import LostRace, Staged, move, open_catalog
from lakehouse.epoch import BUSY_SECONDS, CATALOG_FILE, Epoch, TableState, Token, read_epochs, tables_to_json
from lakehouse.layout import DataFile
from ridelake.errors import UsageError

EPOCHS = Table(
    "epochs",
    MetaData(),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("published_at", String, nullable=False),
    Column("token", JSON, nullable=False),
    Column("tables", JSON, nullable=False),
    Column("seconds", Float, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Lake:
    """A lake that can be written to."""

    folder: Path
    catalog: SqlCatalog

    @classmethod
    def create(cls, folder: Path) -> "Lake":
        """The lake in `folder`, made if it is not there.

        Raises UsageError if the folder cannot be written."""
        folder = folder.absolute()
        with refusing_a_bad_folder(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder), _alone_in(folder):
                catalog = open_catalog(folder, folder / CATALOG_FILE, BUSY_SECONDS)
                EPOCHS.metadata.create_all(catalog.engine)
        return cls(folder, catalog)

    def newest_number(self) -> int:
        """0 if there is no epoch yet."""
        newest = read_epochs(self.folder, limit=1)
        return newest[0].number if newest else 0

    def publish(
        self,
        number: int,
        token: Token,
        files: Mapping[str, Sequence[DataFile]],
        staged: Sequence[Staged],
        seconds: float,
    ) -> Epoch:
        """Make epoch `number` of each table's files and of the staged Iceberg metadata that says the same.

        Raises LostRace if that number is taken or a table was moved meanwhile."""
        by_table = {one.table: one for one in staged}
        tables = {
            name: TableState(
                files=tuple(file.path for file in written),
                rows=sum(file.rows for file in written),
                bytes=sum(file.bytes for file in written),
                snapshot_id=by_table[name].snapshot_id,
                metadata=Path(by_table[name].metadata_location),
            )
            for name, written in files.items()
        }
        epoch = Epoch(number, datetime.now(UTC), token, tables, seconds)
        try:
            with self.catalog.engine.begin() as connection:
                # First, because it takes the write lock: who comes second waits here, and then fails here.
                connection.execute(
                    insert(EPOCHS).values(
                        number=number,
                        published_at=epoch.published_at.isoformat(),
                        token=asdict(token),
                        tables=tables_to_json(self.folder, tables),
                        seconds=seconds,
                    )
                )
                move(connection, staged)
        except (IntegrityError, LostRace) as error:
            raise LostRace(
                f"another snapshot was published meanwhile, and epoch {number} is not ours: run it again"
            ) from error
        return epoch

    def has(self, number: int, metadata: Iterable[Path]) -> bool:
        """Whether epoch `number` is published, and by whom wrote this metadata."""
        wanted = set(metadata)
        return any(
            {t.metadata for t in epoch.tables.values()} == wanted
            for epoch in read_epochs(self.folder, number)
        )


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Two first users must not both make the catalog's tables. The lock is on the folder itself."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


ELSEWHERE = "choose another folder with --lake or RIDELAKE_LAKE"
FOLDER_FAULTS = {
    errno.ENOSPC: f"the disk is full: free some space, or {ELSEWHERE}",
    errno.EDQUOT: f"the disk quota is used up: free some space, or {ELSEWHERE}",
    errno.EROFS: f"it is on a read-only file system: {ELSEWHERE}",
    errno.EACCES: f"you may not write there: {ELSEWHERE}",
    errno.EPERM: f"you may not write there: {ELSEWHERE}",
    errno.ENOTDIR: f"a file is in its place: {ELSEWHERE}",
    errno.EEXIST: f"a file is in its place: {ELSEWHERE}",
}

# SQLite has its own words for the same faults.
SQLITE_FAULTS = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
    sqlite3.SQLITE_PERM: errno.EACCES,
}


@contextmanager
def refusing_a_bad_folder(folder: Path) -> Iterator[None]:
    """Say what is wrong with a folder that cannot be written, and what to do."""
    try:
        yield
    except OSError as error:
        fault = FOLDER_FAULTS.get(error.errno or 0)
        if fault is None:
            raise
        raise UsageError(f"the lake {folder} cannot be written, {fault}") from error
    except DBAPIError as error:
        code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF  # the upper bits say more than we need
        if code == sqlite3.SQLITE_NOTADB:
            raise UsageError(f"{folder / CATALOG_FILE} is not a catalog: {ELSEWHERE}") from error
        fault = FOLDER_FAULTS.get(SQLITE_FAULTS.get(code, 0))
        if fault is None:
            raise
        raise UsageError(f"the lake {folder} cannot be written, {fault}") from error
