"""Changes and rows that are hard to detect in a user's database are detected, or the table is rejected."""

import uuid

import psycopg
import pytest
from bare_database import bare_database, run
from own_tables import ORDERS, asked, how
from psycopg.conninfo import make_conninfo

from lakehouse.capture.publish import publish_changes, publish_snapshot
from lakehouse.source.tracking import track
from lakehouse.table.catalog import Lake
from oltp.cluster.server import Cluster
from oltp.store import Store, open_database
from ridelake.errors import UsageError


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
    assert how(taken) == ("changes" if name < "zzz_ridelake_stamp" else "whole")


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
