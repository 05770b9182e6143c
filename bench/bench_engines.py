"""The overhead of ridelake: each engine with and without it, same files and query, interleaved.

    baseline   bare.py: the library as in its documentation
    ridelake   open_engine(…).sql(…): checks and translates the query; some engines run in a subprocess

The answers of all rounds are compared with those of DuckDB.
"""

from collections.abc import Callable
from time import perf_counter

import numpy as np
import pyarrow as pa
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.baseline import TABLE, Answer, as_table, baseline_engine
from bench.env import BenchEnv
from bench.statistics import interval, median_interval
from lakehouse.engines import ENGINE_NAMES, open_engine, open_engines
from lakehouse.table.epoch import Epoch
from olap.answer import difference
from olap.ask import ask
from olap.question import find_question
from ridelake.settings import Settings

pytestmark = pytest.mark.scale("full")

QUERIES = {
    "five groups": "SELECT city_id, count(*) AS rides, CAST(sum(fare_cents) AS bigint) AS cents"
    " FROM rides GROUP BY city_id ORDER BY city_id",
    "one ride": "SELECT ride_id, status, fare_cents FROM rides WHERE ride_id = 77777",
    "20,000 rows": "SELECT * FROM rides WHERE ride_id <= 20000",
}
ROUNDS = 15
WARM_UP_ROUNDS = 3
SLOW = {"spark": 9}  # rounds; its queries take a second

# The target: overhead of at most this share of the baseline, plus this time.
SHARE, MS = 0.05, 20.0


@pytest.mark.parametrize("name", ENGINE_NAMES)
def bench_overhead(benchmark: BenchmarkFixture, env: BenchEnv, epoch: Epoch, name: str) -> None:
    benchmark.group = "overhead of ridelake over the engine alone"
    settings = store_of(env)
    where = [env.store.conninfo] if name == "postgres" else epoch.tables[TABLE].locations
    rows = []
    with (
        open_engine("duckdb", settings, epoch) as reference,
        open_engine(name, settings, epoch) as engine,
        baseline_engine(name, where) as ask_bare,
    ):
        benchmark.extra_info["engine"] = f"{name} {engine.version()}"

        def interleaved() -> None:
            for name_of_query, query in QUERIES.items():
                equal = reference.sql(query)
                ours, theirs = _interleaved(engine.sql, ask_bare, query, equal, SLOW.get(name, ROUNDS))
                rows.append(_row(name_of_query, ours, theirs))

        benchmark.pedantic(interleaved, rounds=1)
    benchmark.extra_info |= {"target": f"5 % + {MS:g} ms", "overhead": rows, "answers": "equal to duckdb"}


def _interleaved(
    ours: Callable[[str], pa.Table],
    theirs: Callable[[str], tuple[float, Answer]],
    query: str,
    equal: pa.Table,
    rounds: int,
) -> tuple[list[float], list[float]]:
    """Seconds of each round, without the warm-up rounds."""
    ours_seconds: list[float] = []
    bare_seconds: list[float] = []
    ordered = "ORDER BY" in query
    for turn in range(WARM_UP_ROUNDS + rounds):

        def by_us() -> pa.Table:
            started = perf_counter()
            answer = ours(query)
            ours_seconds.append(perf_counter() - started)
            return answer

        def by_them() -> pa.Table:
            seconds, answer = theirs(query)
            bare_seconds.append(seconds)
            return as_table(answer, equal.schema)

        for variant in (by_us, by_them) if turn % 2 else (by_them, by_us):
            assert difference(equal, variant(), ordered=ordered) is None
    return ours_seconds[WARM_UP_ROUNDS:], bare_seconds[WARM_UP_ROUNDS:]


def _row(query: str, ours: list[float], theirs: list[float]) -> dict[str, object]:
    bare_ms, ours_ms = 1e3 * np.array(theirs), 1e3 * np.array(ours)
    over, *_ = median_interval(ours_ms - bare_ms)
    return {
        "query": query,
        "bare_ms": median_interval(bare_ms)[0],
        "ours_ms": median_interval(ours_ms)[0],
        "overhead_ms": interval(ours_ms - bare_ms, 1),
        "target met": "yes" if over <= SHARE * median_interval(bare_ms)[0] + MS else "no",
    }


def bench_all_engines(benchmark: BenchmarkFixture, env: BenchEnv, epoch: Epoch) -> None:
    """`ridelake ask average_price --engine all`: open all engines, ask each once, compare the answers."""
    benchmark.group = "one question on all engines"
    names = [name for name in ENGINE_NAMES if name != "spark"]
    question = find_question("average_price")
    opening: list[float] = []

    def asked() -> None:
        started = perf_counter()
        with open_engines(names, store_of(env), epoch) as engines:
            opening.append(perf_counter() - started)
            ask(question, engines, epoch, rounds_max=1)

    benchmark.pedantic(asked, rounds=3, warmup_rounds=1)
    benchmark.extra_info |= {"engines": len(names), "opening_s": median_interval(opening)[0]}


def store_of(env: BenchEnv) -> Settings:
    return Settings(env.settings.home, env.settings.lake, dsn=env.store.conninfo)
