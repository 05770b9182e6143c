"""An export reads exactly the rows of the table with both transports, and ends when it is cancelled."""

import errno
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

import psycopg
import pyarrow as pa
import pytest
from bare_database import run
from own_tables import asked
from psycopg.sql import SQL
from published_tables import heap_source

from lakehouse.capture.publish import publish_changes
from lakehouse.source.copy import RUN_ROWS, export, export_snapshot, fetch
from lakehouse.source.copy.decode import RunBuffer
from lakehouse.source.copy.query import PageRange, split_pages
from lakehouse.source.copy.sorting import sort_run, sorted_runs
from lakehouse.source.tables import TableSource
from lakehouse.source.tracking import track
from lakehouse.table.catalog import Lake
from oltp.store import Store
from ridelake.errors import CannotConnect, RidelakeError

PROMPTLY_SECONDS = 8.0

MIXED = """
CREATE TABLE mixed AS SELECT
    i::bigint AS key, CASE WHEN i % 3 = 0 THEN i END AS maybe, gen_random_uuid() AS id,
    CASE WHEN i % 5 = 0 THEN gen_random_uuid() END AS other, repeat('ü', i % 11) AS words,
    CASE WHEN i % 7 > 0 THEN 'd' || i END AS some, i % 2 = 0 AS even,
    timestamptz '2025-01-01' + i * interval '1 s' AS at,
    CASE WHEN i % 9 = 0 THEN date '2025-01-01' + i END AS day, (i / 100.0)::numeric(12, 2) AS price,
    decode(repeat('64000000', i % 4), 'hex') AS raw
FROM generate_series(1, {rows}) AS i ORDER BY i % 97
"""


def source_of(store: Store, name: str, *order_by: str) -> TableSource:
    with store.connect() as connection:
        return heap_source(connection, name, order_by)


def exported(store: Store, source: TableSource, workers: int = 1, **more) -> list[pa.Table]:
    runs: list[pa.Table] = []

    def write(pieces: Iterator[pa.Table]) -> None:
        runs.append(pa.concat_tables(pieces).combine_chunks())

    export(store, None, source, write, workers=workers, on_rows=lambda rows: None, **more)
    return runs


def filled(store: Store, statement: str, *order_by: str) -> TableSource:
    with store.connect() as connection:
        connection.execute(statement)
        return heap_source(connection, statement.split()[2], order_by)


def fetched(store: Store, source: TableSource) -> pa.Table:
    with store.connect() as connection:
        query = SQL("SELECT * FROM {} ORDER BY 1").format(SQL(source.name))
        return fetch(connection, query, source.columns)


def busy(store: Store) -> int:
    """The number of other sessions of this database. Waits for cancelled sessions to end."""
    give_up = time.monotonic() + PROMPTLY_SECONDS
    with store.connect() as connection:
        while True:
            found = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
            ).fetchone()
            if found == (0,) or time.monotonic() > give_up:
                return found[0]
            time.sleep(0.02)


@pytest.fixture
def nothing_left(store: Store):
    before = threading.active_count()
    yield
    assert threading.active_count() <= before
    assert busy(store) == 0


def test_both_transports_give_the_same_table(store: Store, monkeypatch):
    source = filled(store, MIXED.format(rows=50_000), "key")
    monkeypatch.setattr("lakehouse.source.copy.is_loaded", lambda: True)
    raw = pa.concat_tables(exported(store, source))
    monkeypatch.setattr("lakehouse.source.copy.raw.is_plain", lambda connection: False)
    by_libpq = pa.concat_tables(exported(store, source))
    assert raw.equals(by_libpq)
    assert raw.equals(fetched(store, source))
    assert raw["price"].to_pylist()[:2] == [
        pytest.importorskip("decimal").Decimal(x) for x in ("0.01", "0.02")
    ]
    assert raw["id"].null_count == 0
    assert raw["other"].null_count == 40_000


def test_values_equal_those_of_libpq(store: Store):
    source = filled(store, MIXED.format(rows=500), "key")
    with store.connect() as connection:
        rows = connection.execute("SELECT * FROM mixed ORDER BY key").fetchall()
    (run,) = exported(store, source)
    found = [tuple(one.values()) for one in run.to_pylist()]
    assert found == [tuple(str(v) if type(v).__name__ == "UUID" else v for v in one) for one in rows]


