"""An unpublished epoch. Its files are not visible until it is published, and are deleted if it is not."""

import fcntl
import os
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import chain
from time import monotonic

from lakehouse.catalog import Lake
from lakehouse.columns import ValueNotHeld
from lakehouse.commit import TableDraft
from lakehouse.epoch import Epoch, Kind, LeftOut, Token
from lakehouse.layout import folder_of
from lakehouse.pointers import LostRace, Staged
from lakehouse.sink import Sink, TableWriter
from lakehouse.source import TableSource, store_tables

# In a bucket, `maintain` removes unreferenced files that are older than one hour. A draft older than half of
# that checks that its files still exist before it publishes.
LOOK_AGAIN_SECONDS = 1_800.0


@dataclass(slots=True, kw_only=True)
class Draft(Sink):
    """What has been written so far of the epoch after `previous`."""

    lake: Lake
    stems: dict[str, str] = field(default_factory=dict)  # table → prefix of its new files' names
    drafts: dict[str, TableDraft] = field(default_factory=dict)
    left_out: dict[str, LeftOut] = field(default_factory=dict)
    staged: list[Staged] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    begun: float = field(default_factory=monotonic)

    @property
    def number(self) -> int:
        return self.previous.number + 1 if self.previous else 1

    @property
    def has_changes(self) -> bool:
        known = self.previous.left_out.keys() if self.previous else set()
        return bool(self.drafts) or self.left_out.keys() != known

    @contextmanager
    def taking(self, table: TableSource) -> Iterator[None]:
        """Leave a table out of the epoch if the lake cannot store one of its values. For a table of the ride
        store, raise the error instead: these tables are published together."""
        try:
            yield
        except ValueNotHeld as error:
            if table.qualified in store_tables():
                raise
            self.drafts.pop(table.name, None)
            self._delete_files(self.stems.pop(table.name, None))
            self.left_out[table.name] = LeftOut(table.qualified, str(error), table.without)

    def writer(self, table: TableSource) -> TableWriter:
        """A writer for the table's new files."""
        state = self.before(table.name)
        pointer = state.metadata if state else None
        draft = TableDraft(self.lake.address, table.name, table.arrow_schema, pointer)
        self.drafts[table.name] = draft
        folder = self.lake.address.join(folder_of(table.name), "data")
        self.lake.storage.make_folder(folder)
        stem = f"{folder}/{self.number:05d}-{secrets.token_hex(4)}"  # concurrent drafts have the same number
        self.stems[table.name] = stem
        return TableWriter(self.lake.storage, table, draft.file_schema, stem)

    def stage(self, token: Token, alive: Mapping[str, Collection[int]] | None = None) -> None:
        """Write the Iceberg metadata of every table that has a draft, and flush it and all new files to disk.
        `alive`: the snapshots that each table keeps; None: all."""
        properties = {
            "ridelake.epoch": str(self.number), "pg.snapshot": token.snapshot, "pg.lsn": token.lsn,
        }  # fmt: skip
        for name, draft in self.drafts.items():
            state = self.before(name)
            old = set(state.locations) if state else set()
            new = self.tables[name].locations
            self.added += (added := [location for location in new if location not in old])
            staged = draft.stage(added, old - set(new), properties, alive[name] if alive else None)
            self.staged.append(staged)
            self.tables[name] = replace(
                self.tables[name], snapshot_id=staged.snapshot_id, metadata=staged.metadata_location
            )
        self.added += chain.from_iterable(one.written for one in self.staged)
        self.lake.storage.settle(self.added)

    def publish(
        self, kind: Kind, token: Token, seconds: float, verified: bool | None, expired: Sequence[int] = ()
    ) -> Epoch:
        """Publish the epoch and remove the `expired` ones. Raises LostRace if another epoch was published
        concurrently, or if `maintain` has removed this draft's files because it took too long."""
        took_long = self.lake.address.remote and monotonic() - self.begun > LOOK_AGAIN_SECONDS
        if took_long and not all(map(self.lake.storage.exists, self.added)):
            raise LostRace(
                "cannot publish the epoch: it took so long that a concurrent `ridelake maintain` removed its "
                "files; run the command again"
            )
        epoch = Epoch(
            self.number, kind, datetime.now(UTC), token, self.tables, seconds, verified, self.left_out
        )
        self.lake.publish(epoch, self.staged, expired)
        return epoch

    def discard(self) -> None:
        """Delete its files, unless it was published: an interrupt can arrive after the commit."""
        metadata = {one.metadata_location for one in self.staged}
        if metadata and self.lake.has(self.number, metadata):
            return
        for stem in self.stems.values():
            self._delete_files(stem)
        self.lake.storage.delete(chain.from_iterable(one.written for one in self.staged))

    def _delete_files(self, stem: str | None) -> None:
        if stem is None:
            return
        folder = stem.rsplit("/", 1)[0].removeprefix(f"{self.lake.address.root}/")
        self.lake.storage.delete(
            file.location
            for file in self.lake.storage.files_under(folder)
            if file.location.startswith(f"{stem}-")
        )


@contextmanager
def drafting(lake: Lake) -> Iterator[Draft]:
    """A draft of the next epoch; discarded if the block fails. It holds a lock, so that `maintain` does not
    remove its files as orphans. Raises LostRace if the previous epoch was expired concurrently."""
    with sharing(lake):
        draft = Draft(previous=lake.newest(), reading=lake.storage, lake=lake)
        try:
            yield draft
        except BaseException as error:  # also Ctrl-C
            draft.discard()
            if isinstance(error, FileNotFoundError) and lake.newest() != draft.previous:
                raise LostRace(
                    "cannot publish the epoch: other epochs were published concurrently; "
                    "run the command again"
                ) from error
            raise


@contextmanager
def sharing(lake: Lake, operation: int = fcntl.LOCK_SH) -> Iterator[bool]:
    """Hold the lake's lock, shared with other drafts or (LOCK_EX | LOCK_NB) exclusive; yields whether it was
    acquired. The kernel releases it when the process ends. A remote lake has no lock: always False."""
    if lake.address.remote:
        yield False
        return
    descriptor = os.open(lake.address.join("epochs"), os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, operation)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
