"""The forms that a user chooses: `--numeric` and `--nested`."""

import re
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from bare_database import run
from click.testing import CliRunner
from iceberg_readers import with_polars, with_pyiceberg
from installed_engines import EVERY_ENGINE
from own_tables import asked

from lakehouse.capture.maintain import maintain
from lakehouse.capture.overlay import open_overlay
from lakehouse.capture.publish import publish_changes, publish_snapshot
from lakehouse.engines import open_engine
from lakehouse.source.tracking import track
from lakehouse.table.catalog import Lake
from lakehouse.table.epoch import ValueForms
from lakehouse.table.published import newest_epoch
from lakehouse.verify import verify_now
from oltp.store import Store
from ridelake.__main__ import ridelake
from ridelake.errors import BadInput, ProofFailed, UsageError
from ridelake.settings import Settings


def settings_of(store: Store, lake: Lake) -> Settings:
    return Settings(home=Path("unused"), lake=lake.address, dsn=store.conninfo)


def test_numeric_without_precision_is_a_decimal_if_the_user_says_so(bare: Store, lake: Lake):
    run(
        bare,
        "CREATE TABLE t (id int PRIMARY KEY, v numeric, w numeric(50, 2), x numeric(9, 2))",
        "INSERT INTO t VALUES (1, 1.10, -2, 3), (2, 99999999999999999999999999999.999999999, 0.01, 0)",
        "INSERT INTO t VALUES (3)",
    )
    track(bare, "t")
    publish_snapshot(bare, lake, tables=["t"], numeric=(38, 9), verify=True)
    run(bare, "UPDATE t SET v = 1e-9 WHERE id = 3")
    second = publish_changes(bare, lake, verify=True).epoch
    assert (second.forms, second.tables["t"].changed) == (ValueForms(numeric=(38, 9)), 1)
    rows = asked(lake, "SELECT v, w, x FROM t ORDER BY id")
    assert rows == [
        {"v": Decimal("1.100000000"), "w": Decimal("-2.000000000"), "x": Decimal("3.00")},
        {
            "v": Decimal("99999999999999999999999999999.999999999"),
            "w": Decimal("0.010000000"),
            "x": Decimal(0),
        },
        {"v": Decimal("0.000000001"), "w": None, "x": None},
    ]
    publish_changes(bare, lake, numeric="text", verify=True)
    assert asked(lake, "SELECT v FROM t WHERE id = 1") == [{"v": "1.10"}]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("1.0000000001", r"1\.0000000001 \(more digits than its type has\)"),
        ("1e29", r"1(0){29} \(more digits than its type has\)"),
        ("NaN", "NaN"), ("-Infinity", "infinity"),
    ],
)  # fmt: skip
def test_a_numeric_that_does_not_fit_is_an_error_with_its_table_column_and_value(
    bare: Store, lake: Lake, value: str, shown: str
):
    run(
        bare, "CREATE TABLE t (id int PRIMARY KEY, v numeric)", f"INSERT INTO t VALUES (6, 5), (7, '{value}')"
    )
    with pytest.raises(BadInput, match=rf"column public\.t\.v contains {shown} in the row with id 7"):
        publish_snapshot(bare, lake, tables=["t"], numeric=(38, 9))
    if not value[0].isdigit():
        publish_snapshot(bare, lake, tables=["t"], numeric=(38, 9), infinity="null", verify=True)
        assert asked(lake, "SELECT v FROM t ORDER BY id") == [{"v": Decimal(5)}, {"v": None}]


def test_a_deleted_numeric_key_that_does_not_fit_is_ignored(bare: Store, lake: Lake):
    run(bare, "CREATE TABLE t (k numeric PRIMARY KEY)", "INSERT INTO t VALUES (1.0), (2)")
    track(bare, "t")
    publish_snapshot(bare, lake, tables=["t"], numeric=(9, 2), verify=True)
    run(bare, *(f"INSERT INTO t VALUES ('{key}')" for key in ("1e9", "0.001", "NaN", "Infinity")))
    run(bare, "DELETE FROM t WHERE k <> 2", "INSERT INTO t VALUES (1.00)")
    verify_now(bare, lake).prove()
    epoch = publish_changes(bare, lake, verify=True).epoch
    assert (epoch.deleted, epoch.rows) == (1, 2)


