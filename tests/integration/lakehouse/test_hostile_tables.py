"""The lake has exactly the rows of any user table, or an error names what it cannot store."""

import io
import uuid
from contextlib import ExitStack, suppress
from pathlib import Path

import psycopg
import pytest
from bare_database import bare_database, rows_of, run
from own_tables import ORDERS, asked, kind_of
from psycopg.conninfo import make_conninfo

from lakehouse.capture.publish import publish_changes, publish_snapshot
from lakehouse.engines import open_engine
from lakehouse.source.tracking import track
from lakehouse.table.catalog import Lake
from lakehouse.table.published import newest_epoch
from lakehouse.verify import verify_now
from olap.answer import difference
from olap.formats import FORMATS, write
from oltp.cluster.server import Cluster
from oltp.store import Store, open_database
from ridelake.errors import NotReady, RidelakeError, UsageError
from ridelake.settings import Settings

VALUES = {
    "smallint": ("-32768", "32767"),
    "bigint": ("-9223372036854775808", "9223372036854775807"),
    "real": ("'NaN'", "'-Infinity'", "'-0'", "1e-45"),
    "double precision": ("'NaN'", "'Infinity'", "'-0'", "5e-324"),
    "numeric(38, 38)": ("0." + "9" * 38, "-0." + "9" * 38),
    "numeric(38)": ("9" * 38, "-" + "9" * 38),
    "numeric(5, 2)": ("'NaN'",),
    "numeric(3, -2)": ("12300",),
    "numeric(2, 5)": ("0.00012",),
    "numeric(1000, 1)": ("1",),
    "numeric": ("1e1000",),
    "date": ("'4713-01-01 BC'", "'5874897-12-31'", "'0001-12-31 BC'"),
    "date ": ("'infinity'",),
    "timestamp": ("'4713-01-01 BC'", "'294246-12-31 23:59:59.999999'"),
    "timestamptz": ("'294276-12-31 23:59:59.999999+00'",),
    "timestamptz ": ("'4714-11-24 00:00:00+00 BC'", "'-infinity'"),
    "time": ("'00:00'", "'23:59:59.999999'"),
    "time ": ("'24:00'",),
    "timetz": ("'23:59:59+15:59'",),
    "interval": ("'-178000000 years'",),
    "text": ("''", "E'\\x01\\x7f\\r\\n'", "E'\\u00a0\\U0001F695'", "'NaN'"),
    "varchar(3)": ("'a  '",),
    "char(3)": ("'a'", "''"),
    '"char"': ("'a'",),
    "name": ("'" + "é" * 31 + "'",),
    "bytea": ("''", "'\\x00ff'"),
    "bit(3)": ("B'101'",),
    "uuid": ("'ffffffff-ffff-ffff-ffff-ffffffffffff'",),
    "jsonb": ("'{}'",), "inet": ("'::1'",), "money": ("1",), "oid": ("4294967295",),
    "int[]": ("'{1,NULL}'",), "point": ("'(1,2)'",), "int4range": ("'empty'",), "tsvector": ("'a b'",),
    "pg_lsn": ("'0/1'",), "regclass": ("'pg_class'",), "xid8": ("'1'",), "void_domain": ("1",),
    "letter": ("'é'",), "enum_of_one": ("''",), "empty_enum": (), "composite": ("ROW(1, 'x')",),
}  # fmt: skip
# Types with values that have no exact form in the lake.
WITHOUT_FORM = {"numeric(5, 2)", "date ", "timestamptz", "timestamptz ", "time "}
TYPES = (
    "CREATE DOMAIN inner_domain AS int CHECK (VALUE > 0)",
    "CREATE DOMAIN void_domain AS inner_domain",
    "CREATE DOMAIN letter AS varchar(1) NOT NULL DEFAULT 'x'",
    "CREATE TYPE enum_of_one AS ENUM ('')",
    "CREATE TYPE empty_enum AS ENUM ()",
    "CREATE TYPE composite AS (a int, b text)",
)
SHAPES = {
    "no_columns": "CREATE TABLE no_columns ()",
    "no_key": "CREATE TABLE no_key (id int)",
    "no_rows": "CREATE TABLE no_rows (id int PRIMARY KEY, v text)",
    "all_null": "CREATE TABLE all_null (id int PRIMARY KEY, v date, w text, x numeric(5, 1));"
    " INSERT INTO all_null SELECT generate_series(1, 9)",
    "generated": "CREATE TABLE generated (id int PRIMARY KEY, v int GENERATED ALWAYS AS (id * 2) STORED);"
    " INSERT INTO generated VALUES (1)",
    "identity": "CREATE TABLE identity (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY);"
    " INSERT INTO identity DEFAULT VALUES",
    "dropped": "CREATE TABLE dropped (old text, id int PRIMARY KEY, v int);"
    " INSERT INTO dropped VALUES ('x', 1, 2);"
    " ALTER TABLE dropped DROP COLUMN old, ADD COLUMN w text DEFAULT 'w'",
    "only_key_dropped": "CREATE TABLE only_key_dropped (id int PRIMARY KEY, v int);"
    " ALTER TABLE only_key_dropped DROP COLUMN id",
    '"select"': 'CREATE TABLE "select" ("from" int PRIMARY KEY, "a.b" int, "%s" text, "{{}}" text,'
    ' "q""q" int);'
    """ INSERT INTO "select" VALUES (1, 2, '%s', '{{}}', 3)""",
    '"dotted.schema"."dotted.table"': 'CREATE SCHEMA "dotted.schema";'
    ' CREATE TABLE "dotted.schema"."dotted.table" ("é" int PRIMARY KEY)',
    "parted": "CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY RANGE (id)",
    "parent": "CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (v int) INHERITS (parent);"
    " INSERT INTO child VALUES (1, 1)",
    "deferred": "CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED)",
    "unlogged": "CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY)",
    "seen": "CREATE VIEW seen AS SELECT 1 AS id",
    "kept": "CREATE MATERIALIZED VIEW kept AS SELECT 1 AS id",
    "counted": "CREATE SEQUENCE counted",
    "pg_catalog.pg_class": "SELECT 1",
    "pg_catalog.pg_statistic": "SELECT 1",
    "twice": 'CREATE TABLE twice (id int PRIMARY KEY, "ID" int)',
    "wide_key": f"CREATE TABLE wide_key ({', '.join(f'k{n} int' for n in range(32))},"
    f" PRIMARY KEY ({', '.join(f'k{n}' for n in range(32))}))",
}


