"""Iceberg table metadata (format 2) as a JSON document: create a table, add a snapshot.

The classes of pyiceberg copy all snapshots of a table some twenty times for one commit, which takes most of
the time if an epoch is published every second. This module changes the JSON document, which the
specification defines, only where a snapshot concerns it. `tests/unit/lakehouse/test_commit.py` opens the
result with pyiceberg and with independent readers.

https://iceberg.apache.org/spec/#table-metadata-fields
"""

import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyiceberg.catalog.noop import NoopCatalog
from pyiceberg.io import load_file_io
from pyiceberg.io.pyarrow import pyarrow_to_schema
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.schema import Schema
from pyiceberg.table import Table, Transaction
from pyiceberg.table.metadata import TableMetadataUtil, new_table_metadata
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER
from pyiceberg.types import DecimalType, DoubleType, FloatType, IcebergType, IntegerType, LongType

from ridelake.errors import UsageError

Metadata = dict[str, Any]

# pyarrow's key for the Iceberg field id in the metadata of a Parquet column.
FIELD_ID = b"PARQUET:field_id"

# The column that tracking.sql adds and removes; it may be missing.
TRACKING_COLUMN = "tx"


@dataclass(frozen=True, slots=True)
class FileTotals:
    """Totals of data files, for the summary of a snapshot."""

    files: int
    rows: int
    bytes: int


def new_metadata(location: str, schema: pa.Schema) -> Metadata:
    """The metadata of a table without snapshots."""
    metadata = new_table_metadata(
        _numbered(schema),
        UNPARTITIONED_PARTITION_SPEC,
        UNSORTED_SORT_ORDER,
        location,
        properties={"format-version": "2"},
    )
    return dict(json.loads(metadata.model_dump_json()))


def schema_of(metadata: Metadata) -> Schema:
    """The current schema."""
    return Schema.model_validate(
        next(one for one in metadata["schemas"] if one["schema-id"] == metadata["current-schema-id"])
    )


def with_field_ids(metadata: Metadata, schema: pa.Schema) -> pa.Schema:
    """`schema` with field ids, for the Parquet files: an Iceberg reader finds columns by id, not by name."""
    ids = {field.name: field.field_id for field in schema_of(metadata).fields}
    return pa.schema([field.with_metadata({FIELD_ID: str(ids[field.name])}) for field in schema])


def with_schema(metadata: Metadata, schema: pa.Schema, name: str) -> Metadata:
    """The same table with the additional columns and wider types of `schema`, as far as Iceberg allows.
    Raises UsageError if `schema` lacks a column, or has one with another type."""
    known = {field.name: field for field in schema_of(metadata).fields}
    wanted = {field.name: field for field in _numbered(schema).fields}
    missing = known.keys() - wanted.keys() - {TRACKING_COLUMN}
    changed = {n for n in known.keys() & wanted.keys() if known[n].field_type != wanted[n].field_type}
    promoted = {n for n in changed if _can_be_promoted(known[n].field_type, wanted[n].field_type)}
    retyped = changed - promoted
    if missing or retyped:
        reasons = [f"{column} is missing" for column in sorted(missing)]
        reasons += [f"{n} is {wanted[n].field_type}, was {known[n].field_type}" for n in sorted(retyped)]
        raise UsageError(
            f"table {name} has other columns in Postgres than in the lake ({', '.join(reasons)}), so older "
            "epochs would become unreadable: restore the column, or publish to a new folder with --lake"
        )
    added: dict[str, IcebergType] = {n: f.field_type for n, f in wanted.items() if n not in known}
    loosened = [n for n in known.keys() & wanted.keys() if known[n].required and not wanted[n].required]
    untracked = TRACKING_COLUMN in known.keys() - wanted.keys()
    if not (added or loosened or untracked or promoted):
        return metadata
    parsed = TableMetadataUtil.parse_obj(metadata)
    change = Transaction(Table((name,), parsed, "", load_file_io({}), NoopCatalog(name)))
    with change.update_schema() as update:
        for column, kind in added.items():
            update.add_column((column,), kind)  # nullable: the rows of older files do not have it
        for column in loosened:
            update.make_column_optional((column,))
        for column in promoted:
            update.update_column((column,), wanted[column].field_type)
        if untracked:
            update.delete_column(TRACKING_COLUMN)
    return dict(json.loads(change.table_metadata.model_dump_json()))


