"""`version-hint.text` names the newest metadata of a table, so that readers only need the folder."""

import shutil
from pathlib import Path

import pytest
from bare_database import rows_of, run
from bucket import S3Lake
from iceberg_readers import with_polars, with_pyiceberg
from terminal import answer, place_options

from lakehouse.capture.maintain import maintain
from lakehouse.capture.publish import publish_changes, publish_snapshot
from lakehouse.source.tracking import track
from lakehouse.table.catalog import Lake
from lakehouse.table.epoch import Epoch
from lakehouse.table.layout import README, hint_location, table_folder
from lakehouse.table.published import newest_epoch
from oltp.store import Store
from ridelake.settings import LakeAddress, Settings


@pytest.fixture
def numbers(bare: Store, lake: Lake) -> Store:
    """A store with two tracked tables, `numbers` and `others`, which are in epoch 1."""
    for name in ("numbers", "others"):
        run(
            bare,
            f"CREATE TABLE {name} (n bigint PRIMARY KEY, day date)",
            f"INSERT INTO {name} VALUES (1, NULL)",
        )
        track(bare, name)
    publish_changes(bare, lake, tables=["numbers", "others"])
    return bare


def more(store: Store) -> None:
    run(store, "INSERT INTO numbers SELECT max(n) + 1 FROM numbers")


def hinted(address: LakeAddress, table: str) -> str:
    hint = Path(hint_location(address, table))
    return f"{hint.parent}/{hint.read_text()}.metadata.json"


def assert_hints_name_the_newest(epoch: Epoch, address: LakeAddress) -> None:
    assert {name: hinted(address, name) for name in epoch.tables} == {
        n: t.metadata for n, t in epoch.tables.items()
    }


def test_a_folder_is_enough_for_a_reader_after_each_epoch(numbers: Store, lake: Lake, monkeypatch):
    monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")
    for _ in range(3):
        more(numbers)
        epoch = publish_changes(numbers, lake).epoch
        assert_hints_name_the_newest(epoch, lake.address)
        for read in (with_pyiceberg, with_polars):
            rows = read(lake.address.join("numbers"))
            assert sorted(rows["n"].to_pylist()) == [
                n for (n,) in rows_of(numbers, "SELECT n FROM numbers ORDER BY n")
            ]
    maintain(lake, numbers, keep_epochs=1)
    assert_hints_name_the_newest(newest_epoch(lake.address), lake.address)
    assert publish_snapshot(numbers, lake)
    assert_hints_name_the_newest(newest_epoch(lake.address), lake.address)


def test_a_hint_that_is_written_late_is_corrected(numbers: Store, lake: Lake, monkeypatch):
    """Another process publishes after the commit of this process and before its hint."""
    write = Lake._write_hint

    def late(self: Lake, table: str, metadata: str | None) -> None:
        monkeypatch.setattr(Lake, "_write_hint", write)
        more(numbers)
        publish_changes(numbers, Lake.create(lake.address))
        write(self, table, metadata)

    monkeypatch.setattr(Lake, "_write_hint", late)
    more(numbers)
    assert publish_changes(numbers, lake).epoch.number == 2
    assert newest_epoch(lake.address).number == 3
    assert_hints_name_the_newest(newest_epoch(lake.address), lake.address)


def test_maintenance_corrects_a_hint_before_it_deletes_the_named_file(
    numbers: Store, lake: Lake, monkeypatch
):
    """Publishers and a maintenance are interrupted between the commit and the hint."""

    def stopped(self: Lake, tables: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Lake, "write_hints", stopped)
        for _ in range(2):
            more(numbers)
            with pytest.raises(KeyboardInterrupt):
                publish_changes(numbers, lake)
    assert newest_epoch(lake.address).number == 3
    first = hinted(lake.address, "numbers")
    with monkeypatch.context() as patch:
        patch.setattr(
            Lake,
            "write_hints",
            lambda self, tables: stopped(self, tables) if newest_epoch(lake.address).number == 4 else None,
        )
        with pytest.raises(KeyboardInterrupt):
            maintain(lake, numbers, keep_epochs=1)
    assert newest_epoch(lake.address).number == 4
    assert hinted(lake.address, "numbers") == first
    assert Path(first).exists()
    maintain(lake, numbers, keep_epochs=1)
    assert not Path(first).exists()
    assert_hints_name_the_newest(newest_epoch(lake.address), lake.address)


