"""docs/engines.md is correct: these tests measure each cell of its table."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bucket import new_bucket
from installed_engines import EVERY_ENGINE
from spilling import sorted_with_memory_limit

from lakehouse.capture.publish import publish_snapshot
from lakehouse.engines import ENGINES, Engine, open_engine
from lakehouse.table.catalog import Lake
from lakehouse.table.epoch import DataFile, Epoch
from lakehouse.table.published import newest_epoch
from olap.answer import difference
from olap.question import Question, questions
from oltp.store import Store
from ridelake.errors import QueryRejected
from ridelake.settings import Settings

ROOT = Path(__file__).parents[3]
ROWS, ROW_GROUPS = 200_000, 20
MANY_ROWS = 3_000_000
SPILLED_BYTES_MIN = 10_000_000
ALL_COLUMNS = (
    "SELECT sum(CAST(x AS DOUBLE PRECISION)) AS a, sum(CAST(y AS DOUBLE PRECISION)) AS b, max(word) AS c,"
    " max(id) AS d FROM numbers"
)
ONE_COLUMN = "SELECT sum(CAST(x AS DOUBLE PRECISION)) AS a FROM numbers"
ONE_ROW_GROUP = f"{ONE_COLUMN} WHERE id BETWEEN 51000 AND 51010"


@pytest.fixture
def numbers(settings: Settings, tmp_path: Path) -> Epoch:
    return epoch_of_numbers(settings, tmp_path / "numbers.parquet", ROWS)


def epoch_of_numbers(settings: Settings, path: Path, rows: int) -> Epoch:
    """An epoch of one table with a sorted key and three columns of random values."""
    random = np.random.default_rng(1)
    noise = [random.integers(0, 2**60, rows) for _ in range(3)]
    words = [f"{value:x}" for value in noise[2]]
    table = pa.table({"id": np.arange(rows), "x": noise[0], "y": noise[1], "word": words})
    pq.write_table(
        table, path, row_group_size=rows // ROW_GROUPS, write_page_index=True, use_dictionary=False
    )
    return epoch_of_file(settings, path, rows)


def epoch_of_file(settings: Settings, path: Path, rows: int) -> Epoch:
    epoch = newest_epoch(settings.lake)
    files = (DataFile(str(path), rows, path.stat().st_size, ""),)
    state = dataclasses.replace(epoch.tables["cities"], source="public.numbers", files=files)
    return dataclasses.replace(epoch, tables={"numbers": state})


def bytes_read() -> int:
    """Bytes that this process and its children have read from files and sockets, counted by the kernel."""
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return sum(one.io_counters().read_chars for one in processes)


def bytes_of(engine: Engine, query: str) -> int:
    before = bytes_read()
    engine.sql(query)
    return bytes_read() - before


def pruned(name: str, settings: Settings, numbers: Epoch) -> tuple[str, str]:
    if not ENGINES[name].reads.startswith("the files"):
        return "–", "–"
    size = numbers.tables["numbers"].bytes
    with open_engine(name, settings, numbers) as engine:
        shares = []
        for query in (ALL_COLUMNS, ONE_COLUMN, ONE_ROW_GROUP):
            engine.sql(query)  # the first run also reads libraries
            shares.append(min(bytes_of(engine, query) for _ in range(3)) / size)
    assert 0.9 < shares[0] < 1.3, "the kernel has counted other reads"
    return f"{shares[1]:.1f}", "yes" if shares[2] < 0.1 else "no"


def spilled(name: str, settings: Settings, folder: Path) -> str:
    """Whether the engine spills to disk when it sorts more than its memory limit."""
    if name == "postgres":  # work_mem is 4 MB per sort
        with open_engine(name, settings, None) as engine:
            backend = psutil.Process(engine.sql("SELECT pg_backend_pid() AS id")["id"][0].as_py())
            before = backend.io_counters().write_chars
            engine.sql("SELECT n, md5(n::text) AS word FROM generate_series(1, 500000) AS n ORDER BY word")
            written = backend.io_counters().write_chars - before
            return "yes" if written > SPILLED_BYTES_MIN else "no"
    epoch = epoch_of_numbers(settings, folder / "many.parquet", MANY_ROWS)
    done = sorted_with_memory_limit(name, settings, epoch, folder)
    assert (done["rows"], done["in_order"]) == (MANY_ROWS, True)
    return "yes" if done["written"] > SPILLED_BYTES_MIN else "no"


def answered(name: str, settings: Settings) -> str:
    epoch = newest_epoch(settings.lake)
    with (
        open_engine("duckdb", settings, epoch) as duckdb,
        open_engine(name, settings, epoch) as engine,
    ):
        wrong = [question.name for question in questions().values() if not accepts(duckdb, engine, question)]
    return "all" if not wrong else f"all but {', '.join(wrong)}"


def answers_from(settings: Settings, name: str) -> str:
    """A check mark if the engine reads the lake. tests/integration/olap/test_everywhere.py asks all
    questions."""
    epoch = newest_epoch(settings.lake)
    question = questions()["revenue_by_city_and_month"]
    with open_engine("duckdb", settings, epoch) as duckdb, open_engine(name, settings, epoch) as engine:
        return "✓" if accepts(duckdb, engine, question) else "–"


def in_bucket(store: Store, endpoint: str, folder: Path) -> Settings:
    settings = Settings(folder, new_bucket(endpoint, folder), dsn=store.conninfo)
    publish_snapshot(store, Lake.create(settings.lake))
    return settings


def accepts(reference: Engine, engine: Engine, question: Question) -> bool:
    """Whether the engine accepts the question. Fails the test if the answer is wrong."""
    values = question.parameters
    try:
        answer = engine.sql(question.sql, values)
    except QueryRejected:
        return False
    found = difference(reference.sql(question.sql, values), answer, ordered=question.ordered)
    assert found is None, (engine.name, question.name, found)
    return True


@pytest.mark.slow
@pytest.mark.timeout(900)  # Spark starts three JVMs
@pytest.mark.parametrize("name", EVERY_ENGINE)
def test_the_row_of_an_engine_is_correct(
    name: str, settings: Settings, seeded_store: Store, endpoint: str, numbers: Epoch, tmp_path: Path
):
    package = ENGINES[name]
    column, row_group = pruned(name, settings, numbers)
    expected = [
        f"`{name}`",
        f"{package.distribution} {pinned_version(package.distribution)}",
        package.reads,
        answers_from(settings, name),
        answers_from(in_bucket(seeded_store, endpoint, tmp_path), name),
        "child" if package.in_subprocess else "ridelake",
        column,
        row_group,
        spilled(name, settings, tmp_path),
        answered(name, settings),
        "a cluster" if name == "spark" else "–",  # tests/integration/olap/test_spark_cluster.py
    ]
    assert row_of(name) == f"| {' | '.join(expected)} |"


def test_the_table_has_a_row_for_each_engine():
    assert [name for name in ENGINES if row_of(name)] == list(ENGINES)


def row_of(name: str) -> str:
    lines = (ROOT / "docs" / "engines.md").read_text().splitlines()
    return next((line for line in lines if line.startswith(f"| `{name}` |")), "")


def pinned_version(distribution: str) -> str:
    found = re.search(rf"^{distribution}==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


NAN_IS_LESS = ("chdb",)
MAX_IGNORES_NAN = ("chdb", "polars")


@pytest.mark.parametrize("name", [one for one in EVERY_ENGINE if one.values[0] not in ("postgres", "spark")])
def test_engines_differ_in_nan_as_documented(name: str, settings: Settings, tmp_path: Path):
    page = (ROOT / "docs" / "engines.md").read_text()
    assert "chDB: a comparison with NaN is false" in page
    assert "chDB and Polars: `max` ignores NaN" in page
    path = tmp_path / "numbers.parquet"
    pq.write_table(pa.table({"f": [1.0, 700.0, float("nan")]}), path)
    with open_engine(name, settings, epoch_of_file(settings, path, 3)) as engine:
        query = "SELECT max(f) AS a, sum(CASE WHEN f > 600 THEN 1 ELSE 0 END) AS n FROM numbers"
        (row,) = engine.sql(query).to_pylist()
    assert (row["a"] == 700.0) == (name in MAX_IGNORES_NAN)
    assert row["n"] == (1 if name in NAN_IS_LESS else 2)


@pytest.mark.slow
def test_a_date_out_of_range_for_chdb_is_refused_with_its_column(settings: Settings, tmp_path: Path):
    path = tmp_path / "numbers.parquet"
    pq.write_table(pa.table({"day": pa.array([-735_160], pa.int32()).cast(pa.date32())}), path)
    with (
        open_engine("chdb", settings, epoch_of_file(settings, path, 1)) as engine,
        pytest.raises(QueryRejected, match=r"chdb: column day of numbers has a date outside of chDB's range"),
    ):
        engine.sql("SELECT min(day) AS d FROM numbers")
