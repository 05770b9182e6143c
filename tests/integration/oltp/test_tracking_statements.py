"""Tracking does not make user statements fail, for any row and after any ALTER TABLE."""

import pytest
from psycopg import Connection, errors

from oltp.store import Store, transaction

DELETED_KEYS = "SELECT key FROM ridelake_tracking.tombstones ORDER BY tx, key"


@pytest.fixture
def connection(store: Store):
    with store.connect() as connection:
        connection.execute("CREATE TABLE things (id bigint PRIMARY KEY, what text)")
        connection.execute("INSERT INTO things VALUES (1, 'before')")
        connection.execute("SELECT ridelake_tracking.track('things')")
        yield connection


def deleted_keys(connection: Connection) -> list[object]:
    return [row[0] for row in connection.execute(DELETED_KEYS)]


def make(connection: Connection, *statements: str) -> None:
    for statement in statements:
        connection.execute(statement.encode())


@pytest.mark.slow
def test_a_row_of_any_size_can_be_deleted_and_its_key_changed(connection: Connection):
    make(
        connection,
        "CREATE TABLE docs (id int PRIMARY KEY, body text, data bytea)",
        "INSERT INTO docs VALUES (1, repeat('x', 270000000), NULL)",
        "INSERT INTO docs VALUES (2, NULL, decode(repeat('ab', 140000000), 'hex'))",
        "SELECT ridelake_tracking.track('docs')",
        "UPDATE docs SET id = id + 10",
        "DELETE FROM docs",
    )
    rows = connection.execute("SELECT key FROM ridelake_tracking.tombstones ORDER BY key").fetchall()
    assert rows == [(["1"],), (["11"],), (["12"],), (["2"],)]


def test_a_column_that_jsonb_cannot_represent_does_not_prevent_a_delete(connection: Connection):
    make(connection, "ALTER TABLE things ADD j json", """UPDATE things SET j = '{"a": "\\u0000"}'""",
         "UPDATE things SET id = 7", "DELETE FROM things")  # fmt: skip
    assert deleted_keys(connection) == [["1"], ["7"]]


def test_a_key_can_be_read_back_exactly_with_any_session_settings(connection: Connection):
    make(
        connection,
        "CREATE TYPE pair AS (a int, b text)",
        "CREATE DOMAIN code AS numeric CHECK (value IS NOT NULL)",
        "CREATE TABLE keyed (f float8, at timestamptz, day date, y bytea, span interval, p pair, c code,"
        " l int[],"
        " PRIMARY KEY (f, at, day, y, span, p, c, l))",
        "INSERT INTO keyed VALUES (0.1::float8 + 0.2, '2025-03-30 01:30:00.000001+00', 'infinity', '\\x00ff',"
        " '-1 mon +2 days -00:00:03', (1, 'x, \"y'), 'NaN', '{1,NULL}')",
        "CREATE TABLE kept AS SELECT * FROM keyed",
        "SELECT ridelake_tracking.track('keyed')",
        "SET datestyle = 'SQL, DMY'; SET extra_float_digits = -5; SET bytea_output = 'escape'",
        "SET intervalstyle = 'sql_standard'; SET timezone = 'Europe/Vienna'",
        "DELETE FROM keyed",
        "RESET ALL; SET search_path = ridelake, public",
    )
    query = """
        SELECT count(*) FROM kept JOIN ridelake_tracking.tombstones ON f = (key ->> 0)::float8
        WHERE (at, day, y, span, p, c, l) = ((key ->> 1)::timestamptz, (key ->> 2)::date, (key ->> 3)::bytea,
            (key ->> 4)::interval, (key ->> 5)::pair, (key ->> 6)::code, (key ->> 7)::int[])"""
    assert connection.execute(query.encode()).fetchone() == (1,)


def test_a_key_is_read_back_exactly_with_another_type_than_when_its_table_was_tracked(connection: Connection):
    make(
        connection,
        "CREATE TABLE keyed (k int PRIMARY KEY)",
        "INSERT INTO keyed VALUES (1)",
        "SELECT ridelake_tracking.track('keyed')",
        "ALTER TABLE keyed ALTER k TYPE float8 USING k / 3.0::float8",
        "SET extra_float_digits = -5; DELETE FROM keyed",
        "RESET ALL; SET search_path = ridelake, public",
    )
    query = "SELECT count(*) FROM ridelake_tracking.tombstones WHERE (key ->> 0)::float8 = 1 / 3.0::float8"
    assert connection.execute(query).fetchone() == (1,)


ALTERED = {
    "another type": "ALTER TABLE things ALTER id TYPE numeric",
    "another name": "ALTER TABLE things RENAME id TO number",
    "another key": "ALTER TABLE things DROP COLUMN id, ADD COLUMN number bigserial PRIMARY KEY",
    "no key": "ALTER TABLE things DROP COLUMN id",
    "no tombstones of ours": "DROP SCHEMA ridelake_tracking CASCADE",
}


