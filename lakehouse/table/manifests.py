"""Iceberg manifests (format 2): the data files and the delete files of a snapshot.

    snap-….avro     the manifest list of a snapshot
    …-m0.avro       a manifest of data files, with row counts and value ranges
    …-m1.avro       a manifest of position delete files

A new snapshot reuses the manifests of the previous one, except those that list a removed file and those that
have few entries. The cost of a snapshot therefore depends on the files that it adds and removes.

https://iceberg.apache.org/spec/#manifests
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from pyiceberg.io import FileIO
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    ManifestWriterV2,
    read_manifest_list,
    write_manifest_list,
)
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.schema import Schema
from pyiceberg.typedef import Record

from lakehouse.table.epoch import DeleteFile

# The entries of smaller manifests are written again with the entries of the next snapshot.
ENTRIES_MIN = 64


@dataclass(frozen=True, slots=True)
class FileChanges:
    """The files that a snapshot adds and removes: data files by location, and delete files."""

    added: Sequence[str] = ()
    removed: Collection[str] = ()
    deletes_added: Sequence[DeleteFile] = ()
    deletes_removed: Collection[str] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.deletes_added or self.deletes_removed)


@dataclass(frozen=True, slots=True)
class FileTotals:
    """Totals of files. `rows`: of data files, the stored rows; of delete files, the positions."""

    files: int
    rows: int
    bytes: int

    @classmethod
    def of(cls, files: Iterable[DataFile]) -> "FileTotals":
        sizes = [(file.record_count, file.file_size_in_bytes) for file in files]
        return cls(len(sizes), sum(rows for rows, _ in sizes), sum(size for _, size in sizes))


@dataclass(frozen=True, slots=True)
class NewSnapshot:
    """`parent`: the id of the previous snapshot. `schema`: the current schema of the table."""

    snapshot_id: int
    parent: int | None
    sequence_number: int
    schema: Schema


class _DeleteManifestWriter(ManifestWriterV2):
    """pyiceberg 0.12 writes manifests of data files only."""

    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes"}


WRITERS = {ManifestContent.DATA: ManifestWriterV2, ManifestContent.DELETES: _DeleteManifestWriter}


def write_manifest_files(
    io: FileIO,
    snapshot: NewSnapshot,
    previous_list: str | None,
    manifest_list: str,
    files: dict[ManifestContent, tuple[str, Sequence[DataFile], Collection[str]]],
    written: list[str],
) -> dict[ManifestContent, FileTotals]:
    """Write the manifest list of a snapshot, and its new manifests. `files`: by content, the location of a
    new manifest, the files that it adds, and the locations of the files that the snapshot removes. The
    location of each file is added to `written` before it is written. Returns the totals of the removed
    files."""
    previous = list(read_manifest_list(io.new_input(previous_list))) if previous_list else []
    manifests: list[ManifestFile] = []
    removed: dict[ManifestContent, FileTotals] = {}
    for content, (location, added, removed_locations) in files.items():
        old = [manifest for manifest in previous if manifest.content == content]
        reused, entries = _split(io, old, removed_locations)
        deleted = [entry for entry in entries if entry.data_file.file_path in removed_locations]
        kept = [entry for entry in entries if entry.data_file.file_path not in removed_locations]
        removed[content] = FileTotals.of(entry.data_file for entry in deleted)
        if added or kept or deleted:
            written.append(location)
            manifests.append(_write_manifest(io, snapshot, content, location, added, kept, deleted))
        manifests += reused
    written.append(manifest_list)
    with write_manifest_list(
        2, io.new_output(manifest_list), snapshot.snapshot_id, snapshot.parent, snapshot.sequence_number,
        "deflate",
    ) as listing:  # fmt: skip
        listing.add_manifests(manifests)
    return removed


def _split(
    io: FileIO, manifests: Sequence[ManifestFile], removed: Collection[str]
) -> tuple[list[ManifestFile], list[ManifestEntry]]:
    """The manifests to reuse, and the entries of the others. Newer manifests are first in a list, and the
    removed files are usually in them."""
    reused: list[ManifestFile] = []
    rewritten: list[ManifestEntry] = []
    missing = set(removed)
    for manifest in manifests:
        live = (manifest.added_files_count or 0) + (manifest.existing_files_count or 0)
        if live == 0:
            continue
        if not missing and live >= ENTRIES_MIN:
            reused.append(manifest)
            continue
        entries = manifest.fetch_manifest_entry(io)
        locations = {entry.data_file.file_path for entry in entries}
        if live >= ENTRIES_MIN and not missing & locations:
            reused.append(manifest)
        else:
            rewritten += entries
            missing -= locations
    return reused, rewritten


def _write_manifest(
    io: FileIO,
    snapshot: NewSnapshot,
    content: ManifestContent,
    location: str,
    added: Sequence[DataFile],
    kept: Sequence[ManifestEntry],
    deleted: Sequence[ManifestEntry],
) -> ManifestFile:
    output, writer_of = io.new_output(location), WRITERS[content]
    with writer_of(
        UNPARTITIONED_PARTITION_SPEC, snapshot.schema, output, snapshot.snapshot_id, "deflate"
    ) as writer:
        for entry in kept:
            writer.existing(entry)
        for entry in deleted:
            writer.delete(entry)
        for file in added:
            writer.add_entry(
                ManifestEntry.from_args(
                    status=ManifestEntryStatus.ADDED,
                    snapshot_id=snapshot.snapshot_id,
                    sequence_number=None,
                    file_sequence_number=None,
                    data_file=file,
                )
            )
    return writer.to_manifest_file()


def described_delete_file(file: DeleteFile) -> DataFile:
    """The entry of a delete file in a manifest."""
    return DataFile.from_args(
        content=DataFileContent.POSITION_DELETES,
        file_path=file.location,
        file_format=FileFormat.PARQUET,
        partition=Record(),
        record_count=file.rows,
        file_size_in_bytes=file.bytes,
    )
