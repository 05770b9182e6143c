"""Tables of the user's own, in a database that has no ride store: into a lake, tracked, and left again."""

import json
import random
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from bare_database import bare_database, rows_of, run
from psycopg.conninfo import make_conninfo
from terminal import answer, refusal

from lakehouse.catalog import Lake
from lakehouse.engines import open_engine
from lakehouse.maintain import maintain
from lakehouse.published import newest_epoch
from lakehouse.take import Taken, estimate_rows, take_changes, take_snapshot
from lakehouse.tracking import track, untrack
from lakehouse.verify import verify_now
from oltp.cluster import Cluster
from oltp.store import Store, open_database
from ridelake.errors import BadInput, NotReady, UsageError
from ridelake.settings import LakeAddress, Settings

ORDERS = "CREATE TABLE public.orders (id bigint PRIMARY KEY, what text, price numeric(10, 2))"


@pytest.fixture
def bare(cluster: Cluster) -> Iterator[Store]:
    with bare_database(cluster) as store:
        yield store


def asked(lake: Lake, query: str, engine: str = "duckdb") -> list[dict]:
    settings = Settings(home=Path("unused"), lake=lake.address)
    with open_engine(engine, settings, newest_epoch(lake.address)) as opened:
        return opened.sql(query).to_pylist()


def how(taken: Taken) -> str:
    """`whole` or `changes`, by the number of rows that the newest epoch says it took of `orders`."""
    table = taken.epoch.tables["orders"]
    return "whole" if table.changed == table.rows else "changes"


# ── What would go unseen ───────────────────────────────────────────────────────────────────────


def test_rows_that_a_policy_hides_are_not_left_out_in_silence(bare: Store, lake: Lake):
    role = f"reader_{uuid.uuid4().hex[:12]}"
    run(bare, ORDERS, "INSERT INTO orders SELECT n, 'thing', 1 FROM generate_series(1, 10) AS n")
    run(bare, f"CREATE ROLE {role} LOGIN", f"GRANT SELECT ON orders TO {role}")
    try:
        run(
            bare,
            "ALTER TABLE orders ENABLE ROW LEVEL SECURITY",
            f"CREATE POLICY few ON orders FOR SELECT TO {role} USING (id < 5)",
        )
        reader = open_database(make_conninfo(bare.conninfo, user=role, options=""), install=False)
        with pytest.raises(UsageError, match=r"row-level security hides rows of .*orders from this role"):
            take_snapshot(reader, lake, tables=["public.orders"], verify=True)
        assert take_snapshot(bare, lake, tables=["public.orders"]).rows == 10
    finally:
        run(bare, "DROP TABLE orders", f"DROP ROLE {role}")


def test_texts_are_utf_8_whatever_the_database_or_the_session_has(lake: Lake, cluster: Cluster):
    name = f"latin_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(cluster.conninfo("postgres"), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0".encode())
        try:
            conninfo = make_conninfo(cluster.conninfo(name), client_encoding="latin1")
            store = open_database(conninfo, install=False)
            run(store, ORDERS, "INSERT INTO orders VALUES (1, 'é', 1), (2, 'Ã©', 1), (3, 'Â£', 1)")
            assert take_snapshot(store, lake, tables=["public.orders"], verify=True).verified
            words = [one["what"] for one in asked(lake, "SELECT what FROM orders ORDER BY id")]
            assert words == ["é", "Ã©", "Â£"]
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def test_bytes_without_an_encoding_are_refused(lake: Lake, cluster: Cluster):
    name = f"ascii_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(cluster.conninfo("postgres"), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0".encode())
        try:
            store = open_database(cluster.conninfo(name), install=False)
            run(store, ORDERS)
            with pytest.raises(UsageError, match="has no encoding"):
                take_snapshot(store, lake, tables=["public.orders"])
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


PUT_BACK = """
CREATE FUNCTION put_back() RETURNS trigger LANGUAGE plpgsql AS
$$ DECLARE price numeric := NEW.price; BEGIN NEW := OLD; NEW.price := price; RETURN NEW; END $$
"""


