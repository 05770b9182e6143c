"""Stores of several sizes in one server, each with a lake and a first epoch."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from psycopg.conninfo import make_conninfo

from lakehouse.capture.publish import publish_snapshot
from lakehouse.table.catalog import Lake
from lakehouse.table.epoch import Epoch
from oltp.ingest.history import vacuum_and_analyze
from oltp.ingest.seed import seed_rides
from oltp.store import ensure_database, open_database, open_store
from ridelake.settings import LakeAddress, Settings


@dataclass(frozen=True, slots=True)
class SizedStore:
    """A store with this many past rides, and an epoch of it."""

    rides: int
    settings: Settings
    epoch: Epoch


@contextmanager
def sized_stores(sizes: Sequence[int]) -> Iterator[list[SizedStore]]:
    with tempfile.TemporaryDirectory(prefix="ridelake-sized-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with open_store(Settings(folder, LakeAddress.at(folder / "lake"))) as server:
            yield [_sized(server.conninfo, folder, rides) for rides in sizes]


def _sized(server: str, folder: Path, rides: int) -> SizedStore:
    database = f"rides_{rides}"
    ensure_database(server, database)
    store = open_database(make_conninfo(server, dbname=database))
    seed_rides(store, rides, seed=1)
    with store.connect() as connection:
        vacuum_and_analyze(connection)
    lake = Lake.create(LakeAddress.at(folder / f"lake_{rides}"))
    epoch = publish_snapshot(store, lake)
    return SizedStore(rides, Settings(folder, lake.address, dsn=store.conninfo), epoch)
