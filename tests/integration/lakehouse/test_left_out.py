"""Columns and tables that are not in the lake: the user has excluded them, or a value has no exact form."""

from pathlib import Path

import pytest
from bare_database import run
from click.testing import CliRunner
from own_tables import asked

from lakehouse.capture.maintain import maintain
from lakehouse.capture.overlay import open_overlay
from lakehouse.capture.publish import publish_changes, publish_snapshot
from lakehouse.engines import open_engine
from lakehouse.source.tables import store_tables
from lakehouse.source.tracking import track, untrack
from lakehouse.table.catalog import Lake
from lakehouse.table.published import newest_epoch
from lakehouse.verify import verify_now
from oltp.store import Store
from ridelake.__main__ import ridelake
from ridelake.errors import BadInput, RidelakeError
from ridelake.settings import Settings


def test_a_column_can_be_excluded(bare: Store, lake: Lake):
    run(
        bare,
        "CREATE SCHEMA shop",
        """CREATE TABLE shop.t (id int PRIMARY KEY, a numeric, "B b" jsonb, c int[], d interval, e text)""",
        "INSERT INTO shop.t VALUES (1, 1, '{}', '{1}', '1 day', 'one')",
    )
    track(bare, "shop.t")
    without = ["shop.t.a", 'shop.t."B b"', "shop.t.c"]
    publish_snapshot(bare, lake, tables=["shop.t"], without=without, verify=True)
    run(bare, "UPDATE shop.t SET e = 'two'", "ALTER TABLE shop.t DROP COLUMN c")
    publish_changes(bare, lake, verify=True)
    assert asked(lake, "SELECT * EXCLUDE tx FROM t") == [{"id": 1, "d": "1 day", "e": "two"}]
    verify_now(bare, lake).prove()
    assert set(newest_epoch(lake.address).without) == {"shop.t.a", 'shop.t."B b"'}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("shop.t.nothing", "no such column"), ("shop.t", "no such column"), ("shop.t.id", "the primary key"),
        ("shop.u.v", "not in the lake"), ("shop.t.", "must be TABLE.COLUMN"), ("t", "no such column"),
    ],
)  # fmt: skip
def test_a_column_that_cannot_be_excluded_is_named(bare: Store, lake: Lake, name: str, message: str):
    run(bare, "CREATE SCHEMA shop", "CREATE TABLE shop.t (id int PRIMARY KEY, v int)")
    run(bare, "CREATE TABLE shop.u (id int PRIMARY KEY, v int)")
    with pytest.raises(BadInput, match=message):
        publish_snapshot(bare, lake, tables=["shop.t"], without=[name])


NOT_HELD = {
    "numeric(10, 2)": ("NaN", "NaN"),
    "timestamp": ("infinity", "infinity"),
    "date": ("-infinity", "infinity"),
    "timestamptz": ("294276-12-31", "a time outside of Arrow's range"),
}


