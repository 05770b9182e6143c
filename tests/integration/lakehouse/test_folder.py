"""A folder that cannot be used as a lake is reported in one sentence, and no files are left."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lake_files import data_files, files_of

from lakehouse.capture.publish import publish_changes, publish_snapshot
from lakehouse.engines.duckdb import opened
from lakehouse.table.catalog import Lake
from lakehouse.table.layout import STORE_TABLES
from lakehouse.table.published import newest_epoch, numbered_epoch, read_epochs
from oltp.store import Store
from ridelake.errors import NotReady, OutOfResources, UsageError
from ridelake.settings import LakeAddress, Settings


def test_a_write_error_also_ends_the_copy(seeded_store: Store, lake: Lake, monkeypatch):
    """An active COPY would block the ROLLBACK."""

    def no_space(*arguments, **more):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pyarrow.parquet.ParquetWriter.write_table", no_space)
    with pytest.raises(
        OutOfResources, match=r"the disk that holds .* is full \(.* MB free\): free some space"
    ):
        publish_snapshot(seeded_store, lake)
    assert files_of(lake.address.folder) == set()


@pytest.mark.slow
def test_a_missing_file_is_reported_and_a_snapshot_repairs_the_lake(seeded_store: Store, lake: Lake):
    first = publish_snapshot(seeded_store, lake)
    Path(first.tables["riders"].locations[0]).unlink()
    with seeded_store.connect() as connection:
        connection.execute(
            "UPDATE riders SET username = 'ada' WHERE rider_id = (SELECT min(rider_id) FROM riders)"
        )
    with pytest.raises(
        UsageError, match=r"is missing .*riders.*`ridelake snapshot` to publish all rows again"
    ):
        publish_changes(seeded_store, lake)
    assert newest_epoch(lake.address) == first
    assert publish_snapshot(seeded_store, lake, verify=True).verified


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
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)  # a failed test may have open files


def mounted(*arguments: str | Path) -> bool:
    return subprocess.run(["mount", *arguments], check=False, capture_output=True).returncode == 0


@pytest.mark.slow
def test_a_full_disk_is_reported_and_left_clean(seeded_store: Store, small_disk: Path):
    lake = Lake.create(LakeAddress.at(small_disk / "lake"))
    first = publish_snapshot(seeded_store, lake)
    epochs = [first]

    def fill() -> None:
        while True:
            epochs.append(publish_snapshot(seeded_store, lake))

    with pytest.raises(
        OutOfResources, match=r"is full .*: free some space or choose another place with --lake"
    ):
        fill()
    published = {Path(file.location) for epoch in epochs for file in epoch.files}
    assert data_files(lake.address.folder) == published
    assert read_epochs(lake.address) == epochs[::-1]


@pytest.mark.parametrize("free_bytes", [0, 40_000, 120_000])
def test_a_disk_that_is_full_from_the_start_is_reported(
    seeded_store: Store, small_disk: Path, free_bytes: int
):
    filler = small_disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - free_bytes))
    with pytest.raises(OutOfResources, match=r"the disk that holds .* is full"):
        publish_snapshot(seeded_store, Lake.create(LakeAddress.at(small_disk / "lake")))
    assert files_of(small_disk) == {filler}


def test_a_read_only_folder_is_reported_and_can_still_be_read(seeded_store: Store, small_disk: Path):
    first = publish_snapshot(seeded_store, Lake.create(LakeAddress.at(small_disk / "lake")))
    assert mounted("-o", "remount,ro", small_disk)
    with pytest.raises(UsageError, match="read-only file system: choose another folder with --lake"):
        Lake.create(LakeAddress.at(small_disk / "lake"))
    address = LakeAddress.at(small_disk / "lake")
    assert newest_epoch(address) == first
    with opened(Settings(home=small_disk, lake=address), first) as engine:
        assert engine.sql("SELECT count(*) FROM rides")[0][0].as_py() == 2000


@pytest.mark.parametrize("below", ["", "lake"])
def test_a_file_instead_of_the_folder_is_reported(tmp_path: Path, below: str):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="a file is in its place: choose another folder with --lake"):
        Lake.create(LakeAddress.at(tmp_path / "file" / below))


def test_an_invalid_catalog_is_reported(tmp_path: Path):
    (tmp_path / "catalog.sqlite").write_text("once upon a time, " * 1000)
    with pytest.raises(UsageError, match="is not a catalog"):
        Lake.create(LakeAddress.at(tmp_path))
    with pytest.raises(UsageError, match="cannot be read as a catalog"):
        newest_epoch(LakeAddress.at(tmp_path))


def test_the_error_for_a_lake_without_epochs_names_the_command(tmp_path: Path):
    for address in (
        LakeAddress.at(tmp_path / "nowhere"),
        Lake.create(LakeAddress.at(tmp_path / "lake")).address,
    ):
        with pytest.raises(NotReady, match=r"no epoch yet in .*: run `ridelake snapshot`"):
            newest_epoch(address)
    assert not (tmp_path / "nowhere").exists()


def test_an_unknown_epoch_is_reported(published):
    with pytest.raises(UsageError, match="there is no epoch 7, the newest is 1"):
        numbered_epoch(published.settings.lake, 7)


def test_reading_the_newest_epoch_does_not_import_pyiceberg_or_sqlalchemy(published):
    program = (
        "import sys; from lakehouse.table.published import newest_epoch;"
        "from ridelake.settings import LakeAddress;"
        "print(len(newest_epoch(LakeAddress.at(sys.argv[1])).tables), *sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, published.settings.lake.root],
        check=True,
        capture_output=True,
        text=True,
    )
    tables, *modules = run.stdout.split()
    assert int(tables) == len(STORE_TABLES)
    assert not {"pyiceberg", "sqlalchemy", "pyarrow", "psycopg"} & set(modules)
