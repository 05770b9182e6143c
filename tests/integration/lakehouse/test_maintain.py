"""Maintenance keeps the newest epochs unchanged, removes the rest, and does not disturb other processes."""

import json
import os
import threading
import time
import uuid
from datetime import timedelta
from itertools import islice
from pathlib import Path

import pytest
from bare_database import bare_database, rows_of, run
from numbers_table import another_process, counted, grow, more

from lakehouse.capture.maintain import maintain
from lakehouse.capture.publish import publish_changes, publish_snapshot
from lakehouse.capture.sync import sync_repeatedly
from lakehouse.source.tracking import track
from lakehouse.table.catalog import Lake, open_catalog
from lakehouse.table.epoch import Epoch
from lakehouse.table.published import epoch_as_of, newest_epoch, numbered_epoch, pin_epoch, read_epochs
from lakehouse.verify import verify_files, verify_now
from oltp.cluster.server import Cluster
from oltp.store import Store
from ridelake.errors import NotReady, UsageError
from ridelake.settings import LakeAddress

NO_GRACE = timedelta(0)


def data_files(lake: Lake) -> set[str]:
    return {str(path) for path in lake.address.folder.rglob("*.parquet")}


# ── Compaction and expiry ───────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_small_files_are_compacted_and_keep_their_rows(numbers: Store, lake: Lake):
    grow(numbers, lake, 8, rows_alone=True)
    before = newest_epoch(lake.address)
    done = maintain(lake, numbers)
    after = newest_epoch(lake.address)
    assert done.epoch == after
    assert (after.kind, after.token, after.rows) == ("maintenance", before.token, before.rows)
    assert (done.files_before, done.files_after) == (len(before.files), len(after.files))
    assert len(after.files) < 4 < len(before.files)
    assert counted(lake, after) == counted(lake, before) == before.rows
    verify_now(numbers, lake).prove()
    grow(numbers, lake, 1)
    verify_now(numbers, lake).prove()
    assert publish_snapshot(numbers, lake, verify=True).verified


@pytest.mark.slow
def test_the_newest_epochs_are_kept_and_older_ones_are_removed_with_their_files(numbers: Store, lake: Lake):
    grow(numbers, lake, 12)
    rows = {epoch.number: epoch.rows for epoch in read_epochs(lake.address)}
    old_files = {file.location for epoch in read_epochs(lake.address)[4:] for file in epoch.stored_files}
    done = maintain(lake, numbers, keep_epochs=4)
    assert done.epochs_expired == 9
    kept = read_epochs(lake.address)
    assert [epoch.number for epoch in kept] == [14, 13, 12, 11, 10]
    for epoch in kept[1:]:
        assert verify_files(lake.address, epoch.number) == len(epoch.stored_files)
        assert counted(lake, epoch) == rows[epoch.number]
    assert data_files(lake) == {file.location for epoch in kept for file in epoch.stored_files}
    assert old_files - data_files(lake), "no file of an expired epoch was deleted"
    manifests = sorted(path.name for path in (lake.address.folder / "epochs").iterdir())
    assert manifests == [f"{number:05d}.json" for number in (10, 11, 12, 13, 14)]
    table = open_catalog(lake.address, 30).load_table(("ridelake", "numbers"))
    alive = {epoch.tables["numbers"].snapshot_id for epoch in kept}
    assert {snapshot.snapshot_id for snapshot in table.metadata.snapshots} == alive
    for epoch in kept:
        scanned = table.scan(snapshot_id=epoch.tables["numbers"].snapshot_id).to_arrow()
        assert scanned.num_rows == epoch.rows
    assert rows_by_tag(lake) == {f"epoch_{epoch.number}": epoch.rows for epoch in kept}
    with pytest.raises(UsageError, match="there is no epoch 3, the newest is 14"):
        numbered_epoch(lake.address, 3)
    with pytest.raises(UsageError, match="no epoch was published at or before"):
        epoch_as_of(lake.address, "2020-01-01")


def rows_by_tag(lake: Lake, name: str = "numbers") -> dict[str, int]:
    """The rows at each tag of the newest metadata of a table."""
    table = open_catalog(lake.address, 30).load_table(("ridelake", name))
    tags = {tag: table.snapshot_by_name(tag) for tag in table.refs() if tag != "main"}
    return {tag: table.scan(snapshot_id=one.snapshot_id).to_arrow().num_rows for tag, one in tags.items()}


