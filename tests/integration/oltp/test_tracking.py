"""Guarantees of tracking.sql: every row version has the id of its transaction, and the key of every deleted
row is recorded."""

import psycopg
import pytest
from psycopg import Connection, errors

from oltp.store import Store, transaction

CHANGED = """
    SELECT id FROM things WHERE tx >= pg_snapshot_xmax(%(token)s::pg_snapshot)::text::bigint
       OR tx::text::xid8 IN (SELECT pg_snapshot_xip(%(token)s::pg_snapshot)) ORDER BY id"""
DELETED_KEYS = """
    SELECT key FROM ridelake_tracking.tombstones WHERE relation = 'things'::regclass ORDER BY tx, key"""


@pytest.fixture
def connection(store: Store):
    with store.connect() as connection:
        connection.execute("CREATE TABLE things (id bigint PRIMARY KEY, what text)")
        connection.execute("INSERT INTO things VALUES (1, 'before')")
        connection.execute("SELECT ridelake_tracking.track('things')")
        yield connection


def token(connection: Connection) -> str:
    row = connection.execute("SELECT pg_current_snapshot()::text").fetchone()
    assert row is not None
    return str(row[0])


def changed_since(connection: Connection, since: str) -> list[int]:
    return [row[0] for row in connection.execute(CHANGED, {"token": since})]


def deleted_keys(connection: Connection) -> list[object]:
    return [row[0] for row in connection.execute(DELETED_KEYS)]


def test_every_way_to_write_a_row_sets_its_transaction_id(connection: Connection):
    since = token(connection)
    connection.execute("INSERT INTO things (id) VALUES (2)")
    connection.execute("UPDATE things SET what = 'now' WHERE id = 1")
    with connection.cursor().copy("COPY things (id) FROM STDIN") as copy:
        copy.write(b"3\n")
    connection.execute(
        "INSERT INTO things (id) VALUES (3), (4) ON CONFLICT (id) DO UPDATE SET what = 'again'"
    )
    assert changed_since(connection, since) == [1, 2, 3, 4]


def test_a_row_written_under_a_savepoint_has_the_top_level_transaction_id(connection: Connection):
    since = token(connection)
    with transaction(connection), connection.transaction(), connection.transaction():
        connection.execute("INSERT INTO things (id) VALUES (2)")
    row = connection.execute("SELECT tx, xmin::text::bigint FROM things WHERE id = 2").fetchone()
    assert row is not None
    assert row[0] < row[1]
    assert changed_since(connection, since) == [2]


def test_an_explicit_tx_value_is_overwritten(connection: Connection):
    since = token(connection)
    connection.execute("INSERT INTO things (id, tx) VALUES (2, 3), (3, NULL)")  # like a restored dump
    connection.execute("UPDATE things SET tx = 5 WHERE id = 1")
    assert changed_since(connection, since) == [1, 2, 3]


def test_rows_are_tracked_with_session_replication_role_replica(connection: Connection):
    since = token(connection)
    connection.execute("SET session_replication_role = replica")
    connection.execute("INSERT INTO things (id, tx) VALUES (2, 3)")
    connection.execute("DELETE FROM things WHERE id = 1")
    assert changed_since(connection, since) == [2]
    assert deleted_keys(connection) == [["1"], ["1"]]  # by the row trigger and by the statement trigger


def test_the_key_of_a_deleted_row_is_recorded(connection: Connection):
    connection.execute("INSERT INTO things (id) VALUES (2), (3)")
    connection.execute("DELETE FROM things WHERE id <= 2")
    connection.execute("UPDATE things SET id = 30 WHERE id = 3")
    connection.execute("UPDATE things SET id = id, what = 'same key'")
    assert deleted_keys(connection) == [["1"], ["2"], ["3"]]
    connection.execute("TRUNCATE things")
    assert deleted_keys(connection)[-1] is None


def test_deleting_a_row_does_not_require_insert_on_tombstones(connection: Connection):
    connection.execute(
        "CREATE ROLE clerk; GRANT USAGE ON SCHEMA ridelake TO clerk; GRANT ALL ON things TO clerk"
    )
    try:
        connection.execute("SET ROLE clerk")
        connection.execute("DELETE FROM things")
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute("DELETE FROM ridelake_tracking.tombstones")
        connection.execute("RESET ROLE")
        assert deleted_keys(connection) == [["1"]]
    finally:
        connection.execute("RESET ROLE; DROP OWNED BY clerk; DROP ROLE clerk")


