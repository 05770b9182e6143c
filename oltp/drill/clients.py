"""The drill's insert workload, its log, and the reconciliation of the log with the store.

A client books a ride, starts it, completes it and books the next, without pauses. Half of the clients use the
pool, half the batcher's queues. The DSN lists both servers; the clients do not know which one is the
primary.
"""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from time import perf_counter
from uuid import UUID

import numpy as np
from psycopg import Connection
from psycopg.rows import TupleRow

from oltp import booking, lifecycle
from oltp.batching import BatchQueue
from oltp.booking import array_literal
from oltp.pool import RetryPool
from oltp.retry import RETRY_POLICY, RetryCounts, RetryPolicy
from oltp.store import Store
from oltp.workload import draw_requests, riders_by_city
from oltp.workload.runner import Client, ClientGroup, running_clients
from ridelake.errors import ProofFailed
from ridelake.queries import load_queries
from ridelake.ride import Decision, Outcome, RideRequest, RideStatus

QUERIES = load_queries("oltp.drill")

LEAVE_SECONDS_MAX = 30.0
LANE_CONNECTIONS = 4  # two for bookings, one for starts, one for ends
EXPECTED_REFUSALS = (Outcome.PAYMENT_DECLINED, Outcome.RIDER_BUSY, Outcome.NO_DRIVER_AVAILABLE)


@dataclass(slots=True)
class ClientLog:
    """What the clients sent and received, kept outside the servers. Times are seconds of perf_counter."""

    sent: Counter[UUID] = field(default_factory=Counter)  # how often each request was sent
    decisions: dict[UUID, Decision] = field(default_factory=dict)
    completed: set[int] = field(default_factory=set)  # rides
    moments: list[float] = field(
        default_factory=list
    )  # the time of each acknowledgement, decision or end of a ride
    decided: list[tuple[float, UUID]] = field(default_factory=list)
    retries: RetryCounts = field(default_factory=RetryCounts)  # retried calls, by reason
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def sending(self, requests: Sequence[RideRequest]) -> None:
        with self._lock:
            self.sent.update(request.request_id for request in requests)

    def answered(self, decision: Decision) -> None:
        with self._lock:
            now = perf_counter()
            self.decisions[decision.request_id] = decision
            self.moments.append(now)
            self.decided.append((now, decision.request_id))

    def ended(self, ride_id: int) -> None:
        with self._lock:
            self.moments.append(perf_counter())
            self.completed.add(ride_id)

    @property
    def acknowledged(self) -> int:
        with self._lock:
            return len(self.decisions)

    @property
    def in_doubt(self) -> list[UUID]:
        """Requests without an answer to their first send: sent again with the same id, or never answered."""
        return [id_ for id_, times in self.sent.items() if times > 1 or id_ not in self.decisions]

    def answers_since(self, moment: float) -> list[float]:
        """The times of the acknowledgements after `moment`."""
        with self._lock:
            return sorted(at for at in self.moments if at > moment)

    def longest_gap_seconds(self, since: float, until: float) -> float:
        """The longest time between two acknowledgements, to any client."""
        with self._lock:
            within = [since, *sorted(at for at in self.moments if since < at < until), until]
        return max(later - earlier for earlier, later in pairwise(within))