@pytest.mark.parametrize("name", ["zz", "zzzz"])
def test_a_trigger_of_theirs_that_puts_the_old_row_back_hides_no_change(bare: Store, lake: Lake, name: str):
    run(bare, ORDERS, "INSERT INTO orders SELECT n, 'thing', 1 FROM generate_series(1, 10) AS n")
    track(bare, "orders")
    run(bare, PUT_BACK)
    run(bare, f"CREATE TRIGGER {name} BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION put_back()")
    take_snapshot(bare, lake, tables=["public.orders"])
    run(bare, "UPDATE orders SET price = 99 WHERE id = 3")
    taken = take_changes(bare, lake, verify=True)
    assert taken.epoch.verified
    assert how(taken) == ("changes" if name < "zzz_ridelake_stamp" else "whole")


def test_years_that_python_does_not_have_are_taken(bare: Store, lake: Lake):
    run(
        bare,
        "CREATE TABLE far (day date PRIMARY KEY, moment timestamptz)",
        "INSERT INTO far VALUES ('2025-01-01', '2025-01-01'), ('4000-01-01 BC', '0001-01-01 BC')",
    )
    track(bare, "far")
    take_snapshot(bare, lake, tables=["public.far"], verify=True)
    run(
        bare,
        "UPDATE far SET moment = '12345-01-01' WHERE day = '4000-01-01 BC'",
        "INSERT INTO far VALUES ('0044-03-15 BC', now()), ('10000-01-01', now())",
        "DELETE FROM far WHERE day = '2025-01-01'",
    )
    taken = take_changes(bare, lake, verify=True)
    assert (taken.epoch.rows, taken.epoch.verified) == (3, True)


def test_another_database_of_the_server_is_not_taken_for_this_one(bare: Store, lake: Lake, cluster: Cluster):
    run(bare, ORDERS)
    take_snapshot(bare, lake, tables=["public.orders"])
    with bare_database(cluster) as other:
        run(other, ORDERS)
        with pytest.raises(UsageError, match="is of another database of the server"):
            take_changes(other, lake)


# ── The command line over a database of somebody's own ──────────────────────────────────────────


@pytest.mark.slow
def test_a_lake_of_own_tables_needs_no_ride_store_and_makes_none(bare: Store, tmp_path: Path):
    run(bare, ORDERS, "INSERT INTO orders SELECT n, 'thing ' || n, n * 1.5 FROM generate_series(1, 100) AS n")
    flags = ["--dsn", bare.conninfo, "--lake", tmp_path / "lake"]
    assert answer("sync", "--once", "--table", "orders", *flags).startswith("epoch 1: 100 rows changed")
    run(bare, "DELETE FROM orders WHERE id = 7")
    assert "99 rows in 1 files" in answer("sync", "--once", *flags)
    query = "SELECT count(*) AS orders, sum(price) AS money FROM orders"
    expected = "orders,money\n99,7564.50\n"
    assert answer("sql", query, "--engine", "all", *flags) == expected
    run(bare, "DELETE FROM orders WHERE id > 90")
    assert answer("sql", "--fresh", "SELECT count(*) AS n FROM orders", *flags) == "n\n89\n"
    assert json.loads(answer("snapshot", "--verify", "--json", *flags))["verified"] is True
    assert [one["epoch"] for one in json.loads(answer("epochs", "--json", *flags))] == [3, 2, 1]
    assert json.loads(answer("status", "--json", *flags))["epoch_rows"] == 89
    assert "0 tombstones cleared" in answer("maintain", *flags)
    assert "is not tracked: run `ridelake snapshot --verify`" in refusal("verify", *flags)
    assert "public.orders is tracked" in answer("track", "orders", *flags)
    answer("sync", "--once", *flags)
    assert "are equal to Postgres, all 89 rows" in answer("verify", *flags)
    assert "public.orders is not tracked any more" in answer("untrack", "orders", *flags)
    assert "public.orders is not tracked" in refusal("untrack", "orders", *flags)
    schemas = "SELECT nspname FROM pg_namespace WHERE nspname = 'ridelake'"
    assert rows_of(bare, schemas) == []


