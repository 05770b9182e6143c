"""The catalog of a lake, open for writing.

    LAKE/rides/data/*.parquet      immutable; an epoch lists the files that it consists of
    LAKE/rides/metadata/*          Iceberg manifests and metadata, for any Iceberg reader
    LAKE/epochs/00042.json         the manifest of epoch 42, for readers without ridelake
    LAKE/catalog.sqlite            the tables iceberg_tables (pyiceberg) and epochs (ridelake), updated in one
                                   transaction; with --catalog, in another database

Publishing is compare-and-set: epoch n + 1 is inserted only if n is still the newest epoch and no table's
pointer has changed. If two processes publish concurrently, one succeeds and the other gets an error. A
process that is killed before the commit leaves the previous epoch unchanged, and orphan files.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace

from pyiceberg.catalog.sql import SqlCatalog
from sqlalchemy import (
    Boolean,
    Column,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    delete,
    insert,
    update,
)
from sqlalchemy.exc import IntegrityError

from lakehouse.table.commit import (
    CommitConflict,
    StagedTable,
    drop_pointers,
    move_pointers,
    open_catalog,
    read_pointers,
)
from lakehouse.table.epoch import Epoch, tables_to_json
from lakehouse.table.errors import lake_errors
from lakehouse.table.published import BUSY_SECONDS, FORMAT, check_format, read_epochs
from lakehouse.table.storage import Storage, folder_lock
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
