"""The newest epoch with the changes since then: the lake as Postgres is now (`--fresh`).

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
    """Writes files to the folder `storage`; they are never published."""

    storage: Storage

    def writer(self, table: TableSource) -> TableWriter:
        stem = self.storage.address.join(folder_of(table.name))
        return TableWriter(self.storage, table, table.arrow_schema, stem)


@contextmanager
def fresh_epoch(settings: Settings, newest: Epoch) -> Iterator[Epoch]:
    """The newest epoch and the changes since then, with a token of the current snapshot. Its files are
    deleted at the end of the block. Raises UsageError as `take_changes` does."""
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
