"""One commit over many Iceberg tables, which pyiceberg does not offer.

pyiceberg commits one table at a time, so a reader could see the rides of one epoch together with the
payments of another. A commit has two parts: write new metadata files, which no reader sees yet, and update
the pointer to them in the catalog. `TableDraft.stage` does the first for each table. `pointers.move` does
the second for all tables, inside a transaction of the catalog's database that the caller opens. A pointer
is updated only if it still has the value that the draft has read.

    LAKE/rides/metadata/00042-….metadata.json   the table: columns, snapshots      (metadata.py)
                        snap-….avro             a snapshot: its list of manifests, here always one
                        …-m0.avro               its manifest: files, with row counts and value ranges
"""

import json
import secrets
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa
from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from pyiceberg.io import FileIO, load_file_io
from pyiceberg.io.pyarrow import parquet_file_to_data_file
from pyiceberg.manifest import (
    DataFile,
    ManifestEntry,
    ManifestEntryStatus,
    read_manifest_list,
    write_manifest,
    write_manifest_list,
)
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.serializers import FromInputFile
from pyiceberg.table.metadata import TableMetadataUtil
from sqlalchemy import URL, Connection, NullPool, create_engine, delete, insert, make_url, select, update
from sqlalchemy.exc import ArgumentError

from lakehouse.table.layout import table_folder
from lakehouse.table.metadata import (
    FileTotals,
    Metadata,
    new_metadata,
    schema_of,
    with_field_ids,
    with_previous,
    with_schema,
    with_snapshot,
    with_snapshots_alive,
)
from lakehouse.table.s3 import iceberg_properties
from ridelake.errors import RidelakeError, UsageError
from ridelake.settings import LakeAddress

NAMESPACE = "ridelake"


class CommitConflict(RidelakeError):
    """Another process published first; this epoch is not published."""


@dataclass(frozen=True, slots=True)
class StagedTable:
    """New metadata of one table, written but not yet referenced by the catalog."""

    table: str
    snapshot_id: int
    metadata_location: str
    previous_location: str | None  # None: the table is new
    written: tuple[str, ...]  # manifests, their list, the metadata


def metadata_files(catalog: SqlCatalog, locations: Collection[str]) -> set[str]:
    """The metadata files, and the manifest lists and manifests of their snapshots."""
    found = set(locations)
    for location in locations:
        io = load_file_io(catalog.properties, location)
        for snapshot in FromInputFile.table_metadata(io.new_input(location)).snapshots:
            found |= _manifests(catalog, snapshot.manifest_list)
    return found


@lru_cache(maxsize=10_000)
def _manifests(catalog: SqlCatalog, manifest_list: str) -> frozenset[str]:
    """Cached, because these files never change and there is one for each table and epoch."""
    io = load_file_io(catalog.properties, manifest_list)
    listed = read_manifest_list(io.new_input(manifest_list))
    return frozenset({manifest_list, *(manifest.manifest_path for manifest in listed)})


def read_pointers(connection: Connection) -> dict[str, str]:
    """Table → location of its metadata."""
    query = select(IcebergTables.table_name, IcebergTables.metadata_location).filter_by(
        catalog_name=NAMESPACE, table_namespace=NAMESPACE
    )
    return {name: location for name, location in connection.execute(query) if location is not None}


def drop_pointers(connection: Connection, tables: Iterable[str]) -> None:
    """Remove the tables from the catalog, if they exist: their state is older than the epoch."""
    for table in tables:
        connection.execute(
            delete(IcebergTables).filter_by(
                catalog_name=NAMESPACE, table_namespace=NAMESPACE, table_name=table
            )
        )


def move_pointers(connection: Connection, all_staged: Iterable[StagedTable]) -> None:
    """Move each table's pointer if it has not changed. Raises LostRace, or sqlalchemy.exc.IntegrityError if a
    new table already exists; the caller must then roll back its transaction."""
    for staged in all_staged:
        key: dict[str, Any] = {
            "catalog_name": NAMESPACE,
            "table_namespace": NAMESPACE,
            "table_name": staged.table,
        }
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
    catalog = SqlCatalog(NAMESPACE, uri=url.render_as_string(hide_password=False), **_properties(address))
    catalog.engine.dispose()
    catalog.engine = create_engine(url, poolclass=NullPool)
    catalog.create_namespace_if_not_exists(NAMESPACE)
    return catalog


def _properties(address: LakeAddress) -> dict[str, str]:
    """Where pyiceberg finds the files."""
    return {"warehouse": address.root} | (iceberg_properties(address) if address.remote else {})


def catalog_url(address: LakeAddress, timeout_seconds: float) -> URL:
    """Raises UsageError if --catalog is not a database URL, or if no driver for it is installed."""
    if address.catalog_file is not None:
        query = {"timeout": str(timeout_seconds)}
        return URL.create("sqlite", database=str(address.catalog_file), query=query)
    try:
        url = make_url(address.catalog_url or "")
        if url.drivername in ("postgres", "postgresql"):
            url = url.set(drivername="postgresql+psycopg")  # the driver that ridelake installs
        url.get_dialect().import_dbapi()
    except (ArgumentError, ModuleNotFoundError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"--catalog must be a SQLAlchemy URL such as postgresql://user@host/name ({reason})"
        ) from error
    return url


@lru_cache(maxsize=8)
def _file_io(address: LakeAddress) -> FileIO:
    return load_file_io(_properties(address), address.root)