@pytest.mark.parametrize("text", ["39,1", "5,6", "0,0", "9", "9,-1", "9,2,1", "a,b", "¹,0"])
def test_an_invalid_numeric_option_is_a_usage_error(bare: Store, lake: Lake, text: str):
    run(bare, "CREATE TABLE t (id int PRIMARY KEY)")
    flags = ["--lake", str(lake.address.folder), "--dsn", bare.conninfo]
    result = CliRunner().invoke(ridelake, [*flags, "snapshot", "--table", "t", "--numeric", text])
    assert result.exit_code == 2 or isinstance(result.exception, UsageError)
    assert lake.newest() is None


@pytest.mark.slow
def test_the_commands_store_the_choices_until_they_are_changed(bare: Store, lake: Lake):
    run(bare, "CREATE TABLE t (id int PRIMARY KEY, n numeric, a int[])", "INSERT INTO t VALUES (1, 2, '{3}')")
    flags = ["--lake", str(lake.address.folder), "--dsn", bare.conninfo]
    chosen = []
    for words in (
        "snapshot --table t --numeric 20,1 --nested typed", "sync --once --infinity null",
        "sync --once --numeric text --infinity refuse", "snapshot --nested text",
    ):  # fmt: skip
        result = CliRunner().invoke(ridelake, [*flags, *words.split()])
        assert result.exit_code == 0, result.exception
        chosen.append((newest_epoch(lake.address).forms, *asked(lake, "SELECT n, a FROM t")[0].values()))
    assert chosen == [
        (ValueForms(numeric=(20, 1), nested="typed"), Decimal("2.0"), [3]),
        (ValueForms("null", (20, 1), "typed"), Decimal("2.0"), [3]),
        (ValueForms(nested="typed"), "2", [3]),
        (ValueForms(), "2", "{3}"),
    ]


NESTED = """
    CREATE SCHEMA shop;
    CREATE TYPE shop.mood AS ENUM ('sad', 'glad');
    CREATE DOMAIN shop.cents AS int CHECK (VALUE > 0);
    CREATE TYPE shop.item AS (name text, price numeric(9, 2), tags text[], "a%b" shop.mood);
    CREATE TABLE shop.t (
        one shop.item, items shop.item[], id int PRIMARY KEY, numbers int[], small smallint[],
        words varchar(9)[], moods shop.mood[], ids uuid[], prices numeric(9, 2)[], days date[],
        moments timestamptz[], local timestamp[], flags bool[], raw bytea[], reals real[], cents shop.cents[],
        docs jsonb[], spaces char(3)[], times time[])
"""
UUID = "01234567-89ab-cdef-0123-456789abcdef"
ROWS = (
    f"""INSERT INTO shop.t VALUES (
        ('a', 1.5, '{{x,NULL}}', 'sad'),
        ARRAY[('b', NULL, '{{}}', NULL), NULL, (NULL, NULL, NULL, NULL)]::shop.item[],
        1, '{{1,NULL,3}}', '{{-1}}', '{{"a b",""}}', '{{sad,NULL}}', '{{{UUID}}}', '{{0.10,-5}}',
        '{{2025-01-01,NULL}}', '{{2025-01-01 00:00+02}}', '{{2025-01-01 00:00:00.5}}', '{{t,f,NULL}}',
        '{{NULL,"\\\\x00ff"}}',
        '{{NaN,-0,1.5}}', '{{7}}', '{{"[1]"}}', '{{a}}', '{{12:00:00.000001}}')""",
    """INSERT INTO shop.t VALUES (
        (NULL, NULL, NULL, NULL), '{}', 2, '{}', '{NULL}', '{}', '{}', '{}', '{NULL}', '{}', '{}', '{}', '{}',
        '{}', '{}', '{}', '{}', '{}', '{}')""",
    "INSERT INTO shop.t (id) VALUES (3)",
)
SHOWN = """
    SELECT one, items, numbers, small, words, moods, prices, days, flags, ids, moments, local, times, cents,
        spaces
    FROM t ORDER BY id
"""
FIRST = {
    "one": {"name": "a", "price": Decimal("1.50"), "tags": ["x", None], "a%b": "sad"},
    "items": [
        {"name": "b", "price": None, "tags": [], "a%b": None}, None,
        {"name": None, "price": None, "tags": None, "a%b": None},
    ],
    "numbers": [1, None, 3], "small": [-1], "words": ["a b", ""], "moods": ["sad", None],
    "prices": [Decimal("0.10"), Decimal("-5.00")], "days": [date(2025, 1, 1), None],
    "flags": [True, False, None], "ids": [UUID], "moments": [datetime(2024, 12, 31, 22, tzinfo=UTC)],
    "local": [datetime(2025, 1, 1, 0, 0, 0, 500_000)], "times": [time(12, 0, 0, 1)],
    "cents": [7], "spaces": ["a  "],
}  # fmt: skip
SECOND = {name: [] for name in FIRST} | {
    "one": {"name": None, "price": None, "tags": None, "a%b": None}, "small": [None], "prices": [None],
}  # fmt: skip
THIRD = dict.fromkeys(FIRST)
EXPECTED = [FIRST, SECOND, THIRD]