@pytest.mark.parametrize("length", [0, 7, 5_000_000, pytest.param(40_000_000, marks=pytest.mark.slow)])
def test_texts_longer_than_the_buffers_are_read_completely(store: Store, length: int):
    source = filled(
        store,
        f"CREATE TABLE long AS SELECT i::int, repeat('d', {length}) AS t FROM generate_series(1, 3) i",
        "i",
    )
    found = [text for run in exported(store, source) for text in run["t"].to_pylist()]
    assert found == ["d" * length] * 3


def test_a_table_without_rows_has_no_run_and_an_empty_result(store: Store):
    source = filled(store, MIXED.format(rows=0), "key")
    assert exported(store, source, workers=2) == []
    assert fetched(store, source).num_rows == 0
    assert fetched(store, source).schema.names == [column.name for column in source.columns]


def test_workers_share_a_table_and_a_snapshot(store: Store, monkeypatch):
    monkeypatch.setattr("lakehouse.source.copy.query.WORKER_PAGES_MIN", 10)
    source = filled(store, MIXED.format(rows=20_000), "key")
    whole = fetched(store, source)
    with store.connect() as connection, connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        snapshot = export_snapshot(connection)
        with store.connect() as other:
            other.execute("INSERT INTO mixed (key) SELECT 0 FROM generate_series(1, 30000)")
            other.execute("DELETE FROM mixed WHERE key = 7")
        runs: list[pa.Table] = []
        threads: set[str] = set()
        counted: list[int] = []

        def write(pieces: Iterator[pa.Table]) -> None:
            threads.add(threading.current_thread().name)
            runs.extend(pieces)

        export(store, snapshot, source, write, workers=3, on_rows=counted.append)
    assert len(threads) == 2, (
        "the third range only has rows that were inserted later, so its worker writes nothing"
    )
    assert pa.concat_tables(runs).sort_by("key").equals(whole)
    assert sum(counted) == 20_000


def test_pages_added_after_the_table_was_measured_are_read_too(store: Store, monkeypatch):
    monkeypatch.setattr("lakehouse.source.copy.query.WORKER_PAGES_MIN", 1)
    source = filled(store, MIXED.format(rows=20_000), "key")
    monkeypatch.setattr("lakehouse.source.copy._pages", lambda *_: 5)
    assert sum(map(len, exported(store, source, workers=4))) == 20_000
    assert split_pages(10, 3) == [PageRange(0, 3), PageRange(3, 6), PageRange(6, None)]
    assert split_pages(10, 1) == [None] == split_pages(0, 4)


def test_runs_are_sorted_as_postgres_sorts(store: Store):
    statement = (
        "CREATE TABLE sorted AS SELECT nullif(i % 5, 3) AS a, (i * 7919 % 1000)::bigint - 500 AS b,"
        " (i % 13)::text AS c, date '2025-01-01' - i % 30 AS d, i FROM generate_series(1, 2000) i"
    )
    filled(store, statement)
    for order_by in (["a", "b", "i"], ["b", "d", "i"], ["d", "b", "i"], ["c", "i"], ["i"]):
        (run,) = exported(store, source_of(store, "sorted", *order_by))
        with store.connect() as connection:
            query = f"SELECT i FROM sorted ORDER BY {', '.join(order_by)}".replace("c,", 'c COLLATE "C",')
            expected = [row[0] for row in connection.execute(query)]
        assert run["i"].to_pylist() == expected, order_by


def test_keys_over_the_full_range_are_sorted():
    extremes = [2**63 - 1, -(2**63), 0, -1, 1]
    assert sort_run(pa.table({"k": extremes}), ["k"])["k"].to_pylist() == sorted(extremes)


# ── Failures ────────────────────────────────────────────────────────────────────────────────────


def lasting(store: Store) -> TableSource:
    """A large table, so that a worker still reads it when the event occurs."""
    return filled(store, MIXED.format(rows=200_000), "key")


