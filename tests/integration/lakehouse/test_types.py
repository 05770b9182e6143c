"""Types are identified by oid or qualified name."""

from datetime import time
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
from bare_database import rows_of, run
from installed_engines import EVERY_ENGINE
from own_tables import asked

from lakehouse.capture.publish import publish_changes, publish_snapshot
from lakehouse.engines import open_engine
from lakehouse.source.tracking import track
from lakehouse.table.catalog import Lake
from lakehouse.table.published import newest_epoch
from lakehouse.verify import verify_now
from oltp.store import Store
from ridelake.settings import Settings

BUILT_IN = [
    "bool",
    "int2",
    "int8",
    "float4",
    "text",
    "name",
    "uuid",
    "bytea",
    "date",
    "timestamptz",
    "numeric",
]


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("AS (first text, last text)", '(a,"b c")', '(a,"b c")'),
        ("AS RANGE (subtype = float8)", "[1,2)", "[1,2)"),
    ],
)
def test_a_type_with_the_name_of_a_built_in_one_is_text(
    bare: Store, lake: Lake, kind: str, value: str, text: str
):
    run(bare, "CREATE SCHEMA shop", *(f'CREATE TYPE shop."{name}" {kind}' for name in BUILT_IN))
    columns = ", ".join(f'{name}_ shop."{name}"' for name in BUILT_IN)
    run(bare, f"CREATE TABLE shop.person (id int PRIMARY KEY, {columns})")
    run(bare, f"INSERT INTO shop.person VALUES (1, {', '.join([f'$${value}$$'] * len(BUILT_IN))})")
    publish_changes(bare, lake, tables=["shop.person"], verify=True)
    (row,) = asked(lake, "SELECT * EXCLUDE id FROM person")
    assert set(row.values()) == {text}


def test_an_enum_or_a_domain_can_have_the_name_of_a_built_in_type(bare: Store, lake: Lake):
    run(
        bare,
        "CREATE SCHEMA shop",
        *(f"""CREATE TYPE shop."{name}" AS ENUM ('z', 'a')""" for name in BUILT_IN),
        "CREATE DOMAIN shop.money AS numeric(10, 2)",
        "CREATE DOMAIN shop.int4 AS shop.money CHECK (VALUE > 0)",
        "CREATE DOMAIN shop.letter AS shop.uuid",
        f"""CREATE TABLE shop.t (id int PRIMARY KEY, price shop.int4, letter shop.letter,
            {", ".join(f'{name}_ shop."{name}"' for name in BUILT_IN)})""",
        f"INSERT INTO shop.t VALUES (1, 12.34, 'z', {', '.join(['$$a$$'] * len(BUILT_IN))})",
        "INSERT INTO shop.t VALUES (2)",
    )
    publish_changes(bare, lake, tables=["shop.t"], verify=True)
    first, second = asked(lake, "FROM t ORDER BY id")
    assert str(first["price"]) == "12.34"
    assert [value for name, value in first.items() if name.endswith("_")] == ["a"] * len(BUILT_IN)
    assert first["letter"] == "z"
    assert set(second.values()) == {2, None}


# The type, keys, and another text of a value that equals the first key.
EQUAL_KEYS = {
    "numeric": (["1.0", "2", "NaN"], "1.00"),
    "jsonb": (['{"a": 1.0}', "[]", "null"], '{"a": 1.00}'),
    "interval": (["1 mon", "1 day", "-1 year"], "30 days"),
    "char(3)": (["a", "b", "c"], "a  "),
    "varbit": (["1", "01", ""], None),
    "inet": (["10.0.0.1", "10.0.0.1/8", "::1"], None),
    "timetz": (["24:00:00+00", "00:00:00-15", "12:00:00+05:30"], None),
    "tstzrange": (["[2025-01-01 00:00+02,2025-01-02)", "empty", "(,)"], "[2024-12-31 17:00-05,2025-01-02)"),
    "int[]": (["{1,NULL}", "[5:6]={1,2}", "{{1},{2}}"], None),
    "interval[]": (["{1 mon}", "{}", '{NULL,"1 day"}'], "{30 days}"),
    "bytea[]": ([r'{"\\x00ff"}', "{}", r'{"\\x"}'], None),
    "shop.pair": (["(1,)", '(1,"")', "(,)"], None),
    "shop.moods": (["{sad}", '{glad,"a b"}', "{NULL}"], None),
}


