"""The catalog's pointers: where each table's metadata is, moved for all tables at once or for none."""

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
    """Another publisher was faster; nothing of ours is visible."""


@dataclass(frozen=True, slots=True)
class Staged:
    """New metadata of one table, stored and not yet pointed at."""

    table: str
    snapshot_id: int
    metadata_location: str
    previous_location: str | None  # None: the table is new
    written: tuple[str, ...]  # manifests, their list, the metadata


def metadata_files(catalog: SqlCatalog, locations: Collection[str]) -> set[str]:
    """The metadata files, and what their snapshots lead to but the data: lists of manifests, manifests."""
    found = set(locations)
    for location in locations:
        io = load_file_io(catalog.properties, location)
        for snapshot in FromInputFile.table_metadata(io.new_input(location)).snapshots:
            found |= _manifests(catalog, snapshot.manifest_list)
    return found


@lru_cache(maxsize=10_000)
def _manifests(catalog: SqlCatalog, manifest_list: str) -> frozenset[str]:
    """Remembered, because these files never change and there is one for each table and epoch."""
    io = load_file_io(catalog.properties, manifest_list)
    listed = read_manifest_list(io.new_input(manifest_list))
    return frozenset({manifest_list, *(manifest.manifest_path for manifest in listed)})


def pointers(connection: Connection) -> dict[str, str]:
    """Where the catalog points, table by table."""
    query = select(IcebergTables.table_name, IcebergTables.metadata_location).filter_by(
        catalog_name=NAMESPACE, table_namespace=NAMESPACE
    )
    return {name: location for name, location in connection.execute(query) if location is not None}


def drop(connection: Connection, tables: Iterable[str]) -> None:
    """Remove the tables from the catalog, if they are there: their last state is of an earlier moment."""
    for table in tables:
        connection.execute(
            delete(IcebergTables).filter_by(
                catalog_name=NAMESPACE, table_namespace=NAMESPACE, table_name=table
            )
        )


def move(connection: Connection, all_staged: Iterable[Staged]) -> None:
    """Move the tables' pointers, each if it is still where it was. Raises LostRace, or IntegrityError
    (SQLAlchemy's) if a new table is not new any more; the caller's transaction is then to be rolled back."""
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
