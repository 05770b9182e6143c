"""A commit to a bucket is atomic, also if a process is killed or another process commits first."""

import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from booking_load import booking_load
from bucket import S3Lake
from sync_process import newest_number, rides_in_lake, sources, wait_until
from terminal import ridelake

import lakehouse.capture.publish
from lakehouse.capture.maintain import maintain
from lakehouse.capture.publish import publish_changes, publish_snapshot
from lakehouse.table.catalog import CommitConflict, Lake
from lakehouse.table.published import newest_epoch, numbered_epoch, read_epochs
from lakehouse.verify import verify_files, verify_now
from oltp.store import Store
from ridelake.errors import RidelakeError, UsageError

KILLED = """
import os, sys
import lakehouse.table.catalog, lakehouse.capture.writer, lakehouse.capture.publish
from lakehouse.table.catalog import Lake
from oltp.store import Store
from pathlib import Path
from ridelake.settings import LakeAddress
def die(*_): os.kill(os.getpid(), 9)
setattr(sys.modules[sys.argv[5]], sys.argv[6], die)
address = LakeAddress.at(sys.argv[2], s3_endpoint=sys.argv[3], home=Path(sys.argv[4]))
lakehouse.capture.publish.publish_changes(Store(sys.argv[1], 180000), Lake.create(address))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "step", ["lakehouse.capture.publish wait_until_flushed", "lakehouse.table.catalog move_pointers"]
)
def test_a_kill_before_the_commit_leaves_the_old_epoch(s3_lake: S3Lake, step: str):
    lake = s3_lake.lake()
    first = publish_snapshot(s3_lake.store, lake)
    s3_lake.change()
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, s3_lake.store.conninfo, s3_lake.address.root,
         s3_lake.address.s3_endpoint or "", str(s3_lake.settings.home), *step.split()],
        check=False,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL
    assert newest_epoch(s3_lake.address) == first
    assert publish_changes(s3_lake.store, lake, verify=True).epoch.number == 2
    time.sleep(1.1)
    assert maintain(lake, s3_lake.store, grace=timedelta(0)).files_removed > 0
    assert verify_files(s3_lake.address, 2) == len(numbered_epoch(s3_lake.address, 2).files)


@pytest.mark.slow
@pytest.mark.parametrize("failure", [RidelakeError, KeyboardInterrupt, OSError])
@pytest.mark.parametrize(
    "step",
    [
        "lakehouse.capture.publish.write_changes",
        "lakehouse.capture.publish.wait_until_flushed",
        "lakehouse.table.metadata.parquet_file_to_data_file",
        "lakehouse.capture.writer.EpochDraft.publish",
        "lakehouse.table.catalog.move_pointers",
    ],
)
def test_a_failure_deletes_its_objects(s3_lake: S3Lake, monkeypatch, step: str, failure: type[BaseException]):
    lake = s3_lake.lake()
    publish_snapshot(s3_lake.store, lake)
    before = s3_lake.objects()
    s3_lake.change()
    with monkeypatch.context() as patch:
        owner, name = step.rsplit(".", 1)
        if step.endswith("write_changes"):
            original = lakehouse.capture.publish.write_changes

            def fail(*arguments, **more):
                original(*arguments, **more)
                raise failure("here")
        else:

            def fail(*arguments, **more):
                raise failure("here")

        patch.setattr(f"{owner}.{name}", fail)
        with pytest.raises(failure):
            publish_changes(s3_lake.store, lake)
    assert s3_lake.objects() == before
    assert newest_epoch(s3_lake.address).number == 1


@pytest.mark.slow
def test_an_interrupted_sync_leaves_complete_epochs(s3_lake: S3Lake):
    publish_snapshot(s3_lake.store, s3_lake.lake())
    running = subprocess.Popen(
        [sys.executable, "-m", "ridelake", "sync", "--every", "0.05", "--home", str(s3_lake.settings.home)],
        env=s3_lake.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    until = time.monotonic() + 60
    try:
        while newest_epoch(s3_lake.address).number < 3 and time.monotonic() < until:
            s3_lake.change()
        running.send_signal(signal.SIGINT)
        _, stderr = running.communicate(timeout=60)
    finally:
        running.kill()
        running.wait()
    assert (running.returncode, stderr.splitlines()[-1]) == (130, b"ridelake: interrupted")
    known = {file.location for epoch in read_epochs(s3_lake.address) for file in epoch.files}
    there = {location for location in s3_lake.objects() if "/data/" in location}
    assert there == known
    assert newest_epoch(s3_lake.address).number >= 3
    verify_now(s3_lake.store, s3_lake.lake()).prove()


@pytest.mark.slow
def test_a_bucket_has_all_bookings_of_two_stores_after_kills(s3_lake: S3Lake, other_seeded_store: Store):
    stores = {"berlin": s3_lake.store, "paris": other_seeded_store}
    arguments = ["--home", str(s3_lake.settings.home), *sources(stores)]
    environment = {name: value for name, value in s3_lake.environment.items() if name != "RIDELAKE_DSN"}
    with ExitStack() as working:
        loads = {name: working.enter_context(booking_load(store)) for name, store in stores.items()}
        for _ in range(2):
            running = subprocess.Popen(
                [sys.executable, "-m", "ridelake", "sync", "--every", "0.05", *arguments],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            try:
                number = newest_number(s3_lake.address)
                wait_until(lambda number=number: newest_number(s3_lake.address) >= number + 3)
            finally:
                running.kill()
                running.wait()
        for load in loads.values():
            load.stop()
    done = ridelake("sync", "--once", "--verify", *arguments, environment=environment)
    assert done.returncode == 0, done.stderr
    assert rides_in_lake(s3_lake.address) == {
        (name, request_id): 1 for name, load in loads.items() for request_id in load.acknowledged
    }
    for name, store in stores.items():
        report = verify_now(store, Lake.create(s3_lake.address, name))
        assert (report.equal, report.tail_rows) == (True, (0,) * 9)
    time.sleep(1.1)
    for name, store in stores.items():
        maintain(Lake.create(s3_lake.address, name), store, grace=timedelta(0))
    known = {file.location for epoch in read_epochs(s3_lake.address) for file in epoch.files}
    assert {location for location in s3_lake.objects() if "/data/" in location} == known


@pytest.mark.slow
def test_concurrent_syncs_to_a_bucket_do_not_mix_epochs(s3_lake: S3Lake):
    publish_snapshot(s3_lake.store, s3_lake.lake())
    won: list[int] = []
    lost: list[str] = []

    def run() -> None:
        lake = s3_lake.lake()
        for _ in range(3):
            s3_lake.change()
            try:
                taken = publish_changes(s3_lake.store, lake)
                won.extend([taken.epoch.number] if taken.is_new else [])
            except CommitConflict as error:
                lost.append(str(error))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == len(set(won))
    assert [epoch.number for epoch in read_epochs(s3_lake.address)] == sorted([1, *won], reverse=True)
    for epoch in read_epochs(s3_lake.address):
        assert verify_files(s3_lake.address, epoch.number) == len(epoch.files)
    verify_now(s3_lake.store, s3_lake.lake()).prove()


@pytest.mark.slow
def test_a_second_catalog_over_the_same_bucket_is_refused(s3_lake: S3Lake, tmp_path: Path):
    """Maintenance with the second catalog would delete the files of the first one as orphans."""
    publish_snapshot(s3_lake.store, s3_lake.lake())
    other = replace(s3_lake.address, catalog_file=tmp_path / "another.sqlite")
    with pytest.raises(UsageError, match=r"has epochs that the catalog .* does not list"):
        Lake.create(other)
    assert s3_lake.lake().newest() is not None
