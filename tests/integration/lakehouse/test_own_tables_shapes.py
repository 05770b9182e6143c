"""Tables with any names and keys, and tables that cannot be tracked."""

import pytest
from bare_database import run
from own_tables import asked

from lakehouse.capture.maintain import maintain
from lakehouse.capture.publish import publish_changes
from lakehouse.source.tracking import track, untrack
from lakehouse.table.catalog import Lake, open_catalog
from lakehouse.table.published import newest_epoch
from lakehouse.verify import verify_now
from oltp.store import Store
from ridelake.errors import BadInput

NAMES = [
    "Mixed Case", "has/slash", "..", ".", "epochs", "catalog.sqlite", "tab\there", "new\nline", "50%", "a=b",
    "x" * 63, "Zoë 🚕", "select", "a.b", "*?[x]", "'quoted'", 'dou"ble',
]  # fmt: skip


@pytest.mark.slow
def test_a_table_may_have_any_name(bare: Store, lake: Lake):
    tables = {name: '"Odd.Place"."' + name.replace('"', '""') + '"' for name in NAMES}
    columns = '("The Key" int PRIMARY KEY, "a.b" text, "row number" int NOT NULL DEFAULT 1)'
    run(bare, 'CREATE SCHEMA "Odd.Place"', *(f"CREATE TABLE {table} {columns}" for table in tables.values()))
    run(bare, *(f"INSERT INTO {table} VALUES (1, 'one'), (2, NULL)" for table in tables.values()))
    for table in tables.values():
        track(bare, table)
    publish_changes(bare, lake, tables=list(tables.values()))
    for table in tables.values():
        run(bare, f'DELETE FROM {table} WHERE "The Key" = 1', f"INSERT INTO {table} VALUES (3, 'three')")
    assert {table.deleted for table in publish_changes(bare, lake, verify=True).epoch.tables.values()} == {1}
    for name, table in tables.items():
        for engine in ("duckdb", "polars"):
            query = f'SELECT "The Key" AS k, "a.b" AS t FROM {table.split(".", 2)[2]} ORDER BY 1'
            assert asked(lake, query, engine) == [{"k": 2, "t": None}, {"k": 3, "t": "three"}], name
    assert maintain(lake, bare, keep_epochs=1).epochs_expired == 1
    verify_now(bare, lake).prove()
    folder = lake.address.folder
    assert len(list(folder.glob("*/data"))) == len(NAMES), "two tables share a folder"
    assert not list(folder.parent.glob("*.parquet")) + list(folder.parent.glob("data"))
    for table in tables.values():
        untrack(bare, table)
    publish_changes(bare, lake, verify=True)


KEYS = {
    "smallint": ("1", "2", "-3", "4"),
    "boolean": ("true", "false"),
    "text": ("''", "'a'", "'ä'", "'Z'", "E'\\t'", "'a '", "'🚕'", "'NULL'"),
    "varchar(5)": ("''", "'a'", "'b'"),
    "char(4)": ("'a'", "'ab'", "'abcd'"),
    "uuid": ("'00000000-0000-0000-0000-000000000001'", "'ffffffff-0000-0000-0000-000000000001'"),
    "numeric(12, 3)": ("1.5", "-7", "0", "999999999.999"),
    "date": ("'2026-01-01'", "'0001-01-01'", "'9999-12-31'", "'1969-12-31'"),
    "timestamptz": ("'2026-01-01 00:00:00.000001+02'", "'1970-01-01 00:00Z'", "'2026-03-29 02:30 CET'"),
    "timestamp": ("'2026-01-01'", "'1969-12-31 23:59:59.999999'"),
    "bytea": ("'\\x'", "'\\x00'", "'\\xff00'", "'\\x00ff'"),
    "bigint": ("-9223372036854775808", "9223372036854775807", "0"),
    "mood": ("'good'", "'bad'"),
    "double precision": ("0.1", "0.30000000000000004", "-1e-300", "'NaN'"),
}


@pytest.mark.slow
def test_rows_are_identified_by_any_type_of_key(bare: Store, lake: Lake, monkeypatch):
    """Keys of one and of two columns, in the open file and in sealed files."""
    monkeypatch.setattr("lakehouse.capture.writer.SEAL_ROWS", 3)
    keyed: dict[str, tuple[str, ...]] = {}
    run(bare, "CREATE TYPE mood AS ENUM ('good', 'bad')")
    for number, (type_, values) in enumerate(KEYS.items()):
        for table, key in ((f"one_{number}", "k"), (f"two_{number}", 'k, "row number"')):
            rest = f'"row number" int NOT NULL DEFAULT 1, k {type_}, PRIMARY KEY ({key})'
            run(bare, f"CREATE TABLE {table} (what text, {rest})")
            run(bare, f"INSERT INTO {table} (k) VALUES {', '.join(f'({value})' for value in values)}")
            track(bare, table)
            keyed[table] = values
    publish_changes(bare, lake, tables=list(keyed), verify=True)
    for turn in (0, 1):
        run(bare, *(f"UPDATE {t} SET what = 'x' WHERE k = {v}" for t in keyed for v in keyed[t][turn::2]))
        epoch = publish_changes(bare, lake, verify=True).epoch
        assert {t: epoch.tables[t].changed for t in keyed} == {t: len(keyed[t][turn::2]) for t in keyed}
    for turn in (0, 1):
        with bare.connect() as connection:  # a session with other settings
            for setting in (
                "extra_float_digits = -15",
                "bytea_output = escape",
                "DateStyle = 'SQL, DMY'",
                "TimeZone = 'Asia/Kolkata'",
            ):
                connection.execute(f"SET {setting}".encode())
            for table, values in keyed.items():
                for value in values[turn::2]:
                    connection.execute(f"DELETE FROM {table} WHERE k = {value}".encode())
        publish_changes(bare, lake, verify=True)
    assert newest_epoch(lake.address).rows == 0


