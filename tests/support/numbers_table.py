"""A store with one tracked table, whose lake grows by a small file with each epoch."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bare_database import bare_database, run
from private_server import private_server

from lakehouse.capture.publish import publish_changes
from lakehouse.engines import open_engine
from lakehouse.source.tracking import track
from lakehouse.table.catalog import Lake
from lakehouse.table.epoch import Epoch
from oltp.cluster.server import Cluster
from oltp.store import Store
from ridelake.settings import Settings


@pytest.fixture
def numbers(cluster: Cluster, lake: Lake, monkeypatch) -> Iterator[Store]:
    """A store with a tracked table. Every epoch adds a small sealed file."""
    monkeypatch.setattr("lakehouse.capture.writer.SEAL_ROWS", 10)
    with numbers_on(cluster, lake) as store:
        yield store


@pytest.fixture
def numbers_alone(lake: Lake, monkeypatch) -> Iterator[Store]:
    """Like `numbers`, on a separate server, because open transactions of other tests keep tombstones."""
    monkeypatch.setattr("lakehouse.capture.writer.SEAL_ROWS", 10)
    with private_server() as server, numbers_on(server.cluster, lake) as store:
        yield store


@contextmanager
def numbers_on(cluster: Cluster, lake: Lake) -> Iterator[Store]:
    with bare_database(cluster) as store:
        run(store, "CREATE TABLE numbers (n bigint PRIMARY KEY, what text)", "CREATE SEQUENCE next_number")
        track(store, "numbers")
        more(store)
        publish_changes(store, lake, tables=["numbers"])
        yield store


def more(store: Store, *, rows_alone: bool = False) -> None:
    """Insert 20 rows. Without `rows_alone`, also change one old row and delete another."""
    run(store, "INSERT INTO numbers SELECT nextval('next_number'), 'new' FROM generate_series(1, 20)")
    if rows_alone:
        return
    run(
        store,
        "UPDATE numbers SET what = 'changed' WHERE n = (SELECT min(n) + 3 FROM numbers)",
        "DELETE FROM numbers WHERE n = (SELECT min(n) FROM numbers)",
    )


def grow(store: Store, lake: Lake, epochs: int, *, rows_alone: bool = False) -> None:
    for _ in range(epochs):
        more(store, rows_alone=rows_alone)
        publish_changes(store, lake)


def counted(lake: Lake, epoch: Epoch) -> int:
    with open_engine("duckdb", Settings(home=Path("unused"), lake=lake.address), epoch) as engine:
        return int(engine.sql("SELECT count(DISTINCT n) AS n FROM numbers")["n"][0].as_py())


@contextmanager
def another_process(lake: Lake, code: str) -> Iterator[subprocess.Popen]:
    """Run `code`, which can use `lake` and `address`. It prints "ready" and waits until it is killed."""
    begin = (
        "import sys\nfrom lakehouse.table.catalog import Lake\nfrom ridelake.settings import LakeAddress\n"
        f"address = LakeAddress.at({str(lake.address.folder)!r})\nlake = Lake.create(address)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", begin + code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin
    assert process.stdout
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
