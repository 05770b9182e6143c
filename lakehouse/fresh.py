"""Epoch and tail: the lake as Postgres is now, not as it was when the newest epoch was taken.

What an epoch of the changes would be made of is written to a folder of its own, asked, and thrown away:
the same rows, found by the same rule, swapped into the same files. So it is exact as of one snapshot, and
every engine can read it, because it is a list of files.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

from lakehouse.epoch import Epoch
from lakehouse.layout import folder_of
from lakehouse.moment import moment_of
from lakehouse.s3 import refusing_a_bad_bucket
from lakehouse.sink import Sink, TableWriter
from lakehouse.source import TableSource
from lakehouse.storage import Storage
from lakehouse.take import write_changes
from oltp.store import open_existing_store
from ridelake.settings import LakeAddress, Settings


@dataclass(slots=True, kw_only=True)
class Tail(Sink):
    """Files go to `storage`, a folder, and are never published."""

    storage: Storage

    def writer(self, table: TableSource) -> TableWriter:
        stem = self.storage.address.join(folder_of(table.name))
        return TableWriter(self.storage, table, table.arrow_schema, stem)


@contextmanager
def fresh_epoch(settings: Settings, newest: Epoch) -> Iterator[Epoch]:
    """The newest epoch and what has changed since, with the token of this moment. Its files last as long as
    the block. Raises UsageError as `take_changes` does."""
    started = perf_counter()
    address = settings.lake
    with (
        tempfile.TemporaryDirectory(prefix="ridelake-fresh-") as folder,
        open_existing_store(settings, rides=False) as store,
        store.connect() as connection,
    ):
        names = [state.source for state in newest.tables.values()]
        tail = Tail(
            previous=newest, reading=Storage.of(address), storage=Storage.of(LakeAddress.at(Path(folder)))
        )
        with (
            moment_of(store, connection, names, newest.token, newest.without) as moment,
            refusing_a_bad_bucket(address),
        ):
            write_changes(moment, tail, newest.token)
        yield Epoch(
            newest.number, "changes", datetime.now(UTC), moment.token, tail.tables, perf_counter() - started,
            left_out=newest.left_out,
        )  # fmt: skip