def publish_nested(store: Store, lake: Lake) -> None:
    run(store, *NESTED.split(";"), *ROWS)
    track(store, "shop.t")
    publish_snapshot(store, lake, tables=["shop.t"], nested="typed", verify=True)


@pytest.mark.slow
def test_arrays_are_lists_and_composites_are_structs_if_the_user_says_so(
    bare: Store, lake: Lake, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")  # the default needs another package
    monkeypatch.setattr("lakehouse.capture.writer.SEAL_ROWS", 2)
    publish_nested(bare, lake)
    assert asked(lake, SHOWN) == EXPECTED
    (row,) = asked(lake, "SELECT docs, reals, raw FROM t WHERE id = 1")
    assert row["raw"] == [None, b"\0\xff"]
    assert row["docs"] == "{[1]}"  # json has no exact form in Arrow
    assert str(row["reals"]) == "[nan, -0.0, 1.5]"
    run(bare, "UPDATE shop.t SET numbers = '{4}' WHERE id = 3", "DELETE FROM shop.t WHERE id = 2")
    verify_now(bare, lake).prove()
    with open_overlay(settings_of(bare, lake), newest_epoch(lake.address)) as fresh:
        with open_engine("duckdb", settings_of(bare, lake), fresh) as engine:
            assert engine.sql(SHOWN).to_pylist() == [FIRST, THIRD | {"numbers": [4]}]
    second = publish_changes(bare, lake, verify=True).epoch
    assert (second.forms, second.tables["t"].changed) == (ValueForms(nested="typed"), 1)
    for read in (with_pyiceberg, with_polars):
        found = read(second.tables["t"].metadata).sort_by("id").select(list(FIRST)).to_pylist()
        third = THIRD | {"numbers": [4]}
        if read is with_pyiceberg:
            third["items"] = []  # pyiceberg returns an empty list for a NULL list of structs
        assert found == [FIRST, third], read
    maintain(lake, bare)
    assert asked(lake, SHOWN) == [FIRST, THIRD | {"numbers": [4]}]
    publish_changes(bare, lake, nested="text", verify=True)
    assert asked(lake, "SELECT numbers FROM t WHERE id = 1") == [{"numbers": "{1,NULL,3}"}]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("numbers = '{{1},{2}}'", "numbers contains {{1},{2}} (an array of 2 dimensions)"),
        ("numbers = '[0:1]={1,2}'", "numbers contains [0:1]={1,2} (an array that begins at 0)"),
        ("days = '{infinity}'", "days contains {infinity} (infinity)"),
        ("one.tags = '{{a}}'", "one contains (,,{{a}},) (an array of 2 dimensions)"),
        ("items = ARRAY[(NULL, 'NaN', NULL, NULL)::shop.item]", 'items contains {"(,NaN,,)"} (NaN)'),
    ],
)
def test_an_array_that_is_not_a_list_is_an_error_with_its_table_column_and_value(
    bare: Store, lake: Lake, change: str, message: str
):
    publish_nested(bare, lake)
    run(bare, f"UPDATE shop.t SET {change} WHERE id = 3")
    with pytest.raises(BadInput, match=re.escape(f"column shop.t.{message} in the row with id 3")) as failure:
        publish_changes(bare, lake)
    assert "store the column as text with --nested text" in str(failure.value)
    publish_changes(bare, lake, nested="text", verify=True)


