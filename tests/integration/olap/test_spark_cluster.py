"""Spark on a cluster: a master and two workers, one of which is killed during a query."""

import dataclasses
import threading
from pathlib import Path

import psutil
import pytest

from lakehouse.engines import ENGINES, Engine, open_engines
from lakehouse.table.published import newest_epoch
from olap.answer import difference
from olap.ask import answer_of
from olap.question import questions
from ridelake.settings import Settings

NOT_INSTALLED = pytest.mark.skipif(ENGINES["spark"].version() is None, reason="not installed: pyspark")
LONG = (
    "SELECT count(*) AS pairs FROM rides AS a JOIN rides AS b ON a.fare_cents + 0 * b.ride_id <> b.ride_id"
    " JOIN rides AS c ON c.fare_cents + 0 * a.ride_id <> b.ride_id WHERE c.ride_id <= 250"
)


def differences(duckdb: Engine, spark: Engine) -> dict[str, str]:
    found = {
        question.name: difference(
            answer_of(duckdb, question), answer_of(spark, question), ordered=question.ordered
        )
        for question in questions().values()
    }
    return {name: text for name, text in found.items() if text}


@pytest.mark.slow
@pytest.mark.timeout(600)
@NOT_INSTALLED
def test_a_connect_server_answers_every_question(settings: Settings, tmp_path: Path):
    pytest.importorskip("grpc")
    from spark_cluster import spark_connect

    with spark_connect(tmp_path) as address:
        remote = dataclasses.replace(settings, spark_master=address)
        with open_engines(["duckdb", "spark"], remote, newest_epoch(settings.lake)) as (duckdb, spark):
            assert differences(duckdb, spark) == {}


@pytest.mark.slow
@pytest.mark.timeout(900)
@NOT_INSTALLED
def test_a_cluster_answers_every_question_and_survives_a_killed_worker(settings: Settings, tmp_path: Path):
    from spark_cluster import end, spark_cluster

    epoch = newest_epoch(settings.lake)
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    with spark_cluster(tmp_path) as cluster:
        remote = dataclasses.replace(settings, spark_master=cluster.master)
        with open_engines(["duckdb", "spark"], remote, epoch) as (duckdb, spark):
            assert differences(duckdb, spark) == {}

            log = tmp_path / "cluster.log"
            answers = []
            asking = threading.Thread(target=lambda: answers.append(spark.sql(LONG)))
            asking.start()
            asking.join(3)
            worker = cluster.busiest_worker()
            assert asking.is_alive(), "the query ended before the worker was killed"
            end(worker)
            asking.join(300)
            assert answers, f"no answer after a worker was killed: {log.read_text(errors='replace')[-3000:]}"
            assert difference(duckdb.sql(LONG), answers[0]) is None
            text = log.read_text(errors="replace")
            assert "Received unregister request" in text or "Removing" in text or "lost" in text.lower()
    left = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
    assert [child for child in left if "java" in child.name()] == []