def test_a_partitioned_table_that_is_not_tracked_is_copied_completely(bare: Store, lake: Lake):
    run(
        bare,
        "CREATE TABLE log (day date, id int, PRIMARY KEY (day, id)) PARTITION BY RANGE (day)",
        "CREATE TABLE log_25 PARTITION OF log FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')",
        "CREATE TABLE log_26 PARTITION OF log FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
        "INSERT INTO log VALUES ('2025-05-05', 1), ('2026-06-06', 2)",
    )
    assert publish_changes(bare, lake, tables=["log"], verify=True).epoch.rows == 2
    run(bare, "UPDATE log SET day = '2026-01-02' WHERE id = 1", "DROP TABLE log_26")
    assert publish_changes(bare, lake, verify=True).epoch.rows == 0


def test_tables_with_unsupported_features_are_not_tracked(bare: Store):
    run(
        bare, "CREATE TABLE has_tx (id int PRIMARY KEY, tx bigint)",
        "CREATE TABLE parent (id int PRIMARY KEY)", "CREATE TABLE child () INHERITS (parent)",
        "CREATE UNLOGGED TABLE brief (id int PRIMARY KEY)",
        "CREATE TABLE log (id int PRIMARY KEY) PARTITION BY RANGE (id)",
        "CREATE TABLE log_1 PARTITION OF log DEFAULT",
    )  # fmt: skip
    with pytest.raises(BadInput, match="unlogged"):
        track(bare, "brief")
    with pytest.raises(BadInput, match="partition"):
        track(bare, "log_1")
    with pytest.raises(BadInput, match="already has a column tx, which tracking needs; rename that column"):
        track(bare, "has_tx")
    with pytest.raises(BadInput, match="other tables inherit from it"):
        track(bare, "parent")


def test_tables_with_not_null_domains_are_copied_incrementally(bare: Store, lake: Lake):
    run(
        bare,
        "CREATE DOMAIN email AS text NOT NULL CHECK (value LIKE '%@%')",
        "CREATE DOMAIN present AS int CHECK (value IS NOT NULL)",
        "CREATE TABLE customers (id present, mail email, n present NOT NULL, PRIMARY KEY (id, mail))",
        "INSERT INTO customers SELECT i, 'u' || i || '@x', i FROM generate_series(1, 5) AS i",
    )
    track(bare, "customers")
    publish_changes(bare, lake, tables=["customers"])
    run(
        bare,
        "DELETE FROM customers WHERE id = 2",
        "UPDATE customers SET mail = 'new@x' WHERE id = 3",
        "ALTER DOMAIN email ADD CHECK (value NOT LIKE 'u%') NOT VALID",  # the deleted keys do not satisfy it
    )
    verify_now(bare, lake).prove()
    taken = publish_changes(bare, lake, verify=True)
    assert (taken.epoch.changed, taken.epoch.deleted, taken.epoch.rows) == (1, 2, 4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after"),
    [("int", "bigint"), ("smallint", "int"), ("smallint", "bigint"), ("real", "float8"),
     ("numeric(9, 2)", "numeric(20, 2)")],
)  # fmt: skip
def test_a_wider_key_type_is_supported(bare: Store, lake: Lake, before: str, after: str):
    run(bare, f"CREATE TABLE wide (id {before} PRIMARY KEY, v {before})")
    run(bare, "INSERT INTO wide SELECT i, i FROM generate_series(1, 5) AS i")
    track(bare, "wide")
    first = publish_changes(bare, lake, tables=["wide"]).epoch
    with bare.connect() as connection:  # with cached plans for the old type
        connection.execute("DELETE FROM wide WHERE id = 1")
        connection.execute(f"ALTER TABLE wide ALTER id TYPE {after}, ALTER v TYPE {after}".encode())
        connection.execute("DELETE FROM wide WHERE id = 2")
        connection.execute("UPDATE wide SET id = 30 WHERE id = 3")
    taken = publish_changes(bare, lake, verify=True)
    assert taken.epoch.changed == taken.epoch.rows == 3, "the table must be copied completely once"
    large = 10_000_000_000 if after == "bigint" else 7
    run(bare, "DELETE FROM wide WHERE id = 4", f"INSERT INTO wide VALUES (7, {large})")
    taken = publish_changes(bare, lake, verify=True)
    assert (taken.epoch.changed, taken.epoch.deleted) == (1, 1)
    for engine in ("duckdb", "polars"):
        assert [row["id"] for row in asked(lake, "SELECT id FROM wide ORDER BY id", engine)] == [5, 7, 30]
    table = open_catalog(lake.address, 30).load_table(("ridelake", "wide"))
    assert sorted(table.scan().to_arrow()["id"].to_pylist()) == [5, 7, 30]
    assert table.scan(snapshot_id=first.tables["wide"].snapshot_id).to_arrow().num_rows == 5
