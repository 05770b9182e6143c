"""A commit to a bucket is atomic, also if a process is killed or another process commits first."""

import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from bucket import Far

import lakehouse.capture.publish
from lakehouse.capture.maintain import maintain
from lakehouse.capture.publish import publish_changes, publish_snapshot
from lakehouse.table.catalog import CommitConflict, Lake
from lakehouse.table.published import newest_epoch, numbered_epoch, read_epochs
from lakehouse.verify import verify_files, verify_now
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
def test_a_kill_before_the_commit_leaves_the_old_epoch(far: Far, step: str):
    lake = far.lake()
    first = publish_snapshot(far.store, lake)
    far.change()
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, far.store.conninfo, far.address.root, far.address.s3_endpoint or "",
         str(far.settings.home), *step.split()],
        check=False,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL
    assert newest_epoch(far.address) == first
    assert publish_changes(far.store, lake, verify=True).epoch.number == 2
    time.sleep(1.1)
    assert maintain(lake, far.store, grace=timedelta(0)).files_removed > 0
    assert verify_files(far.address, 2) == len(numbered_epoch(far.address, 2).files)


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
def test_a_failure_deletes_its_objects(far: Far, monkeypatch, step: str, failure: type[BaseException]):
    lake = far.lake()
    publish_snapshot(far.store, lake)
    before = far.objects()
    far.change()
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
            publish_changes(far.store, lake)
    assert far.objects() == before
    assert newest_epoch(far.address).number == 1


@pytest.mark.slow
def test_an_interrupted_sync_leaves_complete_epochs(far: Far):
    publish_snapshot(far.store, far.lake())
    running = subprocess.Popen(
        [sys.executable, "-m", "ridelake", "sync", "--every", "0.05", "--home", str(far.settings.home)],
        env=far.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    until = time.monotonic() + 60
    try:
        while newest_epoch(far.address).number < 3 and time.monotonic() < until:
            far.change()
        running.send_signal(signal.SIGINT)
        _, stderr = running.communicate(timeout=60)
    finally:
        running.kill()
        running.wait()
    assert (running.returncode, stderr.splitlines()[-1]) == (130, b"ridelake: interrupted")
    known = {file.location for epoch in read_epochs(far.address) for file in epoch.files}
    there = {location for location in far.objects() if "/data/" in location}
    assert there == known
    assert newest_epoch(far.address).number >= 3
    verify_now(far.store, far.lake()).prove()


@pytest.mark.slow
def test_concurrent_syncs_to_a_bucket_do_not_mix_epochs(far: Far):
    publish_snapshot(far.store, far.lake())
    won: list[int] = []
    lost: list[str] = []

    def run() -> None:
        lake = far.lake()
        for _ in range(3):
            far.change()
            try:
                taken = publish_changes(far.store, lake)
                won.extend([taken.epoch.number] if taken.is_new else [])
            except CommitConflict as error:
                lost.append(str(error))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == len(set(won))
    assert [epoch.number for epoch in read_epochs(far.address)] == sorted([1, *won], reverse=True)
    for epoch in read_epochs(far.address):
        assert verify_files(far.address, epoch.number) == len(epoch.files)
    verify_now(far.store, far.lake()).prove()


def test_a_second_catalog_over_the_same_bucket_is_refused(far: Far, tmp_path: Path):
    """Maintenance with the second catalog would delete the files of the first one as orphans."""
    publish_snapshot(far.store, far.lake())
    other = replace(far.address, catalog_file=tmp_path / "another.sqlite")
    with pytest.raises(UsageError, match=r"has epochs that the catalog .* does not list"):
        Lake.create(other)
    assert far.lake().newest() is not None
