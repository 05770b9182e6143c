"""An invalid sync is rejected in one sentence; nothing is published and no file is left."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from lake_files import data_files, files_of
from sqlalchemy import text

import lakehouse.capture.publish
import lakehouse.source.snapshot
from lakehouse.capture.overlay import open_overlay
from lakehouse.capture.publish import publish_changes, publish_snapshot
from lakehouse.source.tracking import track
from lakehouse.table.catalog import NAMESPACE, CommitConflict, Lake
from lakehouse.table.epoch import SnapshotToken
from lakehouse.table.published import newest_epoch, read_epochs
from lakehouse.verify import verify_now
from oltp.store import Store
from ridelake.errors import CannotConnect, RidelakeError, UsageError
from ridelake.settings import LakeAddress, Settings

TOKEN = SnapshotToken("100:200:150", "2026-07-01T12:00:00.000000+00:00", "1/A0", "7000", 3)


def one_sentence(error: pytest.ExceptionInfo[RidelakeError]) -> bool:
    return "\n" not in str(error.value)


# ── The server ──────────────────────────────────────────────────────────────────────────────────

BREAKS: dict[str, tuple[Callable[[SnapshotToken], SnapshotToken], str]] = {
    "another server": (
        lambda t: replace(t, system_identifier="7"),
        "this lake was taken from another server",
    ),
    "another database": (
        lambda t: replace(t, database=7),
        "this lake was taken from another database",
    ),
    "a timeline": (lambda t: replace(t, timeline=(t.timeline or 0) + 1), "changed from timeline 1 to 2"),
    "transaction ids that went back": (
        lambda t: replace(t, snapshot="3:3:"),
        "history is older than the lake",
    ),
    "a WAL position that went back": (lambda t: replace(t, lsn="0/1"), "history is older than the lake"),
}
QUICK = ("another server", "transaction ids that went back")


@pytest.mark.parametrize(
    "what", [what if what in QUICK else pytest.param(what, marks=pytest.mark.slow) for what in BREAKS]
)
def test_a_break_of_the_history_is_refused_and_a_snapshot_publishes_all_rows(
    seeded_store: Store, lake: Lake, monkeypatch, what: str
):
    change, message = BREAKS[what]
    first = publish_snapshot(seeded_store, lake)
    before = files_of(lake.address.folder)
    with seeded_store.connect() as connection:
        connection.execute("SELECT top_up(1, 100)")
    original = lakehouse.source.snapshot.read_token
    monkeypatch.setattr(
        "lakehouse.source.snapshot.read_token", lambda connection: change(original(connection))
    )
    settings = Settings(home=lake.address.folder, lake=lake.address, dsn=seeded_store.conninfo)
    for attempt in (
        lambda: publish_changes(seeded_store, lake),
        lambda: verify_now(seeded_store, lake),
        lambda: open_overlay(settings, first).__enter__(),
    ):
        with pytest.raises(
            UsageError, match=f"{message}.*run `ridelake snapshot` to publish all rows"
        ) as error:
            attempt()
        assert one_sentence(error)
    assert newest_epoch(lake.address) == first
    assert files_of(lake.address.folder) == before
    full = publish_snapshot(seeded_store, lake, verify=True)
    assert (full.number, full.kind) == (2, "full")


@pytest.mark.parametrize(
    "later",
    [
        TOKEN,
        replace(TOKEN, snapshot="200:200:", lsn="2/0"),
        replace(TOKEN, lsn="10/0"),
        replace(TOKEN, system_identifier=None, timeline=None),
    ],
)
def test_a_compatible_history_is_not_refused(later: SnapshotToken):
    lakehouse.source.snapshot.check_same_history(TOKEN, later)


def test_a_history_that_left_the_timeline_before_the_epoch_is_refused():
    promoted = replace(TOKEN, snapshot="300:300:", lsn="2/0", timeline=4)
    lakehouse.source.snapshot.check_same_history(TOKEN, promoted, {3: TOKEN.lsn})
    with pytest.raises(UsageError, match="it left timeline 3 at 1/80, before the newest epoch's position"):
        lakehouse.source.snapshot.check_same_history(TOKEN, promoted, {3: "1/80"})
    with pytest.raises(UsageError, match="may not read its history"):
        lakehouse.source.snapshot.check_same_history(TOKEN, promoted, None)


@pytest.mark.parametrize("lsn", ["0/FFFFFFFF", "1/9F"])
def test_positions_in_the_log_are_compared_as_numbers(lsn: str):
    with pytest.raises(UsageError, match="history is older than the lake"):
        lakehouse.source.snapshot.check_same_history(TOKEN, replace(TOKEN, lsn=lsn))


def test_a_standby_is_refused(lake: Lake, seeded_store: Store, monkeypatch):
    class Standby:
        def execute(self, query):
            assert query.startswith("SELECT pg_is_in_recovery()")
            return self

        def fetchone(self):
            return (True, "UTF8")

    original = lakehouse.source.snapshot.check_source
    monkeypatch.setattr("lakehouse.source.snapshot.check_source", lambda _: original(Standby()))
    for take in (publish_snapshot, publish_changes):
        with pytest.raises(UsageError, match=r"is a standby.*: point --dsn at the primary") as error:
            take(seeded_store, lake)
        assert one_sentence(error)
    assert files_of(lake.address.folder) == set()


def test_an_unflushed_wal_is_reported_and_nothing_is_published(seeded_store, lake, monkeypatch):
    monkeypatch.setattr("lakehouse.source.snapshot.FLUSH_SECONDS_MAX", 0.2)
    original = lakehouse.source.snapshot.read_token
    monkeypatch.setattr("lakehouse.source.snapshot.read_token", lambda c: replace(original(c), lsn="FF/0"))
    with pytest.raises(RidelakeError, match=r"did not flush its WAL within .*, then run the command again"):
        publish_snapshot(seeded_store, lake)
    assert files_of(lake.address.folder) == set()


# ── The lake ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("format_", "than"), [(5, "a newer"), (1, "an older")])
def test_a_lake_of_another_format_is_neither_read_nor_written(published, format_: int, than: str):
    address = published.settings.lake
    with Lake.create(address).catalog.engine.begin() as connection:
        connection.execute(text("UPDATE lake SET format = :format"), {"format": format_})
    before = files_of(address.folder)
    for attempt in (lambda: Lake.create(address), lambda: newest_epoch(address)):
        with pytest.raises(UsageError, match=f"format {format_} of {than} version of ridelake") as error:
            attempt()
        assert one_sentence(error)
    assert files_of(address.folder) == before


def write_to(lake: Lake, table: str) -> None:
    """Append a row with pyiceberg, as another program might."""
    one = lake.catalog.load_table((NAMESPACE, table))
    one.append(one.scan(limit=1).to_arrow())


def test_a_table_written_by_another_program_is_refused(seeded_store: Store, lake: Lake):
    first = publish_snapshot(seeded_store, lake)
    write_to(lake, "zones")
    for take in (publish_snapshot, publish_changes):
        with pytest.raises(
            UsageError, match=r"^zones in the lake .* was written by another program"
        ) as error:
            take(seeded_store, lake)
        assert one_sentence(error)
    assert newest_epoch(lake.address) == first, "the published epoch cannot be read"


def test_a_table_created_by_another_program_is_refused(seeded_store: Store, lake: Lake):
    publish_snapshot(seeded_store, lake)
    lake.catalog.create_table((NAMESPACE, "theirs"), pa.schema([pa.field("a", pa.int64())]))
    with pytest.raises(UsageError, match=r"^theirs in the lake .* was written by another program"):
        publish_changes(seeded_store, lake)


@pytest.mark.parametrize("table", ["accounts", "zones"])
def test_a_concurrent_write_to_a_table_aborts_the_epoch(seeded_store, lake, monkeypatch, table: str):
    """The epoch changes one of the tables, and not the other one."""
    first = publish_snapshot(seeded_store, lake)
    with seeded_store.connect() as connection:
        connection.execute("SELECT top_up(1, 100)")
    stage = lakehouse.capture.publish.wait_until_flushed

    def write_concurrently(*arguments) -> None:
        stage(*arguments)
        write_to(lake, table)

    monkeypatch.setattr("lakehouse.capture.publish.wait_until_flushed", write_concurrently)
    before = data_files(lake.address.folder)
    with pytest.raises(CommitConflict, match="cannot publish epoch 2: another process published it first"):
        publish_changes(seeded_store, lake)
    assert newest_epoch(lake.address) == first
    assert len(data_files(lake.address.folder) - before) == 1, (
        "not only the file of the other program is left"
    )


def test_numbers_and_tombstones_of_another_server_are_ignored(store: Store, lake: Lake):
    """`pg_restore` leaves them. A tombstone of another generation deletes no row."""
    with store.connect() as connection:
        connection.execute(
            "CREATE TABLE restored (id int PRIMARY KEY, tx bigint DEFAULT pg_current_xact_id()::text::bigint)"
        )
        connection.execute("INSERT INTO restored VALUES (1, 1000000000000), (2, 3)")
    track(store, "restored")
    publish_snapshot(store, lake, tables=["restored"])
    assert not publish_changes(store, lake, verify=True).is_new
    with store.connect() as connection:
        connection.execute(
            "INSERT INTO ridelake_tracking.tombstones (relation, generation, key)"
            " VALUES ('restored'::regclass, gen_random_uuid(), '[\"2\"]')"
        )
    assert not publish_changes(store, lake, verify=True).is_new
    with store.connect() as connection:
        connection.execute("UPDATE restored SET id = 5 WHERE id = 1")
    changed = publish_changes(store, lake, verify=True).epoch.tables["restored"]
    assert (changed.rows, changed.changed, changed.deleted) == (2, 1, 1)


@pytest.mark.slow
def test_concurrent_syncs_copy_no_row_twice(seeded_store: Store, lake: Lake):
    publish_snapshot(seeded_store, lake)
    new, lost, stop = [], [], threading.Event()

    def run() -> None:
        mine = Lake.create(lake.address)
        while not stop.is_set():
            try:
                new.append(publish_changes(seeded_store, mine))
            except CommitConflict as error:
                lost.append(str(error))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    with seeded_store.connect() as connection:
        for number in range(1000):
            connection.execute("SELECT top_up(%s, 100)", (1 + number % 20,))
            if number > 30 and lost:
                break
    stop.set()
    for thread in threads:
        thread.join()
    assert lost, "there was no conflict, so the test proves nothing"
    numbers = [one.epoch.number for one in new if one.is_new]
    assert sorted(numbers) == list(range(2, len(numbers) + 2))
    epochs = read_epochs(lake.address)
    assert data_files(lake.address.folder) == {Path(file.location) for one in epochs for file in one.files}
    assert sum(one.tables["ledger"].changed for one in epochs[:-1]) == (
        epochs[0].tables["ledger"].rows - epochs[-1].tables["ledger"].rows
    )
    assert publish_changes(seeded_store, lake, verify=True).epoch.verified


# ── The catalog ─────────────────────────────────────────────────────────────────────────────────

NOWHERE = "postgresql+psycopg://nobody@/nowhere?host=/nowhere"


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        (NOWHERE, CannotConnect, "cannot reach the lake's catalog: .*; check --catalog or RIDELAKE_"),
        ("not a url", UsageError, "--catalog must be a SQLAlchemy URL"),
        ("nosuch://user:secret@there", UsageError, "--catalog must be a SQLAlchemy URL"),
        ("postgresql://user:p@se:secret@there/db", UsageError, "--catalog must be a SQLAlchemy URL"),
    ],
)
def test_a_catalog_that_cannot_be_reached_is_reported(tmp_path: Path, url: str, error: type, message: str):
    address = LakeAddress.at(tmp_path / "lake", url)
    for attempt in (lambda: Lake.create(address), lambda: newest_epoch(address)):
        with pytest.raises(error, match=message) as raised:
            attempt()
        assert one_sentence(raised)
        assert "secret" not in str(raised.value)
