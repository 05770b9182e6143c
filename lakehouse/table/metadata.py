"""Iceberg table metadata (format 2): write the next metadata of a table, before the commit.

    LAKE/rides/metadata/00042-….metadata.json   the table: columns, snapshots
                        snap-….avro             a snapshot: its list of manifests (`manifests.py`)

`TableDraft.stage` writes these files. No reader sees them until `Lake.publish` (`catalog.py`) moves the
table's pointer to the new metadata.

The metadata is changed as a JSON document, only where a snapshot concerns it. The classes of pyiceberg copy
all snapshots some twenty times for one commit, which takes most of the time if an epoch is published every
second. `tests/unit/lakehouse/test_commit.py` opens the result with Iceberg readers.

https://iceberg.apache.org/spec/#table-metadata-fields
"""

import json
import secrets
import time
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import Any

import pyarrow as pa
from pyiceberg.catalog.noop import NoopCatalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io import FileIO, load_file_io
from pyiceberg.io.pyarrow import parquet_file_to_data_file, pyarrow_to_schema
from pyiceberg.manifest import DataFile, ManifestContent, read_manifest_list
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.schema import Schema
from pyiceberg.serializers import FromInputFile
from pyiceberg.table import Table, Transaction
from pyiceberg.table.metadata import TableMetadataUtil, new_table_metadata
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER
from pyiceberg.types import (
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    NestedField,
    StructType,
)

from lakehouse.table.layout import table_folder
from lakehouse.table.manifests import (
    FileChanges,
    FileTotals,
    NewSnapshot,
    described_delete_file,
    write_manifest_files,
)
from lakehouse.table.s3 import iceberg_properties
from ridelake.settings import LakeAddress

Metadata = dict[str, Any]

# pyarrow's key for the Iceberg field id in the metadata of a Parquet column.
FIELD_ID = b"PARQUET:field_id"


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


def file_io_properties(address: LakeAddress) -> dict[str, str]:
    """Where pyiceberg finds the files."""
    return {"warehouse": address.root} | (iceberg_properties(address) if address.remote else {})


@lru_cache(maxsize=8)
def _file_io(address: LakeAddress) -> FileIO:
    return load_file_io(file_io_properties(address), address.root)


class TableDraft:
    """The next metadata of one table; not visible until the pointer is moved to it."""

    def __init__(self, address: LakeAddress, name: str, schema: pa.Schema, pointer: str | None) -> None:
        """`pointer`: the location of the table's metadata; None: the table is new. It gets the columns
        of `schema`."""
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
        changes: FileChanges,
        properties: Mapping[str, str],
        alive: Mapping[str, int] | None = None,
        tag: str | None = None,
    ) -> StagedTable:
        """Write metadata with a new snapshot of the changed files, or without one if there are no changes.
        `alive`: the older snapshots to keep, by tag; None: all. `tag`: a name for the current snapshot.
        Deletes what it wrote if it fails."""
        metadata, written = self._metadata, list[str]()
        stem = f"{metadata['location']}/metadata/"
        commit_id = uuid.uuid4()
        try:
            if changes:
                metadata = self._with_changes(changes, properties, stem, str(commit_id), written)
            if alive is not None:
                metadata = with_snapshots_alive(metadata, alive)
            if tag is not None:
                metadata = with_tag(metadata, tag)
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

    def _with_changes(
        self,
        changes: FileChanges,
        properties: Mapping[str, str],
        stem: str,
        commit_id: str,
        written: list[str],
    ) -> Metadata:
        """The metadata with a new snapshot. Adds the location of each file to `written`."""
        slim = self._metadata | {"snapshots": [], "snapshot-log": [], "refs": {}, "current-snapshot-id": -1}
        data = [self._described(slim, location) for location in changes.added]
        deletes = [described_delete_file(file) for file in changes.deletes_added]
        snapshot = NewSnapshot(
            snapshot_id=secrets.randbits(62) + 1,
            parent=self._metadata.get("current-snapshot-id"),
            sequence_number=self._metadata["last-sequence-number"] + 1,
            schema=schema_of(self._metadata),
        )
        data_manifest, delete_manifest = (f"{stem}{commit_id}-m{number}.avro" for number in (0, 1))
        manifest_list = f"{stem}snap-{snapshot.snapshot_id}-0-{commit_id}.avro"
        removed = write_manifest_files(
            self._io, snapshot, self._current_manifest_list(), manifest_list,
            {
                ManifestContent.DATA: (data_manifest, data, changes.removed),
                ManifestContent.DELETES: (delete_manifest, deletes, changes.deletes_removed),
            },
            written,
        )  # fmt: skip
        summary = snapshot_summary(
            self._current_snapshot().get("summary", {}),
            added=(FileTotals.of(data), FileTotals.of(deletes)),
            removed=(removed[ManifestContent.DATA], removed[ManifestContent.DELETES]),
        )
        return with_snapshot(self._metadata, snapshot, manifest_list, summary | dict(properties))

    def _described(self, metadata: Metadata, location: str) -> DataFile:
        try:
            return parquet_file_to_data_file(self._io, TableMetadataUtil.parse_obj(metadata), location)
        except (OverflowError, ValueError):  # a year outside of Python's range, such as 44 BC: no bounds
            counts = {**metadata["properties"], "write.metadata.metrics.default": "counts"}
            slim = TableMetadataUtil.parse_obj(metadata | {"properties": counts})
            return parquet_file_to_data_file(self._io, slim, location)

    def _current_manifest_list(self) -> str | None:
        return self._current_snapshot().get("manifest-list")

    def _current_snapshot(self) -> dict[str, Any]:
        """The current snapshot; empty if there is none."""
        current = self._metadata.get("current-snapshot-id")
        found = (one for one in self._metadata.get("snapshots", ()) if one["snapshot-id"] == current)
        return next(found, {})


