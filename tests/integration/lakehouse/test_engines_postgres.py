"""With a lake of a user's tables, the `postgres` engine returns the same answers as DuckDB."""

from contextlib import ExitStack
from pathlib import Path

import pytest
from bare_database import run

from lakehouse.capture.publish import publish_snapshot
from lakehouse.engines import Engine, open_engine
from lakehouse.table.catalog import Lake
from lakehouse.table.published import newest_epoch
from oltp.store import Store
from ridelake.errors import QueryRejected
from ridelake.settings import Settings


def opened(stack: ExitStack, store: Store, lake: Lake, name: str) -> Engine:
    settings = Settings(home=Path("unused"), lake=lake.address, dsn=store.conninfo)
    return stack.enter_context(open_engine(name, settings, newest_epoch(lake.address)))


def test_years_before_1_and_after_9999(bare: Store, lake: Lake):
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
        postgres, duckdb = (opened(stack, bare, lake, name) for name in ("postgres", "duckdb"))
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
        assert opened(stack, bare, lake, "postgres").sql("SELECT id FROM t").to_pylist() == [{"id": 1}]
