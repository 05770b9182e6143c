"""The strategies of `acid`: each shows the anomalies that it allows, and no others."""

from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace

import psycopg
import pytest
from factories import Town
from psycopg.conninfo import make_conninfo

from oltp import booking
from oltp.acid.contrast import ClientCounts, StrategyResult, run_contention, run_strategies, run_strategy
from oltp.acid.strategies import (
    STRATEGIES,
    Anomaly,
    Attempt,
    ContentionRules,
    StoreTarget,
    Strategy,
    read_statements,
)
from oltp.cluster.server import Cluster
from oltp.scratch import ScratchDatabase, scratch_on_server
from oltp.store import Store
from ridelake.errors import CannotConnect

RULES = ContentionRules(rounds=8)
ATTEMPTS_MAX = 5  # an anomaly is likely in one run, but not certain
OF_NAME = {strategy.name: strategy for strategy in STRATEGIES}


@pytest.fixture
def scratch(cluster: Cluster) -> Iterator[ScratchDatabase]:
    with scratch_on_server(cluster.conninfo("postgres")) as scratch:
        yield scratch


@pytest.mark.parametrize("strategy", [one for one in STRATEGIES if one.breaks], ids=lambda one: one.name)
def test_a_naive_strategy_shows_exactly_the_anomalies_it_allows(scratch: ScratchDatabase, strategy: Strategy):
    found: set[Anomaly] = set()
    for _ in range(ATTEMPTS_MAX):
        seen = run_strategy(scratch, strategy, RULES)
        found |= {anomaly for anomaly, times in seen.anomalies.items() if times}
        assert seen.mark in ("✗", "?")
        if found == strategy.breaks:
            return
    assert found == strategy.breaks


@pytest.mark.parametrize("strategy", [one for one in STRATEGIES if not one.breaks], ids=lambda one: one.name)
def test_a_correct_strategy_shows_no_anomaly(scratch: ScratchDatabase, strategy: Strategy):
    for attempt in range(1, ATTEMPTS_MAX + 1):
        seen = run_strategy(scratch, strategy, RULES)
        assert not any(seen.anomalies.values()), seen.verdict
        assert seen.as_expected
        assert seen.mark == "✓"
        # The rides of earlier attempts stay in the tables of the store.
        assert 0 < seen.rides <= attempt * RULES.drivers * RULES.rounds
        if seen.counts.died:
            return
    raise AssertionError("no client was killed, so the test proves nothing")


def test_locks_cause_no_aborts_and_serializable_causes_many(scratch: ScratchDatabase):
    aborts = {
        name: run_strategy(scratch, OF_NAME[name], ContentionRules(rounds=3)).counts.aborts
        for name in ("for_update", "skip_locked", "check_then_act, serializable", "constraint_only")
    }
    assert not aborts["for_update"]
    assert not aborts["skip_locked"]
    assert set(aborts["check_then_act, serializable"]) == {"40001"}
    assert set(aborts["constraint_only"]) == {"23505"}


def test_the_number_of_retries_does_not_change_which_clients_die():
    class FakeTarget:
        """A target that fails `refused` attempts of each request, then decides it."""

        attempts_max = 5

        def __init__(self, refused: int) -> None:
            self.dying: set[int] = set()
            self._refused, self._attempts = refused, Counter[int]()

        def connect(self):
            return SimpleNamespace(closed=False, close=lambda: None)

        def book(self, connection, ask: Attempt) -> bool:
            if ask.dies:
                self.dying.add(ask.number)
            self._attempts[ask.number] += 1
            if self._attempts[ask.number] <= self._refused:
                raise psycopg.errors.SerializationFailure
            return True

        def next_round(self) -> None: ...

    without_retries, with_retries = FakeTarget(0), FakeTarget(2)
    for target in (without_retries, with_retries):
        run_contention(target, ContentionRules(rivals=6, rounds=20), lambda rounds: None)  # type: ignore[arg-type]
    assert without_retries.dying == with_retries.dying != set()


def test_retries_turn_refusals_into_rides(scratch: ScratchDatabase):
    once = run_strategy(scratch, OF_NAME["check_then_act, serializable"], ContentionRules(rounds=4))
    again = run_strategy(scratch, OF_NAME["serializable_with_retry"], ContentionRules(rounds=4))
    assert once.counts.retries == 0
    assert again.counts.retries > 0
    assert again.rides > once.rides


def test_the_naive_strategies_differ_only_in_their_protection():
    statements = {one.statements for one in STRATEGIES if one.breaks}
    assert statements == {"check_then_act"}
    plain = read_statements("check_then_act")
    for other in ("for_update", "skip_locked"):
        assert read_statements(other).charge == plain.charge
        assert read_statements(other).assign[-1] == plain.assign[-1]


def test_an_anomaly_in_the_store_would_be_counted(store: Store):
    """Negative control: the indexes are dropped, and a second ride is inserted."""
    world = StoreTarget(store, ContentionRules(rivals=2, drivers=1))
    town = Town(store)
    assert not any(world.count().values())
    with store.connect() as connection:
        rider_id, zone_id = town.ask("SELECT rider_id, zone_id FROM riders, drivers")[0]
        assert booking.book(connection, town.request(rider_id, zone_id)).ride_id is not None
        connection.execute("DROP INDEX one_active_ride_per_driver, one_active_ride_per_rider")
        connection.execute("""
            INSERT INTO rides SELECT (jsonb_populate_record(rides, jsonb_build_object(
                'ride_id', 0, 'request_id', gen_random_uuid()))).* FROM rides""")
    counts = world.count()
    assert counts[Anomaly.TWICE] == 1
    assert counts[Anomaly.CHARGED] == 1  # a hold without a completed ride
    assert counts[Anomaly.FREE] == 2
    assert counts[Anomaly.LOST] == 2
    assert not world.audit().passed


def test_an_anomaly_that_is_possible_and_did_not_occur_is_reported_as_possible():
    nothing = dict.fromkeys(Anomaly, 0)
    seen = StrategyResult(OF_NAME["check_then_act, read committed"], nothing, 1, ClientCounts(), 1.0)
    assert (seen.mark, seen.broken, seen.as_expected) == ("?", False, False)
    assert "although possible" in seen.verdict


def test_progress_counts_the_rounds_of_all_strategies(scratch: ScratchDatabase):
    over: list[int] = []
    two = (OF_NAME["skip_locked"], OF_NAME["for_update"])
    done = run_strategies(
        scratch, ContentionRules(rivals=3, drivers=1, rounds=2, think_ms=0), over.append, two
    )
    assert over == [1, 2, 3, 4]
    assert [one.strategy for one in done.seen] == list(two)


def test_an_error_of_one_client_ends_the_run_and_is_raised(scratch: ScratchDatabase):
    broken = Strategy("broken", "", "check_then_act", added="next_round")
    store = Store(make_conninfo(scratch.small.conninfo, user="nobody_here"), 0)
    with pytest.raises(CannotConnect):
        run_strategy(ScratchDatabase(scratch.dsn, store), broken, RULES)
    assert run_strategy(scratch, OF_NAME["skip_locked"], ContentionRules(rounds=1)).rides > 0