def new_metadata(location: str, schema: pa.Schema) -> Metadata:
    """The metadata of a table without snapshots."""
    metadata = new_table_metadata(
        iceberg_schema(schema),
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
    known = {field.name: field for field in schema_of(metadata).fields}
    return pa.schema([_with_ids(field, known[field.name]) for field in schema])


def _with_ids(field: pa.Field, known: NestedField) -> pa.Field:
    match known.field_type:
        case ListType():
            element = _with_ids(field.type.value_field, known.field_type.element_field)
            field = field.with_type(pa.list_(element))
        case StructType(fields=fields):
            field = field.with_type(
                pa.struct([_with_ids(*pair) for pair in zip(field.type, fields, strict=True)])
            )
    return field.with_metadata({FIELD_ID: str(known.field_id)})


def with_schema(metadata: Metadata, schema: pa.Schema, name: str) -> Metadata:
    """The same table with the columns and types of `schema`. A column that was renamed, or has another type
    that Iceberg cannot widen, gets a new field id: older snapshots keep their schema and their columns."""
    known = {field.name: field for field in schema_of(metadata).fields}
    wanted = {field.name: field for field in iceberg_schema(schema).fields}
    changed = {
        n for n in known.keys() & wanted.keys() if not _is_same(known[n].field_type, wanted[n].field_type)
    }
    promoted = {n for n in changed if _can_be_promoted(known[n].field_type, wanted[n].field_type)}
    removed = (known.keys() - wanted.keys()) | (changed - promoted)
    kept = known.keys() - removed
    added: dict[str, IcebergType] = {n: f.field_type for n, f in wanted.items() if n not in kept}
    loosened = [n for n in kept if known[n].required and not wanted[n].required]
    if not (added or loosened or removed or promoted):
        return metadata
    parsed = TableMetadataUtil.parse_obj(metadata)
    change = Transaction(Table((name,), parsed, "", load_file_io({}), NoopCatalog(name)))
    with change.update_schema(allow_incompatible_changes=True) as update:
        for column in removed:
            update.delete_column((column,))
        for column, kind in added.items():
            update.add_column((column,), kind)  # nullable: the rows of older files do not have it
        for column in loosened:
            update.make_column_optional((column,))
        for column in promoted:
            update.update_column((column,), wanted[column].field_type)
    return dict(json.loads(change.table_metadata.model_dump_json()))


def _is_same(known: IcebergType, wanted: IcebergType) -> bool:
    """Whether the types are equal, without their field ids."""
    return _without_ids(known) == _without_ids(wanted)


def _without_ids(type_: IcebergType) -> IcebergType:
    match type_:
        case ListType():
            return ListType(0, _without_ids(type_.element_type), type_.element_required)
        case StructType():
            return StructType(
                *(NestedField(0, f.name, _without_ids(f.field_type), f.required) for f in type_.fields)
            )
    return type_


def _can_be_promoted(known: IcebergType, wanted: IcebergType) -> bool:
    """int to long, float to double, a decimal to one with a greater precision and the same scale."""
    match known, wanted:
        case (IntegerType(), LongType()) | (FloatType(), DoubleType()):
            return True
        case DecimalType(), DecimalType():
            return known.scale == wanted.scale and known.precision < wanted.precision
    return False


def with_snapshot(
    metadata: Metadata, snapshot: NewSnapshot, manifest_list: str, summary: Mapping[str, str]
) -> Metadata:
    """The same table with one more snapshot."""
    now_ms = max(time.time_ns() // 1_000_000, metadata["last-updated-ms"])
    described = {
        "snapshot-id": snapshot.snapshot_id,
        "sequence-number": snapshot.sequence_number,
        "timestamp-ms": now_ms,
        "manifest-list": manifest_list,
        "schema-id": metadata["current-schema-id"],
        "summary": {"operation": "overwrite"} | dict(summary),
    }
    if snapshot.parent not in (None, -1):
        described["parent-snapshot-id"] = snapshot.parent
    return metadata | {
        "last-sequence-number": snapshot.sequence_number,
        "last-updated-ms": now_ms,
        "current-snapshot-id": snapshot.snapshot_id,
        "snapshots": [*metadata.get("snapshots", ()), described],
        "snapshot-log": [
            *metadata.get("snapshot-log", ()),
            {"snapshot-id": snapshot.snapshot_id, "timestamp-ms": now_ms},
        ],
        "refs": metadata["refs"] | {"main": {"snapshot-id": snapshot.snapshot_id, "type": "branch"}},
    }


def with_tag(metadata: Metadata, tag: str) -> Metadata:
    """The same table with a tag for its current snapshot."""
    ref = {"snapshot-id": metadata["current-snapshot-id"], "type": "tag"}
    return metadata | {"refs": metadata["refs"] | {tag: ref}}


def with_snapshots_alive(metadata: Metadata, alive: Mapping[str, int]) -> Metadata:
    """The same table with only these snapshots and tags, and the current snapshot. Its log starts after the
    last removed snapshot, because it must not have gaps. A snapshot has the tags of all its epochs."""
    kept = {*alive.values(), metadata.get("current-snapshot-id")}
    log: list[Any] = []
    for entry in metadata.get("snapshot-log", ()):
        log = [*log, entry] if entry["snapshot-id"] in kept else []
    found = {one["snapshot-id"]: one for one in metadata.get("snapshots", ())}
    snapshots = {number: one for number, one in found.items() if number in kept}
    tags = {tag: {"snapshot-id": one, "type": "tag"} for tag, one in alive.items() if one in snapshots}
    refs = {name: ref for name, ref in metadata["refs"].items() if name == "main"} | tags
    return metadata | {"snapshots": list(snapshots.values()), "snapshot-log": log, "refs": refs}


def with_previous(metadata: Metadata, previous: str | None) -> Metadata:
    """The same table with the location of its previous metadata. Older metadata files are deleted, so the log
    has one entry."""
    log = [{"metadata-file": previous, "timestamp-ms": metadata["last-updated-ms"]}] if previous else []
    return metadata | {"metadata-log": log}


def snapshot_summary(
    previous: Mapping[str, str],
    added: tuple[FileTotals, FileTotals],
    removed: tuple[FileTotals, FileTotals],
) -> dict[str, str]:
    """The counts of a snapshot, with the totals after the `previous` summary. `added`, `removed`: data files
    and delete files."""
    (data, deletes), (old_data, old_deletes) = added, removed
    changes = {
        "total-data-files": data.files - old_data.files,
        "total-records": data.rows - old_data.rows,
        "total-files-size": data.bytes + deletes.bytes - old_data.bytes - old_deletes.bytes,
        "total-delete-files": deletes.files - old_deletes.files,
        "total-position-deletes": deletes.rows - old_deletes.rows,
        "total-equality-deletes": 0,
    }
    counts = {
        "added-data-files": data.files,
        "added-records": data.rows,
        "added-files-size": data.bytes + deletes.bytes,
        "added-delete-files": deletes.files,
        "added-position-deletes": deletes.rows,
        "deleted-data-files": old_data.files,
        "deleted-records": old_data.rows,
        "removed-files-size": old_data.bytes + old_deletes.bytes,
        "removed-delete-files": old_deletes.files,
        "removed-position-deletes": old_deletes.rows,
    } | {name: int(previous.get(name, 0)) + change for name, change in changes.items()}
    return {name: str(count) for name, count in counts.items()}


def iceberg_schema(schema: pa.Schema) -> Schema:
    """The columns with new field ids."""
    numbers = count(1)
    return pyarrow_to_schema(pa.schema([_with_new_ids(field, numbers) for field in schema]))


def _with_new_ids(field: pa.Field, numbers: Iterator[int]) -> pa.Field:
    number = next(numbers)
    if pa.types.is_list(field.type):
        field = field.with_type(pa.list_(_with_new_ids(field.type.value_field, numbers)))
    elif pa.types.is_struct(field.type):
        field = field.with_type(pa.struct([_with_new_ids(part, numbers) for part in field.type]))
    return field.with_metadata({FIELD_ID: str(number)})
