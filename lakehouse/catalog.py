"""The lake, to be written to: its files, and the catalog that says what is published.

    LAKE/rides/data/*.parquet      immutable; an epoch pins the ones it is made of
    LAKE/rides/metadata/*          Iceberg's own: manifests and metadata, for any Iceberg reader
    LAKE/epochs/00042.json         what epoch 42 is made of, for whoever has none of our code
    LAKE/catalog.sqlite            iceberg_tables (pyiceberg's) and epochs (ours), moved in one transaction;
                                   or in another database, by its SQLAlchemy URL

Publishing is compare-and-set: epoch n + 1 is written only where n is still the newest and every table's
pointer is where it was. Of two publishers at once, one wins and the other is told; whoever is killed
before the commit leaves the old epoch as it was, and some files that nobody points at.
"""

import fcntl
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
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

from lakehouse.commit import catalog_url, open_catalog
from lakehouse.epoch import Epoch, tables_to_json
from lakehouse.faults import refusing_a_bad_lake
from lakehouse.pointers import LostRace, Staged, drop, move, pointers
from lakehouse.published import BUSY_SECONDS, EPOCHS_QUERY, FORMAT, read_epochs, refuse_another_format
from lakehouse.storage import Storage
from ridelake.errors import UsageError
from ridelake.settings import LakeAddress

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
    """A lake that can be written to."""

    address: LakeAddress
    storage: Storage
    catalog: SqlCatalog

    @classmethod
    def create(cls, address: LakeAddress) -> "Lake":
        """The lake at that address, made if it is not there.

        Raises UsageError if its folder cannot be written, or if it is of another format."""
        file = address.catalog_file
        with refusing_a_bad_lake(address):
            storage = Storage.of(address)
            storage.try_writing()
            with _alone_in(file.parent if file else None):
                catalog = open_catalog(address, BUSY_SECONDS)
                _make_tables(catalog)
            _refuse_epochs_of_another_catalog(storage)
        return cls(address, storage, catalog)

    def newest(self) -> Epoch | None:
        """Raises UsageError if a table of the lake is not as the newest epoch left it."""
        epochs = read_epochs(self.address, limit=1)
        with self.catalog.engine.connect() as connection:
            found = pointers(connection)
        published = {n: t.metadata for n, t in epochs[0].tables.items()} if epochs else {}
        _refuse_another_place(self.address, found.values())
        if strangers := sorted(
            n for n in found.keys() | published.keys() if found.get(n) != published.get(n)
        ):
            if read_epochs(self.address, limit=1) != epochs:
                return self.newest()  # an epoch was published between the two looks
            raise UsageError(
                f"{', '.join(strangers)} in the lake {self.address.root} was written by another program, so "
                "it is not what Postgres had: drop that table from the catalog there, or choose another "
                "folder with --lake, and run `ridelake snapshot`"
            )
        return epochs[0] if epochs else None

    def publish(self, epoch: Epoch, staged: Sequence[Staged], expired: Sequence[int] = ()) -> None:
        """Make the epoch the newest, together with the Iceberg metadata that says the same, and forget the
        `expired` ones.

        Raises LostRace if its number is taken or a table was moved meanwhile."""
        try:
            with self.catalog.engine.begin() as connection:
                # First, because it takes the write lock: who comes second waits here, and then fails here.
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
                move(connection, staged)
                drop(connection, epoch.left_out)
                connection.execute(delete(EPOCHS).where(EPOCHS.c.number.in_(expired)))
                found = pointers(connection)
                if any(found.get(name) != table.metadata for name, table in epoch.tables.items()):
                    raise LostRace("a table was moved by another program")
        except (IntegrityError, LostRace) as error:
            raise LostRace(
                f"another process published epoch {epoch.number} first, so this one is not published: "
                "run the command again, or leave the lake to the other process"
            ) from error
        self.write_manifest(epoch)

    def record_verified(self, epoch: Epoch) -> Epoch:
        """The published epoch has been compared with Postgres and is equal."""
        verified = replace(epoch, verified=True)
        with self.catalog.engine.begin() as connection:
            connection.execute(update(EPOCHS).where(EPOCHS.c.number == epoch.number).values(verified=True))
        self.write_manifest(verified)
        return verified

    def write_manifest(self, epoch: Epoch) -> None:
        """Say what the epoch is made of where no catalog is needed to read it."""
        report = epoch.report() | {"format": FORMAT, "tables": tables_to_json(self.address, epoch)}
        self.storage.write_whole(self.address.manifest(epoch.number), json.dumps(report, indent=1).encode())

    def has(self, number: int, metadata: set[str]) -> bool:
        """Whether epoch `number` is published, and by whom wrote this metadata."""
        return any(
            metadata <= {table.metadata for table in epoch.tables.values()}
            for epoch in read_epochs(self.address, number)
        )


def epoch_rows(address: LakeAddress, number: int | None, limit: int) -> list[Sequence[Any]]:
    """`published.read_epochs` where the catalog is not SQLite. Raises CannotConnect, UsageError."""
    query = EPOCHS_QUERY.replace(":number,", "CAST(:number AS integer),")
    bound: Mapping[str, Any] = {"number": number, "limit": limit if limit >= 0 else None}
    with refusing_a_bad_lake(address):
        engine = create_engine(catalog_url(address, BUSY_SECONDS), poolclass=NullPool)
        try:
            with engine.connect() as connection:
                refuse_another_format(connection.execute(text("SELECT format FROM lake")).fetchall())
                return list(connection.execute(text(query), bound).fetchall())
        except ProgrammingError:
            return []  # the tables are not there yet


def _refuse_another_place(address: LakeAddress, pointers: Collection[str]) -> None:
    """Iceberg's metadata names files by their whole path. Raises UsageError if that begins elsewhere."""
    others = {at.rsplit("/", 3)[0] for at in pointers if not at.startswith(address.join(""))}
    if others:
        raise UsageError(
            f"the catalog is of the lake {min(others)}, and this is {address.root}: a lake that was moved, "
            "or shares its catalog with another, can only be read; give the place it was published at, or "
            "begin anew in an empty folder with a catalog of its own"
        )


def _make_tables(catalog: SqlCatalog) -> None:
    METADATA.create_all(catalog.engine)
    with catalog.engine.begin() as connection:
        found = connection.execute(LAKE.select()).fetchall()
        refuse_another_format([tuple(row) for row in found])
        if not found:
            connection.execute(insert(LAKE).values(format=FORMAT))


def _refuse_epochs_of_another_catalog(storage: Storage) -> None:
    """It may be the wrong one, or none was named and the one beside the files was made just now; and what it
    does not know would be swept. Raises UsageError if it knows of no epoch and the files do."""
    address = storage.address
    if read_epochs(address, limit=1):
        return
    if any(file.location.endswith(".json") for file in storage.files_under("epochs")):
        if read_epochs(address, limit=1):
            return  # the first epoch was published between the two looks
        raise UsageError(
            f"{address.root} has epochs that the catalog {address.catalog_file or 'at RIDELAKE_CATALOG'} "
            "does not know: give their own catalog (--catalog, or the --home they were published from), or "
            "choose another place with --lake"
        )


@contextmanager
def _alone_in(folder: Path | None) -> Iterator[None]:
    """Two first users must not both make the catalog's tables. The lock is on the folder itself."""
    if folder is None:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
