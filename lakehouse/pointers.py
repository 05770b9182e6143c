"""The catalog's pointers to the metadata of each table. They are moved for all tables in one transaction."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from pyiceberg.io import load_file_io
from pyiceberg.manifest import read_manifest_list
from pyiceberg.serializers import FromInputFile
from sqlalchemy import Connection, delete, insert, select, update

from ridelake.errors import RidelakeError

NAMESPACE = "ridelake"


class LostRace(RidelakeError):
    """Another process published first; this epoch is not published."""


@dataclass(frozen=True, slots=True)
class Staged:
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


def pointers(connection: Connection) -> dict[str, str]:
    """Table → location of its metadata."""
    query = select(IcebergTables.table_name, IcebergTables.metadata_location).filter_by(
        catalog_name=NAMESPACE, table_namespace=NAMESPACE
    )
    return {name: location for name, location in connection.execute(query) if location is not None}


def drop(connection: Connection, tables: Iterable[str]) -> None:
    """Remove the tables from the catalog, if they exist: their state is older than the epoch."""
    for table in tables:
        connection.execute(
            delete(IcebergTables).filter_by(
                catalog_name=NAMESPACE, table_namespace=NAMESPACE, table_name=table
            )
        )


def move(connection: Connection, all_staged: Iterable[Staged]) -> None:
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
            raise LostRace(f"table {staged.table} was moved by another publisher")
