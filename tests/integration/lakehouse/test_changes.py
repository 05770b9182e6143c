"""For each kind of change, the next epoch contains exactly that change and equals Postgres."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from psycopg import Connection
from psycopg.rows import TupleRow

from lakehouse.capture.publish import PublishResult, publish_changes
from lakehouse.source.changes import read_changes, set_since
from lakehouse.source.snapshot import open_source_snapshot
from lakehouse.table.catalog import Lake
from lakehouse.verify import verify_now
from oltp.store import Store, install_tracking, open_database, transaction
from ridelake.settings import LakeAddress

THINGS = """
CREATE TABLE things (key bigint PRIMARY KEY, word text);
INSERT INTO things SELECT i, 'word ' || i FROM generate_series(1, 100) AS i;
SELECT ridelake_tracking.track('things')
"""

# Statements between two epochs → the number of rows changed and keys deleted; None: no new epoch.
CHANGES: dict[str, tuple[str, tuple[int, int] | None]] = {
    "an insert": ("INSERT INTO things VALUES (101, 'new')", (1, 0)),
    "an update": ("UPDATE things SET word = 'other' WHERE key <= 3", (3, 0)),
    "an update twice": (
        "UPDATE things SET word = 'a' WHERE key = 1; UPDATE things SET word = 'b' WHERE key = 1", (1, 0)),
    "a delete": ("DELETE FROM things WHERE key IN (4, 5)", (0, 2)),
    "an insert that is deleted": (
        "INSERT INTO things VALUES (101); DELETE FROM things WHERE key = 101", (0, 1)),
    "a key that is deleted and inserted": (
        "DELETE FROM things WHERE key = 7; INSERT INTO things VALUES (7, 'again')", (1, 1)),
    "a key that is deleted, inserted and deleted": (
        "DELETE FROM things WHERE key = 7; INSERT INTO things VALUES (7); DELETE FROM things WHERE key = 7",
        (0, 1)),
    "a key that changes": ("UPDATE things SET key = 207 WHERE key = 7", (1, 1)),
    "two keys that are swapped": (
        "BEGIN; UPDATE things SET key = -1 WHERE key = 1; UPDATE things SET key = 1 WHERE key = 2;"
        " UPDATE things SET key = 2 WHERE key = -1; COMMIT", (2, 3)),
    "all keys that move by one": (
        "BEGIN; UPDATE things SET key = 1000 + key; UPDATE things SET key = key - 999; COMMIT", (100, 200)),
    "an upsert": (
        "INSERT INTO things VALUES (1, 'up'), (101, 'sert') ON CONFLICT (key) DO UPDATE SET word = 'up'",
        (2, 0)),
    "a merge": (
        "MERGE INTO things USING (VALUES (1), (2), (300)) AS new (key) ON new.key = things.key"
        " WHEN MATCHED AND new.key = 1 THEN DELETE WHEN MATCHED THEN UPDATE SET word = 'merged'"
        " WHEN NOT MATCHED THEN INSERT VALUES (new.key, 'merged')", (2, 1)),
    "a truncation": ("TRUNCATE things", (0, 0)),
    "a truncation and new rows": ("TRUNCATE things; INSERT INTO things VALUES (1, 'a'), (500, 'b')", (2, 0)),
    "a delete, a truncation, an insert": (
        "DELETE FROM things WHERE key = 1; TRUNCATE things; INSERT INTO things VALUES (1, 'again')", (1, 1)),
    "a savepoint": (
        "BEGIN; INSERT INTO things VALUES (101); SAVEPOINT a; INSERT INTO things VALUES (102); ROLLBACK TO a;"
        " SAVEPOINT b; INSERT INTO things VALUES (103); SAVEPOINT c; DELETE FROM things WHERE key = 1;"
        " RELEASE b; COMMIT", (2, 1)),
    "an exception that is caught": (
        "DO $$ BEGIN INSERT INTO things VALUES (101);"
        " BEGIN INSERT INTO things VALUES (102); DELETE FROM things WHERE key = 1; RAISE 'no';"
        " EXCEPTION WHEN others THEN INSERT INTO things VALUES (103); END; END $$", (2, 0)),
    "a rollback": (
        "BEGIN; UPDATE things SET word = 'x'; DELETE FROM things; TRUNCATE things; ROLLBACK", None),
    "a rollback to a savepoint": (
        "BEGIN; SAVEPOINT a; DELETE FROM things WHERE key = 1; ROLLBACK TO a; COMMIT", None),
    "no row that matches": ("UPDATE things SET word = 'x' WHERE key = 9999", None),
    "another table": ("CREATE TABLE others (key int); INSERT INTO others VALUES (1)", None),
    "disabled triggers": (
        "SET session_replication_role = replica; INSERT INTO things VALUES (101, 'r');"
        " UPDATE things SET word = 'r' WHERE key = 1; DELETE FROM things WHERE key IN (2, 3);"
        " UPDATE things SET key = 104 WHERE key = 4", (3, 3)),
    "a truncation with disabled triggers": (
        "SET session_replication_role = replica; TRUNCATE things", (0, 0)),
    "an explicit tx value": (
        "UPDATE things SET tx = 1 WHERE key = 1; INSERT INTO things (key, tx) VALUES (101, 0), (102, NULL)",
        (3, 0)),
    "rows of a query": ("INSERT INTO things SELECT i, 'q' FROM generate_series(101, 400) AS i", (300, 0)),
    "a table rewritten": ("VACUUM FULL things", None),
}  # fmt: skip


@pytest.fixture
def things(store: Store) -> Iterator[Connection[TupleRow]]:
    with store.connect() as connection:
        connection.execute(THINGS)
        yield connection


@pytest.fixture
def take(store: Store, lake: Lake) -> Callable[[], PublishResult]:
    """A function that publishes `things` and compares it with Postgres in its snapshot."""

    def take(verify: bool = True) -> PublishResult:
        return publish_changes(store, lake, tables=["things"], verify=verify)

    return take


def do(connection: Connection[TupleRow], statements: str) -> None:
    """Execute each statement in its own transaction, unless the statements contain BEGIN."""
    for statement in [statements] if "DO $$" in statements else statements.split("; "):
        connection.execute(statement.encode())
    connection.execute("RESET session_replication_role")


@pytest.mark.slow
def test_each_kind_of_change_is_copied_exactly(things, take):
    take()
    for name, (statements, expected) in CHANGES.items():
        do(things, statements)
        taken = take(verify=expected is not None)
        assert taken.is_new == (expected is not None), name
        if expected is not None:
            assert (taken.epoch.kind, taken.epoch.changed, taken.epoch.deleted) == ("changes", *expected), (
                name
            )
            rows = things.execute("SELECT count(*) FROM things").fetchone()
            assert (taken.epoch.tables["things"].rows,) == rows, name
            do(
                things,
                "TRUNCATE things; INSERT INTO things SELECT i, 'word ' || i FROM generate_series(1, 100) i",
            )
            take(verify=False)


def test_rows_of_copy_are_included(things, take):
    take()
    with things.cursor() as cursor, cursor.copy("COPY things (key, word) FROM STDIN") as copy:
        for number in range(1000, 1500):
            copy.write_row((number, "copied"))
    assert take().epoch.changed == 500


def test_a_long_transaction_is_included_once_it_has_ended(store: Store, things, take):
    """The id of the transaction is lower than the xmax of epochs in which it was not visible."""
    take()
    with store.connect() as long, store.connect() as longer:
        for one, key in ((long, 201), (longer, 261)):
            one.execute("BEGIN")
            one.execute("INSERT INTO things VALUES (%s, 'late')", (key,))
            one.execute("SAVEPOINT a")
            one.execute("UPDATE things SET word = 'late' WHERE key = %s", (key - 200,))
            one.execute("DELETE FROM things WHERE key = %s", (key - 199,))
        things.execute("UPDATE things SET word = 'soon' WHERE key = 50")
        second = take().epoch
        assert (second.changed, second.deleted) == (1, 0)
        assert len(second.token.xip) >= 2  # other databases of the server may also have transactions
        long.execute("COMMIT")
        things.execute("UPDATE things SET word = 'sooner' WHERE key = 51")
        third = take().epoch
        assert (third.changed, third.deleted) == (3, 1)
        longer.execute("COMMIT")
        fourth = take().epoch
        assert (fourth.changed, fourth.deleted) == (2, 1)
        assert not take(verify=False).is_new


def test_a_long_transaction_that_is_rolled_back_changes_nothing(store: Store, things, take):
    take()
    with store.connect() as long:
        long.execute("BEGIN")
        long.execute("DELETE FROM things")
        things.execute("INSERT INTO things VALUES (101)")
        second = take().epoch
        assert (second.changed, second.deleted) == (1, 0)
        long.execute("ROLLBACK")
    assert not take(verify=False).is_new


# ── Keys ────────────────────────────────────────────────────────────────────────────────────────

# The type, and keys. The second key is deleted. The third key is changed to the fourth.
KEYS: dict[str, tuple[str, list[str]]] = {
    "text": ("text", ["'a'", "''", "E'it''s \"q\"\\n\\\\🚕'", "'null'", "'z'"]),
    "char": ("char(3)", ["'a'", "'b'", "'ab'", "'abc'", "'é'"]),
    "uuid": ("uuid", [f"'{n}0000000-0000-0000-0000-00000000000a'" for n in "1a3f5"]),
    "date": ("date", ["'2024-02-29'", "'0001-01-01'", "'1969-12-31'", "'9999-12-31'", "'2000-01-01'"]),
    "time": ("timestamptz", ["'2024-02-29 00:00:00.000001+00'", "'1969-12-31 23:59:59.999999+00'",
                             "'2024-02-29 00:00:00.000002+05'", "'0001-01-01 00:00+00'", "'2000-01-01'"]),
    "wall clock": ("timestamp", ["'2024-02-29 00:00:00.000001'", "'1969-12-31 23:59:59.999999'",
                                 "'2024-02-29 00:00:00.000002'", "'0001-01-01'", "'2000-01-01'"]),
    "number": ("numeric(38, 10)", ["1", "-12345678901234567890.0123456789", "0.0000000001", "0", "-1"]),
    "float": ("float8", ["0.1", "5e-324", "'NaN'", "'Infinity'", "1.7976931348623157e308"]),
    "real": ("real", ["0.1", "1e-45", "'-Infinity'", "'NaN'", "3.4028235e38"]),
    "zero": ("float8", ["1", "2", "'-0'", "'0'", "3"]),
    "zero below": ("float8", ["1", "2", "'0'", "'-0'", "3"]),
    "bytes": ("bytea", ["'\\x00'", "''", "'\\xff00'", "'\\x5c78'", "'\\x01'"]),
    "flag": ("boolean", ["true", "false"]),
    "small": ("smallint", ["1", "-32768", "3", "32767", "0"]),
    "enum": ("colour", ["'red'", "'green \"g\"'", "'größer'", "'x'", "'y'"]),
}  # fmt: skip
TYPES = "CREATE TYPE colour AS ENUM ('red', 'green \"g\"', 'größer', 'x', 'y')"


@pytest.mark.slow
@pytest.mark.parametrize("sealed", [False, True], ids=["open", "sealed"])
def test_a_key_of_any_type_is_found_again(store: Store, tmp_path: Path, monkeypatch, sealed: bool):
    """In the open file, which is read completely, and in sealed files, which are found by key ranges."""
    if sealed:
        monkeypatch.setattr("lakehouse.capture.writer.SEAL_ROWS", 1)
    with store.connect() as connection:
        connection.execute(TYPES)
        names = []
        for number, (type_, keys) in enumerate(KEYS.values()):
            names.append(f"t{number}")
            connection.execute(f"CREATE TABLE t{number} (key {type_} PRIMARY KEY, word text)".encode())
            for key in dict.fromkeys(keys[:3] + keys[4:]):
                connection.execute(f"INSERT INTO t{number} VALUES ({key}, 'first')".encode())
            connection.execute(f"SELECT ridelake_tracking.track('t{number}')".encode())
        lake = Lake.create(LakeAddress.at(tmp_path / "lake"))
        publish_changes(store, lake, tables=names, verify=True)
        for number, (_, keys) in enumerate(KEYS.values()):
            connection.execute(f"DELETE FROM t{number} WHERE key = {keys[1]}".encode())
            if len(keys) > 2:
                connection.execute(f"UPDATE t{number} SET key = {keys[3]} WHERE key = {keys[2]}".encode())
        assert verify_now(store, lake).as_dict()["equal"]
        epoch = publish_changes(store, lake, verify=True).epoch
    assert {table.changed for table in epoch.tables.values()} <= {0, 1}, "a table was copied completely"
    assert all(file.sealed == sealed for file in epoch.files if file.rows)


def test_a_change_is_found_if_the_index_is_summarized_after_the_snapshot(store: Store, lake: Lake):
    """The new summary of a page covers only the newest version of each row. The version in the snapshot is
    from an earlier transaction."""
    with store.connect() as connection, store.connect() as other:
        connection.execute(
            "CREATE TABLE things (key bigint PRIMARY KEY, word text) WITH (fillfactor = 10);"
            "INSERT INTO things SELECT i, 'old' FROM generate_series(1, 5) AS i;"
            "SELECT ridelake_tracking.track('things')"
        )
        since = publish_changes(store, lake, tables=["things"]).epoch.token
        connection.execute("UPDATE things SET word = 'in the snapshot'")
        with open_source_snapshot(store, connection, ["things"], since) as snapshot:
            other.execute("UPDATE things SET word = 'after the snapshot'")
            other.execute(
                "SELECT brin_desummarize_range(indexrelid, 0), brin_summarize_new_values(indexrelid)"
                " FROM pg_index WHERE indrelid = 'things'::regclass AND NOT indisprimary"
            )
            (table,) = snapshot.sources
            found = read_changes(connection, table, set_since(connection, since))
    assert found.changed["word"].to_pylist() == ["in the snapshot"] * 5


@contextmanager
def of_two_columns(store: Store) -> Iterator[Connection[TupleRow]]:
    with store.connect() as connection:
        connection.execute(
            "CREATE TABLE pairs (word text, b bigint, a text, PRIMARY KEY (b, a));"
            "INSERT INTO pairs SELECT 'w', i / 10, 'a' || i % 10 FROM generate_series(1, 200) AS i;"
            "SELECT ridelake_tracking.track('pairs')"
        )
        yield connection


def test_a_key_of_several_columns_is_found_again(store: Store, lake: Lake, monkeypatch):
    monkeypatch.setattr("lakehouse.capture.writer.SEAL_ROWS", 10)
    with of_two_columns(store) as connection:
        publish_changes(store, lake, tables=["pairs"], verify=True)
        connection.execute("DELETE FROM pairs WHERE b = 3 AND a = 'a3'")
        connection.execute("UPDATE pairs SET a = 'a3' WHERE b = 3 AND a = 'a4'")
        connection.execute("UPDATE pairs SET word = 'x' WHERE b = 5 AND a IN ('a1', 'a2')")
        assert verify_now(store, lake).as_dict()["equal"]
        epoch = publish_changes(store, lake, verify=True).epoch
    assert (epoch.changed, epoch.deleted) == (3, 2)
    assert epoch.rows == 199


def test_a_key_that_is_equal_but_not_identical_is_found_again(postgres_15: str, tmp_path: Path):
    """With a case-insensitive collation, 'a' can be changed to 'A', which is the same key in Postgres."""
    store = open_database(postgres_15, install=False)
    with store.connect() as connection:
        with transaction(connection):
            install_tracking(connection)
        connection.execute(
            "CREATE COLLATION any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);"
            "CREATE TABLE names (name text COLLATE any_case PRIMARY KEY, word text);"
            "INSERT INTO names VALUES ('a', 'first'), ('b', 'first'); SELECT ridelake_tracking.track('names')"
        )
        lake = Lake.create(LakeAddress.at(tmp_path / "lake"))
        publish_changes(store, lake, tables=["names"], verify=True)
        connection.execute("UPDATE names SET name = 'A' WHERE name = 'a'")
        epoch = publish_changes(store, lake, verify=True).epoch
        connection.execute("DROP SCHEMA ridelake_tracking CASCADE; DROP TABLE names")
    assert (epoch.changed, epoch.deleted) == (1, 1)


@pytest.mark.slow
def test_two_keys_are_swapped_in_one_statement(store: Store, lake: Lake):
    with store.connect() as connection:
        connection.execute("CREATE TABLE swapped (key int PRIMARY KEY DEFERRABLE, word text)")
        connection.execute("INSERT INTO swapped VALUES (1, 'one'), (2, 'two'), (3, 'three')")
        connection.execute("SELECT ridelake_tracking.track('swapped')")
        publish_changes(store, lake, tables=["swapped"], verify=True)
        connection.execute("UPDATE swapped SET key = 3 - key WHERE key < 3")
        epoch = publish_changes(store, lake, verify=True).epoch
    assert (epoch.changed, epoch.deleted) == (2, 2)
    (file,) = epoch.files
    words = {row["key"]: row["word"] for row in pq.ParquetFile(file.location).read().to_pylist()}
    assert words == {1: "two", 2: "one", 3: "three"}
