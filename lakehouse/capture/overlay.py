"""The newest epoch with the changes since then: the current state of Postgres as files (`--fresh`).

It writes the same files as a new epoch would, but to a temporary folder that is deleted after the query. The
result is exact as of one snapshot. Every engine can read it, because it is a list of files.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

from lakehouse.capture.publish import write_changes
from lakehouse.capture.writer import EpochWriter, TableWriter
from lakehouse.source.snapshot import open_source_snapshot
from lakehouse.source.tables import TableSource, existing
from lakehouse.table.epoch import Epoch
from lakehouse.table.layout import table_folder
from lakehouse.table.s3 import bucket_errors
from lakehouse.table.storage import Storage
from oltp.store import open_existing_store
from ridelake.settings import LakeAddress, Settings


@dataclass(slots=True, kw_only=True)
class Overlay(EpochWriter):
    """Writes files to the folder `storage`; they are never published."""

    storage: Storage

    def writer(self, table: TableSource) -> TableWriter:
        stem = self.storage.address.join(table_folder(table.lake_name))
        return TableWriter(self.storage, table, table.arrow_schema, stem)


@contextmanager
def open_overlay(settings: Settings, newest: Epoch) -> Iterator[Epoch]:
    """The newest epoch and the changes since then, with a token of the current snapshot. Its files are
    deleted at the end of the block. Raises UsageError as `publish_changes` does."""
    started = perf_counter()
    address = settings.lake
    with (
        tempfile.TemporaryDirectory(prefix="ridelake-fresh-") as folder,
        open_existing_store(settings, rides=False) as store,
        store.connect() as connection,
    ):
        names = existing(connection, [state.source for state in newest.tables.values()])
        tail = Overlay(
            previous=newest, reading=Storage.of(address), storage=Storage.of(LakeAddress.at(Path(folder)))
        )
        with (
            open_source_snapshot(
                store, connection, names, newest.token, newest.without, newest.forms, newest.names
            ) as snapshot,
            bucket_errors(address),
        ):
            write_changes(snapshot, tail, newest.token)
        yield Epoch(
            newest.number, "changes", datetime.now(UTC), {"": snapshot.token}, tail.tables,
            perf_counter() - started, left_out=newest.left_out,
        )  # fmt: skip
