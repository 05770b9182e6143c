"""One suite, every engine."""

import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from lakehouse.engines import ENGINE_NAMES, ENGINES, Engine, open_engine
from lakehouse.layout import TABLES
from ridelake.errors import NotReady, QueryRejected, UsageError

LECTURE = "SELECT AVG(Price) FROM RideTable WHERE City = 'Stanford' AND Month = 'July'"


@pytest.fixture(params=ENGINE_NAMES)
def engine(request, published) -> Iterator[Engine]:
    with open_engine(request.param, published.settings, published.epoch) as engine:
        yield engine


@pytest.fixture(scope="module")
def published(published_once):
    return published_once


def only(table: pa.Table):
    assert table.shape == (1, 1)
    return table[0][0].as_py()


def test_it_says_who_it_is(engine):
    assert engine.name in ENGINE_NAMES
    assert engine.version()[0].isdigit()


def test_every_table_is_there_by_name(engine, published):
    for table in TABLES:
        assert only(engine.sql(f"SELECT count(*) FROM {table}")) == published.epoch.tables[table].rows


def test_the_lectures_question_is_answered_alike(engine, published):
    answer = only(engine.sql(LECTURE))
    with open_engine("postgres", published.settings, None) as rows:
        assert float(answer) == pytest.approx(float(only(rows.sql(LECTURE))), abs=1e-9)
    assert answer > 0


def test_ride_table_has_the_lectures_columns_and_exact_prices(engine, published):
    answer = engine.sql("SELECT * FROM RideTable")
    assert [name.lower() for name in answer.column_names] == [
        "rideid", "username", "driverid", "city", "month", "price",
    ]  # fmt: skip
    assert isinstance(answer[5][0].as_py(), Decimal)
    cents = "SELECT sum(fare_cents) AS cents FROM rides WHERE status = 'completed'"
    assert sum(answer[5].to_pylist()) * 100 == int(only(engine.sql(cents)))


def test_awkward_names_are_found(engine):
    assert only(engine.sql("SELECT rider_id FROM riders WHERE username LIKE 'Zoë%🚕'")) == 1
    assert only(engine.sql("SELECT rider_id FROM riders WHERE username = 'NULL'")) == 3


def test_a_ride_is_found_by_its_uuid(engine):
    key = only(engine.sql("SELECT request_id FROM rides ORDER BY ride_id LIMIT 1"))
    assert len(key) == 36
    assert only(engine.sql(f"SELECT count(*) FROM rides WHERE request_id = '{key}'")) == 1


def test_times_are_utc_microseconds(engine):
    answer = engine.sql("SELECT requested_at, requested_local FROM rides LIMIT 5")
    assert [field.type for field in answer.schema] == [pa.timestamp("us", "UTC"), pa.timestamp("us")]


def test_an_empty_answer_keeps_its_columns(engine):
    answer = engine.sql("SELECT ride_id, fare_cents FROM rides WHERE ride_id < 0")
    assert answer.num_rows == 0
    assert answer.column_names == ["ride_id", "fare_cents"]


@pytest.mark.parametrize(
    "query", ["SELEKT 1", "SELECT nothing FROM rides", "SELECT * FROM nowhere", "", "SELECT 1; SELECT 2"]
)
def test_broken_sql_is_rejected_in_the_engines_words(engine, query):
    with pytest.raises(QueryRejected) as caught:
        engine.sql(query)
    assert str(caught.value).startswith(f"{engine.name}: ")
    for word in ("nothing", "nowhere"):
        assert (word in query) <= (word in str(caught.value))
    assert only(engine.sql("SELECT count(*) FROM rides")) == 2000  # and it goes on


WRITES = [
    "INSERT INTO cities VALUES (9, 'Rome', 'Europe/Rome')",
    "UPDATE rides SET fare_cents = 1",
    "DELETE FROM rides",
    "DROP TABLE rides",
    "TRUNCATE TABLE rides",
    "CREATE TABLE mine AS SELECT 1 AS x",
    "COPY rides TO '{out}'",
    "COPY (SELECT 1 AS x) TO '{out}'",
    "COPY (SELECT 1 AS ride_id) TO '{pinned}' (FORMAT parquet, USE_TMP_FILE false)",
    "EXPLAIN ANALYZE COPY (SELECT 1 AS ride_id) TO '{pinned}' (FORMAT parquet, USE_TMP_FILE false)",
    "WITH x AS (COPY (SELECT 1 AS r) TO '{pinned}' (FORMAT parquet, USE_TMP_FILE false)) SELECT * FROM x",
    "/* é */ WITH x AS (cOpY (SELECT 1 AS r) TO '{pinned}' (USE_TMP_FILE false)) SELECT * FROM x",
    "EXPLAIN ANALYZE WITH x AS (COPY (SELECT 1 AS r) TO '{pinned}' (USE_TMP_FILE false)) SELECT * FROM x",
    "EXPLAIN ( /* ) SELECT 1 -- */ ANALYZE) WITH x AS (COPY cities TO '{pinned}' (USE_TMP_FILE 0)) FROM x",
    "ATTACH '{out}'",
    "EXPORT DATABASE '{out}'",
    "SELECT lo_export(1, '{out}')",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT pg_ls_dir('/')",
    "COPY rides FROM PROGRAM 'true'",
    "SELECT * FROM read_csv('/etc/passwd')",
    "WITH x AS (SELECT * FROM \"read_csv\" ('/etc/passwd')) SELECT * FROM x",
    "SELECT * FROM /* */ read_csv /* */ ('/etc/passwd')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_parquet('{other}')",
    "SELECT * FROM '{other}'",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM glob('/etc/*')",
    "SET enable_external_access = true",
    "SELECT * FROM query",
]


