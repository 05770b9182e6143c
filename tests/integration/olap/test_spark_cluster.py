"""Spark on a cluster with a master and two workers, one of which is killed during a query. The lake is in a
folder or in a bucket."""

import dataclasses
import threading
from collections.abc import Iterable
from pathlib import Path

import psutil
import pytest
from bucket import new_bucket
from s3_proxy import s3_proxy

from lakehouse.capture.publish import publish_snapshot
from lakehouse.engines import ENGINES, Engine, open_engines
from lakehouse.table.catalog import Lake
from lakehouse.table.published import newest_epoch
from olap.answer import difference
from olap.ask import answer_of
from olap.question import questions
from oltp.store import Store
from ridelake.errors import CannotConnect
from ridelake.settings import Settings

NOT_INSTALLED = pytest.mark.skipif(ENGINES["spark"].version() is None, reason="not installed: pyspark")
LONG = (
    "SELECT count(*) AS pairs FROM rides AS a JOIN rides AS b ON a.fare_cents + 0 * b.ride_id <> b.ride_id"
    " JOIN rides AS c ON c.fare_cents + 0 * a.ride_id <> b.ride_id WHERE c.ride_id <= 250"
)


# A question takes half a minute over a bucket. tests/integration/olap/test_everywhere.py asks all of them.
TWO_QUESTIONS = ("rides_between", "revenue_by_city_and_month")


def differences(duckdb: Engine, spark: Engine, names: Iterable[str] = ()) -> dict[str, str]:
    """The differences of the two engines, by question. `names`: the questions to ask; by default all."""
    found = {
        question.name: difference(
            answer_of(duckdb, question), answer_of(spark, question), ordered=question.ordered
        )
        for question in questions().values()
        if not names or question.name in names
    }
    return {name: text for name, text in found.items() if text}


def answer_while_a_worker_is_killed(cluster, duckdb: Engine, spark: Engine, log: Path) -> None:
    from bench.spark_cluster import end

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


@pytest.mark.slow
@pytest.mark.timeout(600)
@NOT_INSTALLED
def test_a_connect_server_answers_every_question(settings: Settings, tmp_path: Path):
    pytest.importorskip("grpc")
    from bench.spark_cluster import spark_connect

    with spark_connect(tmp_path) as address:
        remote = dataclasses.replace(settings, spark_master=address)
        with open_engines(["duckdb", "spark"], remote, newest_epoch(settings.lake)) as (duckdb, spark):
            assert differences(duckdb, spark) == {}


@pytest.mark.slow
@pytest.mark.timeout(900)
@NOT_INSTALLED
def test_a_cluster_answers_every_question_and_survives_a_killed_worker(settings: Settings, tmp_path: Path):
    from bench.spark_cluster import spark_cluster

    epoch = newest_epoch(settings.lake)
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    with spark_cluster(tmp_path) as cluster:
        remote = dataclasses.replace(settings, spark_master=cluster.master)
        with open_engines(["duckdb", "spark"], remote, epoch) as (duckdb, spark):
            assert differences(duckdb, spark) == {}

            answer_while_a_worker_is_killed(cluster, duckdb, spark, tmp_path / "cluster.log")
    left = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
    assert [child for child in left if "java" in child.name()] == []


@pytest.mark.slow
@pytest.mark.timeout(600)
@NOT_INSTALLED
def test_a_connect_server_without_credentials_reads_a_bucket(
    seeded_store: Store, tmp_path: Path, endpoint: str, monkeypatch
):
    pytest.importorskip("grpc")
    from bench.spark_cluster import python_without_ridelake, spark_connect

    lake = new_bucket(endpoint, tmp_path)
    epoch = publish_snapshot(seeded_store, Lake.create(lake))
    monkeypatch.setenv("PYSPARK_PYTHON", str(python_without_ridelake(tmp_path)))
    with s3_proxy(endpoint) as proxy, spark_connect(tmp_path) as server:
        address = dataclasses.replace(lake, s3_endpoint=proxy.url)
        settings = Settings(tmp_path, address, spark_master=server)
        with open_engines(["duckdb", "spark"], settings, epoch) as (duckdb, spark):
            assert differences(duckdb, spark, TWO_QUESTIONS) == {}
        assert proxy.keys == {("testing", None)}


SECRET, TOKEN = "Zq9-secret-4711", "Zq9-token-4711"


@pytest.mark.slow
@pytest.mark.timeout(900)
@NOT_INSTALLED
def test_a_cluster_without_ridelake_and_credentials_reads_a_bucket(
    seeded_store: Store, tmp_path: Path, endpoint: str, monkeypatch
):
    """The executors get the code and the credentials from ridelake. An executor that cannot reach the bucket
    is reported in one line. No log contains the credentials."""
    from bench.spark_cluster import python_without_ridelake, spark_cluster

    lake = new_bucket(endpoint, tmp_path)
    epoch = publish_snapshot(seeded_store, Lake.create(lake))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    monkeypatch.setenv("PYSPARK_PYTHON", str(python_without_ridelake(tmp_path)))
    with s3_proxy(endpoint) as proxy, spark_cluster(tmp_path) as cluster:
        address = dataclasses.replace(lake, s3_endpoint=proxy.url)
        settings = Settings(tmp_path, address, spark_master=cluster.master)
        with open_engines(["duckdb", "spark"], settings, epoch) as (duckdb, spark):
            assert differences(duckdb, spark, TWO_QUESTIONS) == {}
            assert proxy.keys == {("testing", TOKEN)}
            proxy.hidden_from = "pyspark.daemon"
            with pytest.raises(
                CannotConnect, match=r"ridelake cannot read s3://.* on .*; check that"
            ) as caught:
                spark.sql("SELECT max(note) AS n FROM (SELECT *, 1 AS note FROM ledger) AS x")
            assert "\n" not in str(caught.value)
            proxy.reset()
            answer_while_a_worker_is_killed(cluster, duckdb, spark, tmp_path / "cluster.log")
            count = "SELECT count(*) AS n FROM zones"
            assert difference(duckdb.sql(count), spark.sql(count)) is None
            plan = str(spark.sql("EXPLAIN SELECT sum(fare_cents) FROM rides WHERE ride_id > 7").to_pylist())
    logs = [path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.name.startswith("std")]
    assert len(logs) >= 4
    logs += [(tmp_path / "cluster.log").read_text(errors="replace"), plan, str(caught.value)]
    assert [log for log in logs if SECRET in log or TOKEN in log] == []