def test_a_table_that_is_not_in_the_newest_epoch_has_no_hint(numbers: Store, lake: Lake):
    run(numbers, "UPDATE others SET day = 'infinity'")
    epoch = publish_changes(numbers, lake).epoch
    assert set(epoch.left_out) == {"others"}
    assert not Path(hint_location(lake.address, "others")).exists()
    run(numbers, "UPDATE others SET day = NULL")
    assert_hints_name_the_newest(publish_changes(numbers, lake).epoch, lake.address)


def test_a_table_that_left_the_lake_has_no_hint(numbers: Store, lake: Lake):
    run(numbers, "DROP TABLE others")
    more(numbers)
    epoch = publish_changes(numbers, lake).epoch
    assert set(epoch.tables) == {"numbers"}
    assert not Path(hint_location(lake.address, "others")).exists()


def test_maintenance_keeps_the_readme_and_the_hints_and_writes_missing_ones(numbers: Store, lake: Lake):
    explanation = lake.address.folder / README
    assert "Do not read TABLE/data/*.parquet as the table" in explanation.read_text()
    draft = Path(f"{hint_location(lake.address, 'numbers')}.0123abcd")  # left by a killed process
    draft.write_text("half")
    maintain(lake, numbers)
    assert not draft.exists()
    assert explanation.exists()
    assert_hints_name_the_newest(newest_epoch(lake.address), lake.address)
    explanation.unlink()
    for name in ("numbers", "others"):
        Path(hint_location(lake.address, name)).unlink()
    maintain(lake, numbers)
    assert explanation.exists()
    assert_hints_name_the_newest(newest_epoch(lake.address), lake.address)


def test_without_hints_connect_names_the_metadata(numbers: Store, lake: Lake):
    """The lake may be of an older version, or a copy without hints."""
    settings = Settings(home=Path("unused"), lake=lake.address)
    metadata = newest_epoch(lake.address).tables["numbers"].metadata
    assert metadata not in answer("connect", "polars", "numbers", *place_options(settings))
    Path(hint_location(lake.address, "numbers")).unlink()
    assert metadata in answer("connect", "polars", "numbers", *place_options(settings))


def test_a_lake_that_was_moved_has_valid_hints(numbers: Store, lake: Lake, tmp_path: Path):
    moved = LakeAddress.at(shutil.copytree(lake.address.folder, tmp_path / "moved"))
    assert Path(hinted(moved, "numbers")).exists()


def test_a_table_may_have_the_name_of_the_readme_file(bare: Store, lake: Lake):
    run(bare, f'CREATE TABLE "{README}" (id int PRIMARY KEY)', f'INSERT INTO "{README}" VALUES (1)')
    epoch = publish_changes(bare, lake, tables=[f'"{README}"']).epoch
    assert table_folder(README) != README
    assert (lake.address.folder / README).is_file()
    assert_hints_name_the_newest(epoch, lake.address)


@pytest.mark.slow
def test_a_lake_in_a_bucket_has_hints_and_the_readme(s3_lake: S3Lake):
    epoch = publish_snapshot(s3_lake.store, s3_lake.lake())
    assert s3_lake.storage.exists(s3_lake.address.join(README))
    for name, table in epoch.tables.items():
        with s3_lake.storage.open(hint_location(s3_lake.address, name)) as file:
            assert table.metadata.endswith(f"/{file.read().decode()}.metadata.json")
    maintain(s3_lake.lake(), s3_lake.store)
    assert s3_lake.storage.exists(hint_location(s3_lake.address, "rides"))
