"""The insert workload, and what each client was told.

A client books a ride, drives it to its end and books the next, as fast as it is answered. Half of them call
through the pool, half through the dispatcher's lanes; none of them knows that there are two servers.
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

from oltp import booking, moves
from oltp.dispatch import Lane
from oltp.pool import Pool
from oltp.retry import PATIENCE, Patience, Retries
from oltp.simulate import draw_requests, riders_by_city
from oltp.store import Store
from ridelake.errors import ProofFailed
from ridelake.ride import Decision, Outcome, RideRequest, RideStatus

LEAVE_SECONDS_MAX = 30.0
LANE_CONNECTIONS = 4  # two for bookings, one for starts, one for ends
EXPECTED_REFUSALS = (Outcome.PAYMENT_DECLINED, Outcome.RIDER_BUSY, Outcome.NO_DRIVER_AVAILABLE)


@dataclass(slots=True)
class Told:
    """What the clients sent and were told, kept outside the servers. Moments are of perf_counter."""

    sent: Counter[UUID] = field(default_factory=Counter)  # how often each request went out
    decisions: dict[UUID, Decision] = field(default_factory=dict)
    completed: set[int] = field(default_factory=set)  # rides
    moments: list[float] = field(default_factory=list)  # of each acknowledgement, of either kind
    decided: list[tuple[float, UUID]] = field(default_factory=list)
    retries: Retries = field(default_factory=Retries)  # of calls, by reason
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
        """Sent, and nobody knew; then sent again with the same id, or not answered to this day."""
        return [id_ for id_, times in self.sent.items() if times > 1 or id_ not in self.decisions]

    def answers_since(self, moment: float) -> list[float]:
        """When, of each acknowledgement after `moment`."""
        with self._lock:
            return sorted(at for at in self.moments if at > moment)

    def longest_gap_seconds(self, since: float, until: float) -> float:
        """Between two acknowledgements, of all the clients together."""
        with self._lock:
            within = [since, *sorted(at for at in self.moments if since < at < until), until]
        return max(later - earlier for earlier, later in pairwise(within))


@contextmanager
def clients_at_work(store: Store, clients: int, seed: int, patience: Patience = PATIENCE) -> Iterator[Told]:
    """They work until the block is left, and have their answers then.

    Raises what a client could not cope with, when the block is left."""
    told = Told()
    over = threading.Event()
    failures: list[BaseException] = []
    requests = _Shared(draw_requests(np.random.default_rng(seed), riders_by_city(store)))
    with Pool(store, size=clients - clients // 2 + LANE_CONNECTIONS, patience=patience) as pool:
        told.retries = pool.retries
        lanes = _Lanes(pool, told)
        ways: list[_Pooled | _Lanes] = [_Pooled(pool, told), lanes]

        def work(way: "_Pooled | _Lanes") -> None:
            try:
                while not over.is_set():
                    _ride(way, requests.next(), told)
            except BaseException as error:
                failures.append(error)

        threads = [
            threading.Thread(target=work, args=(ways[number % 2],), daemon=True) for number in range(clients)
        ]
        for thread in threads:
            thread.start()
        try:
            yield told
        except BaseException:
            over.set()  # nobody is waited for: the servers may be gone, and end with the drill
            raise
        over.set()
        for thread in threads:
            thread.join(patience.seconds_max + LEAVE_SECONDS_MAX)
        lanes.close()
    if failures:
        raise failures[0]


def _ride(way: "_Pooled | _Lanes", request: RideRequest, told: Told) -> None:
    decision = way.book(request)
    told.answered(decision)
    if decision.ride_id is None:
        if decision.outcome not in EXPECTED_REFUSALS:
            raise ProofFailed(f"request {request.request_id} was answered {decision.outcome}")
        return
    if way.drive(decision.ride_id) is RideStatus.COMPLETED:  # else it was lost; the findings say so
        told.ended(decision.ride_id)


class _Shared:
    """An iterator for many threads."""

    def __init__(self, requests: Iterator[RideRequest]) -> None:
        self._requests = requests
        self._lock = threading.Lock()

    def next(self) -> RideRequest:
        with self._lock:
            return next(self._requests)


class _Pooled:
    def __init__(self, pool: Pool, told: Told) -> None:
        self._pool, self._told = pool, told

    def book(self, request: RideRequest) -> Decision:
        def send(connection: Connection[TupleRow]) -> Decision:
            self._told.sending([request])
            return booking.book(connection, request)

        return self._pool.call(send)

    def drive(self, ride_id: int) -> moves.Standing:
        self._pool.call(lambda connection: moves.start(connection, ride_id))
        return self._pool.call(lambda connection: moves.complete(connection, ride_id))


class _Lanes:
    def __init__(self, pool: Pool, told: Told) -> None:
        def send(connection: Connection[TupleRow], requests: Sequence[RideRequest]) -> list[Decision]:
            told.sending(requests)
            return booking.book_many(connection, requests)

        self._bookings: Lane[RideRequest, Decision] = Lane(pool, send, workers=2)
        self._starts: Lane[int, moves.Standing] = Lane(pool, moves.start_many)
        self._ends: Lane[tuple[int, int], moves.Standing] = Lane(pool, moves.complete_many)

    def book(self, request: RideRequest) -> Decision:
        return self._bookings.call(request)

    def drive(self, ride_id: int) -> moves.Standing:
        self._starts.call(ride_id)
        return self._ends.call((ride_id, 0))

    def close(self) -> None:
        for lane in (self._bookings, self._starts, self._ends):
            lane.close()
