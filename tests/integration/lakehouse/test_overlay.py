"""`--fresh` is exact for the current time, `--as-of` for a past time, and neither leaves files."""

import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from multiprocessing import forkserver
from pathlib import Path

import pytest
from bare_database import bare_database, run
from random_writes import random_writers
from terminal import answer, refusal

import lakehouse.capture.overlay
from lakehouse.capture.maintain import maintain
from lakehouse.capture.overlay import Overlay, open_overlay
from lakehouse.capture.publish import publish_changes
from lakehouse.engines import open_engine
from lakehouse.source.snapshot import SourceSnapshot
from lakehouse.source.tracking import track
from lakehouse.table.catalog import Lake
from lakehouse.table.epoch import Epoch, SnapshotToken
from lakehouse.table.published import newest_epoch, read_epochs
from lakehouse.verify import verify_at_token
from oltp.cluster.server import Cluster
from oltp.store import Store
from ridelake.errors import QueryRejected, UsageError
from ridelake.settings import Settings


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """The folder of temporary files."""
    forkserver.ensure_running()  # before the change, because the path of its socket must be short
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def left_in(folder: Path) -> list[Path]:
    return list(folder.glob("ridelake-fresh-*"))


@pytest.fixture
def things(cluster: Cluster, lake: Lake) -> Iterator[Store]:
    """A store with two tables in epoch 1. `kept` is tracked, and `loose` is not."""
    with bare_database(cluster) as store:
        for name in ("kept", "loose"):
            run(store, f"CREATE TABLE {name} (id int PRIMARY KEY, n int NOT NULL, what text)")
            run(store, f"INSERT INTO {name} SELECT n, n, 'thing' FROM generate_series(1, 1000) AS n")
        track(store, "kept")
        publish_changes(store, lake, tables=["kept", "loose"])
        yield store


def settings_of(store: Store, lake: Lake) -> Settings:
    return Settings(home=Path("unused"), lake=lake.address, dsn=store.conninfo)


QUERY = """
    SELECT 'kept' AS t, count(*) AS rows, sum(n) AS n, max(what) AS what FROM kept
    UNION ALL SELECT 'loose', count(*), sum(n), max(what) FROM loose ORDER BY t"""


def answers(settings: Settings, epoch: Epoch) -> list[list[tuple]]:
    found = []
    for name in ("postgres", "duckdb", "polars"):
        with open_engine(name, settings, epoch) as engine:
            rows = engine.sql(QUERY).to_pylist()
            found.append([(row["t"], row["rows"], int(row["n"] or 0), row["what"]) for row in rows])
    return found


CHANGES = {
    "nothing": [],
    "inserts": ["INSERT INTO {} SELECT n, -n, 'new' FROM generate_series(1001, 1500) AS n"],
    "updates": ["UPDATE {} SET n = n * 2, what = 'twice' WHERE id % 3 = 0"],
    "deletes": ["DELETE FROM {} WHERE id % 2 = 0"],
    "other keys": ["UPDATE {} SET id = id + 5000 WHERE id < 20"],
    "deleted and inserted again": ["DELETE FROM {} WHERE id = 1", "INSERT INTO {} VALUES (1, -1, 'again')"],
    "a truncate": ["TRUNCATE {}", "INSERT INTO {} VALUES (1, 1, 'first'), (2, 2, 'second')"],
    "an empty table": ["TRUNCATE {}"],
    "another column": ["ALTER TABLE {} ADD COLUMN more int DEFAULT 5", "DELETE FROM {} WHERE id = 9"],
}


@pytest.mark.parametrize("what", CHANGES)
def test_fresh_answers_equal_those_of_postgres(things: Store, lake: Lake, folder: Path, what: str):
    for table in ("kept", "loose"):
        run(things, *(statement.format(table) for statement in CHANGES[what]))
    settings, newest = settings_of(things, lake), newest_epoch(lake.address)
    with open_overlay(settings, newest) as fresh:
        assert len(left_in(folder)) == 1
        from_postgres, from_duckdb, from_polars = answers(settings, fresh)
        assert from_postgres == from_duckdb == from_polars
        assert fresh.number == newest.number
        if what == "nothing":
            assert fresh.tables["kept"].files == newest.tables["kept"].files
    assert left_in(folder) == []
    assert newest_epoch(lake.address) == newest, "the fresh epoch was published"


@contextmanager
def checked_at_its_token(monkeypatch) -> Iterator[list[SnapshotToken]]:
    """Compare every fresh epoch with Postgres row by row, in the transaction of its snapshot."""
    checked: list[SnapshotToken] = []
    write_changes = lakehouse.capture.overlay.write_changes

    def write_and_check(snapshot: SourceSnapshot, tail: Overlay, old: SnapshotToken, *more) -> None:
        write_changes(snapshot, tail, old, *more)
        verify_at_token(snapshot.connection, tail.reading.address, snapshot.sources, tail.tables)
        checked.append(old)

    monkeypatch.setattr(lakehouse.capture.overlay, "write_changes", write_and_check)
    yield checked


@pytest.mark.slow
def test_fresh_is_exact_at_one_snapshot_during_writes(published, broken, folder: Path, monkeypatch):
    lake = Lake.create(published.settings.lake)
    with random_writers(published.store, 4) as done, checked_at_its_token(monkeypatch) as checked:
        for turn in range(3):
            newest = newest_epoch(lake.address)
            with open_overlay(published.settings, newest) as fresh:
                assert broken(fresh) == {}
            if turn % 2:
                publish_changes(published.store, lake)
    assert len(checked) == 3
    assert sum(done) > 10
    assert left_in(folder) == []


