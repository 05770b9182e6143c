"""One commit over many Iceberg tables: what pyiceberg does not offer, in the few calls it does not promise.

pyiceberg commits one table at a time, and then a reader may see the rides of one epoch beside the
payments of another. A commit has two halves, though: writing new metadata files beside the old ones,
which nobody sees, and moving the pointer to them in the catalog's row. `stage` does the first for each
table; `move` does the second for all of them, inside a transaction of the catalog's database that the
caller opens. A pointer is moved only if it is still where `stage` found it.

This module alone touches pyiceberg's private calls (`_create_staged_table`, `_update_and_stage_table`,
`_write_metadata`, a transaction's `_updates` and `_requirements`), which is why pyproject.toml holds
pyiceberg to 0.12. `tests/lakehouse/test_commit.py` fails if they change.
"""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.io.pyarrow import parquet_file_to_data_file, pyarrow_to_schema
from pyiceberg.table import CreateTableTransaction, StagedTable, Table, Transaction
from sqlalchemy import URL, Connection, NullPool, create_engine, insert, update

from ridelake.errors import RidelakeError

NAMESPACE = "ridelake"

# pyarrow's name for the place of an Iceberg field id in a Parquet file.
FIELD_ID = b"PARQUET:field_id"


class LostRace(RidelakeError):
    """Another publisher was faster; nothing of ours is visible."""


@dataclass(frozen=True, slots=True)
class Staged:
    """New metadata of one table, on disk and not yet pointed at."""

    table: str
    snapshot_id: int
    metadata_location: str
    previous_location: str | None  # None: the table is new
    written: tuple[Path, ...]  # manifests, their list, the metadata


def open_catalog(folder: Path, catalog_file: Path, timeout_seconds: float) -> SqlCatalog:
    """Locations are plain absolute paths: pyiceberg takes a file:// URI apart at `#`, `?` and `%`.
    Connections are not pooled, so that an open catalog holds none and needs no closing."""
    url = URL.create("sqlite", database=str(catalog_file), query={"timeout": str(timeout_seconds)})
    catalog = SqlCatalog(NAMESPACE, uri=url.render_as_string(), warehouse=str(folder))
    catalog.engine.dispose()
    catalog.engine = create_engine(url, poolclass=NullPool)
    catalog.create_namespace_if_not_exists(NAMESPACE)
    return catalog


def open_table(catalog: SqlCatalog, folder: Path, name: str, schema: pa.Schema) -> Table:
    """The table, or the draft of a new one, which nobody sees until it is moved."""
    try:
        return catalog.load_table((NAMESPACE, name))
    except NoSuchTableError:
        fields = [f.with_metadata({FIELD_ID: str(number)}) for number, f in enumerate(schema, start=1)]
        location = str(folder / name)
        properties = {"format-version": "2"}
        return catalog._create_staged_table(
            (NAMESPACE, name), pa.schema(fields), location, properties=properties
        )


def with_field_ids(table: Table, schema: pa.Schema) -> pa.Schema:
    """`schema` for the Parquet files: an Iceberg reader finds columns by number, not by name.

    Raises RidelakeError if the table has other columns."""
    ids = {field.name: field.field_id for field in table.schema().fields}
    named = pa.schema([f.with_metadata({FIELD_ID: str(ids.get(f.name, 0))}) for f in schema])
    if pyarrow_to_schema(named).fields != table.schema().fields:
        raise RidelakeError(
            f"table {table.name()[-1]} has other columns in Postgres than in the lake: "
            "choose a new folder with --lake for the new shape"
        )
    return named


def stage(catalog: SqlCatalog, table: Table, files: Sequence[Path], properties: dict[str, str]) -> Staged:
    """Write metadata that says: this table is these files and no others. Leaves nothing if it fails."""
    commit_id = uuid.uuid4()
    try:
        return _stage(catalog, table, files, properties, commit_id)
    except BaseException:
        for path in (Path(table.location()) / "metadata").glob(f"*{commit_id}*"):
            path.unlink()
        raise


def _stage(
    catalog: SqlCatalog, table: Table, files: Sequence[Path], properties: dict[str, str], commit_id: uuid.UUID
) -> Staged:
    is_new = isinstance(table, StagedTable)
    transaction = CreateTableTransaction(table) if isinstance(table, StagedTable) else Transaction(table)
    old = [] if is_new else [task.file for task in table.scan().plan_files()]
    with transaction.update_snapshot(snapshot_properties=properties).overwrite(commit_id) as overwrite:
        for file in old:
            overwrite.delete_data_file(file)
        for path in files:
            overwrite.append_data_file(
                parquet_file_to_data_file(table.io, transaction.table_metadata, str(path))
            )
    # A new table has nothing to require: that it is new is what its INSERT in `move` finds out.
    current, requirements = (None, ()) if is_new else (table, transaction._requirements)
    new = catalog._update_and_stage_table(current, table.name(), requirements, transaction._updates)
    snapshot = new.current_snapshot()
    assert snapshot is not None
    catalog._write_metadata(new.metadata, new.io, new.metadata_location)
    manifests = [
        m.manifest_path for m in snapshot.manifests(new.io) if m.added_snapshot_id == snapshot.snapshot_id
    ]
    written = [*manifests, snapshot.manifest_list, new.metadata_location]
    return Staged(
        table=table.name()[-1],
        snapshot_id=snapshot.snapshot_id,
        metadata_location=new.metadata_location,
        previous_location=None if is_new else table.metadata_location,
        written=tuple(Path(location) for location in written),
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
