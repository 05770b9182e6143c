"""Forty tables are synced while clients alter, create and drop them. Each epoch equals Postgres, and the sync
never ends with an error."""

import os
import random
import threading
import time
from contextlib import suppress

import psycopg
import pytest
from bare_database import run

from lakehouse.capture.maintain import maintain
from lakehouse.capture.publish import publish_changes
from lakehouse.capture.sync import sync_repeatedly
from lakehouse.source.selection import select_tables
from lakehouse.source.tracking import track, untrack
from lakehouse.table.catalog import CommitConflict, Lake
from lakehouse.table.columns import TableNotCopied
from lakehouse.table.epoch import Selection
from lakehouse.table.published import newest_epoch
from lakehouse.verify import verify_now
from oltp.store import Store
from ridelake.errors import NotReady, UsageError

SECONDS = int(os.environ.get("RIDELAKE_TEST_SECONDS", "20"))
TABLES = 40
EVERYTHING = Selection(all_tables=True)

CREATE = (
    "CREATE TABLE {t} (id int PRIMARY KEY, v text, n numeric(10, 2), d date)",
    "CREATE TABLE {t} (id int, v text, n numeric(10, 2), d date)",
    "CREATE TABLE {t} (id int NOT NULL, v text, n numeric(10, 2), d date, UNIQUE (id))",
    "CREATE TABLE {t} (id int PRIMARY KEY, v text, n numeric(10, 2), d date) PARTITION BY RANGE (id)",
)
PARTITIONS = (
    "CREATE TABLE IF NOT EXISTS {t}_low PARTITION OF {t} FOR VALUES FROM (MINVALUE) TO (50)",
    "CREATE TABLE IF NOT EXISTS {t}_rest PARTITION OF {t} DEFAULT",
)
WRITES = (
    "INSERT INTO {t} (id, v, n) SELECT g, 'row ' || g, g FROM generate_series({n}, {n} + 20) AS g"
    " ON CONFLICT DO NOTHING",
    "INSERT INTO {t} (id, d) VALUES ({n}, 'epoch') ON CONFLICT DO NOTHING",
    "UPDATE {t} SET v = v || '.' WHERE id % 7 = {n} % 7",
    "UPDATE {t} SET id = id + 1000 WHERE id = {n}",
    "UPDATE {t} SET d = CASE WHEN {n} % 10 = 0 THEN 'infinity'::date ELSE '2026-01-01' END WHERE id = {n}",
    "UPDATE {t} SET d = NULL WHERE d = 'infinity'",
    "DELETE FROM {t} WHERE id % 5 = {n} % 5",
    "DELETE FROM {t}_low WHERE id = {n}",
)
ALTERS = (
    "ALTER TABLE {t} ADD COLUMN extra_{n} int DEFAULT {n}",
    "ALTER TABLE {t} DROP COLUMN v",
    "ALTER TABLE {t} ADD COLUMN v text DEFAULT 'again'",
    "ALTER TABLE {t} RENAME COLUMN v TO w",
    "ALTER TABLE {t} RENAME COLUMN w TO v",
    "ALTER TABLE {t} RENAME COLUMN id TO id_2",
    "ALTER TABLE {t} RENAME COLUMN id_2 TO id",
    "ALTER TABLE {t} ALTER COLUMN n TYPE numeric(12, 3)",
    "ALTER TABLE {t} ALTER COLUMN id TYPE bigint",
    "ALTER TABLE {t} ALTER COLUMN v TYPE varchar(400)",
    "ALTER TABLE {t} RENAME TO {t}_old",
    "ALTER TABLE {t}_old RENAME TO {t}",
    "ALTER TABLE {t} SET SCHEMA other",
    "ALTER TABLE other.{t} SET SCHEMA public",
    "ALTER TABLE {t} DETACH PARTITION {t}_low",
    "ALTER TABLE {t} ATTACH PARTITION {t}_low FOR VALUES FROM (MINVALUE) TO (50)",
    "TRUNCATE {t}",
    "TRUNCATE {t}_low",
    "DROP TABLE {t}",
    "VACUUM FULL {t}",
    "REINDEX TABLE {t}",
    "CREATE OR REPLACE VIEW view_{n} AS SELECT * FROM {t}",
    "DROP VIEW IF EXISTS view_{n} CASCADE",
    "REFRESH MATERIALIZED VIEW totals",
    "REFRESH MATERIALIZED VIEW totals WITH NO DATA",
    "CREATE", "TRACK", "UNTRACK", "MAINTAIN",
)  # fmt: skip