@contextmanager
def running_workload(
    store: Store, clients: int, seed: int, policy: RetryPolicy = RETRY_POLICY
) -> Iterator[ClientLog]:
    """Run `clients` clients until the block is left, and wait for their last answers.

    Raises the first unhandled error of a client, when the block is left."""
    log = ClientLog()
    requests = _Shared(draw_requests(np.random.default_rng(seed), riders_by_city(store)))
    with RetryPool(store, size=clients - clients // 2 + LANE_CONNECTIONS, policy=policy) as pool:
        log.retries = pool.retries
        lanes = _BatchedDriver(pool, log)
        drivers: list[_PooledDriver | _BatchedDriver] = [_PooledDriver(pool, log), lanes]

        def client(number: int) -> Client:
            def work(group: ClientGroup) -> None:
                while not group.stopped:
                    _ride(drivers[number % 2], requests.next(), log)

            return work

        workload = [client(number) for number in range(clients)]
        with running_clients(workload, policy.seconds_max + LEAVE_SECONDS_MAX):
            yield log
        lanes.close()


def _ride(driver: "_PooledDriver | _BatchedDriver", request: RideRequest, log: ClientLog) -> None:
    decision = driver.book(request)
    log.answered(decision)
    if decision.ride_id is None:
        if decision.outcome not in EXPECTED_REFUSALS:
            raise ProofFailed(f"request {request.request_id} was answered {decision.outcome}")
        return
    # Another status means that the ride was lost; the findings report it.
    if driver.drive(decision.ride_id) is RideStatus.COMPLETED:
        log.ended(decision.ride_id)


class _Shared:
    """A thread-safe iterator."""

    def __init__(self, requests: Iterator[RideRequest]) -> None:
        self._requests = requests
        self._lock = threading.Lock()

    def next(self) -> RideRequest:
        with self._lock:
            return next(self._requests)


class _PooledDriver:
    def __init__(self, pool: RetryPool, log: ClientLog) -> None:
        self._pool, self._log = pool, log

    def book(self, request: RideRequest) -> Decision:
        def send(connection: Connection[TupleRow]) -> Decision:
            self._log.sending([request])
            return booking.book(connection, request)

        return self._pool.call(send)

    def drive(self, ride_id: int) -> lifecycle.OptionalRideStatus:
        self._pool.call(lambda connection: lifecycle.start(connection, ride_id))
        return self._pool.call(lambda connection: lifecycle.complete(connection, ride_id))


class _BatchedDriver:
    def __init__(self, pool: RetryPool, log: ClientLog) -> None:
        def send(connection: Connection[TupleRow], requests: Sequence[RideRequest]) -> list[Decision]:
            log.sending(requests)
            return booking.book_many(connection, requests)

        self._bookings: BatchQueue[RideRequest, Decision] = BatchQueue(pool, send, workers=2)
        self._starts: BatchQueue[int, lifecycle.OptionalRideStatus] = BatchQueue(pool, lifecycle.start_many)
        self._ends: BatchQueue[tuple[int, int], lifecycle.OptionalRideStatus] = BatchQueue(
            pool, lifecycle.complete_many
        )

    def book(self, request: RideRequest) -> Decision:
        return self._bookings.call(request)

    def drive(self, ride_id: int) -> lifecycle.OptionalRideStatus:
        self._starts.call(ride_id)
        return self._ends.call((ride_id, 0))

    def close(self) -> None:
        for lane in (self._bookings, self._starts, self._ends):
            lane.close()


@dataclass(frozen=True, slots=True)
class ReconcileResult:
    """`lost`: requests that were acknowledged, and are missing or different in the store. `undone`: rides
    whose end was acknowledged, and that have not ended. `doubled`: requests with more than one ride.
    `in_doubt`: requests whose first answer did not arrive; `settled`: the ones that were answered
    later."""

    acknowledged: int
    rides_ended: int
    lost: list[UUID]
    undone: list[int]
    doubled: list[UUID]
    in_doubt: int
    settled: int

    @property
    def nothing_lost(self) -> bool:
        return not (self.lost or self.undone) and self.nothing_doubled

    @property
    def nothing_doubled(self) -> bool:
        """No request has two rides, and none is still in doubt."""
        return not self.doubled and self.in_doubt == self.settled


def reconcile(connection: Connection[TupleRow], log: ClientLog) -> ReconcileResult:
    """Compare the log with the current primary. The clients must have stopped."""
    query = QUERIES["stored"]
    rows = connection.execute(query, {"sent": array_literal(log.sent)}).fetchall()
    stored: dict[UUID, Decision | None] = {}
    doubled: list[UUID] = []
    ended: set[int] = set()
    for request_id, outcome, ride_id, driver_id, rides, completed in rows:
        found = None if outcome is None else Decision(request_id, Outcome(outcome), ride_id, driver_id)
        stored[request_id] = found
        if rides > 1:
            doubled.append(request_id)
        if completed:
            ended.add(ride_id)
    lost = [id_ for _, id_ in log.decided if stored[id_] != log.decisions[id_]]
    in_doubt = log.in_doubt
    return ReconcileResult(
        acknowledged=len(log.decisions),
        rides_ended=len(log.completed),
        lost=lost,
        undone=sorted(log.completed - ended),
        doubled=doubled,
        in_doubt=len(in_doubt),
        settled=sum(id_ in log.decisions for id_ in in_doubt),
    )
