"""After a kill of a syncing process at any time, the lake has the old or the new epoch and can be synced."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from concurrency import assert_audit_passes
from killed_client import CONTEXT, LOST_THE_RACE, SEAL_ROWS, referenced, syncing_process, wait_until_stopped
from lake_files import files_of

from lakehouse.capture.maintain import maintain
from lakehouse.capture.publish import publish_changes, publish_snapshot
from lakehouse.table.catalog import Lake
from lakehouse.table.epoch import Epoch
from lakehouse.table.published import newest_epoch
from lakehouse.verify import verify_files, verify_now
from oltp.store import Store

SLOW = (pytest.mark.slow, pytest.mark.timeout(1800))


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
    monkeypatch.setattr("lakehouse.capture.writer.SEAL_ROWS", SEAL_ROWS)


def assert_whole(lake: Lake) -> Epoch:
    """Check that the pointers match the newest epoch, and that its files match their checksums."""
    newest = lake.newest()
    assert newest is not None
    verify_files(lake.address, newest.number)
    assert all(map(os.path.exists, hinted(lake).values()))
    return newest


def hinted(lake: Lake) -> dict[str, str]:
    """Table → the metadata file that the hint names."""
    hints = lake.address.folder.glob("*/metadata/version-hint.text")
    return {hint.parts[-3]: f"{hint.parent}/{hint.read_text()}.metadata.json" for hint in hints}


def assert_nothing_else_is_left(store: Store, lake: Lake) -> None:
    maintain(lake, store)
    assert hinted(lake) == {name: table.metadata for name, table in newest_epoch(lake.address).tables.items()}
    assert {str(path) for path in files_of(lake.address.folder)} == referenced(lake)


def seconds_until_an_epoch(store: Store, lake: Lake) -> float:
    """The time for an epoch on this machine."""
    before, ready = newest_epoch(lake.address).number, CONTEXT.Event()
    with syncing_process(store, lake.address, ready=ready):
        assert ready.wait(60)
        began = time.perf_counter()
        while newest_epoch(lake.address).number == before:
            time.sleep(0.005)
        return time.perf_counter() - began


@pytest.mark.parametrize(
    ("kills", "maintaining"),
    [
        pytest.param(80, False, marks=SLOW),
        pytest.param(40, True, marks=SLOW),
    ],
)
def test_after_a_random_kill_the_newest_epoch_is_the_old_or_the_new_one(
    seeded_store: Store, lake: Lake, kills: int, maintaining: bool
):
    """`maintaining`: the process also runs `maintain` after every fifth epoch."""
    chance = random.Random(kills)
    publish_snapshot(seeded_store, lake)
    an_epochs_seconds = seconds_until_an_epoch(seeded_store, lake)
    seconds = 1.5 * an_epochs_seconds
    last, published = assert_whole(lake), 0
    for kill in range(kills):
        ready = CONTEXT.Event()
        with syncing_process(seeded_store, lake.address, maintaining=maintaining, ready=ready) as process:
            assert ready.wait(60)
            time.sleep(chance.uniform(0, seconds))
            assert process.is_alive(), "the process ended before the kill"
        epoch = assert_whole(lake)
        assert epoch.number >= last.number
        assert newest_epoch(lake.address) == epoch
        published += epoch.number - last.number
        # With other tests running, an epoch can take many times as long as the first one, or less.
        seconds *= 1.2 if epoch.number == last.number else 0.9 ** (epoch.number - last.number)
        seconds = min(seconds, 50 * an_epochs_seconds)
        last = epoch
        if kill % 10 == 7:
            last = publish_changes(seeded_store, lake, verify=True).epoch
            assert_nothing_else_is_left(seeded_store, lake)
    assert kills / 10 < published < kills * 3, "the kills were too early or too late"
    publish_changes(seeded_store, lake, verify=True)
    assert verify_now(seeded_store, lake).as_dict()["equal"]
    assert_nothing_else_is_left(seeded_store, lake)
    assert_audit_passes(seeded_store)


HALF_A_COMMIT = """
import os, sqlite3, sys
catalog = sqlite3.connect(sys.argv[1], isolation_level=None)
catalog.execute("PRAGMA cache_size = 1")  # so that pages are written before the commit
catalog.execute("BEGIN IMMEDIATE")
catalog.execute("UPDATE epochs SET token = token || hex(randomblob(100000))")
catalog.execute("DELETE FROM epochs")
os.kill(os.getpid(), 9)
"""


def test_a_killed_commit_is_rolled_back_by_the_next_reader(seeded_store, lake: Lake):
    first = publish_snapshot(seeded_store, lake)
    subprocess.run([sys.executable, "-c", HALF_A_COMMIT, str(lake.address.catalog_file)], check=False)
    assert Path(f"{lake.address.catalog_file}-journal").stat().st_size > 0
    assert newest_epoch(lake.address) == first


BEFORE_THE_COMMIT = [
    "lakehouse.source.snapshot.lock_tables",
    "lakehouse.source.snapshot.read_token",
    "lakehouse.capture.publish.read_changes",
    "lakehouse.capture.publish.apply_changes",
    "lakehouse.capture.apply.open_keys",
    "lakehouse.capture.writer.write_run",
    "lakehouse.capture.publish.add_deletes",
    "lakehouse.table.deletes.write_deletes",
    "lakehouse.capture.publish.wait_until_flushed",
    "lakehouse.table.metadata.parquet_file_to_data_file",
    "lakehouse.table.manifests.write_manifest_list",
    "lakehouse.table.storage.Storage.settle",
    "lakehouse.table.catalog.Lake.publish",
    "lakehouse.table.catalog.insert",
    "lakehouse.table.catalog.move_pointers",
    "lakehouse.table.catalog.delete",
]
AFTER_THE_COMMIT = [
    "lakehouse.table.catalog.Lake.write_manifest",
    "lakehouse.table.storage.Storage.write_whole",
    "lakehouse.table.catalog.Lake.write_hints",
    "lakehouse.table.catalog.Lake._write_hint",
]


@pytest.mark.slow
@pytest.mark.parametrize(
    "steps",
    [
        pytest.param(
            [
                "lakehouse.table.deletes.write_deletes",
                BEFORE_THE_COMMIT[-3],
                AFTER_THE_COMMIT[0],
                AFTER_THE_COMMIT[-1],
            ],
            id="four steps",
        ),
        pytest.param([*BEFORE_THE_COMMIT, *AFTER_THE_COMMIT], marks=SLOW, id="each step"),
    ],
)
def test_after_a_kill_at_a_step_the_newest_epoch_is_the_old_or_the_new_one(
    seeded_store: Store, lake: Lake, steps: list[str]
):
    publish_snapshot(seeded_store, lake)
    for step in steps:
        before = assert_whole(lake).number
        with syncing_process(seeded_store, lake.address, at=step) as process:
            process.join(60)
            assert process.exitcode == -signal.SIGKILL, step
        assert assert_whole(lake).number == before + (step in AFTER_THE_COMMIT), step
        again = publish_changes(seeded_store, lake)
        assert again.is_new == (step not in AFTER_THE_COMMIT), step
        assert_nothing_else_is_left(seeded_store, lake)
    assert verify_now(seeded_store, lake).tail_rows == (0,) * 9
    assert publish_changes(seeded_store, lake, verify=True).epoch.verified


@pytest.mark.parametrize(
    "step", ["lakehouse.capture.writer.EpochDraft.publish", "lakehouse.capture.writer.EpochDraft.stage"]
)
def test_a_process_that_was_stopped_and_resumes_cannot_publish_and_deletes_its_files(
    seeded_store: Store, lake: Lake, step: str
):
    """A process is stopped before it publishes, and continues after another process has published."""
    publish_snapshot(seeded_store, lake)
    with syncing_process(seeded_store, lake.address, at=step, sends=signal.SIGSTOP) as stopped:
        wait_until_stopped(stopped)
        left = files_of(lake.address.folder)
        successor = publish_changes(seeded_store, lake, verify=True).epoch
        maintain(lake, seeded_store)
        assert files_of(lake.address.folder) >= left, "files of a draft were deleted"
        assert stopped.pid is not None
        os.kill(stopped.pid, signal.SIGCONT)
        stopped.join(60)
        assert stopped.exitcode == LOST_THE_RACE
    assert newest_epoch(lake.address) == successor
    assert {str(path) for path in files_of(lake.address.folder)} == referenced(lake)
    assert verify_now(seeded_store, lake).as_dict()["equal"]


@pytest.mark.slow
def test_files_of_a_process_that_was_stopped_and_killed_are_deleted_by_maintenance(
    seeded_store: Store, lake: Lake
):
    publish_snapshot(seeded_store, lake)
    with syncing_process(
        seeded_store, lake.address, at="lakehouse.capture.writer.EpochDraft.publish", sends=signal.SIGSTOP
    ) as stopped:
        wait_until_stopped(stopped)
    assert {str(path) for path in files_of(lake.address.folder)} > referenced(lake)
    assert_nothing_else_is_left(seeded_store, lake)
    assert publish_changes(seeded_store, lake, verify=True).is_new