def test_an_epoch_is_a_tag_of_each_table_that_it_changed(numbers: Store, lake: Lake):
    run(numbers, "CREATE TABLE letters (n bigint PRIMARY KEY)", "INSERT INTO letters VALUES (1)")
    track(numbers, "letters")
    publish_changes(numbers, lake, tables=["numbers", "letters"])
    grow(numbers, lake, 2)
    run(numbers, "INSERT INTO letters VALUES (2)", "DELETE FROM numbers WHERE n % 3 = 0")
    publish_changes(numbers, lake)
    rows = {f"epoch_{epoch.number}": epoch.tables["numbers"].rows for epoch in read_epochs(lake.address)}
    tagged = rows_by_tag(lake)
    assert tagged == {tag: count for tag, count in rows.items() if tag in tagged}
    assert tagged.keys() >= {"epoch_1", "epoch_3", "epoch_4", "epoch_5"}
    assert rows_by_tag(lake, "letters") == {"epoch_2": 1, "epoch_5": 2}
    maintain(lake, numbers, keep_epochs=2)
    assert rows_by_tag(lake, "letters") == {"epoch_4": 1, "epoch_5": 2, "epoch_6": 2}


# ── Orphans ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_orphans_of_a_dead_draft_are_deleted_and_files_of_a_live_one_are_not(numbers: Store, lake: Lake):
    grow(numbers, lake, 1)
    data, metadata = (lake.address.folder / "numbers" / name for name in ("data", "metadata"))
    orphans = [data / "00007-deaddead-0123abcd.parquet", metadata / f"00007-{uuid.uuid4()}.metadata.json",
               lake.address.folder / "never" / "data" / "00001-deaddead-0123abcd.parquet",
               lake.address.folder / "epochs" / "00003.json.a1b2c3d4"]  # fmt: skip
    draft = (
        "from lakehouse.capture.writer import open_draft\nfrom pathlib import Path\n"
        "with open_draft(lake):\n"
        "    Path(address.join('numbers', 'data', '00003-abcdabcd-0123abcd.parquet')).write_bytes(b'live')\n"
        "    print('ready', flush=True)\n    input()"
    )
    for path in orphans:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"left behind")
    with another_process(lake, draft):
        assert maintain(lake, numbers).files_removed == 0, "files that may belong to a draft were deleted"
        for path in orphans[:3]:
            os.utime(path, (time.time() - 7200,) * 2)
        assert maintain(lake, numbers).files_removed == 3
        assert (data / "00003-abcdabcd-0123abcd.parquet").exists()
    assert maintain(lake, numbers).files_removed == 2, "the files of an ended draft were kept"
    assert data_files(lake) == {
        file.location for epoch in read_epochs(lake.address) for file in epoch.stored_files
    }
    verify_now(numbers, lake).prove()
    assert verify_files(lake.address, 1)