def outcome(store: Store, lake: Lake, table: str) -> str:
    """`equal`, or the error message. Other exceptions and differences fail the test."""
    try:
        epoch = publish_snapshot(store, lake, tables=[table], verify=True)
    except RidelakeError as error:
        return str(error)
    assert not epoch.left_out
    with suppress(UsageError):
        track(store, table)
    publish_changes(store, lake, verify=True)
    with suppress(NotReady):  # the table is not tracked
        verify_now(store, lake).prove()
    ask_everything(store, lake)
    return "equal"


NUMERIC = """
SELECT DISTINCT attname::text FROM pg_attribute WHERE format_type(atttypid, atttypmod) IN
('numeric', 'numeric(3,-2)', 'numeric(2,5)', 'numeric(1000,1)')
"""


def in_quotes(name: str) -> str:
    return '"{}"'.format(name.replace('"', '""'))


def ask_everything(store: Store, lake: Lake) -> None:
    epoch = newest_epoch(lake.address)
    settings = Settings(home=Path("unused"), lake=lake.address, dsn=store.conninfo)
    (name,) = epoch.tables
    with ExitStack() as stack:
        engines = [stack.enter_context(open_engine(e, settings, epoch)) for e in ("duckdb", "postgres")]
        ours = engines[0].sql(f"SELECT * FROM {in_quotes(name)}")  # without excluded columns
        # A numeric without precision is a decimal in the result of Postgres, and text in the lake.
        numeric = rows_of(store, NUMERIC)
        columns = ", ".join(
            in_quotes(column) + ("::text" if (column,) in numeric else "") for column in ours.schema.names
        )
        theirs = engines[1].sql(f"SELECT {columns} FROM {in_quotes(name)}")
    assert difference(ours, theirs, ordered=False) is None
    for format_ in FORMATS:
        write(ours, format_, io.StringIO())


def test_a_table_with_a_column_of_each_type_equals_postgres_in_every_format(bare: Store, lake: Lake):
    columns = ", ".join(f"c{n} {type_}" for n, type_ in enumerate(VALUES))
    run(bare, *TYPES, f"CREATE TABLE t (id int PRIMARY KEY, {columns})", "INSERT INTO t VALUES (1)")
    publish_snapshot(bare, lake, tables=["t"], verify=True)
    ask_everything(bare, lake)


@pytest.mark.slow
@pytest.mark.parametrize("type_", VALUES)
def test_the_values_of_each_type_equal_postgres_or_are_named(bare: Store, lake: Lake, type_: str):
    values = VALUES[type_]
    run(bare, *TYPES, "CREATE SCHEMA shop", f"CREATE TABLE shop.t (id int PRIMARY KEY, v {type_})")
    run(bare, *(f"INSERT INTO shop.t VALUES ({n}, {value})" for n, value in enumerate(values)))
    if type_ != "letter":
        run(bare, "INSERT INTO shop.t VALUES (99)")
    result = outcome(bare, lake, "shop.t")
    assert result == "equal" or (type_ in WITHOUT_FORM and "column shop.t.v contains" in result)
    assert "\n" not in result


@pytest.mark.slow
@pytest.mark.parametrize("table", SHAPES)
def test_a_table_of_each_shape_equals_postgres_or_is_named(bare: Store, lake: Lake, table: str):
    run(bare, *SHAPES[table].split("; "))
    result = outcome(bare, lake, table)
    bare_name = table.replace('"', "").rsplit(".", 1)[-1]
    assert result == "equal" or bare_name in result