def while_reading(monkeypatch, event: Callable[[], None]) -> None:
    """Call `event` after the first rows have been received."""
    feed, once = RunBuffer.feed, []

    def feed_later(*arguments):
        if not once:
            once.append(True)
            event()
        return feed(*arguments)

    monkeypatch.setattr("lakehouse.source.copy.raw.BUFFER_BYTES", 64 * 1024)
    monkeypatch.setattr(RunBuffer, "feed", feed_later)


@pytest.mark.timeout(60)
@pytest.mark.usefixtures("nothing_left")
def test_a_killed_server_process_is_reported_in_one_sentence(store: Store, monkeypatch):
    source = lasting(store)

    def kill() -> None:
        with store.connect() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND query LIKE 'COPY%'"
            )

    while_reading(monkeypatch, kill)
    started = time.monotonic()
    with pytest.raises(RidelakeError, match="run the command again") as raised:
        exported(store, source)
    assert time.monotonic() - started < PROMPTLY_SECONDS
    assert "\n" not in str(raised.value)


class UnreachableSocket(socket.socket):
    def recv_into(self, *_: object) -> int:
        raise TimeoutError(errno.ETIMEDOUT, "Connection timed out")


def test_a_server_that_cannot_be_reached_any_more_is_reported_in_one_sentence(store: Store, monkeypatch):
    monkeypatch.setattr("lakehouse.source.copy.COMPILED_BYTES", 1)
    monkeypatch.setattr(
        "lakehouse.source.copy.raw.socket_of", lambda one: UnreachableSocket(fileno=os.dup(one.fileno()))
    )
    with pytest.raises(CannotConnect, match="lost the connection to Postgres during a COPY"):
        exported(store, filled(store, MIXED.format(rows=10), "key"))


@pytest.mark.timeout(60)
@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_that_cannot_be_written_stops_all_workers(store: Store, monkeypatch, workers: int):
    monkeypatch.setattr("lakehouse.source.copy.query.WORKER_PAGES_MIN", 10)
    monkeypatch.setattr("lakehouse.source.copy.RUN_ROWS", 1_000)
    source = lasting(store)

    def write(pieces: Iterator[pa.Table]) -> None:
        raise OSError("the disk is full")

    started = time.monotonic()
    with pytest.raises(OSError, match="the disk is full"):
        export(store, None, source, write, workers=workers, on_rows=lambda rows: None)
    assert time.monotonic() - started < PROMPTLY_SECONDS


@pytest.mark.timeout(60)
@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("view", ["SELECT 1::bigint AS key FROM pg_sleep(60)", None])
def test_ctrl_c_stops_all_workers_promptly(store: Store, view: str | None):
    """Before the server has sent any row, and while the writer is blocked."""
    source = lasting(store) if view is None else filled(store, f"CREATE VIEW slow AS {view}")

    def interrupted(*_) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupted)  # SIGINT may be ignored
    main = threading.main_thread().ident
    timer = threading.Timer(0.7, signal.pthread_kill, (main, signal.SIGUSR1))
    timer.start()
    started = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            export(store, None, source, lambda run: time.sleep(2), workers=1, on_rows=lambda rows: None)
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, before)
    assert time.monotonic() - started < PROMPTLY_SECONDS


@pytest.mark.timeout(60)
def test_a_query_that_fails_is_reported_in_a_sentence(store: Store):
    source = filled(store, "CREATE VIEW broken AS SELECT 1 / (i - 5) AS x FROM generate_series(1, 9) AS i")
    with pytest.raises(RidelakeError, match=r"aborted its COPY \(division by zero\): run the command again"):
        exported(store, source)
    with store.connect() as connection:
        with pytest.raises(psycopg.errors.DivisionByZero):
            fetch(connection, SQL("SELECT * FROM broken").format(), source.columns)
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.timeout(60)
def test_an_export_does_not_wait_for_a_waiting_truncate(store: Store):
    """TRUNCATE waits for the session with the snapshot, and that waits for the export: a deadlock."""
    source = filled(store, MIXED.format(rows=1_000), "key")

    def truncate() -> None:
        with store.connect() as other:
            other.execute("TRUNCATE mixed")

    with store.connect() as connection:
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            connection.execute("LOCK TABLE mixed IN ACCESS SHARE MODE")
            snapshot = export_snapshot(connection)
            waiting = threading.Thread(target=truncate)
            waiting.start()
            time.sleep(0.3)
            runs: list[pa.Table] = []
            more = {"workers": 2, "on_rows": lambda rows: None}
            with pytest.raises(
                RidelakeError, match="table mixed: another session waits to truncate or alter it"
            ):
                export(store, snapshot, source, runs.extend, **more)
            export(store, snapshot, source, runs.extend, coordinator=connection, **more)
        waiting.join()
    assert sum(map(len, runs)) == 1_000