@pytest.mark.slow
def test_looking_at_a_database_puts_nothing_into_it(bare: Store, tmp_path: Path):
    flags = ["--dsn", bare.conninfo, "--lake", tmp_path / "lake"]
    assert "no epoch yet" in refusal("verify", *flags)
    assert "no epoch yet" in refusal("maintain", *flags)
    assert "there is no ride store in that database: name tables" in refusal("sync", "--once", *flags)
    answer("status", *flags)
    assert "there is no table nothing" in refusal("track", "nothing", *flags)
    assert "there is no table nothing" in refusal("untrack", "nothing", *flags)
    assert rows_of(bare, "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'ridelake%'") == []


NOT_IN_A_LAKE = {
    "nothing": "there is no table nothing",
    "nowhere.nothing": "there is no table nowhere.nothing",
    "a.b.c.d": "no table",
    '"open': "no table",
    "": "no table",
    "x; DROP TABLE orders": "no table",
    "looking": "is not a table",
    "kept": "is not a table",
    "orders_pkey": "is not a table",
    "loose": "has no primary key",
    "shaped": "column shaped.place is of type point",
    "wide": "column wide.n is of type numeric,",
}


def test_what_cannot_be_in_a_lake_is_refused_by_name(bare: Store, lake: Lake):
    run(
        bare,
        ORDERS,
        "CREATE VIEW looking AS SELECT * FROM orders",
        "CREATE MATERIALIZED VIEW kept AS SELECT * FROM orders",
        "CREATE TABLE loose (id bigint)",
        "CREATE TABLE shaped (id bigint PRIMARY KEY, place point)",
        "CREATE TABLE wide (id bigint PRIMARY KEY, n numeric)",
    )
    for name, told in NOT_IN_A_LAKE.items():
        with pytest.raises(BadInput, match=told):
            take_changes(bare, lake, tables=[name])
        with pytest.raises(BadInput, match=told):
            estimate_rows(bare, [name])
            track(bare, name)
    assert not list(lake.address.folder.glob("*/data/*"))
    assert rows_of(bare, "SELECT FROM orders") == []


def test_names_that_engines_cannot_tell_apart_are_refused(bare: Store, lake: Lake):
    run(
        bare, ORDERS, "CREATE SCHEMA sales", "CREATE TABLE sales.orders (id int PRIMARY KEY)",
        'CREATE TABLE "Orders" (id int PRIMARY KEY)', 'CREATE TABLE odd (id int PRIMARY KEY, "ID" int)',
    )  # fmt: skip
    take_changes(bare, lake, tables=["orders", "public.orders"])
    for other in ("sales.orders", '"Orders"'):
        with pytest.raises(
            BadInput, match=r"would both be .* in the lake: give one of them a lake of its own"
        ):
            take_changes(bare, lake, tables=[other])
    with pytest.raises(BadInput, match="two columns id, which engines cannot tell apart"):
        take_changes(bare, lake, tables=["odd"])