@pytest.mark.parametrize("type_", EQUAL_KEYS)
def test_a_key_of_any_type_is_followed(bare: Store, lake: Lake, type_: str):
    """The session that changes the rows has other settings than ridelake."""
    keys, other = EQUAL_KEYS[type_]
    run(
        bare,
        "CREATE SCHEMA shop",
        "CREATE TYPE shop.pair AS (a int, b text)",
        "CREATE TYPE shop.mood AS ENUM ('sad', 'glad', 'a b')",
        "CREATE DOMAIN shop.moods AS shop.mood[]",
        f"CREATE TABLE shop.t (k {type_}, n int, v int, PRIMARY KEY (k, n))",
    )
    track(bare, "shop.t")
    run(bare, *(f"INSERT INTO shop.t SELECT $${key}$$, n, 0 FROM generate_series(1, 2) AS n" for key in keys))
    first = publish_snapshot(bare, lake, tables=["shop.t"], verify=True)
    with psycopg.connect(bare.conninfo, autocommit=True, options="") as session:
        for setting in ("TimeZone = 'America/New_York'", "DateStyle = 'SQL, DMY'",
                        "IntervalStyle = 'iso_8601'", "bytea_output = 'escape'"):  # fmt: skip
            session.execute(f"SET {setting}".encode())
        session.execute(f"UPDATE shop.t SET v = 1 WHERE k = $${keys[1]}$$::{type_} AND n = 1".encode())
        session.execute(f"DELETE FROM shop.t WHERE k = $${keys[1]}$$::{type_} AND n = 2".encode())
        session.execute(f"UPDATE shop.t SET n = 7 WHERE k = $${keys[2]}$$::{type_} AND n = 1".encode())
        if other is not None:
            session.execute(
                f"UPDATE shop.t SET k = $${other}$$ WHERE n = 1 AND k = $${keys[0]}$$::{type_}".encode()
            )
    assert verify_now(bare, lake).as_dict()["equal"]
    second = publish_changes(bare, lake, verify=True).epoch
    assert (first.rows, second.rows) == (6, 5)
    assert second.tables["t"].changed < second.rows
    found = [one["k"] for one in asked(lake, "SELECT k FROM t")]
    assert sorted(found) == sorted(text for (text,) in rows_of(bare, "SELECT format('%s', k) FROM shop.t"))


@pytest.mark.slow
@pytest.mark.parametrize(("type_", "keys"), [("money", (1, 2)), ("regclass", ("pg_class", "pg_type"))])
def test_a_table_whose_deleted_keys_cannot_be_recorded_is_copied_completely(
    bare: Store, lake: Lake, type_: str, keys: tuple
):
    """The text of these keys depends on the settings of the session that deletes the row."""
    run(bare, f"CREATE TABLE t (k {type_} PRIMARY KEY, v int)")
    run(bare, *(f"INSERT INTO t VALUES ('{key}', 1)" for key in keys))
    track(bare, "t")
    publish_snapshot(bare, lake, tables=["t"], verify=True)
    run(bare, f"DELETE FROM t WHERE k = '{keys[0]}'::{type_}")
    epoch = publish_changes(bare, lake, verify=True).epoch
    assert (epoch.rows, epoch.tables["t"].changed) == (1, 1)


