"""A snapshot is one moment of all tables, published whole or not at all."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import lakehouse.snapshot
from lakehouse.catalog import Lake
from lakehouse.columns import read_columns
from lakehouse.commit import LostRace
from lakehouse.engines import open_engine
from lakehouse.engines.duckdb import opened
from lakehouse.epoch import newest_epoch, numbered_epoch, read_epochs
from lakehouse.extract import extract
from lakehouse.layout import TABLES
from lakehouse.snapshot import take_snapshot
from oltp.store import Store
from ridelake.errors import CannotConnect, NotReady, RidelakeError, UsageError
from ridelake.settings import Settings

SETTINGS = Settings(home=Path("unused"), lake=Path("unused"))


def files_of(folder: Path) -> set[Path]:
    """What a snapshot leaves in a lake; the catalog is not counted."""
    return {path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("catalog")}


def count(engine, query: str) -> int:
    return int(engine.sql(query)[0][0].as_py())


def test_an_epoch_taken_while_rides_are_booked_is_one_moment(seeded_store, lake, riding, broken):
    with riding(seeded_store, 4) as done:
        for _ in range(3):
            before = sum(done)
            epoch = take_snapshot(seeded_store, lake)
            assert sum(done) > before, "nobody rode meanwhile, so this shows nothing"
            assert not broken(epoch)
    assert [epoch.number for epoch in read_epochs(lake.folder)] == [3, 2, 1]
    assert epoch.tables["rides"].rows > 2000


def test_a_reader_never_sees_tables_of_different_epochs(seeded_store, lake, riding, broken):
    take_snapshot(seeded_store, lake)
    stop = threading.Event()
    seen: list[int] = []
    faults: list[object] = []

    def read() -> None:
        while not stop.is_set():
            epoch = newest_epoch(lake.folder)
            seen.append(epoch.number)
            faults.extend(broken(epoch).items())
            # The pointers of Iceberg's own catalog move in the same transaction.
            with lake.catalog.engine.begin() as connection:
                number = connection.exec_driver_sql("SELECT max(number) FROM epochs").scalar_one()
                pointers = set(
                    connection.exec_driver_sql("SELECT metadata_location FROM iceberg_tables").scalars()
                )
            pinned = {str(table.metadata) for table in numbered_epoch(lake.folder, number).tables.values()}
            if pinned != pointers:
                faults.append(f"the pointers are not those of epoch {number}")

    with riding(seeded_store, 2):
        reader = threading.Thread(target=read)
        reader.start()
        for _ in range(4):
            take_snapshot(seeded_store, lake)
        stop.set()
        reader.join()
    assert not faults
    assert seen == sorted(seen)
    assert len(set(seen)) > 1


def test_the_first_epoch_stays_as_it_was(published, riding):
    with open_engine("duckdb", published.settings, published.epoch) as engine:
        before = engine.sql("SELECT * FROM accounts ORDER BY 1")
    with riding(published.store, 2):
        time.sleep(0.3)
    second = take_snapshot(published.store, Lake.create(published.settings.lake))
    assert second.number == 2
    assert not set(second.files) & set(published.epoch.files)
    with open_engine("duckdb", published.settings, numbered_epoch(published.settings.lake, 1)) as engine:
        assert engine.sql("SELECT * FROM accounts ORDER BY 1").equals(before)
    with open_engine("duckdb", published.settings, second) as engine:
        assert not engine.sql("SELECT * FROM accounts ORDER BY 1").equals(before)


def test_what_is_read_back_is_what_was_published(published):
    assert newest_epoch(published.settings.lake) == published.epoch
    token = published.epoch.token
    assert token.snapshot.count(":") == 2
    assert token.lsn.count("/") == 1
    assert token.system_identifier
    assert token.timeline == 1


def test_a_table_truncated_meanwhile_is_waited_for(seeded_store: Store, lake: Lake, monkeypatch):
    """TRUNCATE does not keep old rows for old snapshots: without the locks it would be read as empty."""
    extract, truncating = lakehouse.snapshot.extract, []

    def truncate() -> None:
        with seeded_store.connect() as connection:
            connection.execute("TRUNCATE ledger")

    def extract_slowly(connection, table, *more):
        if table == "cities":
            truncating.append(threading.Thread(target=truncate))
            truncating[0].start()
            time.sleep(0.3)
        return extract(connection, table, *more)

    monkeypatch.setattr("lakehouse.snapshot.extract", extract_slowly)
    assert take_snapshot(seeded_store, lake).tables["ledger"].rows > 0
    truncating[0].join()
    monkeypatch.undo()
    assert take_snapshot(seeded_store, lake).tables["ledger"].rows == 0


# ── Failures ────────────────────────────────────────────────────────────────────────────────────

STEPS = [
    "lakehouse.snapshot._begin",
    "lakehouse.snapshot.open_table",
    "lakehouse.snapshot.extract",
    "lakehouse.wire._gather",
    "lakehouse.snapshot._wait_until_flushed",
    "lakehouse.snapshot.stage",
    "lakehouse.commit.parquet_file_to_data_file",
    "lakehouse.snapshot._to_disk",
    "lakehouse.catalog.insert",
    "lakehouse.catalog.move",
]


@pytest.mark.parametrize("failure", [RidelakeError, KeyboardInterrupt])
@pytest.mark.parametrize("step", STEPS)
def test_a_failure_at_any_step_leaves_the_old_epoch_and_no_files(
    seeded_store, lake, monkeypatch, step, failure
):
    first = take_snapshot(seeded_store, lake)
    before = files_of(lake.folder)
    calls = 0

    def fail_later(*arguments, **more):
        nonlocal calls
        calls += 1
        if calls > 3 or step.endswith(("_begin", "flushed", "insert", "move")):
            raise failure("the test's own")
        return original(*arguments, **more)

    module, name = step.rsplit(".", 1)
    original = getattr(sys.modules[module], name)
    monkeypatch.setattr(step, fail_later)
    with pytest.raises(failure, match="the test's own"):
        take_snapshot(seeded_store, lake)
    assert newest_epoch(lake.folder) == first
    assert files_of(lake.folder) == before
    monkeypatch.undo()
    assert take_snapshot(seeded_store, lake).number == 2


def test_an_interruption_right_after_the_commit_takes_no_published_file_away(seeded_store, lake, monkeypatch):
    publish = Lake.publish

    def publish_and_be_interrupted(*arguments):
        publish(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(Lake, "publish", publish_and_be_interrupted)
    with pytest.raises(KeyboardInterrupt):
        take_snapshot(seeded_store, lake)
    epoch = newest_epoch(lake.folder)
    assert epoch.number == 1
    assert all(path.exists() for path in epoch.files)


KILLED = """
import os, sys
from pathlib import Path
import lakehouse.catalog, lakehouse.snapshot
from lakehouse.catalog import Lake
from oltp.store import Store
def die(*_): os.kill(os.getpid(), 9)
setattr(sys.modules[sys.argv[3]], sys.argv[4], die)
lakehouse.snapshot.take_snapshot(Store(sys.argv[1], 180000), Lake.create(Path(sys.argv[2])))
"""


@pytest.mark.parametrize("step", ["lakehouse.snapshot _stage_all", "lakehouse.catalog move"])
def test_a_kill_before_the_commit_leaves_the_old_epoch(published, step):
    arguments = [published.store.conninfo, str(published.settings.lake), *step.split()]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert newest_epoch(published.settings.lake) == published.epoch
    assert take_snapshot(published.store, Lake.create(published.settings.lake)).number == 2


def test_of_two_snapshots_at_once_one_may_lose_and_nothing_is_mixed(seeded_store: Store, lake: Lake):
    won, lost = [], []

    def run() -> None:
        for _ in range(3):
            try:
                won.append(take_snapshot(seeded_store, Lake.create(lake.folder)).number)
            except LostRace as error:
                lost.append(str(error))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == list(range(1, len(won) + 1))
    assert len(won) + len(lost) == 9
    assert lost, "they all had luck, so this shows nothing"
    assert all("another snapshot was published meanwhile" in text for text in lost)
    epochs = read_epochs(lake.folder)
    assert files_of(lake.folder) >= {path for epoch in epochs for path in epoch.files}
    data = {path for path in files_of(lake.folder) if path.suffix == ".parquet"}
    assert data == {path for epoch in epochs for path in epoch.files}, "a loser left its files"


def test_ctrl_c_while_the_server_has_sent_nothing_yet_leaves_the_connection_usable(store: Store):
    def interrupted(*_) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupted)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGUSR1))
    try:
        with store.connect() as connection:
            connection.execute("CREATE VIEW slow AS SELECT 1::bigint AS key FROM pg_sleep(60)")
            columns = read_columns(connection, "slow")
            timer.start()
            with pytest.raises(KeyboardInterrupt):
                list(extract(connection, "slow", columns, ["key"], 10))
            assert connection.execute("SELECT 1").fetchone() == (1,)
    finally:
        timer.cancel()
        signal.signal(signal.SIGUSR1, before)


def test_a_server_that_goes_away_is_told_in_a_sentence(seeded_store: Store, lake: Lake, monkeypatch):
    open_table = lakehouse.snapshot.open_table

    def terminate(*arguments):
        with seeded_store.connect() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        return open_table(*arguments)

    monkeypatch.setattr("lakehouse.snapshot.open_table", terminate)
    with pytest.raises(CannotConnect, match="nothing is published, run it again"):
        take_snapshot(seeded_store, lake)
    assert files_of(lake.folder) == set()


def test_another_shape_of_a_table_is_refused(seeded_store: Store, lake: Lake):
    take_snapshot(seeded_store, lake)
    with seeded_store.connect() as connection:
        connection.execute("ALTER TABLE zones ADD COLUMN colour text")
    with pytest.raises(RidelakeError, match="table zones has other columns"):
        take_snapshot(seeded_store, lake)


# ── The folder ──────────────────────────────────────────────────────────────────────────────────


def test_a_file_that_cannot_be_written_ends_the_copy_too(seeded_store: Store, lake: Lake, monkeypatch):
    """Left open, the COPY would hold up the ROLLBACK for ever."""

    def no_space(*arguments, **more):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pyarrow.parquet.ParquetWriter.write_batch", no_space)
    with pytest.raises(UsageError, match="the disk is full: free some space"):
        take_snapshot(seeded_store, lake)
    assert files_of(lake.folder) == set()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if (
        shutil.which("mount") is None
        or os.geteuid() != 0
        or not mounted("-t", "tmpfs", "-o", "size=1m", "none", folder)
    ):
        pytest.skip("only root can mount the small disk that this needs")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)  # a failed test may still have files open


def mounted(*arguments: str | Path) -> bool:
    return subprocess.run(["mount", *arguments], check=False, capture_output=True).returncode == 0


def test_a_full_disk_is_told_and_left_clean(seeded_store: Store, small_disk: Path):
    lake = Lake.create(small_disk / "lake")
    first = take_snapshot(seeded_store, lake)
    epochs = [first]

    def fill() -> None:
        while True:
            epochs.append(take_snapshot(seeded_store, lake))

    with pytest.raises(UsageError, match="the disk is full: free some space, or choose another folder"):
        fill()
    published = {path for epoch in epochs for path in epoch.files}
    assert {path for path in files_of(lake.folder) if path.suffix == ".parquet"} == published
    assert read_epochs(lake.folder) == epochs[::-1]


@pytest.mark.parametrize("free_bytes", [0, 40_000, 120_000])
def test_a_disk_that_is_full_from_the_start_is_told(seeded_store: Store, small_disk: Path, free_bytes: int):
    filler = small_disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - free_bytes))
    with pytest.raises(UsageError, match="the disk is full"):
        take_snapshot(seeded_store, Lake.create(small_disk / "lake"))
    assert files_of(small_disk) == {filler}


def test_a_read_only_folder_is_told_and_can_still_be_read(seeded_store: Store, small_disk: Path):
    first = take_snapshot(seeded_store, Lake.create(small_disk / "lake"))
    assert mounted("-o", "remount,ro", small_disk)
    with pytest.raises(UsageError, match="read-only file system: choose another folder with --lake"):
        Lake.create(small_disk / "lake")
    assert newest_epoch(small_disk / "lake") == first
    with opened(SETTINGS, first) as engine:
        assert count(engine, "SELECT count(*) FROM rides") == 2000


@pytest.mark.parametrize("below", ["", "lake"])
def test_a_file_in_the_place_of_the_folder_is_told(tmp_path: Path, below: str):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="a file is in its place: choose another folder with --lake"):
        Lake.create(tmp_path / "file" / below)


def test_a_catalog_that_is_none_is_told(tmp_path: Path):
    (tmp_path / "catalog.sqlite").write_text("once upon a time, " * 1000)
    with pytest.raises(UsageError, match="is not a catalog"):
        Lake.create(tmp_path)
    with pytest.raises(UsageError, match="cannot be read as a catalog"):
        newest_epoch(tmp_path)


def test_a_lake_without_an_epoch_says_what_to_run(tmp_path: Path):
    for folder in (tmp_path / "nowhere", Lake.create(tmp_path / "lake").folder):
        with pytest.raises(NotReady, match=r"no epoch yet in .*: run `ridelake snapshot`"):
            newest_epoch(folder)
    assert not (tmp_path / "nowhere").exists()


def test_an_epoch_that_is_not_there_is_told(published):
    with pytest.raises(UsageError, match="there is no epoch 7, the newest is 1"):
        numbered_epoch(published.settings.lake, 7)


def test_a_standby_is_refused(lake: Lake):
    class Standby:
        def execute(self, query):
            assert query == "SELECT pg_is_in_recovery()"
            return self

        def fetchone(self):
            return (True,)

    with pytest.raises(UsageError, match="standby"):
        lakehouse.snapshot._refuse_standby(Standby())


def test_reading_the_newest_epoch_loads_neither_pyiceberg_nor_sqlalchemy(published):
    program = (
        "import sys; from pathlib import Path; from lakehouse.epoch import newest_epoch;"
        "newest_epoch(Path(sys.argv[1])); print(*sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, published.settings.lake], check=True, capture_output=True, text=True
    )
    assert not {"pyiceberg", "sqlalchemy", "pyarrow", "psycopg"} & set(run.stdout.split())
    assert len(TABLES) == len(published.epoch.tables)
