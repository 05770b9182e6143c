"""An epoch that a reader has pinned is not expired, and its files are kept."""

import fcntl
import json
import threading
import time
from pathlib import Path

import pytest
from numbers_table import another_process, counted, grow, more

from lakehouse.capture.maintain import maintain
from lakehouse.capture.publish import publish_changes
from lakehouse.table.catalog import Lake, open_catalog
from lakehouse.table.published import newest_epoch, numbered_epoch, pin_epoch, read_epochs
from lakehouse.table.storage import file_lock
from lakehouse.verify import verify_files, verify_now
from oltp.store import Store
from ridelake.errors import NotReady


@pytest.mark.slow
def test_an_epoch_pinned_by_another_process_is_kept_until_released(numbers: Store, lake: Lake):
    grow(numbers, lake, 4)
    hold = (
        "from lakehouse.table.published import pin_epoch, numbered_epoch\n"
        "with pin_epoch(address, numbered_epoch(address, 2)):\n    print('ready', flush=True)\n    input()\n"
        "print('released', flush=True)\ninput()"
    )
    with another_process(lake, hold) as reader:
        assert maintain(lake, numbers, keep_epochs=1).epochs_expired == 3
        assert [epoch.number for epoch in read_epochs(lake.address)] == [6, 5, 2]
        assert verify_files(lake.address, 2)
        assert counted(lake, numbered_epoch(lake.address, 2)) == 38
        table = open_catalog(lake.address, 30).load_table(("ridelake", "numbers"))
        assert (
            table.scan(snapshot_id=numbered_epoch(lake.address, 2).tables["numbers"].snapshot_id).count()
            == 38
        )
        assert reader.stdin
        assert reader.stdout
        reader.stdin.write("\n")
        reader.stdin.flush()
        assert reader.stdout.readline() == "released\n"
        maintain(lake, numbers, keep_epochs=1)
        assert 2 not in {epoch.number for epoch in read_epochs(lake.address)}
    number = newest_epoch(lake.address).number
    with another_process(lake, hold.replace(" 2)", f" {number})")) as reader:
        grow(numbers, lake, 2)
        maintain(lake, numbers, keep_epochs=1)
        assert number in {epoch.number for epoch in read_epochs(lake.address)}
        reader.kill()
        reader.wait()
        maintain(lake, numbers, keep_epochs=1)
        assert number not in {epoch.number for epoch in read_epochs(lake.address)}
    verify_now(numbers, lake).prove()


def test_pinning_an_expired_epoch_says_to_run_the_command_again(numbers: Store, lake: Lake):
    first = newest_epoch(lake.address)
    grow(numbers, lake, 2)
    maintain(lake, numbers, keep_epochs=1)
    with (
        pytest.raises(NotReady, match="epoch 1 has just been expired; run the command again"),
        pin_epoch(lake.address, first),
    ):
        pass


def is_locked(lake: Lake, number: int) -> bool:
    with file_lock(lake.address.manifest(number), fcntl.LOCK_EX | fcntl.LOCK_NB) as free:
        return not free


def test_an_epoch_is_pinned_although_its_manifest_is_written_after_the_commit(numbers: Store, lake: Lake):
    grow(numbers, lake, 1)
    newest = newest_epoch(lake.address)
    manifest = Path(lake.address.manifest(newest.number))
    hidden = manifest.rename(manifest.with_suffix(".hidden"))
    later = threading.Timer(0.2, hidden.rename, [manifest])
    later.start()
    with pin_epoch(lake.address, newest):
        later.join()
        assert is_locked(lake, newest.number)
        more(numbers)
        publish_changes(numbers, lake)
        maintain(lake, numbers, keep_epochs=1)
        assert verify_files(lake.address, newest.number)


def test_a_manifest_that_a_reader_has_locked_is_not_replaced(numbers: Store, lake: Lake):
    newest = newest_epoch(lake.address)
    with pin_epoch(lake.address, newest):
        lake.record_verified(newest)
        assert is_locked(lake, newest.number)
    assert newest_epoch(lake.address).verified
    lake.record_verified(newest)
    assert json.loads(Path(lake.address.manifest(newest.number)).read_text())["verified"]


def test_a_reader_does_not_lock_a_manifest_that_was_replaced_before(numbers: Store, lake: Lake):
    newest = newest_epoch(lake.address)
    manifest = Path(lake.address.manifest(newest.number))
    content = manifest.read_bytes()

    def pin() -> None:
        with pin_epoch(lake.address, newest):
            pinned.append(is_locked(lake, newest.number))

    pinned: list[bool] = []
    with file_lock(manifest):
        reader = threading.Thread(target=pin)
        reader.start()
        time.sleep(0.2)
        lake.storage.write_whole(str(manifest), content)
    reader.join()
    assert pinned == [True]