def test_a_change_of_a_type_copies_its_columns_again(bare: Store, lake: Lake):
    run(
        bare,
        "CREATE TYPE mood AS ENUM ('sad', 'glad')",
        "CREATE TYPE pair AS (a int, m mood)",
        "CREATE DOMAIN pairs AS pair[]",
        "CREATE TABLE t (id int PRIMARY KEY, v pairs)",
        """INSERT INTO t VALUES (1, '{"(1,sad)"}'), (2, '{}')""",
    )
    track(bare, "t")
    publish_snapshot(bare, lake, tables=["t"], verify=True)
    assert not publish_changes(bare, lake).is_new
    run(bare, "ALTER TYPE mood RENAME VALUE 'sad' TO 'low'")
    publish_changes(bare, lake, verify=True)
    run(bare, "ALTER TYPE pair ADD ATTRIBUTE c text")
    publish_changes(bare, lake, verify=True)
    assert asked(lake, "SELECT v FROM t ORDER BY id") == [{"v": '{"(1,low,)"}'}, {"v": "{}"}]


def test_a_renamed_table_does_not_change_a_column_with_its_name(bare: Store, lake: Lake):
    run(bare, "CREATE TABLE named (id int)", "CREATE TABLE t (id int PRIMARY KEY, r regclass, rs regclass[])")
    run(bare, "INSERT INTO t VALUES (1, 'named', '{named}')")
    track(bare, "t")
    publish_snapshot(bare, lake, tables=["t"], verify=True)
    ((oid,),) = rows_of(bare, "SELECT 'named'::regclass::oid::bigint")
    run(bare, "ALTER TABLE named RENAME TO renamed")
    verify_now(bare, lake).prove()
    assert asked(lake, "SELECT r, rs FROM t") == [{"r": oid, "rs": f"{{{oid}}}"}]


def test_text_is_the_output_of_the_type_and_not_a_cast(bare: Store, lake: Lake):
    run(
        bare,
        "CREATE TYPE pair AS (a int, b int)",
        "CREATE FUNCTION lossy(pair) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'lost' $$",
        "CREATE CAST (pair AS text) WITH FUNCTION lossy(pair)",
        """CREATE TABLE t (id int PRIMARY KEY, v pair, "{}%s" pair)""",
        "INSERT INTO t VALUES (1, '(1,2)', '(,)'), (2, NULL, NULL)",
    )
    publish_snapshot(bare, lake, tables=["t"], verify=True)
    expected = [{"v": "(1,2)", "{}%s": "(,)"}, {"v": None, "{}%s": None}]
    query = 'SELECT v, "{}%s" FROM t ORDER BY id'
    assert asked(lake, query) == expected
    settings = Settings(home=Path("unused"), lake=lake.address, dsn=bare.conninfo)
    with open_engine("postgres", settings, newest_epoch(lake.address)) as engine:
        assert engine.sql(query).to_pylist() == expected


@pytest.mark.parametrize("engine", EVERY_ENGINE)
def test_every_engine_reads_columns_of_other_types(bare: Store, lake: Lake, engine: str):
    run(
        bare,
        "CREATE TABLE t (id int PRIMARY KEY, j jsonb, a int[], i interval, h time, m money, o oid, n inet)",
    )
    run(
        bare,
        """INSERT INTO t VALUES (1, '{"a": 1.10}', '{1,NULL}', '1 mon', '12:34:56.789', 1.5, 7, '::1')""",
    )
    run(bare, "INSERT INTO t VALUES (2)")
    publish_snapshot(bare, lake, tables=["t"], verify=True)
    settings = Settings(home=Path("unused"), lake=lake.address, dsn=bare.conninfo)
    epoch = newest_epoch(lake.address)
    expected = {
        "j": '{"a": 1.10}', "a": "{1,NULL}", "i": "1 mon", "h": time(12, 34, 56, 789_000),
        "m": Decimal("1.50"), "o": 7, "n": "::1",
    }  # fmt: skip
    with open_engine(engine, settings, epoch) as opened:
        found = opened.sql("SELECT j, a, i, h, m, o, n FROM t ORDER BY id").to_pylist()
    assert found == [expected, dict.fromkeys(expected)]
