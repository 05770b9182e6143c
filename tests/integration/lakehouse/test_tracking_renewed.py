"""Tracking of an older version is upgraded in place, and no row is lost."""

import threading
from pathlib import Path

import psycopg
import pytest
from bare_database import rows_of, run
from own_tables import ORDERS, kind_of
from terminal import answer, ridelake

from lakehouse.capture.maintain import maintain
from lakehouse.capture.publish import publish_changes
from lakehouse.source.tracking import renew_tracking, track, untrack
from lakehouse.table.catalog import Lake
from oltp.store import Store, has_tracking, transaction
from ridelake.errors import BadInput
from ridelake.settings import LakeAddress

# oltp/tracking.sql of the last version whose tombstones had no generation.
BEFORE = Path(__file__).with_name("tracking_before_generations.sql")


@pytest.fixture
def old(bare: Store) -> Store:
    """A store with `orders` of ten rows and one tombstone, tracked by the older version."""
    with bare.connect() as connection, transaction(connection):
        connection.execute(BEFORE.read_bytes())
    run(
        bare,
        ORDERS,
        "INSERT INTO orders SELECT n, 'thing', n FROM generate_series(1, 11) AS n",
        "SELECT ridelake_tracking.track('orders')",
        "DELETE FROM orders WHERE id = 11",
    )
    return bare


@pytest.mark.slow
def test_tracking_of_an_older_version_is_upgraded(old: Store, lake: Lake):
    assert kind_of(publish_changes(old, lake, tables=["orders"])) == "whole"
    run(old, "DELETE FROM orders WHERE id = 1", "UPDATE orders SET id = 20 WHERE id = 2")
    assert kind_of(publish_changes(old, lake, verify=True)) == "whole", (
        "the tracking was upgraded by an epoch"
    )
    run(old, "DELETE FROM orders WHERE id = 3")
    assert renew_tracking(old, ["orders"]) == []
    run(old, "DELETE FROM orders WHERE id = 4")
    assert kind_of(publish_changes(old, lake, verify=True)) == "whole"
    assert not publish_changes(old, lake).is_new
    run(old, "INSERT INTO orders VALUES (4, 'again', 1)", "DELETE FROM orders WHERE id = 5")
    taken = publish_changes(old, lake, verify=True)
    assert (taken.epoch.changed, taken.epoch.deleted, taken.epoch.rows) == (1, 1, 7)
    functions = "SELECT proname FROM pg_proc WHERE proname = 'bury'"
    assert rows_of(old, functions) == [], "the function of the older version was not dropped"


@pytest.mark.slow
@pytest.mark.parametrize("command", ["sync", "snapshot", "track"])
def test_a_command_upgrades_tracking_of_an_older_version(old: Store, tmp_path: Path, command: str):
    flags = ["--dsn", old.conninfo, "--lake", tmp_path / "new"]
    if command == "track":
        answer("track", "orders", *flags)
    elif command == "snapshot":
        answer("snapshot", "--table", "orders", *flags)
    answer("sync", "--once", "--table", "orders", *flags)
    assert "nothing has changed" in answer("sync", "--once", *flags)
    run(old, "DELETE FROM orders WHERE id = 5")
    assert " 1 deleted; 9 rows" in answer("sync", "--once", "--verify", *flags)


