"""A small query as a whole process: `ridelake sql` compared with `python -c "import duckdb; …"`, interleaved.

    duckdb rows     import duckdb, read_parquet of the same files, fetchall, the csv module
    duckdb Arrow    the same with to_arrow_table, which loads pyarrow and numpy

All print the same bytes, which are compared in each round. PYTHONDONTWRITEBYTECODE is unset: with it, Python
would compile the sources of ridelake at each start.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from time import perf_counter

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.env import BenchEnv
from bench.statistics import interval, interval_entries, median_interval
from lakehouse.table.epoch import Epoch

pytestmark = pytest.mark.scale("full")

ROUNDS = 15
QUERIES = {
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
ARROW = """
answer = connection.sql(query).to_arrow_table()
write.writerow(answer.column_names)
write.writerows(zip(*(column.to_pylist() for column in answer.columns)))
"""


def bench_small_answer(benchmark: BenchmarkFixture, env: BenchEnv, epoch: Epoch) -> None:
    benchmark.group = "a small query as a whole process"
    rows = []

    def interleaved() -> None:
        for name, query in QUERIES.items():
            rows.append(_row(name, _seconds(_variants(env, epoch, query))))

    benchmark.pedantic(interleaved, rounds=1)
    benchmark.extra_info |= {"rounds": ROUNDS, "target": "1.3 of duckdb rows", "processes": rows}


def bench_empty_process(benchmark: BenchmarkFixture) -> None:
    """The start of a process: Python alone, `import duckdb`, `ridelake --version`."""
    benchmark.group = "start of a process"
    variants = {
        "python": [*PYTHON, "-c", "pass"],
        "duckdb": [*PYTHON, "-c", "import duckdb"],
        "ridelake": [*PYTHON, "-m", "ridelake", "--version"],
    }
    seconds: dict[str, np.ndarray] = {}
    benchmark.pedantic(lambda: seconds.update(_seconds(variants, same=False)), rounds=1)
    for name, of in seconds.items():
        benchmark.extra_info |= interval_entries(f"{name}_ms", 1e3 * of)


def _variants(env: BenchEnv, epoch: Epoch, query: str) -> dict[str, list[str]]:
    given = json.dumps([query, *epoch.tables["rides"].locations])
    return {
        "rows": [*PYTHON, "-c", HEAD + ROWS, given],
        "arrow": [*PYTHON, "-c", HEAD + ARROW, given],
        "ours": [*PYTHON, "-m", "ridelake", "--lake", env.settings.lake.root, "sql", query],
    }


def _seconds(variants: dict[str, list[str]], *, same: bool = True) -> dict[str, np.ndarray]:
    """Seconds of each round, without the first, which reads files and compiles sources."""
    taken: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(1 + ROUNDS):
        outputs = set()
        for name, command in variants.items():
            seconds, output = _run(command)
            taken[name].append(seconds)
            outputs.add(output)
        assert len(outputs) == 1 or not same, outputs
    return {name: np.array(of[1:]) for name, of in taken.items()}


def _run(command: Sequence[str]) -> tuple[float, bytes]:
    started = perf_counter()
    done = subprocess.run(command, check=True, capture_output=True)
    return perf_counter() - started, done.stdout


def _row(name: str, seconds: dict[str, np.ndarray]) -> dict[str, object]:
    ours, rows, arrow = (seconds[variant] for variant in ("ours", "rows", "arrow"))
    return {
        "answer": name,
        "duckdb_rows_ms": 1e3 * median_interval(rows)[0],
        "duckdb_arrow_ms": 1e3 * median_interval(arrow)[0],
        "ours_ms": 1e3 * median_interval(ours)[0],
        "of_rows": interval(ours / rows),
        "of_arrow": interval(ours / arrow),
    }
