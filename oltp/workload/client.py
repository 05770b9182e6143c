"""The behavior of one client, as a generator: it yields an operation and receives the result.

    decision = yield Book(request)

The caller executes the operations: a thread on a connection, or an event loop with batching.
"""

from time import perf_counter

from oltp import lifecycle
from oltp.workload.metrics import Metrics
from oltp.workload.operations import (
    AbandonRequest,
    Book,
    Cancel,
    ClientScript,
    Complete,
    GoOffline,
    GoOnline,
    Refund,
    Start,
    TopUp,
)
from oltp.workload.schedule import TOP_UP_CENTS, Scenario, ScheduledRequest
from ridelake.errors import ProofFailed
from ridelake.ride import (
    CancelReason,
    Decision,
    DriverStatus,
    Outcome,
    PaymentStatus,
    RideRequest,
    RideStatus,
    new_request_id,
)


class SimulatedClient:
    """Sends requests one after the other. What a request leaves open (an answer that was not read, a driver
    that is offline) is completed after the next request, or at the end."""

    def __init__(self, tally: Metrics) -> None:
        self._tally = tally
        self._in_doubt: list[RideRequest] = []
        self._resting: list[tuple[int, int]] = []  # offline drivers, and the zones where they go online again

    def turn(self, turn: ScheduledRequest) -> ClientScript:
        """Process one request to its end. Raises ProofFailed for an incorrect answer."""
        in_doubt, self._in_doubt = self._in_doubt, []
        resting, self._resting = self._resting, []
        if turn.fate.abandoned:
            yield AbandonRequest(turn.request)
            self._tally.happened("abandoned")
            self._in_doubt.append(turn.request)
        else:
            yield from self._ask(turn)
        yield from self._put_right(in_doubt, resting)

    def leave(self) -> ClientScript:
        """Complete what is open."""
        yield from self._put_right(self._in_doubt, self._resting)

    def _ask(self, turn: ScheduledRequest) -> ClientScript:
        asked = perf_counter() if turn.due is None else turn.due
        decision: Decision = yield Book(turn.request)
        self._tally.decided(decision.outcome, perf_counter() - asked)
        if turn.fate.sent_again:
            yield from self._ask_again(turn.request, decision)
        if decision.ride_id is not None:
            yield from self._ride(turn.request, turn.fate, decision)
            if turn.fate.sent_again:
                yield from self._ask_again(turn.request, decision)
        elif decision.outcome is Outcome.PAYMENT_DECLINED and turn.fate.topped_up:
            yield from self._top_up(turn.request.rider_id)

    def _ask_again(self, request: RideRequest, decision: Decision) -> ClientScript:
        again: Decision = yield Book(request)
        self._tally.happened("sent_again")
        if again != decision:
            raise ProofFailed(
                f"request {request.request_id} was answered with {_shown(decision)}, and with "
                f"{_shown(again)} when "
                "it was sent again"
            )

    def _ride(self, request: RideRequest, fate: Scenario, decision: Decision) -> ClientScript:
        ride_id = decision.ride_id
        assert ride_id is not None
        if fate.cancelled is not None:
            yield from self._cancel(ride_id, fate.cancelled)
            return
        standing: lifecycle.OptionalRideStatus = yield Start(ride_id)
        if standing is RideStatus.STARTED:
            standing = yield Complete(ride_id, fate.tip_cents)
        if standing is RideStatus.CANCELLED:  # another run has expired the ride: see `request_ids`
            self._tally.cancelled(CancelReason.EXPIRED)
            return
        self._check(f"ride {ride_id} after complete()", standing, RideStatus.COMPLETED)
        self._tally.happened("completed")
        if fate.refunded:
            payment: PaymentStatus | None = yield Refund(ride_id)
            self._check(f"the payment of ride {ride_id} after refund()", payment, PaymentStatus.REFUNDED)
            self._tally.happened("refunded")
        if fate.rested and decision.driver_id is not None:
            driver: DriverStatus | None = yield GoOffline(decision.driver_id)
            if driver is DriverStatus.OFFLINE:  # otherwise another request has claimed the driver
                self._tally.happened("rested")
                self._resting.append((decision.driver_id, request.dropoff_zone_id))

    def _cancel(self, ride_id: int, reason: CancelReason) -> ClientScript:
        standing: lifecycle.OptionalRideStatus = yield Cancel(ride_id, reason)
        self._check(f"ride {ride_id} after cancel()", standing, RideStatus.CANCELLED)
        self._tally.cancelled(reason)

    def _top_up(self, rider_id: int) -> ClientScript:
        """Sent twice (double tap); must be applied once."""
        top_up = TopUp(rider_id, TOP_UP_CENTS, new_request_id())
        first: int | None = yield top_up
        second: int | None = yield top_up
        if first is None or first != second:
            raise ProofFailed(
                f"top-up {top_up.top_up_id} returned transfer {first}, and transfer {second} when it was "
                "repeated"
            )
        self._tally.happened("topped_up")

    def _put_right(self, in_doubt: list[RideRequest], resting: list[tuple[int, int]]) -> ClientScript:
        for request in in_doubt:  # decided now if not before; the client does not want the ride any more
            decision: Decision = yield Book(request)
            self._tally.decided(decision.outcome, None)
            self._tally.happened("settled")
            if decision.ride_id is not None:
                yield from self._cancel(decision.ride_id, CancelReason.EXPIRED)
        for driver_id, zone_id in resting:
            yield GoOnline(driver_id, zone_id)

    def _check(self, what: str, standing: object, wanted: object) -> None:
        if standing is not wanted:
            raise ProofFailed(f"{what} is {standing or 'missing'}, not {wanted}")


def _shown(decision: Decision) -> str:
    return f"{decision.outcome} (ride {decision.ride_id or 'none'}, driver {decision.driver_id or 'none'})"
