"""A lake in an S3 bucket has the same guarantees as a lake in a folder."""

import json
import time
from datetime import timedelta

import polars as pl
import pyarrow.parquet as pq
import pytest
from bucket import FILE_ENGINES, S3Lake, answers_agree, counted, only
from pyiceberg.catalog.sql import SqlCatalog

from lakehouse.capture.maintain import maintain
from lakehouse.capture.overlay import open_overlay
from lakehouse.capture.publish import newest_epoch_sums, publish_changes, publish_snapshot
from lakehouse.capture.writer import EpochDraft
from lakehouse.engines import open_engine
from lakehouse.source.tracking import track
from lakehouse.table.catalog import CommitConflict
from lakehouse.table.epoch import Epoch
from lakehouse.table.published import catalog_url, epoch_as_of, newest_epoch, numbered_epoch, read_epochs
from lakehouse.verify import verify_files, verify_now
from ridelake.errors import ProofFailed, RidelakeError, UsageError


@pytest.mark.slow
def test_a_snapshot_is_equal_to_postgres_on_every_engine(s3_lake: S3Lake):
    epoch = publish_snapshot(s3_lake.store, s3_lake.lake(), verify=True)
    assert epoch.verified
    assert newest_epoch(s3_lake.address) == epoch
    assert all(file.location.startswith(f"{s3_lake.address.root}/") for file in epoch.files)
    answers_agree(s3_lake.settings, epoch)
    query = "SELECT AVG(Price) FROM RideTable WHERE City = 'Stanford' AND Month = 'July'"
    averages = []
    for name in ("postgres", *FILE_ENGINES):
        with open_engine(name, s3_lake.settings, epoch) as engine:
            averages.append(float(only(engine.sql(query))))
    assert averages == pytest.approx([averages[0]] * 3, abs=1e-9)


@pytest.mark.slow
def test_an_incremental_epoch_is_equal_to_postgres_and_the_previous_one_is_kept(s3_lake: S3Lake):
    lake = s3_lake.lake()
    first = publish_snapshot(s3_lake.store, lake)
    s3_lake.change()
    taken = publish_changes(s3_lake.store, lake, verify=True)
    assert taken.is_new
    assert taken.epoch.kind == "changes"
    assert 0 < taken.epoch.changed < first.rows / 10
    answers_agree(s3_lake.settings, taken.epoch)
    assert not publish_changes(s3_lake.store, lake).is_new
    assert epoch_as_of(s3_lake.address, taken.epoch.token.taken_at) == taken.epoch
    before = epoch_as_of(s3_lake.address, "1")
    assert {counted(s3_lake.settings, before, name) for name in FILE_ENGINES} == {0}
    assert counted(s3_lake.settings, taken.epoch, "duckdb") > 0


@pytest.mark.slow
def test_the_lake_can_be_verified_at_any_time_and_a_damaged_file_is_found(s3_lake: S3Lake):
    lake = s3_lake.lake()
    epoch = publish_snapshot(s3_lake.store, lake)
    s3_lake.change()
    verified = verify_now(s3_lake.store, lake)
    verified.prove()
    assert sum(verified.tail_rows) > 0
    assert verify_files(s3_lake.address, 1) == len(epoch.files)
    sums = newest_epoch_sums(s3_lake.store, s3_lake.address)
    assert sums is not None
    assert sums.ledger_rows == epoch.tables["ledger"].rows
    damaged = epoch.tables["riders"].files[0].location
    with s3_lake.storage.open(damaged) as file:
        rows = pq.ParquetFile(file).read()
    with s3_lake.storage.create(damaged) as file:
        pq.write_table(rows.slice(0, rows.num_rows - 1), file)
    with pytest.raises(ProofFailed, match="does not match its checksum"):
        verify_files(s3_lake.address, 1)
    report = verify_now(s3_lake.store, lake)
    assert [one.table for one in report.comparisons if not one.equal] == ["riders"]
    s3_lake.storage.delete([damaged])
    with pytest.raises(ProofFailed, match="is missing"):
        verify_files(s3_lake.address, 1)
    for name in FILE_ENGINES:
        with pytest.raises(RidelakeError, match="a file of the lake is missing"):
            with open_engine(name, s3_lake.settings, epoch) as engine:
                engine.sql("SELECT count(*) FROM riders WHERE username = 'x'")


@pytest.mark.slow
def test_a_fresh_answer_combines_local_and_remote_files(s3_lake: S3Lake):
    newest = publish_snapshot(s3_lake.store, s3_lake.lake())
    before = s3_lake.objects()
    s3_lake.change()
    with open_overlay(s3_lake.settings, newest) as fresh:
        locations = [file.location for table in fresh.tables.values() for file in table.files]
        assert any(location.startswith("s3://") for location in locations)
        assert any(location.startswith("/") for location in locations)
        answers_agree(s3_lake.settings, fresh)
    assert s3_lake.objects() == before