@pytest.mark.parametrize("what", ALTERED)
def test_user_statements_succeed_after_the_table_was_altered(connection: Connection, store: Store, what: str):
    """In a session with cached plans, and in a new session."""
    make(connection, "INSERT INTO things VALUES (2, 'x'), (3, 'x'), (4, 'x'), (5, 'x')",
         "DELETE FROM things WHERE what = 'before'", "UPDATE things SET id = id")  # fmt: skip
    make(connection, ALTERED[what])
    column = "what" if what == "no key" else "number" if what in ("another name", "another key") else "id"
    change = f"UPDATE things SET {column} = {'what' if column == 'what' else f'{column} + 10'}"
    delete = "DELETE FROM things WHERE ctid = (SELECT min(ctid) FROM things)"
    make(connection, change, delete)
    with store.connect() as other:
        make(other, change, delete, "TRUNCATE things")


def test_the_privileges_of_the_recorder_cannot_be_used_by_others(connection: Connection):
    """It is SECURITY DEFINER: its names are qualified, and triggers of other tables cannot call it."""
    make(
        connection,
        "CREATE ROLE borrower; GRANT ALL ON things TO borrower; GRANT USAGE ON SCHEMA ridelake TO borrower",
        "CREATE SCHEMA evil AUTHORIZATION borrower",
    )
    try:
        make(
            connection,
            "GRANT USAGE ON SCHEMA ridelake_tracking TO borrower",
            "SET ROLE borrower",
            "CREATE FUNCTION evil.steal(text, text) RETURNS boolean LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'ran as %', current_user; END $$",
            "CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.steal)",
            "CREATE OPERATOR evil.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.steal)",
            "SET search_path = evil, pg_catalog",
            "UPDATE ridelake.things SET id = 5; DELETE FROM ridelake.things",
        )
        name = connection.execute(
            "SELECT tgfoid::regproc::text FROM pg_trigger"
            " WHERE tgname = 'ridelake_deleted' AND tgrelid = 'ridelake.things'::regclass"
        ).fetchone()
        assert name is not None
        with pytest.raises(errors.InsufficientPrivilege, match="permission denied for function"):
            make(connection, "CREATE TABLE evil.mine (id bigint); CREATE TRIGGER t AFTER DELETE ON evil.mine"
                 f" FOR EACH ROW EXECUTE FUNCTION {name[0]}()")  # fmt: skip
    finally:
        make(connection, "RESET ROLE; RESET search_path", "DROP OWNED BY borrower; DROP ROLE borrower")


def test_a_delete_by_a_parent_table_and_a_replicated_delete_are_recorded(connection: Connection):
    """Statement triggers do not fire for these deletes. An apply worker has the role `replica`."""
    make(
        connection,
        "CREATE TABLE parent (id bigint NOT NULL, what text)",
        "CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent)",
        "INSERT INTO child (id) VALUES (1)",
        "SELECT ridelake_tracking.track('child')",
        "DELETE FROM parent",
    )
    query = "SELECT key FROM ridelake_tracking.tombstones WHERE relation = 'child'::regclass"
    assert connection.execute(query).fetchall() == [(["1"],)]
    triggers = "SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = %s::regclass AND NOT tgisinternal"
    assert ("ridelake_replicated", "R") not in connection.execute(triggers, ("child",)).fetchall()
    assert ("ridelake_replicated", "R") in connection.execute(triggers, ("things",)).fetchall()


@pytest.mark.parametrize(("before", "after"), [("origin", "replica"), ("replica", "origin")])
def test_every_row_is_recorded_if_the_role_of_the_session_changes_within_the_delete(
    connection: Connection, before: str, after: str
):
    """Postgres decides for each row whether row triggers fire, and at the end for statement triggers."""
    make(
        connection,
        "INSERT INTO things VALUES (2, 'x'), (3, 'x'), (4, 'x')",
        "CREATE FUNCTION change_role(bigint) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN"
        f" IF $1 = 3 THEN SET session_replication_role = {after}; END IF; RETURN true; END $$",
        f"SET session_replication_role = {before}",
        "DELETE FROM things WHERE change_role(id)",
    )
    assert {str(key) for key in deleted_keys(connection)} == {f"['{n}']" for n in (1, 2, 3, 4)}


def test_a_delete_of_many_rows_uses_no_subtransaction_id(connection: Connection):
    """Many subtransactions in one transaction would slow down all snapshots."""
    with transaction(connection):
        make(connection, "INSERT INTO things SELECT n FROM generate_series(2, 300) AS n")
        make(connection, *(f"DELETE FROM things WHERE id = {n}" for n in range(2, 100)))
        used = "SELECT count(DISTINCT xmin::text) FROM ridelake_tracking.tombstones"
        assert connection.execute(used).fetchone() == (1,)


def test_every_way_to_delete_a_row_records_its_key(connection: Connection):
    make(
        connection,
        "CREATE TABLE parent (id int PRIMARY KEY); INSERT INTO parent VALUES (1)",
        "ALTER TABLE things ADD parent_id int REFERENCES parent ON DELETE CASCADE INITIALLY DEFERRED",
        "INSERT INTO things VALUES (2, 'x'), (3, 'x'), (4, 'x')",
        "UPDATE things SET parent_id = 1 WHERE id = 1",
        "DELETE FROM parent",
        "MERGE INTO things USING (SELECT 2 AS n) AS s ON id = n WHEN MATCHED THEN DELETE",
        "WITH d AS (DELETE FROM things WHERE id = 3 RETURNING id) SELECT FROM d",
        "INSERT INTO things (id) VALUES (4) ON CONFLICT (id) DO UPDATE SET id = 40",
    )
    assert deleted_keys(connection) == [["1"], ["2"], ["3"], ["4"]]
