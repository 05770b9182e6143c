"""A copy pauses while the server is slow for other sessions, and its snapshot has a maximum age."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from itertools import count
from pathlib import Path

import pytest
from bare_database import run
from concurrency import assert_audit_passes
from lake_files import files_of
from private_server import private_server
from psycopg import errors
from published_tables import heap_source
from terminal import ridelake

from lakehouse.capture.publish import publish_changes, publish_snapshot
from lakehouse.capture.sync import sync_repeatedly
from lakehouse.source.copy import export
from lakehouse.source.copy.pace import FULL_SPEED, Pace, Probe, next_pace
from lakehouse.source.copy.throttle import PROBES_ALONE, SnapshotTooOld, Throttle
from lakehouse.source.tables import TableSource
from lakehouse.source.tracking import track
from lakehouse.table.catalog import Lake
from lakehouse.table.published import read_epochs
from lakehouse.verify import verify_now
from oltp.store import Store
from ridelake.settings import LakeAddress

ROWS = 200_000


def probing(monkeypatch, delay_ms: float, sessions: int) -> None:
    """Set the delay of the probes during the copy. Earlier probes have a short delay."""

    def probes(self, connection) -> Iterator[Probe]:
        for number in count():
            yield Probe(time.monotonic(), delay_ms if number >= PROBES_ALONE else 0.1, 1_000, sessions)

    monkeypatch.setattr(Throttle, "_probes", probes)


@pytest.fixture
def table(store: Store) -> TableSource:
    with store.connect() as connection:
        connection.execute(
            f"CREATE TABLE t AS SELECT i AS key, md5(i::text) AS text FROM generate_series(1, {ROWS}) AS i"
        )
        return heap_source(connection, "t", ["key"])


def copied_rows(store: Store, table: TableSource, throttle: Throttle) -> int:
    rows: list[int] = []
    with throttle.watching(store):
        export(
            store, None, table, lambda pieces: rows.extend(piece.num_rows for piece in pieces),
            workers=2, on_rows=lambda count: None, throttle=throttle,
        )  # fmt: skip
    return sum(rows)


@pytest.fixture
def compiled(monkeypatch) -> None:
    monkeypatch.setattr("lakehouse.source.copy.COMPILED_BYTES", 1)
    monkeypatch.setattr("lakehouse.source.copy.query.WORKER_PAGES_MIN", 10)


@pytest.mark.usefixtures("compiled")
def test_slow_probes_pause_the_copy(store: Store, table: TableSource, monkeypatch):
    probing(monkeypatch, delay_ms=50.0, sessions=1)
    throttle = Throttle(fast=False)
    assert copied_rows(store, table, throttle) == ROWS
    assert throttle.paused_seconds > 0
    assert throttle.pace.workers == 1
    assert throttle.pace.pause_ratio > 0


@pytest.mark.usefixtures("compiled")
def test_slow_probes_without_other_sessions_do_not_pause_the_copy(
    store: Store, table: TableSource, monkeypatch
):
    probing(monkeypatch, delay_ms=50.0, sessions=0)
    throttle = Throttle(fast=False)
    assert copied_rows(store, table, throttle) == ROWS
    assert throttle.paused_seconds == 0
    assert throttle.pace == FULL_SPEED


def test_fast_does_not_probe(store: Store, table: TableSource, monkeypatch):
    monkeypatch.setattr(Throttle, "_probes", None)
    throttle = Throttle(fast=True)
    assert copied_rows(store, table, throttle) == ROWS
    assert throttle.paused_seconds == 0


@pytest.mark.slow
def test_only_the_sessions_of_others_are_load(lake: Lake, monkeypatch):
    paces: list[Pace] = []

    def recorded(*arguments) -> Pace:
        paces.append(next_pace(*arguments))
        return paces[-1]

    monkeypatch.setattr("lakehouse.source.copy.throttle.next_pace", recorded)
    with private_server() as server, server.store.connect() as connection:
        connection.execute("ALTER SYSTEM SET autovacuum = off")
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("CREATE TABLE public.t AS SELECT i AS key FROM generate_series(1, 300000) AS i")
        time.sleep(1)  # until there are no recent transactions
        publish_snapshot(server.store, lake, tables=["public.t"])
        assert set(paces) == {FULL_SPEED}
        with other_sessions_at_work(server.store):
            publish_snapshot(server.store, lake)
    assert paces[-1].workers == 1


@contextmanager
def other_sessions_at_work(store: Store) -> Iterator[None]:
    """Another session that executes a statement during the block."""
    with store.connect() as working, store.connect() as watching:

        def work() -> None:
            with suppress(errors.AdminShutdown):
                working.execute("SELECT pg_sleep(3600)")

        thread = threading.Thread(target=work)
        thread.start()
        query = "SELECT state FROM pg_stat_activity WHERE pid = %s"
        while watching.execute(query, (working.info.backend_pid,)).fetchone() != ("active",):
            time.sleep(0.01)
        yield
        watching.execute("SELECT pg_terminate_backend(%s)", (working.info.backend_pid,))
        thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("fast", [True, False])
def test_a_paused_and_a_fast_copy_equal_the_store(seeded_store: Store, lake: Lake, monkeypatch, fast: bool):
    monkeypatch.setattr("lakehouse.source.copy.COMPILED_BYTES", 1)
    probing(monkeypatch, delay_ms=50.0, sessions=1)
    ages: list[float] = []
    assert publish_snapshot(seeded_store, lake, fast=fast, verify=True, on_age=ages.append).verified
    assert ages == sorted(ages)
    assert ages[-1] > 0
    with seeded_store.connect() as connection:
        connection.execute("UPDATE riders SET username = username || '!' WHERE rider_id < 100")
    assert publish_changes(seeded_store, lake, fast=fast, verify=True).is_new
    verify_now(seeded_store, lake).prove()
    assert_audit_passes(seeded_store)


@pytest.mark.timeout(60)
@pytest.mark.usefixtures("compiled")
def test_ctrl_c_ends_a_pause(store: Store, table: TableSource, monkeypatch):
    probing(monkeypatch, delay_ms=50.0, sessions=1)
    monkeypatch.setattr("lakehouse.source.copy.pace.PAUSE_RATIO_MIN", 1e6)
    monkeypatch.setattr("lakehouse.source.copy.pace.PAUSE_RATIO_MAX", 1e6)  # pause after each piece

    def interrupted(*_) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupted)  # SIGINT may be ignored
    throttle = Throttle(fast=False)
    main = threading.main_thread().ident

    def interrupt() -> None:
        while not throttle.paused_seconds:
            time.sleep(0.01)
        signal.pthread_kill(main, signal.SIGUSR1)

    waiting = threading.Thread(target=interrupt)
    waiting.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            while True:
                copied_rows(store, table, throttle)
    finally:
        waiting.join()
        signal.signal(signal.SIGUSR1, before)


# ── The age of the snapshot ─────────────────────────────────────────────────────────────────────


def test_a_copy_that_takes_too_long_is_one_line_and_leaves_nothing(seeded_store: Store, tmp_path: Path):
    flags = ["--dsn", seeded_store.conninfo, "--lake", tmp_path / "lake"]
    assert ridelake("snapshot", *flags).returncode == 0
    address = LakeAddress.at(tmp_path / "lake")
    before = files_of(address.folder)
    failed = ridelake("snapshot", "--max-snapshot-seconds", "0.001", *flags)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.count("\n") == 1
    assert "cannot copy the tables within 0.001 s" in failed.stderr
    assert "--fast" in failed.stderr
    assert [epoch.number for epoch in read_epochs(address)] == [1]
    assert files_of(address.folder) == before


@pytest.mark.timeout(120)
def test_a_query_that_sends_no_rows_ends_at_the_maximum_age(bare: Store, lake: Lake):
    with bare.connect() as connection:
        connection.execute("CREATE VIEW slow AS SELECT 1 AS key FROM pg_sleep(3600)")
    with pytest.raises(SnapshotTooOld):
        publish_snapshot(bare, lake, tables=["slow"], max_snapshot_seconds=1.0)
    assert lake.newest() is None
    assert not [path for path in files_of(lake.address.folder) if path.suffix == ".parquet"]


@pytest.mark.parametrize("step", ["lakehouse.capture.publish.read_changes", "lakehouse.verify._compare"])
def test_no_table_is_read_after_the_maximum_age(bare: Store, lake: Lake, monkeypatch, step: str):
    names = [f"t{number}" for number in range(8)]
    for name in names:
        run(bare, f"CREATE TABLE {name} (key int PRIMARY KEY)")
        track(bare, name)
    publish_snapshot(bare, lake, tables=names)
    calls: list[object] = []

    def slow(*arguments: object) -> object:
        calls.append(arguments)
        time.sleep(1.0)
        return original(*arguments)

    module, name = step.rsplit(".", 1)
    original = getattr(import_module(module), name)
    monkeypatch.setattr(step, slow)
    with pytest.raises(SnapshotTooOld):
        publish_changes(bare, lake, verify=True, max_snapshot_seconds=2.5)
    assert len(calls) <= 3


@pytest.mark.parametrize("seconds", [1e9, float("inf")])
def test_a_maximum_age_of_many_years_is_accepted(bare: Store, lake: Lake, seconds: float):
    run(bare, "CREATE TABLE t AS SELECT 1 AS key")
    assert publish_snapshot(bare, lake, tables=["t"], max_snapshot_seconds=seconds).rows == 1


def test_a_repeated_sync_reports_an_old_snapshot_and_retries(seeded_store: Store, lake: Lake):
    synced = sync_repeatedly(0.0, seeded_store, lake, max_snapshot_seconds=0.001)
    for _ in range(2):
        assert "--max-snapshot-seconds" in (next(synced).trouble or "")
    synced.close()


def test_an_invalid_maximum_age_is_a_usage_error():
    assert ridelake("snapshot", "--max-snapshot-seconds", "0").returncode == 2
    assert ridelake("sync", "--max-snapshot-seconds", "nan").returncode == 2
