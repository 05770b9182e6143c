"""The audit finds what it says it finds: each condition is broken on purpose once."""

import json
from threading import Event, Thread

import pytest
from psycopg import Connection
from town import Town

from oltp import booking
from oltp.audit import audit, conditions
from oltp.simulate import simulate
from oltp.store import Store

# What no statement of ours does, and the one condition (at least) that must see it. Constraints and
# triggers that would stop it are dropped first: the audit is for the day on which they are missing.
DAMAGE = {
    "money_is_conserved": "UPDATE accounts SET balance_cents = balance_cents + 1 WHERE kind = 'rider'",
    "balance_is_sum_of_ledger": (
        "UPDATE accounts SET balance_cents = balance_cents + CASE kind WHEN 'rider' THEN -1 ELSE 1 END"
        " WHERE account_id IN ("
        "SELECT min(account_id) FROM accounts WHERE kind IN ('rider', 'driver') GROUP BY kind)"
    ),
    "nobody_overspends": "UPDATE accounts SET held_cents = balance_cents + 1 WHERE kind = 'rider'",
    "one_payment_fits_each_ride": "UPDATE payments SET status = 'voided', captured_cents = 0, tip_cents = 0",
    "completed_rides_are_paid_in_full": "DELETE FROM ledger WHERE kind = 'commission'",
    "fare_is_what_was_held": "UPDATE rides SET fare_cents = fare_cents + 1",
    "held_is_sum_of_holds": "UPDATE accounts SET held_cents = 0",
    "busy_means_one_active_ride": "UPDATE drivers SET status = 'available'",
    "nobody_drives_two_rides_at_once": "UPDATE rides SET driver_id = (SELECT min(driver_id) FROM drivers)",
    "nobody_takes_two_rides_at_once": "UPDATE rides SET rider_id = (SELECT min(rider_id) FROM riders)",
    "each_decision_made_one_ride": "DELETE FROM requests",
}


@pytest.fixture
def busy_town(town: Town, connection: Connection) -> Town:
    """A completed ride and two under way at the same time, and nothing to stop a vandal."""
    for _ in range(3):
        town.driver()
    done, *under_way = [booking.book(connection, town.request(town.rider())).ride_id for _ in range(3)]
    booking.start(connection, done)
    booking.complete(connection, done, tip_cents=100)
    booking.start(connection, under_way[0])
    connection.execute(
        "DO $$ DECLARE c record; BEGIN FOR c IN SELECT conrelid::regclass AS t, conname FROM pg_constraint"
        " WHERE connamespace = 'ridelake'::regnamespace AND contype IN ('c', 'f')"
        " LOOP EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', c.t, c.conname); END LOOP; END $$"
    )
    connection.execute("DROP INDEX one_active_ride_per_driver, one_active_ride_per_rider")
    for table in ("rides", "payments", "drivers", "ledger"):
        connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")  # type: ignore[arg-type]
    return town


def test_every_condition_has_a_test_that_breaks_it():
    assert [condition.name for condition in conditions()] == list(DAMAGE)


@pytest.mark.parametrize("name", DAMAGE)
def test_the_audit_sees_the_damage(busy_town: Town, connection: Connection, name: str):
    assert audit(connection).passed
    connection.execute(DAMAGE[name].encode())
    report = audit(connection)
    broken = {finding.condition.name: finding for finding in report.findings if finding.broken}
    assert name in broken
    assert broken[name].offending
    assert name in report.verdict
    json.dumps(report.as_dict(), default=str)


def test_the_audit_passes_at_any_moment_of_a_simulation(seeded_store: Store):
    over = Event()
    reports = []

    def keep_auditing():
        with seeded_store.connect() as connection:
            while not over.is_set():
                reports.append(audit(connection))

    auditor = Thread(target=keep_auditing)
    auditor.start()
    done = simulate(seeded_store, rides=600, clients=6, seed=4)
    over.set()
    auditor.join()
    assert done.audit.passed, done.audit.verdict
    assert len(reports) > 1
    assert [report.verdict for report in reports if not report.passed] == []


def test_two_simulations_at_once_leave_every_condition_true(seeded_store: Store):
    results = []
    runs = [
        Thread(
            target=lambda seed=seed: results.append(simulate(seeded_store, rides=300, clients=4, seed=seed))
        )
        for seed in (1, 2)
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert len(results) == 2
    with seeded_store.connect() as connection:
        assert audit(connection).passed
        counted = connection.execute("SELECT count(*) FROM requests").fetchone()
    assert counted == (600,)


def test_a_simulation_counts_every_request_once(seeded_store: Store):
    done = simulate(seeded_store, rides=500, clients=5, seed=3)
    assert done.requested == 500 == done.assigned + sum(done.refused.values())
    assert done.assigned == done.completed + done.cancelled
    assert 0 < done.latency_ms_p50 <= done.latency_ms_p99 <= done.latency_ms_max
    with seeded_store.connect() as connection:
        rows = connection.execute("SELECT outcome, count(*) FROM requests GROUP BY 1").fetchall()
    assert dict(rows) == {"assigned": done.assigned} | done.refused


def test_one_client_with_one_seed_asks_for_the_same_rides_every_time(seeded_store: Store):
    asked = "SELECT rider_id, pickup_zone_id, dropoff_zone_id, fare_cents FROM requests ORDER BY decided_at"
    with seeded_store.connect() as connection:
        simulate(seeded_store, rides=50, clients=1, seed=8)
        first = connection.execute(asked).fetchall()
        connection.execute("TRUNCATE requests")
        simulate(seeded_store, rides=50, clients=1, seed=8)
        assert connection.execute(asked).fetchall() == first