def test_keys_of_several_columns_and_odd_names(connection: Connection):
    connection.execute('CREATE TABLE "Odd ""one" ("a b" text, "B" uuid, n int, PRIMARY KEY ("B", "a b"))')
    connection.execute("""SELECT ridelake_tracking.track('"Odd ""one"')""")
    some_id = "0197a8f2-0000-7000-8000-000000000001"
    connection.execute('INSERT INTO "Odd ""one" VALUES (%s, %s, 1)', ("it's", some_id))
    connection.execute('DELETE FROM "Odd ""one"')
    row = connection.execute("SELECT key FROM ridelake_tracking.tombstones").fetchone()
    assert row == ([some_id, "it's"],)


def test_tracked_updates_are_hot(connection: Connection):
    if connection.info.server_version < 160000:
        pytest.skip("before Postgres 16, an index on a changed column prevents HOT updates")
    connection.execute("ALTER TABLE things SET (fillfactor = 40)")
    connection.execute("INSERT INTO things SELECT n FROM generate_series(2, 500) AS n")
    connection.execute("UPDATE things SET what = 'x'")
    connection.execute("SELECT pg_stat_force_next_flush()")
    row = connection.execute(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relid = 'things'::regclass"
    ).fetchone()
    assert row is not None
    assert row[0] >= 500
    assert row[1] >= 0.9 * row[0]


def test_untrack_leaves_nothing(connection: Connection):
    connection.execute("DELETE FROM things")
    assert connection.execute("SELECT ridelake_tracking.untrack('things')").fetchone() == (True,)
    assert connection.execute("SELECT ridelake_tracking.untrack('things')").fetchone() == (False,)
    for left in (
        "SELECT FROM pg_trigger WHERE tgrelid = 'things'::regclass",
        "SELECT FROM pg_attribute WHERE attrelid = 'things'::regclass AND attname = 'tx'",
        "SELECT FROM ridelake_tracking.tombstones",
        "SELECT FROM ridelake_tracking.tracked WHERE relation = 'things'::regclass",
    ):
        assert connection.execute(left.encode()).fetchall() == [], left


def test_tracking_a_table_again_starts_a_new_generation(connection: Connection):
    before = connection.execute("SELECT tx FROM ridelake_tracking.tracked ORDER BY tx DESC").fetchone()
    connection.execute("SELECT ridelake_tracking.track('things')")
    after = connection.execute("SELECT tx FROM ridelake_tracking.tracked ORDER BY tx DESC").fetchone()
    assert before is not None
    assert after is not None
    assert after > before


@pytest.mark.parametrize(
    ("make", "output"),
    [
        ("CREATE TABLE bad (n int)", "has no primary key"),
        ("CREATE TABLE bad (n int PRIMARY KEY, tx text)", "already has a column tx"),
        ('CREATE TABLE bad (n int PRIMARY KEY, "Tx" text)', 'has a column "Tx", .* rename that column'),
        ("CREATE VIEW bad AS SELECT 1", "cannot be tracked, because it is"),
        ("CREATE UNLOGGED TABLE bad (n int PRIMARY KEY)", "cannot be tracked, because it is"),
        (
            "CREATE TABLE whole (n int PRIMARY KEY) PARTITION BY RANGE (n);"
            " CREATE TABLE bad PARTITION OF whole DEFAULT",
            "because it is a partition; track the partitioned table",
        ),
        (
            "CREATE TABLE bad (n int PRIMARY KEY) PARTITION BY RANGE (n);"
            " CREATE UNLOGGED TABLE part PARTITION OF bad DEFAULT",
            "not a table, or has such a partition",
        ),
    ],
)
def test_a_relation_that_cannot_be_tracked_is_refused_and_not_changed(
    connection: Connection, make: str, output: str
):
    connection.execute(make.encode())
    with pytest.raises(psycopg.errors.FeatureNotSupported, match=output):
        connection.execute("SELECT ridelake_tracking.track('bad')")
    assert (
        connection.execute(
            "SELECT FROM ridelake_tracking.tracked WHERE relation = 'bad'::regclass"
        ).fetchall()
        == []
    )