@pytest.mark.slow
@pytest.mark.parametrize("type_", NOT_HELD)
def test_a_table_with_an_unsupported_value_is_left_out_and_returns(bare: Store, lake: Lake, type_: str):
    value, shown = NOT_HELD[type_]
    run(
        bare,
        "CREATE SCHEMA shop",
        f"CREATE TABLE shop.t (a int, b int, v {type_}, PRIMARY KEY (a, b))",
        "CREATE TABLE shop.other (id int PRIMARY KEY)",
        "INSERT INTO shop.t SELECT n, 7 FROM generate_series(1, 5) AS n",
        "INSERT INTO shop.other VALUES (1)",
    )
    for table in ("shop.t", "shop.other"):
        track(bare, table)
    publish_changes(bare, lake, tables=["shop.t", "shop.other"])
    run(bare, f"UPDATE shop.t SET v = '{value}' WHERE a = 3", "INSERT INTO shop.other VALUES (2)")
    second = publish_changes(bare, lake, verify=True).epoch
    assert list(second.tables) == ["other"]
    assert second.rows == 2
    (reason,) = second.missing()
    assert f"shop.t is not in epoch 2: column shop.t.v contains {shown}" in reason
    assert "in the row with a 3, b 7" in reason
    assert newest_epoch(lake.address) == second
    command = ["--lake", str(lake.address.folder), "--dsn", bare.conninfo]
    for words in (["sql", "SELECT count(*) FROM t"], ["verify"], ["sync", "--once"]):
        result = CliRunner().invoke(ridelake, [*command, *words])
        assert isinstance(result.exception, RidelakeError)
        assert f"not in epoch 2: column shop.t.v contains {shown}" in str(result.exception)
    assert lake.catalog.list_tables("ridelake") == [("ridelake", "other")]
    assert not publish_changes(bare, lake).epoch.left_out.keys() - {"t"}
    run(bare, "UPDATE shop.t SET v = NULL")
    third = publish_changes(bare, lake, verify=True).epoch
    assert not third.left_out
    assert third.tables["t"].rows == 5
    assert len(asked(lake, "FROM t")) == 5
    assert maintain(lake, bare, keep_epochs=2).epochs_expired
    assert len(asked(lake, "FROM t")) == 5


def test_if_no_table_can_be_copied_nothing_is_published(bare: Store, lake: Lake):
    run(bare, "CREATE TABLE t (id int PRIMARY KEY, v numeric(5, 1))", "INSERT INTO t VALUES (1, 'NaN')")
    with pytest.raises(BadInput, match=r"column public\.t\.v contains NaN in the row with id 1"):
        publish_changes(bare, lake, tables=["t"])
    assert lake.newest() is None
    run(bare, "UPDATE t SET v = 1")
    publish_changes(bare, lake, tables=["t"], verify=True)


@pytest.mark.parametrize(
    ("type_", "held", "value"),
    [
        ("numeric(5, 1)", ["1", "2"], "NaN"),
        ("date", ["2001-01-01", "2002-01-01"], "-infinity"),
        ("timestamp", ["2001-01-01", "2002-01-01"], "infinity"),
        ("timestamptz", ["2001-01-01", "294247-01-10 04:00:54.775807+00"], "-infinity"),
        ("timestamptz", ["2001-01-01", "2002-01-01"], "294247-01-10 04:00:54.775808+00"),
    ],
)
def test_a_deleted_key_that_the_lake_cannot_store_is_ignored(
    bare: Store, lake: Lake, type_: str, held: list[str], value: str
):
    run(bare, f"CREATE TABLE t (k {type_}, n int, PRIMARY KEY (n, k))")
    track(bare, "t")
    run(bare, *(f"INSERT INTO t VALUES ('{key}', 1)" for key in held))
    publish_changes(bare, lake, tables=["t"])
    run(
        bare,
        f"INSERT INTO t VALUES ('{value}', 1)",
        f"DELETE FROM t WHERE k IN ('{value}', '{held[1]}')",
    )
    assert verify_now(bare, lake).as_dict()["equal"]
    epoch = publish_changes(bare, lake, verify=True).epoch
    assert (epoch.changed, epoch.deleted, epoch.rows) == (0, 1, 1)


def test_a_table_created_in_the_schema_of_the_ride_store_is_not_one_of_its_tables(store: Store, lake: Lake):
    """The role ridelake creates tables in this schema, because its search path begins with "$user"."""
    run(store, "CREATE TABLE ridelake.mine (id int PRIMARY KEY, v numeric(5, 1))")
    run(store, "INSERT INTO ridelake.mine VALUES (1, 'NaN')")
    track(store, "mine")
    epoch = publish_changes(store, lake, tables=[*store_tables(), "mine"]).epoch
    assert list(epoch.left_out) == ["mine"]
    assert untrack(store, "mine") == "ridelake.mine"
    with pytest.raises(BadInput, match="the ride store needs its tracking"):
        untrack(store, "rides")