@pytest.mark.slow
def test_a_role_that_may_not_gets_one_sentence(bare: Store, lake: Lake, tmp_path: Path):
    run(bare, ORDERS, "CREATE SCHEMA hidden", "CREATE TABLE hidden.things (id int PRIMARY KEY)")
    role = f"reader_{bare.conninfo.split('bare_')[1].split()[0]}"
    run(bare, f"CREATE ROLE {role} LOGIN")
    try:
        flags = ["--dsn", make_conninfo(bare.conninfo, user=role), "--lake", tmp_path / "other"]
        assert "permission denied for table orders: connect as the role that owns it, or grant" in refusal(
            "sync", "--once", "--table", "orders", *flags
        )
        assert "permission denied for schema hidden: connect as" in refusal(
            "snapshot", "--table", "hidden.things", *flags
        )
        run(bare, f"GRANT SELECT ON orders TO {role}")
        assert answer("sync", "--once", "--table", "orders", *flags).startswith("epoch 1")
        assert "use the role that owns orders" in refusal("track", "orders", *flags)
        track(bare, "orders")
        assert "permission denied for schema ridelake_tracking" in refusal("sync", "--once", *flags)
        assert "use the role that owns orders" in refusal("untrack", "orders", *flags)
    finally:
        run(bare, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


# ── Shapes of tables ────────────────────────────────────────────────────────────────────────────

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
    take_changes(bare, lake, tables=list(tables.values()))
    for table in tables.values():
        run(bare, f'DELETE FROM {table} WHERE "The Key" = 1', f"INSERT INTO {table} VALUES (3, 'three')")
    assert {table.gone for table in take_changes(bare, lake, verify=True).epoch.tables.values()} == {1}
    for name, table in tables.items():
        for engine in ("duckdb", "polars"):
            query = f'SELECT "The Key" AS k, "a.b" AS t FROM {table.split(".", 2)[2]} ORDER BY 1'
            assert asked(lake, query, engine) == [{"k": 2, "t": None}, {"k": 3, "t": "three"}], name
    assert maintain(lake, bare, keep_epochs=1).epochs_expired == 1
    verify_now(bare, lake).prove()
    folder = lake.address.folder
    assert len(list(folder.glob("*/data"))) == len(NAMES), "each has a folder of its own, in the lake"
    assert not list(folder.parent.glob("*.parquet")) + list(folder.parent.glob("data"))
    for table in tables.values():
        untrack(bare, table)
    take_changes(bare, lake, verify=True)


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
def test_rows_are_told_apart_by_any_key(bare: Store, lake: Lake, monkeypatch):
    """Keys of one column and of two; in the file that is written anew each time, and in those looked into."""
    monkeypatch.setattr("lakehouse.sink.SEAL_ROWS", 3)
    keyed: dict[str, tuple[str, ...]] = {}
    run(bare, "CREATE TYPE mood AS ENUM ('good', 'bad')")
    for number, (type_, values) in enumerate(KEYS.items()):
        for table, key in ((f"one_{number}", "k"), (f"two_{number}", 'k, "row number"')):
            rest = f'"row number" int NOT NULL DEFAULT 1, k {type_}, PRIMARY KEY ({key})'
            run(bare, f"CREATE TABLE {table} (what text, {rest})")
            run(bare, f"INSERT INTO {table} (k) VALUES {', '.join(f'({value})' for value in values)}")
            track(bare, table)
            keyed[table] = values
    take_changes(bare, lake, tables=list(keyed), verify=True)
    for turn in (0, 1):
        run(bare, *(f"UPDATE {t} SET what = 'x' WHERE k = {v}" for t in keyed for v in keyed[t][turn::2]))
        epoch = take_changes(bare, lake, verify=True).epoch
        assert {t: epoch.tables[t].changed for t in keyed} == {t: len(keyed[t][turn::2]) for t in keyed}
    for turn in (0, 1):
        with bare.connect() as connection:  # as a session may write that is not ours
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
        take_changes(bare, lake, verify=True)
    assert newest_epoch(lake.address).rows == 0


def test_a_partitioned_table_is_taken_whole_and_cannot_be_tracked(bare: Store, lake: Lake):
    run(
        bare,
        "CREATE TABLE log (day date, id int, PRIMARY KEY (day, id)) PARTITION BY RANGE (day)",
        "CREATE TABLE log_25 PARTITION OF log FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')",
        "CREATE TABLE log_26 PARTITION OF log FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
        "INSERT INTO log VALUES ('2025-05-05', 1), ('2026-06-06', 2)",
    )
    assert take_changes(bare, lake, tables=["log"], verify=True).epoch.rows == 2
    run(bare, "UPDATE log SET day = '2026-01-02' WHERE id = 1", "DROP TABLE log_26")
    assert take_changes(bare, lake, verify=True).epoch.rows == 0
    for name in ("log", "log_25"):
        with pytest.raises(BadInput, match="put it into a lake without tracking"):
            track(bare, name)
    run(bare, "CREATE UNLOGGED TABLE brief (id int PRIMARY KEY)")
    with pytest.raises(BadInput, match="unlogged"):
        track(bare, "brief")


def test_what_tracking_would_harm_or_miss_is_not_tracked(bare: Store):
    run(
        bare, "CREATE TABLE has_tx (id int PRIMARY KEY, tx bigint)",
        "CREATE TABLE parent (id int PRIMARY KEY)", "CREATE TABLE child () INHERITS (parent)",
    )  # fmt: skip
    with pytest.raises(BadInput, match="has a column tx of its own: rename that"):
        track(bare, "has_tx")
    with pytest.raises(BadInput, match="tables that inherit from it"):
        track(bare, "parent")


# ── Tracked: by changes, and equal ──────────────────────────────────────────────────────────────


@pytest.fixture
def orders(bare: Store, lake: Lake) -> Store:
    """Tracked, 1,000 rows, in epoch 1."""
    run(bare, ORDERS, "INSERT INTO orders SELECT n, 'thing ' || n, n FROM generate_series(1, 1000) AS n")
    track(bare, "orders")
    take_changes(bare, lake, tables=["orders"])
    return bare


def test_a_tracked_table_is_taken_by_its_changes(orders: Store, lake: Lake):
    run(orders, "UPDATE orders SET what = 'new' WHERE id <= 3", "DELETE FROM orders WHERE id = 4")
    taken = take_changes(orders, lake, verify=True)
    assert (taken.epoch.changed, taken.epoch.gone, taken.epoch.rows) == (3, 1, 999)
    assert not take_changes(orders, lake).is_new


def test_an_untracked_table_has_nothing_of_ours_left_and_goes_on_whole(orders: Store, lake: Lake):
    run(orders, "DELETE FROM orders WHERE id = 1")
    untrack(orders, "orders")
    columns = "SELECT attname FROM pg_attribute WHERE attrelid = 'orders'::regclass AND attnum > 0"
    assert rows_of(orders, f"{columns} AND NOT attisdropped ORDER BY 1") == [("id",), ("price",), ("what",)]
    assert rows_of(orders, "SELECT FROM pg_trigger WHERE tgrelid = 'orders'::regclass") == []
    assert rows_of(
        orders, "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'orders'::regclass"
    ) == [("orders_pkey",)]
    assert rows_of(orders, "SELECT FROM ridelake_tracking.tombstones") == []
    run(orders, "INSERT INTO orders VALUES (5000, 'unstamped', 1)")
    assert how(take_changes(orders, lake, verify=True)) == "whole"
    assert "tx" not in asked(lake, "SELECT * FROM orders WHERE id = 5000")[0]
    track(orders, "orders")
    assert how(take_changes(orders, lake, verify=True)) == "whole"
    run(orders, "DELETE FROM orders WHERE id = 5000")
    taken = take_changes(orders, lake, verify=True)
    assert (taken.epoch.changed, taken.epoch.gone) == (0, 1)


# Each leaves a state in which rows may have changed without a word, and what was changed meanwhile.
BEHIND_OUR_BACK = {
    "a trigger silenced": [
        "ALTER TABLE orders DISABLE TRIGGER ridelake_deleted", "DELETE FROM orders WHERE id = 9",
    ],
    "a trigger silenced for a while": [
        "ALTER TABLE orders DISABLE TRIGGER ridelake_deleted", "DELETE FROM orders WHERE id = 9",
        "ALTER TABLE orders ENABLE ALWAYS TRIGGER ridelake_deleted",
    ],
    "all triggers silenced for a while": [
        "ALTER TABLE orders DISABLE TRIGGER ALL", "UPDATE orders SET price = 0",
        "ALTER TABLE orders ENABLE TRIGGER ALL",
    ],
    "a trigger dropped": ["DROP TRIGGER zzz_ridelake_stamp ON orders", "UPDATE orders SET price = 0"],
    "a column rewritten in its own type": [
        "ALTER TABLE orders ALTER price TYPE numeric(10, 2) USING price * 2",
    ],
    "a column dropped and added again": [
        "ALTER TABLE orders DROP COLUMN price",
        "ALTER TABLE orders ADD COLUMN price numeric(10, 2) DEFAULT 3",
    ],
    "another column is the key": [
        "ALTER TABLE orders DROP CONSTRAINT orders_pkey", "ALTER TABLE orders ADD PRIMARY KEY (what)",
        "DELETE FROM orders WHERE id = 9",
    ],
    "rows in a table that inherits": [
        "CREATE TABLE more () INHERITS (orders)", "INSERT INTO more VALUES (-1, 'more', 1)",
    ],
    "made anew by the same name": ["DROP TABLE orders", ORDERS, "INSERT INTO orders VALUES (1, 'one', 1)"],
}  # fmt: skip


@pytest.mark.parametrize("what", BEHIND_OUR_BACK)
def test_what_may_have_changed_behind_our_back_is_taken_whole(orders: Store, lake: Lake, what: str):
    run(orders, *BEHIND_OUR_BACK[what])
    with pytest.raises(NotReady, match=r"cannot be told, because it .*: run `ridelake snapshot --verify`"):
        verify_now(orders, lake)
    assert how(take_changes(orders, lake, verify=True)) == "whole"
    if "inherits" not in what:
        run(orders, "DELETE FROM orders WHERE id = 1")
    assert take_changes(orders, lake, verify=True).epoch.verified


def test_a_key_that_is_renamed_does_not_lose_deletes_in_a_new_lake(orders: Store, tmp_path: Path):
    run(orders, "ALTER TABLE orders RENAME id TO number")
    lake = Lake.create(LakeAddress.at(tmp_path / "new"))
    take_changes(orders, lake, tables=["orders"])
    run(orders, "DELETE FROM orders WHERE number = 9")
    take_changes(orders, lake, verify=True)
    track(orders, "orders")
    take_changes(orders, lake)
    run(orders, "DELETE FROM orders WHERE number = 10")
    assert take_changes(orders, lake, verify=True).epoch.gone == 1


def test_a_key_that_a_trigger_changes_leaves_no_row_behind(orders: Store, lake: Lake):
    run(
        orders,
        "CREATE FUNCTION negate() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN NEW.id := -OLD.id; RETURN NEW; END $$",
        "CREATE TRIGGER negate BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION negate()",
        "UPDATE orders SET what = 'renumbered' WHERE id = 7",
    )
    assert take_changes(orders, lake, verify=True).epoch.rows == 1000


def test_untrack_works_where_much_is_gone_already(orders: Store, lake: Lake):
    run(orders, "CREATE VIEW built_on AS SELECT id, tx FROM orders")
    with pytest.raises(
        BadInput, match=r"something is built on the column tx of orders \(view built_on .*drop that first"
    ):
        untrack(orders, "orders")
    run(
        orders, "DROP VIEW built_on", "DROP TRIGGER zzz_ridelake_stamp ON orders",
        "DROP TRIGGER ridelake_deleted ON orders", "DROP TRIGGER ridelake_rekeyed ON orders",
        "DROP TRIGGER ridelake_truncated ON orders",
        "ALTER TABLE orders DROP COLUMN tx", "ALTER TABLE orders DROP CONSTRAINT orders_pkey",
        "ALTER TABLE orders ADD COLUMN place point",
    )  # fmt: skip
    assert untrack(orders, "orders") == "public.orders"
    with pytest.raises(BadInput, match=r"public\.orders is not tracked"):
        untrack(orders, "orders")


def test_a_table_that_went_is_told_and_the_lake_can_still_be_asked(orders: Store, lake: Lake):
    run(orders, "ALTER TABLE orders RENAME TO invoices")
    with pytest.raises(
        BadInput, match=r"no table public\.orders .* begin a lake of the tables that there are"
    ):
        take_changes(orders, lake)
    assert asked(lake, "SELECT count(*) AS n FROM orders") == [{"n": 1000}]


def test_tables_join_a_lake_one_after_the_other(orders: Store, lake: Lake):
    run(orders, "CREATE TABLE people (name text PRIMARY KEY)", "INSERT INTO people VALUES ('Zoë')")
    run(orders, "DELETE FROM orders WHERE id = 1")
    taken = take_changes(orders, lake, tables=["people"])
    assert {n: (t.changed, t.gone) for n, t in taken.epoch.tables.items()} == {
        "orders": (0, 1),
        "people": (1, 0),
    }
    assert set(take_changes(orders, lake, verify=True).epoch.tables) == {"orders", "people"}
    assert set(take_snapshot(orders, lake).tables) == {"orders", "people"}


@pytest.mark.slow
def test_a_lake_may_have_the_store_and_tables_of_one_s_own(seeded_store: Store, lake: Lake):
    run(seeded_store, "CREATE SCHEMA mine", "CREATE TABLE mine.rides (id int PRIMARY KEY)",
        "CREATE TABLE mine.notes (ride_id bigint PRIMARY KEY, note text)",
        "INSERT INTO mine.notes SELECT ride_id, 'fine' FROM rides LIMIT 10")  # fmt: skip
    take_changes(seeded_store, lake)
    with pytest.raises(BadInput, match=r"ridelake\.rides and mine\.rides would both be rides"):
        take_changes(seeded_store, lake, tables=["mine.rides"])
    take_changes(seeded_store, lake, tables=["mine.notes"], verify=True)
    query = "SELECT count(*) AS n FROM notes JOIN rides ON rides.ride_id = notes.ride_id"
    settings = Settings(home=Path("unused"), lake=lake.address, dsn=seeded_store.conninfo)
    for name in ("duckdb", "polars", "postgres"):
        with open_engine(name, settings, newest_epoch(lake.address)) as engine:
            assert engine.sql(query).to_pylist() == [{"n": 10}]
            assert engine.sql("SELECT count(*) AS n FROM RideTable").num_rows == 1


def test_a_table_called_rides_that_is_not_the_store_s_is_only_a_table(bare: Store, lake: Lake):
    run(bare, "CREATE TABLE rides (id int PRIMARY KEY)", "INSERT INTO rides VALUES (1)",
        "CREATE SCHEMA ridelake", "CREATE TABLE ridelake.riders (id int PRIMARY KEY)")  # fmt: skip
    take_changes(bare, lake, tables=["public.rides", "ridelake.riders"], verify=True)
    for engine in ("duckdb", "polars"):
        assert asked(lake, "SELECT id FROM rides", engine) == [{"id": 1}]


# ── Under load ──────────────────────────────────────────────────────────────────────────────────


def write_at_random(store: Store, seed: int, stop: threading.Event) -> None:
    """Inserts, updates, deletes, key changes, savepoints, rollbacks, and now and then a TRUNCATE."""
    choose = random.Random(seed)
    with store.connect() as connection:
        while not stop.is_set():
            a, b = choose.randrange(400), choose.randrange(400)
            statement = choose.choices(
                [
                    f"INSERT INTO orders SELECT n, 'new', n FROM generate_series({a}, {a + 20}) AS n"
                    " ON CONFLICT (id) DO UPDATE SET what = orders.what || '!'",
                    f"UPDATE orders SET what = 'changed {b}' WHERE id BETWEEN {a} AND {a + 10}",
                    f"DELETE FROM orders WHERE id BETWEEN {a} AND {a + 15}",
                    f"UPDATE orders SET id = id + {b} WHERE id = {a}",
                    f"BEGIN; SAVEPOINT s; DELETE FROM orders WHERE id = {a}; ROLLBACK TO s;"
                    f" SAVEPOINT t; UPDATE orders SET price = {b} WHERE id = {b}; COMMIT",
                    f"BEGIN; DELETE FROM orders WHERE id > {a}; ROLLBACK",
                    "TRUNCATE orders",
                ],
                weights=[30, 30, 20, 20, 10, 5, 1],
            )[0]
            try:
                connection.execute(statement.encode())
            except (psycopg.errors.UniqueViolation, psycopg.errors.DeadlockDetected):
                connection.rollback()


def test_a_tracked_table_is_equal_at_every_epoch_under_writers(orders: Store, lake: Lake):
    stop = threading.Event()
    writers = [threading.Thread(target=write_at_random, args=(orders, seed, stop)) for seed in range(4)]
    for writer in writers:
        writer.start()
    try:
        taken = [take_changes(orders, lake, verify=True) for _ in range(25)]
        verify_now(orders, lake).prove()
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert all(one.epoch.verified for one in taken)
    assert sum(one.epoch.gone for one in taken) > 0
    take_changes(orders, lake, verify=True)


def test_tracking_while_others_write_loses_nothing(bare: Store, lake: Lake):
    run(bare, ORDERS)
    stop = threading.Event()
    writers = [threading.Thread(target=write_at_random, args=(bare, seed, stop)) for seed in range(3)]
    for writer in writers:
        writer.start()
    try:
        take_changes(bare, lake, tables=["orders"], verify=True)
        for _ in range(3):
            track(bare, "orders")
            for _ in range(3):
                assert take_changes(bare, lake, verify=True).epoch.verified
            untrack(bare, "orders")
            assert take_changes(bare, lake, verify=True).epoch.verified
    finally:
        stop.set()
        for writer in writers:
            writer.join()
