"""All questions on all installed engines: over real trips, and over an epoch taken under load."""

import threading

import pytest

from lakehouse.capture.publish import publish_changes, publish_snapshot
from lakehouse.engines import ENGINES, open_engines
from lakehouse.table.catalog import Lake
from lakehouse.table.published import newest_epoch
from olap.answer import difference
from olap.ask import answer_of, ask
from olap.question import questions
from oltp.ingest.tlc import check_files, load_files
from oltp.store import Store
from oltp.workload import simulate
from ridelake.settings import LakeAddress, Settings

INSTALLED = [name for name, package in ENGINES.items() if package.version() is not None and name != "spark"]


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
def test_an_epoch_taken_under_load_has_one_answer_on_every_engine(seeded_store: Store, tmp_path):
    """Without Postgres, which has newer transactions by then."""
    settings = Settings(tmp_path, LakeAddress.at(tmp_path / "lake"), dsn=seeded_store.conninfo)
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
    assert epochs >= 3
    epoch = newest_epoch(settings.lake)
    differences = {}
    with open_engines([name for name in INSTALLED if name != "postgres"], settings, epoch) as engines:
        for question in questions().values():
            reference, *others = [answer_of(engine, question) for engine in engines]
            for engine, other in zip(engines[1:], others, strict=True):
                differences[question.name, engine.name] = difference(
                    reference, other, ordered=question.ordered
                )
    assert {key: text for key, text in differences.items() if text} == {}