@pytest.mark.slow
def test_fresh_works_while_the_lake_is_synced_and_maintained(things: Store, lake: Lake, monkeypatch):
    stop = threading.Event()

    def sync() -> None:
        while not stop.is_set():
            run(things, "UPDATE kept SET n = n + 1 WHERE id <= 50", "DELETE FROM loose WHERE id IN"
                " (SELECT min(id) FROM loose)")  # fmt: skip
            publish_changes(things, lake)
            maintain(lake, things, keep_epochs=2)

    thread = threading.Thread(target=sync)
    thread.start()
    try:
        with checked_at_its_token(monkeypatch) as checked:
            for _ in range(8):
                assert answer_of(things, lake)
    finally:
        stop.set()
        thread.join()
    assert len(checked) == 8


def answer_of(store: Store, lake: Lake) -> list[dict]:
    from olap.query_epoch import open_query_epoch

    settings = settings_of(store, lake)
    with (
        open_query_epoch(settings, ["duckdb"], fresh=True) as epoch,
        open_engine("duckdb", settings, epoch) as engine,
    ):
        return engine.sql(QUERY).to_pylist()


def test_temporary_files_are_deleted_after_an_error(things: Store, lake: Lake, folder: Path):
    settings, newest = settings_of(things, lake), newest_epoch(lake.address)
    run(things, "DELETE FROM kept WHERE id = 1")
    with pytest.raises(QueryRejected):
        with open_overlay(settings, newest) as fresh, open_engine("duckdb", settings, fresh) as engine:
            engine.sql("SELECT nothing FROM kept")
    with pytest.raises(KeyboardInterrupt):
        with open_overlay(settings, newest):
            raise KeyboardInterrupt
    other = replace(newest, tokens={"": replace(newest.token, system_identifier="1")})
    with (
        pytest.raises(UsageError, match="this lake was taken from another server"),
        open_overlay(settings, other),
    ):
        pass
    assert left_in(folder) == []


@pytest.mark.slow
def test_fresh_and_as_of_on_the_command_line(things: Store, lake: Lake):
    flags = ["--dsn", things.conninfo, "--lake", lake.address.root]
    count = "SELECT count(*) AS n FROM kept"
    between = datetime.now(UTC)
    run(things, "DELETE FROM kept WHERE id <= 10", "ALTER TABLE kept ADD COLUMN later int")
    publish_changes(things, lake)
    run(things, "DELETE FROM kept WHERE id <= 30")
    assert answer("sql", "--fresh", "--engine", "all", count, *flags) == "n\n970\n"
    east = between.astimezone(tz=None).isoformat()
    for then in ("1", east, between.isoformat(), between.replace(tzinfo=None).isoformat(sep=" ")):
        assert answer("sql", "--as-of", then, count, *flags) == "n\n1000\n"
    assert answer("sql", "--as-of", "2", "--engine", "all", count, *flags) == "n\n990\n"
    assert answer("sql", "--as-of", "9999-01-01", count, *flags) == "n\n990\n"
    assert "later" in refusal("sql", "--as-of", "1", "SELECT later FROM kept", *flags, exit_code=1)


# Options → error message.
NOT_THEN = {
    ("--as-of", "3"): "there is no epoch 3, the newest is 1: see `ridelake epochs`",
    ("--as-of", "0"): "there is no epoch 0",
    ("--as-of", "9" * 30): "must be an epoch number or a time such as",
    ("--as-of", "yesterday"): "must be an epoch number or a time such as",
    ("--as-of", ""): "must be an epoch number or a time such as",
    ("--as-of", "-1"): "must be an epoch number or a time such as",
    ("--as-of", "2020-01-01T00:00:00+02:00"): "no epoch was published at or before 2020-01-01T00:00:00+02:00",
    ("--as-of", "1", "--engine", "postgres"): "postgres has only current rows",
    ("--as-of", "1", "--fresh"): "--as-of and --fresh cannot be combined",
}


def test_an_invalid_as_of_is_reported_in_a_sentence(things: Store, lake: Lake):
    from olap.query_epoch import open_query_epoch

    settings = settings_of(things, lake)
    for call, message in NOT_THEN.items():
        engines = ["postgres"] if "postgres" in call else ["duckdb"]
        with pytest.raises(UsageError, match=re.escape(message)):
            with open_query_epoch(settings, engines, as_of=call[1], fresh="--fresh" in call):
                pass
    flags = ["--dsn", things.conninfo, "--lake", lake.address.root]
    assert "must be an epoch number" in refusal("sql", "SELECT 1", "--as-of", "9" * 30, *flags)
    with pytest.raises(UsageError, match="does not list: pass the catalog"):
        empty = replace(settings, lake=replace(lake.address, catalog_file=lake.address.folder / "no.sqlite"))
        with open_query_epoch(empty, ["duckdb"], fresh=True):
            pass


def test_an_epoch_is_found_by_a_time_with_any_offset(things: Store, lake: Lake):
    from lakehouse.table.published import epoch_as_of

    run(things, "DELETE FROM kept WHERE id = 1")
    publish_changes(things, lake)
    second, first = read_epochs(lake.address)
    moment = datetime.fromisoformat(second.token.taken_at)
    for hours in (-11, 0, 5, 13):
        there = moment + timedelta(hours=hours)
        stamp = there.replace(tzinfo=None).isoformat(timespec="microseconds")
        offset = f"{'+' if hours >= 0 else '-'}{abs(hours):02d}:00"
        assert epoch_as_of(lake.address, stamp + offset) == second
        before = (there - timedelta(microseconds=1)).replace(tzinfo=None).isoformat(timespec="microseconds")
        assert epoch_as_of(lake.address, before + offset) == first
