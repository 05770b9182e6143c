"""The same files, read by a cluster: a master and two workers, of which one dies in the middle of a query."""

import dataclasses
import threading
from pathlib import Path

import psutil
import pytest

from lakehouse.engines import ENGINES, open_engines
from lakehouse.published import newest_epoch
from olap.answer import difference
from olap.ask import answer_of
from olap.question import questions
from ridelake.settings import Settings

LONG = (
    "SELECT count(*) AS pairs FROM rides AS a JOIN rides AS b ON a.fare_cents + 0 * b.ride_id <> b.ride_id"
    " JOIN rides AS c ON c.fare_cents + 0 * a.ride_id <> b.ride_id WHERE c.ride_id <= 400"
)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(ENGINES["spark"].version() is None, reason="not installed: pyspark")
def test_a_cluster_answers_every_question_and_outlives_a_worker(settings: Settings, tmp_path: Path):
    from spark_cluster import end, spark_cluster

    epoch = newest_epoch(settings.lake)
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    with spark_cluster(tmp_path) as cluster:
        far = dataclasses.replace(settings, spark_master=cluster.master)
        with open_engines(["duckdb", "spark"], far, epoch) as (duckdb, spark):
            told = {
                question.name: difference(
                    answer_of(duckdb, question), answer_of(spark, question), ordered=question.ordered
                )
                for question in questions().values()
            }
            assert {name: difference for name, difference in told.items() if difference} == {}

            answers = []
            asking = threading.Thread(target=lambda: answers.append(spark.sql(LONG)))
            asking.start()
            asking.join(3)
            victim = cluster.busiest_worker()
            assert asking.is_alive(), "the query was over before a worker could die in it"
            end(victim)
            asking.join()
            assert answers, "no answer after a worker died"
            assert difference(duckdb.sql(LONG), answers[0]) is None
            log = (tmp_path / "cluster.log").read_text(errors="replace")
            assert "Received unregister request" in log or "Removing" in log or "lost" in log.lower()
    left = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
    assert [child for child in left if "java" in child.name()] == []