def test_a_missing_manifest_is_written(numbers: Store, lake: Lake):
    manifest = Path(lake.address.manifest(1))
    written = manifest.read_text()
    manifest.unlink()
    maintain(lake, numbers)
    assert json.loads(manifest.read_text()) == json.loads(written)
    writers = [
        threading.Thread(target=lake.write_manifest, args=(newest_epoch(lake.address),)) for _ in range(8)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert json.loads(manifest.read_text()) == json.loads(written)
    assert len(list(manifest.parent.iterdir())) == 1


def test_other_files_in_the_folder_are_kept(numbers: Store, lake: Lake):
    root = lake.address.folder
    theirs = [
        root / place
        for place in ("proj/data/x.csv", "proj/src/main.py", "numbers/data/notes.txt", "epochs/README")
    ]
    for path in theirs:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("theirs")
    left = root / "dropped" / "data" / "00001-0123abcd-0123abcd.parquet"
    left.parent.mkdir(parents=True)
    left.write_text("left by a crash")
    assert maintain(lake, numbers).files_removed == 1
    assert all(path.exists() for path in theirs)
    assert not left.exists()


# ── Concurrent processes ──────────────────────────────────────────────────────────────────


def test_maintenance_of_an_empty_lake_and_repeated_maintenance_do_nothing(cluster: Cluster, lake: Lake):
    with bare_database(cluster) as store:
        assert maintain(lake, store).epoch is None
        run(store, "CREATE TABLE t (id int PRIMARY KEY)")
        publish_changes(store, lake, tables=["t"])
        assert maintain(lake, store).epoch is None
        publish_snapshot(store, lake)
        assert maintain(lake, store, keep_epochs=1).epochs_expired == 1
        assert [maintain(lake, store, keep_epochs=2).epoch for _ in range(2)] == [None, None]


@pytest.mark.parametrize("keep_epochs", [1, 2])
def test_verify_compares_the_epoch_that_was_published_while_it_started(
    numbers: Store, lake: Lake, monkeypatch: pytest.MonkeyPatch, keep_epochs: int
):
    read: list[int] = []
    cleared: list[int] = []

    def newest_before_maintenance(address: LakeAddress) -> Epoch:
        found = newest_epoch(address)
        read.append(found.number)
        if len(read) == 1:  # delete the tombstones that are newer than `found`
            more(numbers)
            publish_changes(numbers, lake)
            cleared.append(maintain(lake, numbers, keep_epochs=keep_epochs).tombstones_cleared)
        return found

    monkeypatch.setattr("lakehouse.verify.newest_epoch", newest_before_maintenance)
    found = verify_now(numbers, lake)
    found.prove()
    # If another test has an open transaction, the tombstones are kept, and the first epoch can be compared.
    assert found.epoch > read[0] if cleared[0] else found.epoch >= read[0]


@pytest.mark.slow
def test_reading_syncing_and_maintaining_do_not_disturb_each_other(
    numbers: Store, lake: Lake, tmp_path: Path
):
    stop, failed = threading.Event(), list[BaseException]()

    def repeat(what) -> threading.Thread:
        def loop() -> None:
            while not stop.is_set():
                try:
                    what()
                except NotReady as error:
                    if "run the command again" not in str(error):
                        failed.append(error)
                except BaseException as error:
                    failed.append(error)
                    return

        return threading.Thread(target=loop)

    def read() -> None:
        for epoch in read_epochs(lake.address)[:3]:
            with pin_epoch(lake.address, epoch):
                assert counted(lake, epoch) == epoch.rows

    def sync() -> None:
        for synced in islice(sync_repeatedly(0.02, numbers, lake), 5):
            assert synced.trouble is None or "retries" in synced.trouble, synced.trouble

    threads = [repeat(what) for what in (
        read, read, sync, sync, lambda: more(numbers),
        lambda: maintain(lake, numbers, keep_epochs=2), lambda: maintain(lake, numbers, keep_epochs=1),
        lambda: verify_now(numbers, lake).prove(),
    )]  # fmt: skip
    for thread in threads:
        thread.start()
    until = time.monotonic() + 90
    while newest_epoch(lake.address).number <= 10 and not failed and time.monotonic() < until:
        time.sleep(0.2)
    stop.set()
    for thread in threads:
        thread.join()
    assert failed == []
    assert newest_epoch(lake.address).number > 10
    maintain(lake, numbers, keep_epochs=1)
    verify_now(numbers, lake).prove()
    assert data_files(lake) == {
        file.location for epoch in read_epochs(lake.address) for file in epoch.stored_files
    }


# ── Tombstones ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_only_tombstones_below_the_newest_token_are_deleted_and_other_lakes_notice(
    numbers_alone: Store, lake: Lake, tmp_path: Path
):
    numbers = numbers_alone
    other = Lake.create(LakeAddress.at(tmp_path / "other"))
    publish_changes(numbers, other, tables=["numbers"])
    grow(numbers, lake, 3)
    with numbers.connect() as writer:
        writer.execute("BEGIN")
        writer.execute("DELETE FROM numbers WHERE n = 10")  # in progress during the epoch
        more(numbers)
        publish_changes(numbers, lake)
        more(numbers)  # after the epoch
        assert maintain(lake, numbers).tombstones_cleared == 4
        writer.execute("COMMIT")
    assert len(rows_of(numbers, "SELECT FROM ridelake_tracking.tombstones")) == 3
    assert publish_changes(numbers, lake, verify=True).epoch.deleted == 2
    assert maintain(lake, numbers).tombstones_cleared == 3
    taken = publish_changes(numbers, other, verify=True).epoch.tables["numbers"]
    assert taken.changed == taken.rows, "the table must be copied completely, because tombstones are missing"
    more(numbers)
    assert publish_changes(numbers, other, verify=True).epoch.deleted == 1