@pytest.mark.slow
@pytest.mark.parametrize("columns", [1599])
def test_a_table_with_1599_columns_equals_postgres_or_is_named(bare: Store, lake: Lake, columns: int):
    run(bare, f"CREATE TABLE t (id int PRIMARY KEY, {', '.join(f'c{n} boolean' for n in range(columns))})")
    run(bare, "INSERT INTO t (id, c7) VALUES (1, true), (2, false)")
    result = outcome(bare, lake, "t")
    assert result == "equal" or "t has" in result


def test_a_foreign_table_is_copied_and_a_temporary_one_is_not_found(bare: Store, lake: Lake):
    with bare.connect() as connection:
        connection.execute("CREATE TEMP TABLE brief (id int PRIMARY KEY)")
        with pytest.raises(RidelakeError, match="there is no table brief"):
            publish_snapshot(bare, lake, tables=["brief"])
    with psycopg.connect(bare.conninfo, autocommit=True) as connection:
        try:
            connection.execute("CREATE EXTENSION file_fdw")
        except psycopg.Error:
            pytest.skip("this server has no file_fdw")
        connection.execute("CREATE SERVER files FOREIGN DATA WRAPPER file_fdw")
        connection.execute("CREATE FOREIGN TABLE far (id int) SERVER files OPTIONS (filename '/dev/null')")
    assert publish_snapshot(bare, lake, tables=["far"]).rows == 0


# Changes and rows that are hard to detect are detected, or the table is rejected.


def test_row_level_security_that_hides_rows_is_an_error(bare: Store, lake: Lake):
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
            publish_snapshot(reader, lake, tables=["public.orders"], verify=True)
        assert publish_snapshot(bare, lake, tables=["public.orders"]).rows == 10
    finally:
        run(bare, "DROP TABLE orders", f"DROP ROLE {role}")


def test_text_is_utf_8_with_any_database_or_client_encoding(lake: Lake, cluster: Cluster):
    name = f"latin_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(cluster.conninfo("postgres"), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0".encode())
        try:
            conninfo = make_conninfo(cluster.conninfo(name), client_encoding="latin1")
            store = open_database(conninfo, install=False)
            run(store, ORDERS, "INSERT INTO orders VALUES (1, 'é', 1), (2, 'Ã©', 1), (3, 'Â£', 1)")
            assert publish_snapshot(store, lake, tables=["public.orders"], verify=True).verified
            words = [one["what"] for one in asked(lake, "SELECT what FROM orders ORDER BY id")]
            assert words == ["é", "Ã©", "Â£"]
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def test_a_database_without_an_encoding_is_refused(lake: Lake, cluster: Cluster):
    name = f"ascii_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(cluster.conninfo("postgres"), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0".encode())
        try:
            store = open_database(cluster.conninfo(name), install=False)
            run(store, ORDERS)
            with pytest.raises(UsageError, match="the database has the encoding SQL_ASCII"):
                publish_snapshot(store, lake, tables=["public.orders"])
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


PUT_BACK = """
CREATE FUNCTION put_back() RETURNS trigger LANGUAGE plpgsql AS
$$ DECLARE price numeric := NEW.price; BEGIN NEW := OLD; NEW.price := price; RETURN NEW; END $$
"""


@pytest.mark.parametrize("name", ["zz", "zzzz"])
def test_a_user_trigger_that_restores_the_old_row_hides_no_change(bare: Store, lake: Lake, name: str):
    run(bare, ORDERS, "INSERT INTO orders SELECT n, 'thing', 1 FROM generate_series(1, 10) AS n")
    track(bare, "orders")
    run(bare, PUT_BACK)
    run(bare, f"CREATE TRIGGER {name} BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION put_back()")
    publish_snapshot(bare, lake, tables=["public.orders"])
    run(bare, "UPDATE orders SET price = 99 WHERE id = 3")
    taken = publish_changes(bare, lake, verify=True)
    assert taken.epoch.verified
    assert kind_of(taken) == ("changes" if name < "zzz_ridelake_stamp" else "whole")


def test_years_outside_of_pythons_range_are_copied(bare: Store, lake: Lake):
    run(
        bare,
        "CREATE TABLE far (day date PRIMARY KEY, moment timestamptz)",
        "INSERT INTO far VALUES ('2025-01-01', '2025-01-01'), ('4000-01-01 BC', '0001-01-01 BC')",
    )
    track(bare, "far")
    publish_snapshot(bare, lake, tables=["public.far"], verify=True)
    run(
        bare,
        "UPDATE far SET moment = '12345-01-01' WHERE day = '4000-01-01 BC'",
        "INSERT INTO far VALUES ('0044-03-15 BC', now()), ('10000-01-01', now())",
        "DELETE FROM far WHERE day = '2025-01-01'",
    )
    taken = publish_changes(bare, lake, verify=True)
    assert (taken.epoch.rows, taken.epoch.verified) == (3, True)


def test_another_database_of_the_same_server_is_refused(bare: Store, lake: Lake, cluster: Cluster):
    run(bare, ORDERS)
    publish_snapshot(bare, lake, tables=["public.orders"])
    with bare_database(cluster) as other:
        run(other, ORDERS)
        with pytest.raises(UsageError, match="was taken from another database of the server"):
            publish_changes(other, lake)
