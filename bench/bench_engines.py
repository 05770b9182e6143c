"""The engines over the files of an epoch: a question on each engine, the overhead of ridelake, whole
processes.

The overhead is the time of `open_engine(…).sql(…)` minus the time of the library alone (`bench/baseline.py`).
ridelake checks and translates the query, and runs some engines in a subprocess.

The process `ridelake sql` is compared with `python -c "import duckdb; …"`, which prints the same bytes.
PYTHONDONTWRITEBYTECODE is unset: with it, Python would compile the sources of ridelake at each start.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter

import pyarrow as pa
import pytest

from bench.baseline import TABLE, as_table, baseline_engine
from bench.env import BenchEnv
from bench.figure import Cell, Figure, VariantTimes, assert_equal
from bench.seaweedfs import KEYS, seaweedfs
from lakehouse.capture.publish import publish_snapshot
from lakehouse.engines import ENGINE_NAMES, open_engine, open_engines
from lakehouse.table.catalog import Lake
from lakehouse.table.epoch import Epoch
from olap.answer import checksum, compare_answers, difference
from olap.ask import answer_of, ask
from olap.question import LOOK_UP, find_question, questions
from ridelake.settings import LakeAddress, Settings

pytestmark = pytest.mark.scale("full")

AVERAGE = find_question("average_price")
QUERIES = {
    "five groups": "SELECT city_id, count(*) AS rides, CAST(sum(fare_cents) AS bigint) AS cents"
    " FROM rides GROUP BY city_id ORDER BY city_id",
    "one ride": "SELECT ride_id, status, fare_cents FROM rides WHERE ride_id = 7777",
    "20,000 rows": "SELECT * FROM rides WHERE ride_id <= 20000",
}
WORKERS = (1, 2)  # of the Spark clusters
RIDELAKE, LIBRARY = "ridelake", "the engine alone"
# The target: overhead of at most this share of the engine alone, plus this time.
OVERHEAD_SHARE_MAX, OVERHEAD_MS_MAX = 0.05, 20.0


@pytest.mark.parametrize("name", ENGINE_NAMES)
def bench_question_by_engine(figure: Figure, env: BenchEnv, epoch: Epoch, name: str) -> None:
    figure.title = f"How long does the average price of a city and a month take on {name}?"
    names = dict.fromkeys(("postgres", name))
    with open_engines(tuple(names), env.settings, epoch) as engines:
        times = figure.interleaved(
            {engine.name: partial(answer_of, engine, AVERAGE) for engine in engines},
            partial(compare_answers, AVERAGE),
        )
        figure.facts["engine"] = f"{name} {engines[-1].version()}"
        figure.facts["checksum"] = checksum(answer_of(engines[-1], AVERAGE), ordered=AVERAGE.ordered)
    figure.rows = epoch.tables["rides"].rows
    figure.checked("the answer equals that of Postgres")
    if name != "postgres":
        figure.ratio(times.ratio("postgres", name))


@pytest.mark.parametrize("name", ENGINE_NAMES)
def bench_overhead(figure: Figure, env: BenchEnv, epoch: Epoch, name: str) -> None:
    figure.title = f"How much time does ridelake add to a query of {name}?"
    where = [env.store.conninfo] if name == "postgres" else epoch.tables[TABLE].locations
    rows = []
    with (
        open_engine("duckdb", env.settings, epoch) as reference,
        open_engine(name, env.settings, epoch) as engine,
        baseline_engine(name, where) as ask_bare,
    ):
        figure.facts["engine"] = f"{name} {engine.version()}"
        for label, query in QUERIES.items():
            expected = reference.sql(query)

            def ours(query: str = query, expected: pa.Table = expected) -> float:
                began = perf_counter()
                answer = engine.sql(query)
                seconds = perf_counter() - began
                _assert_answer(query, expected, answer)
                return seconds

            def bare(query: str = query, expected: pa.Table = expected) -> float:
                seconds, answer = ask_bare(query)
                _assert_answer(query, expected, as_table(answer, expected.schema))
                return seconds

            variants: dict[str, Callable[[], float]] = {RIDELAKE: ours, LIBRARY: bare}
            times = figure.self_timed(variants, figure.scale.rounds_min, label=label)
            figure.ratio(times.ratio(RIDELAKE, LIBRARY))
            rows.append(_overhead(label, times))
    figure.checked("the answers of all rounds equal that of DuckDB")
    figure.table(f"Overhead; the target is {OVERHEAD_SHARE_MAX:.0%} + {OVERHEAD_MS_MAX:g} ms", rows)


def _assert_answer(query: str, expected: pa.Table, answer: pa.Table) -> None:
    found = difference(expected, answer, ordered="ORDER BY" in query)
    assert found is None, found


def _overhead(query: str, times: VariantTimes) -> dict[str, Cell]:
    bare_ms = 1e3 * times.median_seconds(LIBRARY)
    pairs = zip(times.samples[RIDELAKE].seconds, times.samples[LIBRARY].seconds, strict=True)
    overhead_ms = 1e3 * median(ours - bare for ours, bare in pairs)
    return {
        "query": query,
        "engine alone, ms": bare_ms,
        "ridelake, ms": 1e3 * times.median_seconds(RIDELAKE),
        "overhead, ms": overhead_ms,
        "target met": "yes" if overhead_ms <= OVERHEAD_SHARE_MAX * bare_ms + OVERHEAD_MS_MAX else "no",
    }


def bench_all_engines(figure: Figure, env: BenchEnv, epoch: Epoch) -> None:
    """`ridelake ask average_price --engine all`: open all engines, ask each once, compare the answers."""
    figure.title = "How long does one question take on all engines?"
    names = [name for name in ENGINE_NAMES if name != "spark"]
    opening: list[float] = []

    def asked() -> None:
        began = perf_counter()
        with open_engines(names, env.settings, epoch) as engines:
            opening.append(perf_counter() - began)
            ask(AVERAGE, engines, epoch, rounds_max=1)

    figure.interleaved({"all engines": asked}, lambda answers: None, seconds=0.0, rounds_min=3)
    figure.checked("`ask` fails if two engines return different answers")
    figure.facts["engines"] = len(names)
    figure.facts["seconds to open them"] = median(opening)


@pytest.mark.named("cluster")
@pytest.mark.timeout(14_400)
def bench_spark_cluster(
    figure: Figure, cluster_env: BenchEnv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each analysis over a bucket of SeaweedFS on this machine. A worker has one core, DuckDB all of them."""
    pytest.importorskip("pyspark")
    from bench.spark_cluster import spark_cluster

    figure.title = "From how many workers on is a Spark cluster faster than DuckDB over the same bucket?"
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with ExitStack() as running:
        url = running.enter_context(seaweedfs(tmp_path, "lake"))
        settings = Settings(tmp_path, LakeAddress.at("s3://lake/rides", s3_endpoint=url, home=tmp_path))
        epoch = publish_snapshot(cluster_env.store, Lake.create(settings.lake))
        engines = {"duckdb": running.enter_context(open_engine("duckdb", settings, epoch))}
        for workers in WORKERS:
            folder = tmp_path / f"workers_{workers}"
            folder.mkdir()
            cluster = running.enter_context(spark_cluster(folder, workers))
            on_cluster = replace(settings, spark_master=cluster.master)
            engines[_of(workers)] = running.enter_context(open_engine("spark", on_cluster, epoch))
        rows = []
        for question in [one for one in questions().values() if one.group != LOOK_UP]:
            times = figure.interleaved(
                {name: partial(answer_of, engine, question) for name, engine in engines.items()},
                partial(compare_answers, question),
                label=question.name,
                seconds=0.0,
                rounds_min=3,
            )
            figure.ratio(times.ratio(_of(WORKERS[0]), _of(WORKERS[-1])))
            rows.append(
                {"question": question.name}
                | {f"{name}, ms": 1e3 * times.median_seconds(name) for name in engines}
            )
    figure.rows = epoch.tables["rides"].rows
    figure.checked("the answers of Spark equal those of DuckDB")
    figure.table("Warm times, milliseconds", rows)