class RandomClient:
    """Executes random statements on random tables until it is stopped. Statements may fail, because an object
    is missing, exists already or is locked."""

    def __init__(
        self, store: Store, lake: Lake, statements: tuple[str, ...], pause_seconds: float, seed: int
    ) -> None:
        self._store, self._lake, self._statements = store, lake, statements
        self._pause_seconds = pause_seconds
        self._random = random.Random(seed)
        self.done = 0
        self.error: BaseException | None = None

    def run(self, stop: threading.Event) -> None:
        try:
            with self._store.connect() as connection:
                connection.execute("SET lock_timeout = '2s'")
                while not stop.is_set():
                    table = f"t_{self._random.randrange(TABLES)}"
                    statement = self._random.choice(self._statements)
                    with suppress(psycopg.Error, UsageError, CommitConflict):
                        self._step(connection, statement, table, self._random.randrange(100))
                        self.done += 1
                    stop.wait(self._pause_seconds)
        except BaseException as error:
            self.error = error

    def _step(self, connection: psycopg.Connection, statement: str, table: str, number: int) -> None:
        if statement == "CREATE":
            create(connection, table, self._random.choice(CREATE))
        elif statement == "TRACK":
            track(self._store, table)
        elif statement == "UNTRACK":
            untrack(self._store, table)
        elif statement == "MAINTAIN":
            maintain(self._lake, self._store, keep_epochs=5)
        else:
            connection.execute(statement.format(t=table, n=number).encode())


def create(connection: psycopg.Connection, table: str, text: str) -> None:
    connection.execute(text.format(t=table).encode())
    for partition in PARTITIONS if "PARTITION BY" in text else ():
        connection.execute(partition.format(t=table).encode())


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 600)
def test_forty_tables_with_random_ddl_are_followed(bare: Store, lake: Lake):
    seed = int(os.environ.get("RIDELAKE_TEST_SEED", "0")) or random.randrange(1_000_000)
    chosen = random.Random(seed)
    with bare.connect() as connection:
        connection.execute("CREATE SCHEMA other")
        for number in range(TABLES):
            create(connection, f"t_{number}", chosen.choice(CREATE))
            connection.execute(WRITES[0].format(t=f"t_{number}", n=0).encode())
            if chosen.random() < 0.6:
                with suppress(UsageError):
                    track(bare, f"t_{number}")
    run(bare, "CREATE MATERIALIZED VIEW totals AS SELECT count(*) AS n FROM pg_class")
    clients = [
        RandomClient(bare, lake, WRITES, 0.02, seed + 1),
        RandomClient(bare, lake, WRITES, 0.02, seed + 2),
    ]
    clients += [RandomClient(bare, lake, ALTERS, 0.2, seed + 3)]
    stop = threading.Event()
    threads = [threading.Thread(target=client.run, args=(stop,)) for client in clients]
    for thread in threads:
        thread.start()
    try:
        seen = followed(bare, lake, time.monotonic() + SECONDS)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert [client.error for client in clients] == [None] * len(clients), f"seed {seed}"
    assert min(client.done for client in clients) > 10, "a client has executed too few statements"
    assert seen["verified"] > 0, seen
    run(bare, "REFRESH MATERIALIZED VIEW totals")
    epoch = publish_changes(bare, lake, verify=True).epoch
    with bare.connect() as connection:
        expected = {*select_tables(connection, EVERYTHING), "public.totals"}
    assert {*epoch.sources} == expected, f"seed {seed}"
    assert all("infinity" in one.reason for one in epoch.left_out.values()), f"seed {seed}"
    assert is_equal_if_known(bare, lake), f"seed {seed}"


def followed(store: Store, lake: Lake, until: float) -> dict[str, int]:
    """Publish and compare epochs until that time. Returns the number of each result."""
    seen = {"new": 0, "trouble": 0, "verified": 0}
    ticks = sync_repeatedly(0, store, lake, selection=EVERYTHING, tables=["totals"], verify=True)
    for synced in ticks:
        seen["new"] += synced.is_new
        seen["trouble"] += synced.trouble is not None
        if synced.epoch and seen["new"] % 3 == 0:
            seen["verified"] += 1
            assert is_equal_if_known(store, lake), newest_epoch(lake.address).number
        if time.monotonic() > until and seen["new"] > 3:
            break
    return seen


def is_equal_if_known(store: Store, lake: Lake) -> bool:
    """Whether the lake equals Postgres. True if the changes of a table since the epoch are unknown."""
    try:
        return verify_now(store, lake).equal
    except (NotReady, TableNotCopied):
        return True