def test_an_attribute_may_be_called_element(bare: Store, lake: Lake):
    run(
        bare,
        "CREATE TYPE one AS (element numeric)",
        "CREATE TABLE t (id int PRIMARY KEY, v one[])",
        "INSERT INTO t VALUES (1, ARRAY[ROW(2)::one, NULL]), (2, ARRAY[ROW('NaN')::one])",
    )
    with pytest.raises(
        BadInput, match=r"column public\.t\.v contains \{\(NaN\)\} \(NaN\) in the row with id 2"
    ):
        publish_snapshot(bare, lake, tables=["t"], numeric=(38, 9), nested="typed")
    run(bare, "DELETE FROM t WHERE id = 2")
    publish_snapshot(bare, lake, tables=["t"], numeric=(38, 9), nested="typed", verify=True)
    assert asked(lake, "SELECT v FROM t") == [{"v": [{"element": Decimal(2)}, None]}]


@pytest.mark.parametrize(
    ("change", "column", "values"),
    [
        ("numbers = '{1,NULL,4}'", "numbers", ("[1, NULL, 4]", "[1, NULL, 3]")),
        ("numbers = NULL", "numbers", ("NULL", "[1, NULL, 3]")),
        ("small = '{}'", "small", ("[]", "[-1]")),
        ("one = NULL", "one", ("NULL", "(name: 'a', price: 1.50, tags: ['x', NULL], a%b: 'sad')")),
        ("items = ARRAY[(NULL, NULL, NULL, NULL)::shop.item, NULL]", "items", (
            "[(name: NULL, price: NULL, tags: NULL, a%b: NULL), NULL]",
            "[(name: 'b', price: NULL, tags: [], a%b: NULL), NULL, (name: NULL, price: NULL, tags: NULL, "
            "a%b: NULL)]",
        )),
        ("one.tags[1] = NULL", "one", (
            "(name: 'a', price: 1.50, tags: [NULL, NULL], a%b: 'sad')",
            "(name: 'a', price: 1.50, tags: ['x', NULL], a%b: 'sad')",
        )),
    ],
)  # fmt: skip
def test_a_difference_in_a_list_or_a_struct_is_found(
    bare: Store, lake: Lake, change: str, column: str, values: tuple[str, str]
):
    publish_nested(bare, lake)
    run(bare, f"UPDATE shop.t SET {change} WHERE id = 1")
    with pytest.raises(ProofFailed) as failure:
        compare_with_the_newest(bare, lake)
    assert f"differs: {column} {' / '.join(values)}" in str(failure.value)


def compare_with_the_newest(store: Store, lake: Lake) -> None:
    from psycopg import IsolationLevel

    from lakehouse.source.tables import read_sources
    from lakehouse.verify import verify_at_token
    from oltp.store import transaction

    epoch = newest_epoch(lake.address)
    with store.connect() as connection, transaction(connection, IsolationLevel.REPEATABLE_READ):
        sources = read_sources(connection, ["shop.t"], (), epoch.forms)
        verify_at_token(connection, lake.address, sources, dict(epoch.tables))


@pytest.mark.parametrize("engine", EVERY_ENGINE)
def test_every_engine_reads_lists_and_structs(bare: Store, lake: Lake, engine: str):
    publish_nested(bare, lake)
    with open_engine(engine, settings_of(bare, lake), newest_epoch(lake.address)) as opened:
        found = opened.sql(SHOWN).to_pylist()
    assert found == (chdb_rows(EXPECTED) if engine == "chdb" else EXPECTED)


def chdb_rows(rows: list[dict]) -> list[dict]:
    """The rows as chDB returns them: an empty list for NULL, and a struct of NULLs for NULL in a list."""
    nothing = {"name": None, "price": None, "tags": [], "a%b": None}

    def read(name: str, value: Any) -> Any:
        if name == "items":
            return [
                nothing if item is None else {k: read(k, v) for k, v in item.items()} for item in value or ()
            ]
        if name == "one":
            return {k: read(k, v) for k, v in (value or nothing).items()}
        return [] if value is None and name not in ("name", "price", "a%b") else value

    return [{name: read(name, value) for name, value in row.items()} for row in rows]
