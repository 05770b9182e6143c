"""Processes that change rows and sync them. Tests kill or stop them. They are forked from a process that has
imported all modules."""

import multiprocessing
import os
import pkgutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import count
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path

from pyiceberg.io import load_file_io
from pyiceberg.serializers import FromInputFile

import lakehouse.capture.writer
from lakehouse.capture.maintain import maintain
from lakehouse.capture.publish import publish_changes
from lakehouse.table.catalog import CommitConflict, Lake
from lakehouse.table.key_index import index_location
from lakehouse.table.layout import README, hint_location
from lakehouse.table.published import read_epochs
from oltp.store import Store
from ridelake.settings import LakeAddress

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["lakehouse.capture.sync", "lakehouse.engines.duckdb", "pyiceberg.catalog.sql"]
)

LOST_THE_RACE = 7

# A file is sealed at 20 rows instead of 20,000, so that epochs have delete files.
SEAL_ROWS = 20


@contextmanager
def syncing_process(store: Store, address: LakeAddress, **how: object) -> Iterator[BaseProcess]:
    process = CONTEXT.Process(target=_sync, args=(store, address), kwargs=how)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()
        process.close()


def _sync(
    store: Store,
    address: LakeAddress,
    *,
    at: str = "",
    sends: int = signal.SIGKILL,
    maintaining: bool = False,
    ready: Event | None = None,
    name: str = "",
) -> None:
    """Change rows and publish them in a loop. With `at`, publish once and send the signal `sends` to this
    process at that step. `name`: the name of the store in a lake of several stores."""
    lake = Lake.create(address, name)
    lakehouse.capture.writer.SEAL_ROWS = SEAL_ROWS
    if at:
        step = pkgutil.resolve_name(at)

        def reached(*arguments: object, **more: object) -> object:
            os.kill(os.getpid(), sends)
            return step(*arguments, **more)

        owner, name = at.rsplit(".", 1)
        setattr(pkgutil.resolve_name(owner), name, reached)
    if ready is not None:
        ready.set()
    with store.connect() as connection:
        # Change another rider for each epoch, because the account of a changed rider is in the open file.
        newest = lake.newest()
        for number in count(newest.number if newest else 0):
            connection.execute("SELECT top_up(1 + %s %% 50, 100)", (number,))
            try:
                publish_changes(store, lake)
            except CommitConflict:
                os._exit(LOST_THE_RACE)
            if maintaining and number % 5 == 4:
                maintain(lake, store, keep_epochs=3)
            if at:
                return


def wait_until_stopped(process: BaseProcess) -> None:
    deadline = time.monotonic() + 60
    while Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "T":
        assert time.monotonic() < deadline, "the process was not stopped in time"
        time.sleep(0.01)


def referenced(lake: Lake) -> set[str]:
    """Every file of the published epochs except the catalog, found with pyiceberg."""
    epochs = read_epochs(lake.address)
    found = {hint_location(lake.address, name) for epoch in epochs[:1] for name in epoch.tables}
    found |= {lake.address.join(README)} if epochs else set()
    for epoch in epochs:
        found |= {lake.address.manifest(epoch.number), *(file.location for file in epoch.stored_files)}
        found |= {index for file in epoch.files if Path(index := index_location(file.location)).exists()}
        for table in epoch.tables.values():
            found |= {table.metadata, *_files_of_snapshot(table.metadata, table.snapshot_id)}
    return found


@lru_cache(maxsize=100_000)
def _files_of_snapshot(metadata: str, snapshot_id: int) -> frozenset[str]:
    io = load_file_io({}, metadata)
    snapshot = FromInputFile.table_metadata(io.new_input(metadata)).snapshot_by_id(snapshot_id)
    assert snapshot is not None
    return frozenset({snapshot.manifest_list, *(one.manifest_path for one in snapshot.manifests(io))})