def test_a_lake_of_another_database_deletes_no_tombstones(numbers: Store, lake: Lake, cluster: Cluster):
    grow(numbers, lake, 2)
    tombstones = rows_of(numbers, "SELECT key FROM ridelake_tracking.tombstones")
    with bare_database(cluster) as other:
        run(other, "CREATE TABLE numbers (n bigint PRIMARY KEY, what text)")
        foreign = Lake.create(LakeAddress.at(Path(lake.address.root).parent / "foreign"))
        publish_changes(other, foreign, tables=["numbers"])
        with pytest.raises(UsageError, match="this lake was taken from another database of the server"):
            maintain(foreign, numbers)
    assert rows_of(numbers, "SELECT key FROM ridelake_tracking.tombstones") == tombstones
    assert rows_of(numbers, "SELECT before_tx FROM ridelake_tracking.cleared") == [(0,)]


@pytest.mark.slow
def test_an_idle_lake_keeps_its_history(numbers: Store, lake: Lake):
    grow(numbers, lake, 5)
    tokens = [epoch.token for epoch in read_epochs(lake.address)][:3]
    for _ in range(4):
        maintain(lake, numbers, keep_epochs=3)
    kept = read_epochs(lake.address)
    assert list(dict.fromkeys(epoch.token for epoch in kept)) == tokens
    assert len(kept) == 4, "a later maintenance has published an epoch"


def test_the_pages_of_a_bulk_load_are_summarized_after_its_epoch(numbers: Store, lake: Lake, monkeypatch):
    monkeypatch.setattr("lakehouse.capture.sync.MAINTAIN_EVERY_ROWS", 10_000)
    load = "INSERT INTO numbers SELECT nextval('next_number'), 'new' FROM generate_series(1, {})"
    summarize = (
        "SELECT brin_summarize_new_values(indexrelid) FROM pg_index JOIN pg_class ON oid = indexrelid "
        "JOIN pg_am ON pg_am.oid = relam WHERE indrelid = 'numbers'::regclass AND amname = 'brin'"
    )
    turns = sync_repeatedly(0.0, numbers, lake)
    next(turns)
    run(numbers, load.format(9_000))
    for _ in range(2):
        next(turns)
    assert rows_of(numbers, summarize) > [(0,)], "maintenance ran after too few rows"
    run(numbers, load.format(11_000))
    for _ in range(2):
        next(turns)
    assert rows_of(numbers, summarize) == [(0,)]
    verify_now(numbers, lake).prove()


# ── Long runs ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_the_size_of_a_continuously_synced_lake_is_bounded(numbers: Store, lake: Lake, monkeypatch):
    monkeypatch.setattr("lakehouse.capture.sync.MAINTAIN_EVERY_EPOCHS", 20)
    monkeypatch.setattr(
        "lakehouse.capture.maintain.maintain.__kwdefaults__", {"keep_epochs": 30, "grace": NO_GRACE}
    )
    sizes = []
    turns = sync_repeatedly(0.01, numbers, lake)
    for turn in range(300):
        more(numbers, rows_alone=turn % 3 > 0)
        assert next(turns).is_new
        if turn >= 100 and turn % 20 == 10:
            files = [path for path in lake.address.folder.rglob("*") if path.is_file()]
            metadata = Path(newest_epoch(lake.address).tables["numbers"].metadata)
            sizes.append((len(files), sum(path.stat().st_size for path in files), metadata.stat().st_size))
    files, total, metadata_bytes = zip(*sizes, strict=True)
    assert max(files) < 1.25 * files[0], files
    assert max(total) < 2 * total[0], total  # the table has three times as many rows at the end
    assert max(metadata_bytes) < 1.25 * metadata_bytes[0], metadata_bytes
    verify_now(numbers, lake).prove()
    print(sizes)