def _of(workers: int) -> str:
    return f"spark, {workers} worker{'s' if workers > 1 else ''}"


SMALL_QUERIES = {
    "numbers": "SELECT city_id, count(*) AS rides FROM rides GROUP BY city_id ORDER BY city_id",
    "an average": "SELECT avg(fare_cents) AS mean FROM rides WHERE status = 'completed'",
    "texts": "SELECT ride_id, status FROM rides WHERE ride_id <= 5 ORDER BY ride_id",
}
PYTHON = ("env", "-u", "PYTHONDONTWRITEBYTECODE", sys.executable)
HEAD = """
import csv, json, sys, duckdb
query, *files = json.loads(sys.argv[1])
connection = duckdb.connect()
connection.read_parquet(files).create_view("rides")
write = csv.writer(sys.stdout, lineterminator="\\n")
"""
ROWS = """
answer = connection.sql(query)
write.writerow(answer.columns)
write.writerows(answer.fetchall())
"""
# Loads pyarrow and NumPy.
ARROW = """
answer = connection.sql(query).to_arrow_table()
write.writerow(answer.column_names)
write.writerows(zip(*(column.to_pylist() for column in answer.columns)))
"""


def bench_small_answer(figure: Figure, env: BenchEnv, epoch: Epoch) -> None:
    figure.title = "How long does a small query take as a whole process?"
    for name, query in SMALL_QUERIES.items():
        given = json.dumps([query, *epoch.tables["rides"].locations])
        commands = {
            "duckdb rows": ("-c", HEAD + ROWS, given),
            "duckdb Arrow": ("-c", HEAD + ARROW, given),
            "ridelake": ("-m", "ridelake", "--lake", env.settings.lake.root, "sql", query),
        }
        variants = {variant: partial(_output, *command) for variant, command in commands.items()}
        times = figure.interleaved(variants, assert_equal, label=name)
        for other in ("duckdb rows", "duckdb Arrow"):
            figure.ratio(times.ratio("ridelake", other))
    figure.checked("all processes print the same bytes")
    figure.facts["target"] = "at most 1.3 times the time of duckdb rows"


def bench_empty_process(figure: Figure) -> None:
    figure.title = "How long does a process take to start?"
    commands = {
        "python": ("-c", "pass"),
        "duckdb": ("-c", "import duckdb"),
        "ridelake": ("-m", "ridelake", "--version"),
    }
    times = figure.interleaved(
        {name: partial(_output, *command) for name, command in commands.items()}, lambda outputs: None
    )
    figure.checked("all processes ended with exit code 0")
    for other in ("python", "duckdb"):
        figure.ratio(times.ratio("ridelake", other))


def _output(*arguments: str) -> bytes:
    return subprocess.run([*PYTHON, *arguments], check=True, capture_output=True).stdout