@pytest.mark.slow
def test_memory_is_bounded_by_the_run_and_not_by_the_table(store: Store, monkeypatch):
    monkeypatch.setattr("lakehouse.source.copy.RUN_ROWS", 20_000)
    source = filled(
        store, "CREATE TABLE wide AS SELECT i, repeat('x', 500) AS t FROM generate_series(1, 1000000) i", "i"
    )
    read: list[int] = []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    export(store, None, source, list, workers=1, on_rows=read.append)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert sum(read) == 1_000_000
    assert grown < 250_000_000, f"{grown / 1e6:.0f} MB for a table of 500 MB"
    assert RUN_ROWS == 4 * 61_440


WIDE = """
CREATE TABLE wide AS
SELECT i::int AS id, repeat(md5(i::text), CASE WHEN i % 10 = 0 THEN 1000 ELSE 1 END) AS t
FROM generate_series(1, 10000) AS i ORDER BY i DESC
"""


@pytest.mark.parametrize("is_loaded", [True, False])
def test_a_run_is_bounded_by_bytes(store: Store, monkeypatch, is_loaded: bool):
    monkeypatch.setattr("lakehouse.source.copy.is_loaded", lambda: is_loaded)
    monkeypatch.setattr("lakehouse.source.copy.workers.RUN_BUFFER_BYTES", 8 << 20)
    monkeypatch.setattr("lakehouse.source.copy.RUN_BUFFER_BYTES", 8 << 20)
    source = filled(store, WIDE, "id")
    runs = exported(store, source)
    assert len(runs) == 4
    assert max(run.nbytes for run in runs) < 10 << 20
    together = pa.concat_tables(runs).sort_by("id")
    assert together.equals(fetched(store, source).combine_chunks().cast(together.schema))


def test_rows_larger_than_a_run_are_sorted_into_several(monkeypatch):
    words = [("b" * size if size else None) for size in (5, 0, 700, 1, 900, 300, 300, 300)]
    rows = pa.table({"id": pa.array([8, 7, 6, 5, 4, 3, 2, 1]), "t": pa.array(words)})
    runs = list(sorted_runs(rows, ["id"], 3, 800))
    assert [run["id"].to_pylist() for run in runs] == [[1, 2], [3], [4], [5, 6, 7], [8]]
    assert pa.concat_tables(runs).equals(rows.sort_by("id"))
    assert [len(run) for run in sorted_runs(rows, ["id"], 3, 1 << 20)] == [3, 3, 2]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_more_than_two_gib_of_text_in_one_column_is_published(bare: Store, lake: Lake):
    """The table is published, changed and compared in bounded memory."""
    run(
        bare,
        "CREATE TABLE docs (id int PRIMARY KEY, t text)",
        "ALTER TABLE docs ALTER t SET STORAGE EXTERNAL",
        "INSERT INTO docs SELECT i, repeat(md5(i::text), 15000) FROM generate_series(1, 4700) AS i",
    )
    track(bare, "docs")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    epoch = publish_changes(bare, lake, tables=["docs"]).epoch
    assert sum(len(x["t"]) for x in asked(lake, "SELECT t FROM docs WHERE id = 7")) == 480_000
    assert epoch.rows == 4700
    assert len(epoch.files) > 10
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 2048, (
        "the memory has grown by more than 2 GiB"
    )
    run(bare, "UPDATE docs SET t = t || 'x' WHERE id <= 10")
    assert publish_changes(bare, lake, verify=True).epoch.changed == 10
    for engine in ("duckdb", "polars", "pyarrow", "datafusion", "chdb", "daft"):
        (row,) = asked(lake, "SELECT sum(length(t)) AS n, count(*) AS m FROM docs", engine)
        assert (int(row["n"]), row["m"]) == (4700 * 480_000 + 10, 4700), engine
