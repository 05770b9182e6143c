"""Surprising behavior of Postgres, and how the store avoids it."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import Connection, IsolationLevel, errors

from oltp.acid.isolation import open_isolation_runner, read_cases
from oltp.cluster.server import Cluster
from oltp.scratch import ScratchDatabase, scratch_on_server
from oltp.store import transaction


@pytest.fixture(scope="module")
def scratch(cluster: Cluster) -> Iterator[ScratchDatabase]:
    with scratch_on_server(cluster.conninfo("postgres")) as scratch:
        yield scratch


@pytest.fixture
def session(scratch: ScratchDatabase) -> Iterator[Connection]:
    """A connection for temporary tables."""
    with psycopg.connect(scratch.dsn, autocommit=True) as session:
        yield session


@pytest.fixture
def drivers(session: Connection) -> Connection:
    """Three available drivers in one city."""
    session.execute("CREATE TEMP TABLE drivers (driver_id bigint PRIMARY KEY, city_id int DEFAULT 1)")
    session.execute("INSERT INTO drivers VALUES (1), (2), (3)")
    return session


# ── A statement does not skip its own locks ────────────────────────────────────────────────────────


def test_lateral_with_skip_locked_gives_every_request_the_same_driver(drivers: Connection):
    given = drivers.execute("""
        SELECT request_id, driver_id
        FROM (VALUES (1, 1), (2, 1), (3, 1)) AS requests (request_id, city_id),
        LATERAL (SELECT driver_id FROM drivers WHERE drivers.city_id = requests.city_id
                 LIMIT 1 FOR UPDATE SKIP LOCKED) AS claimed""").fetchall()
    assert len(given) == 3
    assert len({driver for _, driver in given}) == 1


def test_selecting_all_rows_at_once_and_pairing_by_number_gives_different_drivers(drivers: Connection):
    given = drivers.execute("""
        WITH requests (request_id, number) AS (VALUES ('a', 1), ('b', 2), ('c', 3)),
        claimed AS MATERIALIZED (SELECT driver_id FROM drivers LIMIT 3 FOR UPDATE SKIP LOCKED),
        numbered AS (SELECT driver_id, row_number() OVER () AS number FROM claimed)
        SELECT request_id, driver_id FROM requests JOIN numbered USING (number)""").fetchall()
    assert sorted(driver for _, driver in given) == [1, 2, 3]


# ── UPDATE … FROM uses one source row per target row ────────────────────────────────────────────────

DEBITS = "(VALUES (1, 100), (1, 50)) AS debits (account_id, cents)"


@pytest.fixture
def account(session: Connection) -> Connection:
    session.execute("CREATE TEMP TABLE accounts (account_id int PRIMARY KEY, cents bigint)")
    session.execute("INSERT INTO accounts VALUES (1, 1000)")
    return session


def test_update_from_with_two_debits_of_one_account_loses_one(account: Connection):
    done = account.execute(
        f"UPDATE accounts AS a SET cents = a.cents - debits.cents FROM {DEBITS} WHERE"
        " a.account_id = debits.account_id"
    )
    assert done.rowcount == 1
    assert account.execute("SELECT cents FROM accounts").fetchone() in [(900,), (950,)]


def test_update_from_with_the_debits_summed_first_loses_none(account: Connection):
    account.execute(
        "UPDATE accounts AS a SET cents = a.cents - summed.cents FROM"
        f" (SELECT account_id, sum(cents) AS cents FROM {DEBITS} GROUP BY account_id) AS summed"
        " WHERE a.account_id = summed.account_id"
    )
    assert account.execute("SELECT cents FROM accounts").fetchone() == (850,)


# ── COMMIT is not always a commit ───────────────────────────────────────────────────────────────────


def fail(session: Connection) -> None:
    """Execute a failing statement and ignore the error."""
    with pytest.raises(errors.DivisionByZero):
        session.execute("SELECT 1 / 0")


def test_a_raw_commit_of_a_failed_transaction_rolls_back_and_raises_nothing(account: Connection):
    account.execute("BEGIN")
    account.execute("UPDATE accounts SET cents = 0")
    fail(account)
    assert account.execute("COMMIT").statusmessage == "ROLLBACK"
    assert account.execute("SELECT cents FROM accounts").fetchone() == (1000,)


def test_transaction_raises_if_a_caught_error_has_aborted_it(account: Connection):
    with pytest.raises(errors.InFailedSqlTransaction):
        with transaction(account):
            account.execute("UPDATE accounts SET cents = 0")
            fail(account)
    assert account.execute("SELECT cents FROM accounts").fetchone() == (1000,)


# ── After a lock wait only the locked row is read again ────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("free", "taken_by", "second_gets"),
    [
        # A condition on another row is not checked again after the wait, so the driver is claimed twice.
        (
            "NOT EXISTS (SELECT FROM test AS ride WHERE ride.value = -driver.id)",
            "INSERT INTO test (id, value) VALUES (3, -1)",
            "1=>10",
        ),
        # A condition on the locked row is checked again after the wait, so the driver is skipped.
        ("driver.value > 0", "UPDATE test SET value = 0 WHERE id = 1", "2=>20"),
    ],
    ids=["of another row, not checked again", "of the locked row, checked again"],
)
def test_only_a_condition_on_the_locked_row_is_checked_again(
    scratch: ScratchDatabase, free: str, taken_by: str, second_gets: str
):
    claim = f"SELECT id, value FROM test AS driver WHERE {free} ORDER BY id LIMIT 1 FOR UPDATE OF driver"
    (case,) = read_cases(f"""
case lock: look and lock in one statement
    T1: {claim} | 1=>10
    T2: {claim} | waits, {second_gets}
    T1: {taken_by}
    T1: COMMIT
    T2: COMMIT
    verdict | prevented""")
    with open_isolation_runner(scratch.small) as runner:
        assert runner.play(case, IsolationLevel.READ_COMMITTED).differences == ()


# ── Ranges that must not overlap ────────────────────────────────────────────────────────────────────


@pytest.fixture
def schedule(session: Connection) -> Connection:
    """Rides that are booked in advance. The driver is a range of one number, because GiST needs an extension
    for numbers. Driver 7 has a ride from 9:00 to 10:00."""
    session.execute("""
        CREATE TEMP TABLE scheduled (
            driver_id bigint NOT NULL,
            during tstzrange NOT NULL,
            EXCLUDE USING gist (int8range(driver_id, driver_id, '[]') WITH &&, during WITH &&))""")
    book_ahead(session, 7, "09:00", "10:00")
    return session


def book_ahead(session: Connection, driver_id: int, begins: str, ends: str) -> None:
    day = "2026-07-01 "
    session.execute(
        "INSERT INTO scheduled VALUES (%s, tstzrange(%s, %s))", (driver_id, day + begins, day + ends)
    )


@pytest.mark.parametrize(("begins", "ends"), [("09:30", "10:30"), ("08:00", "09:01"), ("09:15", "09:20")])
def test_a_driver_cannot_be_scheduled_twice_at_one_time(schedule: Connection, begins: str, ends: str):
    with pytest.raises(errors.ExclusionViolation) as caught:
        book_ahead(schedule, 7, begins, ends)
    assert caught.value.sqlstate == "23P01"


def test_a_ride_may_begin_when_the_previous_one_ends(schedule: Connection):
    book_ahead(schedule, 7, "10:00", "11:00")
    book_ahead(schedule, 7, "08:00", "09:00")


def test_another_driver_may_ride_at_the_same_time(schedule: Connection):
    book_ahead(schedule, 8, "09:00", "10:00")