WITHOUT_FORM = """
    (1, 'infinity', '-infinity', 'infinity', '24:00', 'NaN'),
    (2, '-infinity', '294247-01-10 04:00:54.775808', '294276-12-31', '12:00', 1.5),
    (3, '0044-03-15 BC', '294247-01-10 04:00:54.775806', '0044-03-15 BC', '00:00', 0),
    (4, NULL, NULL, NULL, NULL, NULL)
"""


def test_values_without_an_exact_form_are_null_if_the_user_says_so(bare: Store, lake: Lake):
    """The choice applies to epochs, to `verify` and to `--fresh`, until it is changed."""
    run(
        bare,
        "CREATE DOMAIN day AS date",
        "CREATE TABLE t (id int PRIMARY KEY, d day, a timestamp, z timestamptz, h time, n numeric(9, 2))",
        f"INSERT INTO t VALUES {WITHOUT_FORM}",
    )
    track(bare, "t")
    with pytest.raises(BadInput, match="store NULL instead with --infinity null"):
        publish_snapshot(bare, lake, tables=["t"])
    publish_snapshot(bare, lake, tables=["t"], infinity="null", verify=True)
    null = "SELECT id FROM t WHERE {} IS NULL ORDER BY id"
    found = {name: [one["id"] for one in asked(lake, null.format(name))] for name in "dazhn"}
    assert found == {"d": [1, 2, 4], "a": [1, 2, 4], "z": [1, 2, 4], "h": [1, 4], "n": [1, 4]}
    run(bare, "UPDATE t SET d = 'infinity' WHERE id = 3", "DELETE FROM t WHERE id = 4")
    verify_now(bare, lake).prove()
    settings = Settings(home=Path("unused"), lake=lake.address, dsn=bare.conninfo)
    with open_overlay(settings, newest_epoch(lake.address)) as fresh:
        with open_engine("duckdb", settings, fresh) as engine:
            assert engine.sql("SELECT count(*) AS n FROM t WHERE d IS NULL").to_pylist() == [{"n": 3}]
    second = publish_changes(bare, lake, verify=True).epoch
    assert (second.forms.infinity, second.tables["t"].changed, second.rows) == ("null", 1, 3)
    with pytest.raises(BadInput, match=r"column public\.t\.d contains infinity in the row with id"):
        publish_changes(bare, lake, infinity="refuse")
    run(bare, "UPDATE t SET d = 'today', a = 'now', z = 'now', h = '12:00', n = 1")
    third = publish_changes(bare, lake, infinity="refuse", verify=True).epoch
    assert third.forms.infinity == "refuse"
    assert asked(lake, "SELECT count(*) AS n FROM t WHERE d IS NULL") == [{"n": 0}]


def test_a_key_without_an_exact_form_is_never_replaced(bare: Store, lake: Lake):
    run(bare, "CREATE TABLE t (d date PRIMARY KEY, v date)", "INSERT INTO t VALUES ('infinity', NULL)")
    with pytest.raises(BadInput, match=r"column public\.t\.d contains infinity .*: change that value$"):
        publish_snapshot(bare, lake, tables=["t"], infinity="null")


def test_the_choice_applies_to_all_tables_of_the_lake(bare: Store, lake: Lake):
    """It also applies to a table that is added later, and to one that was left out."""
    run(bare, "CREATE TABLE a (id int PRIMARY KEY)", "CREATE TABLE b (id int PRIMARY KEY, d date)")
    run(bare, "INSERT INTO b VALUES (1, 'infinity')")
    flags = ["--lake", str(lake.address.folder), "--dsn", bare.conninfo]
    for words in ("snapshot --table a --infinity null", "sync --once --table b"):
        result = CliRunner().invoke(ridelake, [*flags, *words.split()])
        assert result.exit_code == 0, result.exception
    assert asked(lake, "SELECT d FROM b") == [{"d": None}]
    result = CliRunner().invoke(ridelake, [*flags, "sync", "--once", "--infinity", "refuse"])
    assert "b is not in epoch 3" in str(result.exception)
    assert list(newest_epoch(lake.address).tables) == ["a"]
