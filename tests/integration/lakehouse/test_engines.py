"""Tests that run on every engine."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from bare_database import run
from installed_engines import EVERY_ENGINE

from lakehouse.capture.publish import publish_snapshot
from lakehouse.engines import ENGINE_NAMES, ENGINES, Engine, open_engine
from lakehouse.table.catalog import Lake
from lakehouse.table.layout import STORE_TABLES
from lakehouse.table.published import newest_epoch
from oltp.store import Store
from ridelake.errors import NotReady, QueryRejected, UsageError
from ridelake.settings import Settings

# SQL does not depend on the place of the lake, so these tests only use a folder.
IN_A_FOLDER = pytest.mark.parametrize("published_in_each_place", ["folder"], indirect=True, scope="module")
TEXTBOOK_QUERY = "SELECT AVG(Price) FROM RideTable WHERE City = 'Stanford' AND Month = 'July'"


@pytest.fixture(scope="module", params=EVERY_ENGINE)
def engine(request, published) -> Iterator[Engine]:
    with open_engine(request.param, published.settings, published.epoch) as engine:
        yield engine


@pytest.fixture(scope="module")
def published(published_in_each_place):
    return published_in_each_place


def only(table: pa.Table):
    assert table.shape == (1, 1)
    return table[0][0].as_py()


@IN_A_FOLDER
def test_an_engine_has_a_known_name_and_a_version(engine):
    assert engine.name in ENGINE_NAMES
    assert engine.version()[0].isdigit()


def test_every_table_can_be_queried_by_name(engine, published):
    for table in STORE_TABLES:
        assert only(engine.sql(f"SELECT count(*) FROM {table}")) == published.epoch.tables[table].rows


def test_the_textbook_query_has_the_same_answer(engine, published):
    answer = only(engine.sql(TEXTBOOK_QUERY))
    with open_engine("postgres", published.settings, None) as rows:
        assert float(answer) == pytest.approx(float(only(rows.sql(TEXTBOOK_QUERY))), abs=1e-9)
    assert answer > 0


def test_ride_table_has_the_textbook_columns_and_exact_prices(engine, published):
    answer = engine.sql("SELECT * FROM RideTable")
    assert [name.lower() for name in answer.column_names] == [
        "rideid", "username", "driverid", "city", "month", "price",
    ]  # fmt: skip
    assert isinstance(answer[5][0].as_py(), Decimal)
    cents = "SELECT sum(fare_cents) AS cents FROM rides WHERE status = 'completed'"
    assert sum(answer[5].to_pylist()) * 100 == int(only(engine.sql(cents)))


def test_names_with_special_characters_are_found(engine):
    assert only(engine.sql("SELECT rider_id FROM riders WHERE username LIKE 'Zoë%🚕'")) == 1
    assert only(engine.sql("SELECT rider_id FROM riders WHERE username = 'NULL'")) == 3


def test_a_ride_is_found_by_its_uuid(engine):
    key = only(engine.sql("SELECT request_id FROM rides ORDER BY ride_id LIMIT 1"))
    assert len(key) == 36
    assert only(engine.sql(f"SELECT count(*) FROM rides WHERE request_id = '{key}'")) == 1


def test_times_are_utc_microseconds(engine):
    answer = engine.sql("SELECT requested_at, requested_local FROM rides LIMIT 5")
    assert [field.type for field in answer.schema] == [pa.timestamp("us", "UTC"), pa.timestamp("us")]


@IN_A_FOLDER
def test_an_empty_result_keeps_its_columns(engine):
    answer = engine.sql("SELECT ride_id, fare_cents FROM rides WHERE ride_id < 0")
    assert answer.num_rows == 0
    assert answer.column_names == ["ride_id", "fare_cents"]


@IN_A_FOLDER
@pytest.mark.parametrize(
    "query", ["SELEKT 1", "SELECT nothing FROM rides", "SELECT * FROM nowhere", "", "SELECT 1; SELECT 2"]
)
def test_invalid_sql_is_rejected_with_the_engines_message(engine, query):
    with pytest.raises(QueryRejected) as caught:
        engine.sql(query)
    assert str(caught.value).startswith(f"{engine.name}: ")
    for word in ("nothing", "nowhere"):
        assert (word in query) <= (word in str(caught.value))
    assert only(engine.sql("SELECT count(*) FROM rides")) == 2000  # the engine can still be used


@IN_A_FOLDER
def test_a_query_can_be_explained(engine):
    assert engine.sql("EXPLAIN SELECT count(*) FROM rides").num_rows > 0


@IN_A_FOLDER
@pytest.mark.parametrize("name", EVERY_ENGINE)
def test_a_running_query_can_be_interrupted(name, published):
    with open_engine(name, published.settings, published.epoch) as engine:
        interrupted_at: list[float] = []

        def interrupt() -> None:
            interrupted_at.append(time.monotonic())
            engine.interrupt()

        timer = threading.Timer(1.0, interrupt)
        timer.start()
        with pytest.raises(QueryRejected):
            engine.sql(
                "SELECT count(*) FROM rides a, rides b, rides c, rides d"
                " WHERE a.fare_cents * b.fare_cents % 7 + c.fare_cents * d.fare_cents % 11 = 3"
            )
        assert time.monotonic() - interrupted_at[0] < 7
        timer.join()
        assert only(engine.sql("SELECT count(*) FROM rides")) == 2000


def rows_by_table(frames):
    counts = [frame.select(pl.lit(name).alias("name"), pl.len()) for name, frame in frames.items()]
    return pl.concat(counts)


@pytest.mark.slow
@IN_A_FOLDER
def test_polars_executes_questions_on_frames(published):
    with open_engine("polars", published.settings, published.epoch) as engine:
        found = engine.call("answer", rows_by_table).to_pylist()
    rows = {row["name"]: row["len"] for row in found}
    assert set(rows) == {*STORE_TABLES, "RideTable"}
    assert rows["rides"] == 2000
    assert rows["RideTable"] == 1895  # only completed rides


@IN_A_FOLDER
def test_postgres_numerics_are_exact_or_refused(published):
    with open_engine("postgres", published.settings, None) as engine:
        answer = engine.sql(
            "SELECT 1.10::numeric(10, 2), 1e30::numeric + 0.000000001, NULL::numeric, 'x'::name"
        )
        assert [str(field.type) for field in answer.schema] == [
            "decimal128(10, 2)", "decimal256(76, 9)", "decimal128(38, 0)", "string",
        ]  # fmt: skip
        assert answer[1][0].as_py() == Decimal("1000000000000000000000000000000.000000001")
        with pytest.raises(QueryRejected, match="NaN"):
            engine.sql("SELECT 'NaN'::numeric")
        assert only(engine.sql("SELECT interval '1 day' AS gap")) == "1 day"


@IN_A_FOLDER
def test_postgres_keeps_the_caret_of_the_server(published):
    with open_engine("postgres", published.settings, None) as engine, pytest.raises(QueryRejected) as caught:
        engine.sql("SELECT nothing FROM rides")
    assert "LINE 1: SELECT nothing FROM rides\n               ^" in str(caught.value)


@IN_A_FOLDER
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


@IN_A_FOLDER
def test_the_error_for_an_unknown_engine_lists_the_known_ones(published):
    with pytest.raises(UsageError, match="no engine oracle: choose one of postgres, duckdb, polars, pyarrow"):
        with open_engine("oracle", published.settings, published.epoch):
            pass


def test_every_engine_has_a_version_and_an_install_command():
    assert all(package.version() for package in ENGINES.values())
    assert ENGINES["duckdb"].install == "pip install duckdb"


NOON = datetime(2026, 7, 1, 12, 0, 0, 250_000, tzinfo=UTC)
VALUES = [
    ("CAST($a AS BIGINT) + 1", 41, 42),
    ("CAST($a AS BIGINT)", -(2**62), -(2**62)),
    ("$a > 0.29999999 AND $a < 0.30000001", 0.3, True),
    ("CAST($a AS DOUBLE PRECISION)", -1e-300, -1e-300),
    ("CAST($a AS VARCHAR) = 'it''s -- \"x\" $b \\ 🚕'", 'it\'s -- "x" $b \\ 🚕', True),
    ("CAST($a AS VARCHAR)", "C:\\new\\\\x\ta\nb\r", "C:\\new\\\\x\ta\nb\r"),
    ("CASE WHEN $a THEN 1 ELSE 2 END", False, 2),
    ("CAST($a AS DECIMAL(12, 2))", Decimal("-12345678.91"), Decimal("-12345678.91")),
    ("COALESCE(CAST($a AS BIGINT), 7)", None, 7),
    ("CAST($a AS DATE)", date(2024, 2, 29), date(2024, 2, 29)),
    ("CAST($a AS TIMESTAMP)", datetime(1969, 12, 31, 23, 59, 59, 1), datetime(1969, 12, 31, 23, 59, 59, 1)),
    ("CAST($a AS TIMESTAMP WITH TIME ZONE)", NOON.astimezone(timezone(timedelta(hours=-7))), NOON),
]


@IN_A_FOLDER
@pytest.mark.parametrize(("expression", "value", "expected"), VALUES)
def test_a_parameter_keeps_its_value_and_type(engine, expression, value, expected):
    answer = engine.sql(
        f"SELECT {expression} AS x, '$a' AS y FROM cities WHERE city_id = 1 -- $b", {"a": value}
    )
    assert answer["y"].to_pylist() == ["$a"]
    assert answer["x"].to_pylist() == [expected]


@IN_A_FOLDER
def test_a_parameter_selects_rows_and_may_be_used_twice(engine):
    query = "SELECT count(*) FROM riders WHERE rider_id = $n OR rider_id = $n + 1 OR username = $none"
    assert only(engine.sql(query, {"n": 5, "none": "no' OR '1'='1"})) == 2


@IN_A_FOLDER
def test_parameters_and_values_must_match(engine):
    with pytest.raises(UsageError, match=r"parameter \$b of the query has no value: pass it with -p b=VALUE"):
        engine.sql("SELECT $a, $b", {"a": 1})
    with pytest.raises(UsageError, match=r"has no parameter \$b \(it has \$a\): remove -p b"):
        engine.sql("SELECT $a", {"a": 1, "b": 2})
    with pytest.raises(UsageError, match="it has no parameters"):
        engine.sql("SELECT '$b'", {"b": 2})


@IN_A_FOLDER
def test_order_by_with_a_window_function_is_kept_or_refused(engine):
    """Daft alone would lose the order, without an error."""
    numbered = "SELECT ride_id, ROW_NUMBER() OVER (PARTITION BY city_id ORDER BY ride_id) AS n FROM rides"
    if engine.name != "daft":
        answer = engine.sql(f"{numbered} ORDER BY ride_id DESC LIMIT 3")
    else:
        with pytest.raises(QueryRejected, match="compute the window in a WITH"):
            engine.sql(f"{numbered} ORDER BY ride_id DESC LIMIT 3")
        answer = engine.sql(f"WITH x AS ({numbered}) SELECT ride_id, n FROM x ORDER BY ride_id DESC LIMIT 3")
    newest = only(engine.sql("SELECT max(ride_id) FROM rides"))
    assert answer["ride_id"].to_pylist() == [newest, newest - 1, newest - 2]


@IN_A_FOLDER
def test_a_result_column_has_an_unqualified_name(engine):
    query = (
        "WITH x AS (SELECT rides.ride_id, rides.city_id, cities.name FROM rides"
        " LEFT JOIN cities ON cities.city_id = rides.city_id)"
        " SELECT x.city_id, ride_id FROM x WHERE ride_id = 1"
    )
    assert engine.sql(query).column_names == ["city_id", "ride_id"]


@IN_A_FOLDER
def test_a_group_without_rows_is_null_or_zero_as_in_sql(engine):
    query = "SELECT count(*) AS n, sum(fare_cents) AS s, max(status) AS m FROM rides WHERE ride_id < 0"
    assert engine.sql(query).to_pylist() == [{"n": 0, "s": None, "m": None}]
    joined = (
        "SELECT cities.city_id AS c, r.ride_id AS r FROM cities"
        " LEFT JOIN (SELECT * FROM rides WHERE ride_id < 0) AS r ON r.city_id = cities.city_id"
        " ORDER BY 1 LIMIT 1"
    )
    assert engine.sql(joined)["r"].to_pylist() == [None]


def test_decimals_stay_exact(engine):
    answer = engine.sql("SELECT sum(Price) AS total, max(Price) AS dearest FROM RideTable")
    cents = engine.sql(
        "SELECT sum(fare_cents) AS total, max(fare_cents) AS dearest FROM rides WHERE status = 'completed'"
    )
    for name in ("total", "dearest"):
        assert pa.types.is_decimal(answer[name].type)
        assert answer[name][0].as_py() * 100 == int(cents[name][0].as_py())


UNKNOWN = "started_at >= assigned_at"  # NULL for a ride that was cancelled before its start
NEITHER = [
    (f"SUM(CASE WHEN {UNKNOWN} THEN 0 ELSE 1 END)", "started_at IS NULL"),
    (f"SUM(CASE WHEN NOT ({UNKNOWN}) THEN 0 ELSE 1 END)", "1 = 1"),
    (f"SUM(CASE WHEN {UNKNOWN} THEN 1 WHEN started_at IS NULL THEN 1 END)", "1 = 1"),
    (f"COUNT(*) FILTER (WHERE NOT ({UNKNOWN}))", "1 = 0"),
    (f"SUM(CASE WHEN {UNKNOWN} OR ride_id > 0 THEN 1 ELSE 0 END)", "1 = 1"),
    (f"SUM(CASE WHEN {UNKNOWN} AND ride_id > 0 THEN 0 ELSE 1 END)", "started_at IS NULL"),
    (f"COUNT({UNKNOWN})", "started_at IS NOT NULL"),
    ("SUM(CASE WHEN started_at <> assigned_at THEN 1 ELSE 0 END)", "started_at <> assigned_at"),
]


@IN_A_FOLDER
@pytest.mark.parametrize(("expression", "where"), NEITHER)
def test_a_null_condition_follows_the_sql_standard(engine, expression, where):
    """Daft alone would return NULL for the whole CASE, without an error."""
    answer = only(engine.sql(f"SELECT CAST({expression} AS BIGINT) AS n FROM rides"))
    assert answer == only(engine.sql(f"SELECT COUNT(*) AS n FROM rides WHERE {where}"))
    assert only(engine.sql(f"SELECT COUNT(*) AS n FROM rides WHERE NOT ({UNKNOWN})")) == 0


# For a lake of user tables, the engine `postgres` returns the same answers as DuckDB.


def opened_on_newest(stack: ExitStack, store: Store, lake: Lake, name: str) -> Engine:
    settings = Settings(home=Path("unused"), lake=lake.address, dsn=store.conninfo)
    return stack.enter_context(open_engine(name, settings, newest_epoch(lake.address)))


def test_years_before_1_and_after_9999_are_exact_and_infinity_is_refused(bare: Store, lake: Lake):
    run(
        bare,
        "CREATE TABLE old (id int PRIMARY KEY, d date, t timestamp, z timestamptz)",
        """INSERT INTO old VALUES
            (1, '0044-03-15 BC', '4713-01-01 00:00:00 BC', '0001-12-31 23:59:59.999999+00 BC'),
            (2, '9999-12-31', '9999-12-31 23:59:59.999999', '9999-12-31 23:59:59.999999+00'),
            (3, '10000-01-01', '294246-01-01', '294246-12-31 01:02:03.000004+00')""",
        "INSERT INTO old VALUES (4)",
    )
    publish_snapshot(bare, lake, tables=["old"], verify=True)
    with ExitStack() as stack:
        postgres, duckdb = (opened_on_newest(stack, bare, lake, name) for name in ("postgres", "duckdb"))
        query = "SELECT id, d, t, z FROM old ORDER BY id"
        assert postgres.sql(query).cast(duckdb.sql(query).schema).equals(duckdb.sql(query))
        assert postgres.sql("SELECT min(d) AS d FROM old").column(0).cast("int32").to_pylist() == [-735_160]
        for value in ("date 'infinity'", "timestamp '-infinity'", "date '-infinity'"):
            with pytest.raises(QueryRejected, match="infinite or outside of Arrow's range"):
                postgres.sql(f"SELECT {value}")
        with pytest.raises(QueryRejected, match="cast it to text"):
            postgres.sql("SELECT 'NaN'::numeric(5, 2)")


@pytest.mark.parametrize("other", ["apple", "public"])
def test_a_table_of_the_same_name_in_another_schema_is_not_read(bare: Store, lake: Lake, other: str):
    run(bare, "CREATE SCHEMA shop", f"CREATE SCHEMA IF NOT EXISTS {other}")
    for schema, number in (("shop", 1), (other, 2)):
        run(
            bare, f"CREATE TABLE {schema}.t (id int PRIMARY KEY)", f"INSERT INTO {schema}.t VALUES ({number})"
        )
        run(bare, f"CREATE TABLE {schema}.only_{schema} (id int PRIMARY KEY)")
    publish_snapshot(bare, lake, tables=["shop.t", f"{other}.only_{other}"])
    with ExitStack() as stack:
        assert opened_on_newest(stack, bare, lake, "postgres").sql("SELECT id FROM t").to_pylist() == [
            {"id": 1}
        ]