@pytest.mark.parametrize("query", WRITES)
def test_nothing_is_written_and_nothing_outside_is_read(engine, published, tmp_path: Path, query: str):
    out, other = tmp_path / "out", tmp_path / "other.parquet"
    pinned = published.epoch.tables["cities"].files[0]
    other.write_bytes(pinned.read_bytes())
    text = query.format(out=out, other=other, pinned=str(pinned).replace("'", "''"))
    with pytest.raises(QueryRejected):
        engine.sql(text)
    assert not out.exists()
    assert pinned.read_bytes() == other.read_bytes()
    assert only(engine.sql("SELECT count(*) FROM cities")) == published.epoch.tables["cities"].rows
    assert only(engine.sql("SELECT count(*) FROM rides WHERE fare_cents > 1")) == 2000


def test_a_query_can_be_explained(engine):
    assert engine.sql("EXPLAIN SELECT count(*) FROM rides").num_rows > 0


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=pytest.mark.skipif(n == "polars", reason="Polars cannot be stopped"))
        for n in ENGINE_NAMES
    ],
)
def test_a_running_query_can_be_interrupted(name, published):
    with open_engine(name, published.settings, published.epoch) as engine:
        timer = threading.Timer(0.5, engine.interrupt)
        timer.start()
        with pytest.raises(QueryRejected):
            engine.sql(
                "SELECT count(*) FROM rides a, rides b, rides c, rides d"
                " WHERE a.fare_cents * b.fare_cents % 7 + c.fare_cents * d.fare_cents % 11 = 3"
            )
        timer.join()
        assert only(engine.sql("SELECT count(*) FROM rides")) == 2000


def test_polars_gives_its_frames(published):
    with open_engine("polars", published.settings, published.epoch) as engine:
        assert set(engine.frames) == {*TABLES, "RideTable"}
        assert len(engine.frames["rides"].collect()) == 2000


def test_postgres_numerics_are_exact_or_refused(published):
    with open_engine("postgres", published.settings, None) as engine:
        answer = engine.sql(
            "SELECT 1.10::numeric(10, 2), 1e30::numeric + 0.000000001, NULL::numeric, 'x'::name"
        )
        assert [str(field.type) for field in answer.schema] == [
            "decimal128(10, 2)", "decimal256(76, 9)", "decimal128(38, 0)", "string",
        ]  # fmt: skip
        assert answer[1][0].as_py() == Decimal("1000000000000000000000000000000.000000001")
        for query, said in (
            ("SELECT 'NaN'::numeric", "NaN"),
            ("SELECT interval '1 day' AS gap", "gap is of type interval"),
        ):
            with pytest.raises(QueryRejected, match=said):
                engine.sql(query)


def test_postgres_keeps_the_caret_of_the_server(published):
    with open_engine("postgres", published.settings, None) as engine, pytest.raises(QueryRejected) as caught:
        engine.sql("SELECT nothing FROM rides")
    assert "LINE 1: SELECT nothing FROM rides\n               ^" in str(caught.value)


def test_postgres_needs_no_epoch_and_the_others_no_postgres(published):
    with open_engine("postgres", published.settings, None) as engine:
        assert only(engine.sql("SELECT 1")) == 1
    settings = type(published.settings)(
        home=published.settings.home, lake=published.settings.lake, dsn="host=/nowhere"
    )
    for name in ("duckdb", "polars"):
        with open_engine(name, settings, published.epoch) as engine:
            assert only(engine.sql("SELECT count(*) FROM rides")) == 2000
        with pytest.raises(NotReady, match="run `ridelake snapshot`"), open_engine(name, settings, None):
            pass


def test_an_unknown_engine_is_told_the_known_ones(published):
    with pytest.raises(UsageError, match="no engine oracle: choose one of postgres, duckdb, polars"):
        with open_engine("oracle", published.settings, published.epoch):
            pass


def test_every_engine_is_on_the_list():
    assert all(package.version() for package in ENGINES.values())
    assert ENGINES["duckdb"].install == "pip install duckdb"