@pytest.mark.slow
def test_a_table_with_local_and_remote_files_is_read_completely(s3_lake: S3Lake):
    """The sealed file is in the bucket, and the open file in a folder."""
    with s3_lake.store.connect() as connection:
        connection.execute("CREATE TABLE many (id bigint PRIMARY KEY, word text)")
        connection.execute("INSERT INTO many SELECT n, 'old' FROM generate_series(1, 50000) AS n")
    track(s3_lake.store, "ridelake.many")
    newest = publish_snapshot(s3_lake.store, s3_lake.lake(), tables=["ridelake.many"])
    with s3_lake.store.connect() as connection:
        connection.execute("INSERT INTO many SELECT n, 'new' FROM generate_series(50001, 50010) AS n")
    with open_overlay(s3_lake.settings, newest) as fresh:
        kinds = {location.startswith("s3://") for location in fresh.tables["many"].locations}
        assert kinds == {True, False}
        for name in FILE_ENGINES:
            with open_engine(name, s3_lake.settings, fresh) as engine:
                answer = engine.sql("SELECT word, count(*) AS n, sum(id) AS s FROM many GROUP BY word")
                assert sorted((row["word"], int(row["n"]), int(row["s"])) for row in answer.to_pylist()) == [
                    ("new", 10, 500055),
                    ("old", 50000, 1250025000),
                ]


@pytest.mark.slow
def test_any_iceberg_reader_opens_the_tables_in_a_bucket(s3_lake: S3Lake, monkeypatch):
    monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")  # the default needs another package
    epoch = publish_snapshot(s3_lake.store, s3_lake.lake())
    properties = {"s3.endpoint": s3_lake.address.s3_endpoint, "s3.region": "us-east-1"}
    uri = catalog_url(s3_lake.address, 30).render_as_string(hide_password=False)
    catalog = SqlCatalog("ridelake", uri=uri, warehouse="s3://elsewhere", **properties)
    try:
        for name, state in epoch.tables.items():
            table = catalog.load_table(("ridelake", name))
            assert table.scan().to_arrow().num_rows == state.rows
            assert pl.scan_iceberg(table).select(pl.len()).collect().item() == state.rows
        alone = pl.scan_iceberg(
            epoch.tables["rides"].metadata, storage_options=properties, reader_override="pyiceberg"
        )
        assert alone.select(pl.len()).collect().item() == 2000
    finally:
        catalog.engine.dispose()
    with s3_lake.storage.open(s3_lake.address.manifest(1)) as file:
        manifest = json.loads(file.read())
    assert manifest["epoch"] == 1
    assert all(
        s3_lake.storage.exists(s3_lake.address.join(file["location"]))
        for table in manifest["tables"].values()
        for file in table["files"]
    )


@pytest.mark.slow
def test_maintenance_of_a_bucket_respects_the_grace_period(s3_lake: S3Lake):
    lake = s3_lake.lake()
    with s3_lake.store.connect() as connection:
        connection.execute("CREATE TABLE many (id bigint PRIMARY KEY, word text)")
    track(s3_lake.store, "ridelake.many")
    for turn in range(5):
        with s3_lake.store.connect() as connection:
            connection.execute(
                "INSERT INTO many SELECT n, 'x' FROM generate_series(%s::bigint, %s::bigint) AS n",
                (turn * 25_000 + 1, (turn + 1) * 25_000),
            )
        publish_changes(s3_lake.store, lake, tables=["ridelake.many"] if turn == 0 else [])
    orphan = s3_lake.address.join("rides", "data", "00009-deaddead-0123abcd.parquet")
    s3_lake.storage.write_whole(orphan, b"left by a crash")
    young = maintain(lake, s3_lake.store, keep_epochs=2)
    assert young.files_after < young.files_before
    assert (young.epochs_expired, young.files_removed) == (0, 0)
    assert s3_lake.storage.exists(orphan)
    time.sleep(1.1)  # a bucket stores modification times in whole seconds
    old = maintain(lake, s3_lake.store, keep_epochs=1, grace=timedelta(0))
    assert old.epochs_expired == 4  # kept: the newest epoch, and the one that maintenance publishes
    assert old.files_removed > 5
    assert not s3_lake.storage.exists(orphan)
    newest = newest_epoch(s3_lake.address)
    verify_now(s3_lake.store, lake).prove()
    answers_agree(s3_lake.settings, newest)
    for epoch in read_epochs(s3_lake.address):
        assert verify_files(s3_lake.address, epoch.number) == len(epoch.files)
        assert s3_lake.storage.exists(s3_lake.address.manifest(epoch.number))
    with pytest.raises(UsageError, match="there is no epoch 1"):
        numbered_epoch(s3_lake.address, 1)


@pytest.mark.slow
def test_a_draft_whose_files_were_deleted_is_not_published(s3_lake: S3Lake, monkeypatch):
    lake = s3_lake.lake()
    first = publish_snapshot(s3_lake.store, lake)
    s3_lake.change()
    monkeypatch.setattr("lakehouse.capture.writer.RECHECK_AFTER_SECONDS", 0.0)

    publish = EpochDraft.publish

    def publish_late(*args, **more) -> Epoch:
        time.sleep(1.1)
        assert maintain(lake, s3_lake.store, grace=timedelta(0)).files_removed > 0
        return publish(*args, **more)

    with monkeypatch.context() as slow:
        slow.setattr(EpochDraft, "publish", publish_late)
        with pytest.raises(CommitConflict, match="removed its files"):
            publish_changes(s3_lake.store, lake)
    assert newest_epoch(s3_lake.address).token == first.token
    assert publish_changes(s3_lake.store, lake, verify=True).epoch.verified
