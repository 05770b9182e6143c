"""Stores of several sizes in one server, each with a lake and a first epoch."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from psycopg.conninfo import make_conninfo

from lakehouse.catalog import Lake
from lakehouse.epoch import Epoch
from lakehouse.take import take_snapshot
from oltp.history import settle
from oltp.seed import seed_rides
from oltp.store import ensure_database, open_database, open_store
from ridelake.settings import LakeAddress, Settings


@dataclass(frozen=True, slots=True)
class Sized:
    """A store with this many past rides, and an epoch of it."""

    rides: int
    settings: Settings
    epoch: Epoch


@contextmanager
def sized(sizes: Sequence[int]) -> Iterator[list[Sized]]:
    with tempfile.TemporaryDirectory(prefix="ridelake-sized-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with open_store(Settings(folder, LakeAddress.at(folder / "lake"))) as server:
            yield [_sized(server.conninfo, folder, rides) for rides in sizes]


def _sized(server: str, folder: Path, rides: int) -> Sized:
    database = f"rides_{rides}"
    ensure_database(server, database)
    store = open_database(make_conninfo(server, dbname=database))
    seed_rides(store, rides, seed=1)
    with store.connect() as connection:
        settle(connection)
    lake = Lake.create(LakeAddress.at(folder / f"lake_{rides}"))
    epoch = take_snapshot(store, lake)
    return Sized(rides, Settings(folder, lake.address, dsn=store.conninfo), epoch)