@pytest.mark.slow
def test_a_role_that_may_not_upgrade_gets_the_command_to_run(old: Store, tmp_path: Path):
    role = f"reader_{old.conninfo.split('dbname=')[1].split()[0]}"
    may_read = f"GRANT SELECT ON ALL TABLES IN SCHEMA ridelake_tracking TO {role}"
    run(old, f"CREATE ROLE {role} LOGIN", f"GRANT USAGE ON SCHEMA ridelake_tracking TO {role}",
        f"GRANT SELECT ON orders TO {role}", may_read)  # fmt: skip
    flags = ["--dsn", psycopg.conninfo.make_conninfo(old.conninfo, user=role), "--lake", tmp_path / "new"]
    try:
        done = ridelake("sync", "--once", "--table", "orders", *flags)
        assert (done.returncode, done.stdout[:7]) == (0, "epoch 1")
        assert "run `ridelake track TABLE` as the role that owns it" in done.stderr
        track(old, "orders")
        answer("sync", "--once", *flags)
        assert "nothing has changed" in answer("sync", "--once", *flags), "the reader lacks a privilege"
    finally:
        run(old, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_a_table_that_lost_its_key_is_tracked_again_once_it_has_one(orders: Store, lake: Lake):
    run(orders, "ALTER TABLE orders DROP CONSTRAINT orders_pkey", "UPDATE orders SET price = 0 WHERE id = 1")
    (remark,) = renew_tracking(orders, ["orders"])
    assert remark == (
        "each epoch copies public.orders completely: orders has no primary key, so it cannot be tracked; "
        "add one (or a unique index on columns that are NOT NULL)"
    )
    assert kind_of(publish_changes(orders, lake, verify=True)) == "whole"
    run(orders, "ALTER TABLE orders ADD PRIMARY KEY (id)")
    assert renew_tracking(orders, ["orders"]) == []
    assert kind_of(publish_changes(orders, lake, verify=True)) == "whole"
    run(orders, "UPDATE orders SET price = 0 WHERE id = 2")
    assert publish_changes(orders, lake, verify=True).epoch.changed == 1


@pytest.mark.slow
def test_the_upgrade_does_not_wait_for_a_locked_table(old: Store, lake: Lake):
    """Other statements on the table would wait behind the lock request."""
    with old.connect() as user, transaction(user):
        user.execute("UPDATE orders SET price = 0 WHERE id = 1")
        (remark,) = renew_tracking(old, ["orders"])
        assert "lock timeout" in remark
        user.execute("DELETE FROM orders WHERE id = 2")
    assert has_tracking_of(old)
    run(old, "DELETE FROM orders WHERE id = 3")  # recorded by the old trigger in the new tables
    assert kind_of(publish_changes(old, lake, tables=["orders"], verify=True)) == "whole"
    assert renew_tracking(old, ["orders"]) == []


def test_a_dropped_table_leaves_no_row_in_the_tracking(orders: Store, lake: Lake):
    tracked = "SELECT relation::regclass::text FROM ridelake_tracking.tracked ORDER BY 1"
    for number, forget in enumerate([
        lambda: track(orders, "orders"),
        lambda: maintain(lake, orders),
        lambda: (track(orders, "kept"), untrack(orders, "kept")),
    ]):  # fmt: skip
        run(orders, f"CREATE TABLE brief_{number} (id int PRIMARY KEY)")
        run(orders, "CREATE TABLE IF NOT EXISTS kept (id int PRIMARY KEY)")
        track(orders, f"brief_{number}")
        assert len(rows_of(orders, tracked)) == 2
        run(orders, f"DROP TABLE brief_{number}")
        assert len(rows_of(orders, tracked)) == 2
        forget()
        assert rows_of(orders, tracked) == [("orders",)]


def test_the_functions_of_an_older_version_are_replaced_by_track(orders: Store, lake: Lake):
    """The older version accepts a column "Tx". Epochs are incremental until the functions are replaced."""
    body = "SELECT prosrc FROM pg_proc WHERE oid = 'ridelake_tracking.track(regclass)'::regprocedure"
    ((newest,),) = rows_of(orders, body)
    older = newest.replace("v_other_tx IS NOT NULL", "false")
    assert older != newest
    run(
        orders,
        f"CREATE OR REPLACE FUNCTION ridelake_tracking.track(p_relation regclass) RETURNS void"
        f" LANGUAGE plpgsql AS $older${older}$older$",
        "COMMENT ON FUNCTION ridelake_tracking.track(regclass) IS NULL",
        'CREATE TABLE odd (id int PRIMARY KEY, "Tx" int)',
        "UPDATE orders SET price = 0 WHERE id = 1",
    )
    assert publish_changes(orders, lake, verify=True).epoch.changed == 1
    assert rows_of(orders, body) == [(older,)], "an epoch has replaced the function"
    with pytest.raises(BadInput, match='odd has a column "Tx", and tracking needs a column tx'):
        track(orders, "odd")
    assert rows_of(orders, body) == [(newest,)]
    run(orders, "UPDATE orders SET price = 0 WHERE id = 2")
    assert publish_changes(orders, lake, verify=True).epoch.changed == 1


def test_the_previous_version_is_replaced_and_a_newer_one_is_not(orders: Store):
    comment = "SELECT obj_description('ridelake_tracking.track(regclass)'::regprocedure)"
    ((newest,),) = rows_of(orders, comment)
    for found, kept in ((int(newest.split()[1]) - 1, newest), (1000, "version 1000")):
        run(orders, f"COMMENT ON FUNCTION ridelake_tracking.track(regclass) IS 'version {found}'")
        track(orders, "orders")
        assert rows_of(orders, comment) == [(kept,)]


def has_tracking_of(store: Store) -> bool:
    with store.connect() as connection:
        return has_tracking(connection)


@pytest.mark.slow
def test_writers_continue_during_the_upgrade(old: Store, lake: Lake):
    """No statement fails, and no row is lost."""
    stop = threading.Event()
    failures: list[Exception] = []

    def write(number: int) -> None:
        try:
            with old.connect() as connection:
                for turn in range(100_000):
                    if stop.is_set():
                        return
                    key = 1000 * number + turn % 50
                    with transaction(connection):
                        connection.execute("DELETE FROM orders WHERE id = %s", (key,))
                        connection.execute("INSERT INTO orders VALUES (%s, 'w', 1)", (key,))
                        connection.execute("UPDATE orders SET id = -id WHERE id = %s", (key - 3,))
                        connection.execute("DELETE FROM orders WHERE id = %s", (3 - key,))
        except Exception as error:
            failures.append(error)

    publish_changes(old, lake, tables=["orders"])
    writers = [threading.Thread(target=write, args=(number,)) for number in (1, 2)]
    for writer in writers:
        writer.start()
    try:
        for _ in range(3):
            renew_tracking(old, ["orders"])
            publish_changes(old, lake, verify=True)
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert failures == []
    assert publish_changes(old, lake, verify=True).epoch.verified


def test_an_older_version_is_removed(old: Store):
    assert untrack(old, "orders") == "public.orders"
    assert rows_of(old, "SELECT FROM pg_trigger WHERE tgrelid = 'orders'::regclass") == []


def test_a_new_lake_of_the_same_database_needs_nothing(orders: Store, tmp_path: Path):
    before = rows_of(orders, "SELECT generation FROM ridelake_tracking.tracked")
    assert renew_tracking(orders, ["orders"]) == []
    publish_changes(orders, Lake.create(LakeAddress.at(tmp_path / "second")), tables=["orders"])
    assert rows_of(orders, "SELECT generation FROM ridelake_tracking.tracked") == before
