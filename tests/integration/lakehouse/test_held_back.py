"""A view or a foreign table that cannot be read is held back. The other tables are published."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from bare_database import rows_of, run
from own_tables import ORDERS, asked
from rows_read import assert_equal

import lakehouse.source.snapshot
import lakehouse.verify
from lakehouse.capture.publish import publish_changes
from lakehouse.capture.sync import sync_repeatedly
from lakehouse.source.tracking import track
from lakehouse.table.catalog import Lake
from lakehouse.table.epoch import Epoch, Selection
from lakehouse.table.published import newest_epoch
from lakehouse.verify import verify_now
from oltp.store import Store, transaction

EVERYTHING = Selection(all_tables=True)
NEW_ORDER = "INSERT INTO orders SELECT max(id) + 1, 'new', 1 FROM orders"


@pytest.fixture
def shop(bare: Store) -> Store:
    run(bare, ORDERS, "INSERT INTO orders VALUES (1, 'thing', 1)")
    track(bare, "orders")
    return bare


def foreign_server(store: Store, port: int | None = None) -> None:
    """Create the foreign server `far`. With `port` None it is this server itself."""
    try:
        run(store, "CREATE EXTENSION IF NOT EXISTS postgres_fdw")
    except psycopg.Error as error:
        pytest.skip(f"this server has no postgres_fdw: {error}")
    with store.connect() as connection:
        of = connection.info
        host, name, user, here = of.host, of.dbname, of.user, of.port
    run(
        store,
        f"CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '{host}', port '{port or here}',"
        f" dbname '{name}')",
        f"CREATE USER MAPPING FOR CURRENT_USER SERVER far OPTIONS (user '{user}')",
    )


def foreign_table(store: Store) -> None:
    foreign_server(store)
    run(store, "CREATE FOREIGN TABLE odd (id bigint, what text) SERVER far OPTIONS (table_name 'orders')")


def foreign_partition(store: Store) -> None:
    foreign_server(store)
    run(
        store,
        "CREATE TABLE odd (id bigint, what text) PARTITION BY RANGE (id)",
        "CREATE TABLE odd_1 PARTITION OF odd FOR VALUES FROM (1000) TO (2000)",
        "CREATE FOREIGN TABLE odd_2 PARTITION OF odd FOR VALUES FROM (0) TO (1000) SERVER far"
        " OPTIONS (table_name 'orders')",
    )


def view(query: str) -> Callable[[Store], None]:
    return lambda store: run(store, f"CREATE VIEW odd AS {query}")


def materialized_view(store: Store) -> None:
    run(store, "CREATE MATERIALIZED VIEW odd AS SELECT id, what FROM orders")


def function_view(store: Store) -> None:
    run(
        store,
        "CREATE TABLE rates (id bigint)",
        "CREATE FUNCTION rate(bigint) RETURNS bigint LANGUAGE plpgsql AS"
        " 'BEGIN RETURN $1 + (SELECT count(*) FROM rates); END'",
        "CREATE VIEW odd AS SELECT id, rate(id) AS rate FROM orders",
    )


UNREACHABLE = ("ALTER SERVER far OPTIONS (SET port '1')",)
REACHABLE = (
    "DO $$ BEGIN EXECUTE format('ALTER SERVER far OPTIONS (SET port %L)', current_setting('port')); END $$"
)
RAISES = (
    "CREATE OR REPLACE FUNCTION rate(bigint) RETURNS bigint LANGUAGE plpgsql AS"
    " 'BEGIN RAISE ''no rate today''{}; END'"
)
CASES = {
    "unpopulated": (
        materialized_view,
        ("REFRESH MATERIALIZED VIEW odd WITH NO DATA",),
        ("REFRESH MATERIALIZED VIEW odd",),
        "has not been populated",
    ),
    "unreachable": (foreign_table, UNREACHABLE, (REACHABLE,), "could not connect to server"),
    "unreachable partition": (foreign_partition, UNREACHABLE, (REACHABLE,), "could not connect to server"),
    "remote table dropped": (
        foreign_table,
        ("ALTER FOREIGN TABLE odd OPTIONS (SET table_name 'nothing')",),
        ("ALTER FOREIGN TABLE odd OPTIONS (SET table_name 'orders')",),
        'relation "public.nothing" does not exist',
    ),
    "error of a function": (
        function_view,
        (RAISES.format(""),),
        ("CREATE OR REPLACE FUNCTION rate(bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint'",),
        "no rate today",
    ),
    "error with a code of the user": (
        function_view,
        (RAISES.format(" USING ERRCODE = ''RATE1''"),),
        ("CREATE OR REPLACE FUNCTION rate(bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint'",),
        "no rate today",
    ),
    "table of a function dropped": (
        function_view,
        ("ALTER TABLE rates RENAME TO old_rates",),
        ("ALTER TABLE old_rates RENAME TO rates",),
        'relation "rates" does not exist',
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_table_that_cannot_be_read_is_held_back_and_returns(shop: Store, lake: Lake, case: str):
    create, break_it, repair, why = CASES[case]
    create(shop)
    publish_changes(shop, lake, selection=EVERYTHING, tables=["odd"])
    assert set(newest_epoch(lake.address).tables) >= {"orders", "odd"}
    ticks = sync_repeatedly(0, shop, lake, verify=True)
    for _ in range(2):  # the previous epoch has the table in the first iteration only
        run(shop, *break_it, NEW_ORDER)
        synced = next(ticks)
        assert_held_back(synced.epoch, why)
        assert_equal(shop, lake, "orders")
        break_it = ()
    compared = verify_now(shop, lake)
    assert compared.equal
    assert why in compared.not_compared["public.odd"]
    run(shop, *repair, NEW_ORDER)
    synced = next(ticks)
    assert synced.epoch
    assert not synced.epoch.left_out
    assert_equal(shop, lake, "odd")


def assert_held_back(epoch: Epoch | None, why: str) -> None:
    assert epoch
    (sentence,) = epoch.missing()
    assert sentence.startswith(
        f"public.odd is not in epoch {epoch.number}: Postgres cannot compute the rows of public.odd ("
    )
    assert why in sentence
    assert "orders" in epoch.tables
    assert "odd" not in epoch.tables


def test_a_view_whose_owner_lost_a_privilege_is_held_back(shop: Store, lake: Lake):
    role = f"owner_{rows_of(shop, 'SELECT current_database()')[0][0]}"
    run(
        shop, f"CREATE ROLE {role}", f"GRANT CREATE, USAGE ON SCHEMA public TO {role}",
        f"GRANT SELECT ON orders TO {role}", "CREATE VIEW odd AS SELECT id FROM orders",
        f"ALTER VIEW odd OWNER TO {role}",
    )  # fmt: skip
    try:
        ticks = sync_repeatedly(0, shop, lake, tables=["orders", "odd"], verify=True)
        assert next(ticks).is_new
        run(shop, f"REVOKE SELECT ON orders FROM {role}", NEW_ORDER)
        assert_held_back(next(ticks).epoch, "permission denied for table orders")
        assert "grant the privilege" in newest_epoch(lake.address).missing()[0]
        verify_now(shop, lake).prove()
        run(shop, f"GRANT SELECT ON orders TO {role}")
        assert next(ticks).is_new
        assert_equal(shop, lake, "odd")
    finally:
        run(shop, "DROP VIEW IF EXISTS odd", f"DROP OWNED BY {role}", f"DROP ROLE {role}")


@pytest.mark.slow
def test_a_virtual_column_that_fails_holds_back_its_tracked_table_only(shop: Store, lake: Lake):
    try:
        run(shop, "CREATE TABLE odd (id int PRIMARY KEY, q int GENERATED ALWAYS AS (10 / (id - 5)) VIRTUAL)")
    except psycopg.Error as error:
        pytest.skip(f"this server has no virtual columns: {error}")
    track(shop, "odd")
    run(shop, "INSERT INTO odd VALUES (6)")
    ticks = sync_repeatedly(0, shop, lake, tables=["orders", "odd"])
    assert next(ticks).is_new
    run(shop, "UPDATE odd SET id = 5", NEW_ORDER)
    assert "division by zero" in verify_now(shop, lake).not_compared["public.odd"]
    assert_held_back(next(ticks).epoch, "division by zero")
    run(shop, "UPDATE odd SET id = 7")
    assert next(ticks).is_new
    assert_equal(shop, lake, "odd")
    verify_now(shop, lake).prove()


def test_a_view_that_fails_after_it_was_read_is_reported_by_name(shop: Store, lake: Lake):
    """`--verify` reads the view a second time in the same snapshot."""
    run(
        shop,
        "CREATE SEQUENCE reads",
        "CREATE FUNCTION once() RETURNS int LANGUAGE plpgsql AS $$ BEGIN"
        " IF pg_sequence_last_value('reads') > 0 THEN RAISE 'read twice'; END IF; RETURN 1; END $$",
        "CREATE VIEW odd AS SELECT once() AS n FROM orders",
    )
    original = lakehouse.verify.verify_at_token

    def verify(*arguments) -> None:
        run(shop, "SELECT nextval('reads')")
        original(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lakehouse.verify.verify_at_token", verify)
        trouble = next(sync_repeatedly(0, shop, lake, tables=["orders", "odd"], verify=True)).trouble
    assert trouble
    assert "cannot compute the rows of public.odd (read twice)" in trouble


# ── Locks ───────────────────────────────────────────────────────────────────────────────────────

WAITS = {
    "materialized": ("CREATE MATERIALIZED VIEW odd AS SELECT * FROM base", "REFRESH MATERIALIZED VIEW odd"),
    "view": ("CREATE VIEW odd AS SELECT * FROM base", "ALTER TABLE base ADD COLUMN more int"),
    "foreign": (
        "CREATE FOREIGN TABLE odd (id bigint) SERVER far OPTIONS (table_name 'base')",
        "ALTER FOREIGN TABLE odd DROP COLUMN IF EXISTS more",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", WAITS)
def test_a_migration_of_a_view_and_a_table_does_not_deadlock_with_epochs(shop: Store, lake: Lake, kind: str):
    """The epoch locks `orders` before it reads `odd`. The migration locks `odd` before it alters `orders`."""
    create, alter = WAITS[kind]
    foreign_server(shop)
    run(shop, "CREATE TABLE base AS SELECT 1::bigint AS id", create)
    publish_changes(shop, lake, tables=["orders", "odd"])
    with ThreadPoolExecutor(1) as pool:
        for number in range(3):
            with shop.connect() as user:
                user.execute("SET deadlock_timeout = '50ms'")  # less than the epoch waits
                with transaction(user):
                    user.execute(alter.replace("more", f"more_{number}").encode())
                    epoch = pool.submit(publish_changes, shop, lake)
                    time.sleep(0.3)
                    user.execute(f"ALTER TABLE orders ADD COLUMN age_{number} int".encode())
            assert not epoch.result(60).epoch.left_out
    assert_equal(shop, lake, "odd")
    assert_equal(shop, lake, "orders")


def test_a_long_refresh_holds_back_its_view_and_later_epochs_do_not_wait(
    shop: Store, lake: Lake, monkeypatch: pytest.MonkeyPatch
):
    materialized_view(shop)
    publish_changes(shop, lake, tables=["orders", "odd"])
    monkeypatch.setattr(lakehouse.source.snapshot, "LOCK_SECONDS_MAX", 0.3)
    with shop.connect() as user, transaction(user):
        user.execute("REFRESH MATERIALIZED VIEW odd")
        run(shop, NEW_ORDER)
        assert_held_back(publish_changes(shop, lake).epoch, "another session has locked it")
        run(shop, NEW_ORDER)
        monkeypatch.setattr(lakehouse.source.snapshot, "LOCK_SECONDS_MAX", 3_600)
        assert_held_back(publish_changes(shop, lake).epoch, "another session has locked it")
        verify_now(shop, lake).prove()
    assert not publish_changes(shop, lake, verify=True).epoch.left_out
    assert_equal(shop, lake, "odd")


def test_a_refresh_between_the_snapshot_and_the_read_is_tried_again(
    shop: Store, lake: Lake, monkeypatch: pytest.MonkeyPatch
):
    materialized_view(shop)
    original, refreshed = lakehouse.source.snapshot.read_token, list[int]()

    def read_token(connection):
        token = original(connection)
        if not refreshed:
            refreshed.append(1)
            run(shop, NEW_ORDER, "REFRESH MATERIALIZED VIEW odd")
        return token

    monkeypatch.setattr(lakehouse.source.snapshot, "read_token", read_token)
    assert not publish_changes(shop, lake, tables=["orders", "odd"], verify=True).epoch.left_out
    assert asked(lake, "SELECT count(*) AS n FROM odd") == [{"n": 2}]


def test_a_rebuilt_index_delays_an_epoch_and_sync_retries(shop: Store, lake: Lake):
    """The epoch has locked `orders` when it waits for the index. If it waited longer, the deadlock detector
    would cancel a migration that alters `orders`."""
    ticks = sync_repeatedly(0, shop, lake, tables=["orders"])
    assert next(ticks).is_new
    run(shop, NEW_ORDER)
    with shop.connect() as user:
        user.execute("SET deadlock_timeout = '10s'")
        with transaction(user):
            user.execute("REINDEX TABLE orders")
            trouble = next(ticks).trouble
            assert trouble
            assert "another session alters one of them" in trouble
            user.execute("ALTER TABLE orders ADD COLUMN age int")
    assert next(ticks).is_new
    assert_equal(shop, lake, "orders")


@pytest.mark.parametrize("when", ["before", "during"])
def test_a_connection_that_is_ended_during_a_copy_does_not_end_sync(
    shop: Store, lake: Lake, monkeypatch: pytest.MonkeyPatch, when: str
):
    import lakehouse.source.copy.raw as raw

    monkeypatch.setattr("lakehouse.source.copy.COMPILED_BYTES", 0)
    original = raw.SocketReader.fill if when == "before" else raw.SocketReader._receive
    ended: list[int] = []

    def end_session(reader: raw.SocketReader, *arguments) -> None:
        if not ended:
            ended.append(reader._connection.info.backend_pid)
            run(shop, f"SELECT pg_terminate_backend({ended[0]}, 10000)")
        original(reader, *arguments)

    monkeypatch.setattr(raw.SocketReader, original.__name__, end_session)
    run(shop, "INSERT INTO orders SELECT n, repeat('x', 1000), 1 FROM generate_series(2, 20000) AS n")
    ticks = sync_repeatedly(0, shop, lake, tables=["orders"], verify=True)
    trouble = next(ticks).trouble
    assert trouble
    assert ended
    assert next(ticks).is_new


def test_the_settings_that_a_function_of_a_view_changes_do_not_change_other_tables(shop: Store, lake: Lake):
    run(
        shop,
        "CREATE TABLE texts (id int PRIMARY KEY, during tstzrange, reals float8[])",
        "INSERT INTO texts VALUES (1, '[2020-01-01 00:00Z,)', '{0.1234567890123}')",
        "CREATE FUNCTION change_settings() RETURNS int LANGUAGE plpgsql AS $$ BEGIN"
        " PERFORM set_config('TimeZone', 'Asia/Tokyo', false), set_config('DateStyle', 'SQL', false),"
        " set_config('extra_float_digits', '-10', false); RETURN 1; END $$",
        "CREATE VIEW first AS SELECT change_settings() AS one",
        "CREATE VIEW second AS SELECT * FROM texts",
    )
    publish_changes(shop, lake, tables=["first", "second"])
    expected = {"during": '["2020-01-01 00:00:00+00",)', "reals": "{0.1234567890123}"}
    assert asked(lake, "SELECT during, reals FROM second") == [expected]
    run(shop, "UPDATE texts SET id = 2")
    publish_changes(shop, lake, verify=True)
    assert asked(lake, "SELECT id, during, reals FROM second") == [{"id": 2, **expected}]