class TableDraft:
    """The next metadata of one table; not visible until the pointer is moved to it."""

    def __init__(self, address: LakeAddress, name: str, schema: pa.Schema, pointer: str | None) -> None:
        """`pointer`: the location of the table's metadata; None: the table is new. Columns that only `schema`
        has are added. Raises UsageError if the lake has a column that `schema` lacks or has with another
        type."""
        self.name = name
        self.pointer = pointer
        self._io = _file_io(address)
        if pointer is None:
            before = new_metadata(address.join(table_folder(name)), schema)
        else:
            with self._io.new_input(pointer).open() as file:
                before = json.loads(file.read())
        self._metadata = with_schema(before, schema, name)
        self.file_schema = with_field_ids(self._metadata, schema)

    def stage(
        self,
        added: Sequence[str],
        removed: Collection[str],
        properties: Mapping[str, str],
        alive: Collection[int] | None = None,
    ) -> StagedTable:
        """Write metadata for the table's files without `removed` and with `added`, as a new snapshot if
        either is not empty. `alive`: the older snapshots to keep; None: all. Deletes what it wrote if it
        fails."""
        metadata, written = self._metadata, list[str]()
        stem = f"{metadata['location']}/metadata/"
        commit_id = uuid.uuid4()
        try:
            if added or removed:
                snapshot_id = secrets.randbits(62) + 1
                written += [f"{stem}{commit_id}-m0.avro", f"{stem}snap-{snapshot_id}-0-{commit_id}.avro"]
                metadata = self._with_files(snapshot_id, added, removed, properties, *written)
            if alive is not None:
                metadata = with_snapshots_alive(metadata, alive)
            version = int(self.pointer.rsplit("/", 1)[1].split("-")[0]) + 1 if self.pointer else 0
            written.append(f"{stem}{version:05d}-{commit_id}.metadata.json")
            with self._io.new_output(written[-1]).create() as file:
                file.write(json.dumps(with_previous(metadata, self.pointer)).encode())
        except BaseException:
            for location in written:
                with suppress(OSError):  # some may not exist yet; the first error is the one to raise
                    self._io.delete(location)
            raise
        return StagedTable(
            self.name, metadata["current-snapshot-id"], written[-1], self.pointer, tuple(written)
        )

    def _with_files(
        self,
        snapshot_id: int,
        added: Sequence[str],
        removed: Collection[str],
        properties: Mapping[str, str],
        manifest: str,
        manifest_list: str,
    ) -> dict[str, object]:
        slim = self._metadata | {"snapshots": [], "snapshot-log": [], "refs": {}, "current-snapshot-id": -1}
        new = [self._described(slim, location) for location in added]
        present = _entries(self._io, self._current_manifest_list())
        kept = [entry for entry in present if entry.data_file.file_path not in removed]
        deleted = [entry for entry in present if entry.data_file.file_path in removed]
        parent = self._metadata.get("current-snapshot-id")
        with write_manifest(
            2, UNPARTITIONED_PARTITION_SPEC, schema_of(self._metadata), self._io.new_output(manifest),
            snapshot_id, "deflate",
        ) as writer:  # fmt: skip
            for entry in kept:
                writer.existing(entry)
            for entry in deleted:
                writer.delete(entry)
            for file in new:
                writer.add_entry(
                    ManifestEntry.from_args(
                        status=ManifestEntryStatus.ADDED,
                        snapshot_id=snapshot_id,
                        sequence_number=None,
                        file_sequence_number=None,
                        data_file=file,
                    )
                )
        with write_manifest_list(
            2, self._io.new_output(manifest_list), snapshot_id, parent,
            self._metadata["last-sequence-number"] + 1, "deflate",
        ) as listing:  # fmt: skip
            listing.add_manifests([writer.to_manifest_file()])
        return with_snapshot(
            self._metadata,
            snapshot_id,
            manifest_list,
            properties,
            added=_counted(new),
            deleted=_counted(entry.data_file for entry in deleted),
            total=_counted([*(entry.data_file for entry in kept), *new]),
        )

    def _described(self, metadata: Metadata, location: str) -> DataFile:
        try:
            return parquet_file_to_data_file(self._io, TableMetadataUtil.parse_obj(metadata), location)
        except (
            OverflowError,
            ValueError,
        ):  # a year outside of Python's range, such as 44 BC: write no bounds
            counts = {**metadata["properties"], "write.metadata.metrics.default": "counts"}
            slim = TableMetadataUtil.parse_obj(metadata | {"properties": counts})
            return parquet_file_to_data_file(self._io, slim, location)

    def _current_manifest_list(self) -> str | None:
        current = self._metadata.get("current-snapshot-id")
        lists = {one["snapshot-id"]: one["manifest-list"] for one in self._metadata.get("snapshots", ())}
        return lists.get(current)


def _counted(files: Iterable[DataFile]) -> FileTotals:
    sizes = [(file.record_count, file.file_size_in_bytes) for file in files]
    return FileTotals(len(sizes), sum(rows for rows, _ in sizes), sum(size for _, size in sizes))


def _entries(io: FileIO, manifest_list: str | None) -> list[ManifestEntry]:
    """The files of a snapshot, from its manifests."""
    if manifest_list is None:
        return []
    manifests = read_manifest_list(io.new_input(manifest_list))
    return [entry for manifest in manifests for entry in manifest.fetch_manifest_entry(io)]