def _can_be_promoted(known: IcebergType, wanted: IcebergType) -> bool:
    """int to long, float to double, a decimal to one with a greater precision and the same scale."""
    match known, wanted:
        case (IntegerType(), LongType()) | (FloatType(), DoubleType()):
            return True
        case DecimalType(), DecimalType():
            return known.scale == wanted.scale and known.precision < wanted.precision
    return False


def with_snapshot(
    metadata: Metadata,
    snapshot_id: int,
    manifest_list: str,
    properties: Mapping[str, str],
    *,
    added: FileTotals,
    deleted: FileTotals,
    total: FileTotals,
) -> Metadata:
    """The same table with one more snapshot, which replaces files."""
    now_ms = max(time.time_ns() // 1_000_000, metadata["last-updated-ms"])
    number = metadata["last-sequence-number"] + 1
    snapshot = {
        "snapshot-id": snapshot_id,
        "sequence-number": number,
        "timestamp-ms": now_ms,
        "manifest-list": manifest_list,
        "schema-id": metadata["current-schema-id"],
        "summary": {"operation": "overwrite"} | _summary(added, deleted, total) | dict(properties),
    }
    if (parent := metadata.get("current-snapshot-id")) not in (None, -1):
        snapshot["parent-snapshot-id"] = parent
    return metadata | {
        "last-sequence-number": number,
        "last-updated-ms": now_ms,
        "current-snapshot-id": snapshot_id,
        "snapshots": [*metadata.get("snapshots", ()), snapshot],
        "snapshot-log": [
            *metadata.get("snapshot-log", ()), {"snapshot-id": snapshot_id, "timestamp-ms": now_ms},
        ],
        "refs": {"main": {"snapshot-id": snapshot_id, "type": "branch"}},
    }  # fmt: skip


def with_snapshots_alive(metadata: Metadata, alive: Collection[int]) -> Metadata:
    """The same table with only these snapshots and the current one. Its log starts after the last removed
    snapshot, because it must not have gaps."""
    kept = {*alive, metadata.get("current-snapshot-id")}
    log: list[Any] = []
    for entry in metadata.get("snapshot-log", ()):
        log = [*log, entry] if entry["snapshot-id"] in kept else []
    snapshots = [one for one in metadata.get("snapshots", ()) if one["snapshot-id"] in kept]
    return metadata | {"snapshots": snapshots, "snapshot-log": log}


def with_previous(metadata: Metadata, previous: str | None) -> Metadata:
    """The same table with the location of its previous metadata. Older metadata files are deleted, so the log
    has one entry."""
    log = [{"metadata-file": previous, "timestamp-ms": metadata["last-updated-ms"]}] if previous else []
    return metadata | {"metadata-log": log}


def _summary(added: FileTotals, deleted: FileTotals, total: FileTotals) -> dict[str, str]:
    counts = {
        "added-data-files": added.files,
        "added-records": added.rows,
        "added-files-size": added.bytes,
        "deleted-data-files": deleted.files,
        "deleted-records": deleted.rows,
        "removed-files-size": deleted.bytes,
        "total-data-files": total.files,
        "total-records": total.rows,
        "total-files-size": total.bytes,
        "total-delete-files": 0,
        "total-position-deletes": 0,
        "total-equality-deletes": 0,
    }
    return {name: str(count) for name, count in counts.items()}


def _numbered(schema: pa.Schema) -> Schema:
    fields: Sequence[pa.Field] = [
        field.with_metadata({FIELD_ID: str(number)}) for number, field in enumerate(schema, start=1)
    ]
    return pyarrow_to_schema(pa.schema(fields))
