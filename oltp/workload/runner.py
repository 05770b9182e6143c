"""Runs the clients: one thread per client, or one event loop for all.

One by one, an operation is a call on a connection of the client. In batches, an operation waits in a queue of
the dispatcher (`oltp.batching`) for the next batch; rare operations are sent one at a time.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from psycopg import Connection
from psycopg.rows import TupleRow

from oltp.batching import Batcher, Dispatcher
from oltp.pool import RetryPool
from oltp.retry import RetryPolicy
from oltp.store import Store
from oltp.workload.client import ClientScript, SimulatedClient
from oltp.workload.metrics import Metrics
from oltp.workload.operations import AbandonRequest, Book, Cancel, Complete, Operation, Start, warm_up_session
from oltp.workload.schedule import ArrivalSchedule, ScheduledRequest
from ridelake.errors import CannotConnect, DispatcherClosed
from ridelake.ride import CancelReason, RideRequest

Answer = TypeVar("Answer")

# Together with the last wait for a connection, a run without a server ends after 15 s.
PATIENCE = RetryPolicy(seconds_max=13.0)
BOOKING_WORKERS = 2
SIDE_WORKERS = 2  # for operations for which the dispatcher has no queue
BATCH_CONNECTIONS = BOOKING_WORKERS + 3 + SIDE_WORKERS  # three: starts, completions, cancellations
HANG_UP_SECONDS = 0.0005  # long enough that some abandoned requests are in a batch
POLL_SECONDS = 0.1  # how often a waiting client checks whether the run was stopped


class RunPool(RetryPool):
    """The pool of a run. When one call has given up, the others fail immediately."""

    def __init__(self, store: Store, size: int) -> None:
        super().__init__(store, size, PATIENCE)
        self._given_up = threading.Event()

    def __enter__(self) -> "RunPool":
        return self

    def close(self) -> None:
        self.give_up()
        super().close()

    def give_up(self) -> None:
        self._given_up.set()

    @property
    def given_up(self) -> bool:
        return self._given_up.is_set()

    def _once(self, verb: Callable[[Connection[TupleRow]], Answer]) -> Answer:
        if self._given_up.is_set():
            raise DispatcherClosed("the run is over; no more requests are sent")
        return super()._once(verb)


class ClientRunner:
    """Threads that work until the schedule is empty. The first unhandled error stops all clients and is
    re-raised by the caller."""

    def __init__(self, line: RunPool, agenda: ArrivalSchedule) -> None:
        self.failures: list[BaseException] = []
        self.batch_mean: float | None = None  # mean requests per batch, set at the end
        self._line, self._agenda = line, agenda
        self._at_work = 0
        self._over = threading.Event()  # instead of Thread.join(), which Ctrl-C breaks before Python 3.13
        self._lock = threading.Lock()

    def begin(self, work: Callable[[], None], threads: int) -> None:
        def guarded() -> None:
            try:
                work()
            except BaseException as error:
                self.fail(error)
            with self._lock:
                self._at_work -= 1
                if not self._at_work:
                    self._over.set()

        self._at_work = threads
        for _ in range(threads):  # daemons: a second Ctrl-C does not wait for them
            threading.Thread(target=guarded, daemon=True).start()

    @property
    def stranded(self) -> bool:
        """The server cannot be reached; do not wait for the clients."""
        return self._line.given_up

    def stop(self) -> None:
        """Stop after the current requests; clients complete what is open."""
        self._agenda.stop()

    def leave(self) -> None:
        """Stop immediately, without waiting for answers."""
        self._agenda.stop()
        self._line.give_up()

    def fail(self, error: BaseException) -> None:
        self.failures.append(error)
        self.stop()
        if isinstance(error, CannotConnect):
            self._line.give_up()

    def wait(self, seconds: float) -> bool:
        """Wait until all threads are done, or for `seconds`. True: all are done."""
        return self._over.wait(seconds)


def run_client(line: RunPool, agenda: ArrivalSchedule, tally: Metrics) -> None:
    """The work of a thread that is one client."""
    client = SimulatedClient(tally)
    while (turn := agenda.take()) is not None:
        if agenda.wait_for(turn):
            _play(client.turn(turn), line)
    _play(client.leave(), line)


def run_clients_in_batches(
    line: RunPool, agenda: ArrivalSchedule, tally: Metrics, clients: int, crew: ClientRunner
) -> None:
    """The work of the one thread that runs all clients. If a client fails, the others complete their current
    requests."""

    async def client(desk: "BatchClient") -> None:
        client = SimulatedClient(tally)
        try:
            while (turn := agenda.take()) is not None:
                if await _wait_until_due(agenda, turn):
                    await desk.play(client.turn(turn))
            await desk.play(client.leave())
        except Exception as error:
            crew.fail(error)

    async def all_clients(desk: "BatchClient") -> None:
        await asyncio.gather(*(client(desk) for _ in range(clients)))

    with Dispatcher(line, booking_workers=BOOKING_WORKERS) as dispatcher:
        desk = BatchClient(line, dispatcher)
        try:
            asyncio.run(all_clients(desk))
        finally:
            desk.close()
        lane = dispatcher.bookings
    crew.batch_mean = lane.items / max(lane.flushes, 1)


class BatchClient:
    """Executes the operations of clients of an event loop."""

    def __init__(self, line: RunPool, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._side: Batcher[Operation, object] = Batcher(line, _each, workers=SIDE_WORKERS, batch_max=1)

    def close(self) -> None:
        self._side.close()

    async def play(self, script: ClientScript) -> None:
        answer: Any = None
        with suppress(StopIteration):
            while True:
                answer = await self._ask(script.send(answer))

    async def _ask(self, verb: Operation) -> object:
        match verb:
            case Book(request):
                return await self._dispatcher.bookings.ask(request)
            case AbandonRequest(request):
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._dispatcher.bookings.ask(request), HANG_UP_SECONDS)
                return None  # the client does not read the answer
            case Start(ride_id):
                return await self._dispatcher.starts.ask(ride_id)
            case Complete(ride_id, tip_cents):
                return await self._dispatcher.completions.ask((ride_id, tip_cents))
            case Cancel(ride_id, CancelReason.RIDER):
                return await self._dispatcher.cancellations.ask(ride_id)
        return await self._side.ask(verb)


def warm_up(line: RunPool, requests: Sequence[RideRequest]) -> None:
    """Open as many connections as there are requests, and rehearse one request on each, before the clock
    starts. Each connection is held until all are open, at most two seconds."""
    together = threading.Barrier(len(requests))

    def open_one(request: RideRequest) -> None:
        def hold(connection: Connection[TupleRow]) -> None:
            with suppress(threading.BrokenBarrierError):
                together.wait(2.0)
            warm_up_session(connection, request)

        with suppress(CannotConnect, DispatcherClosed):  # the run itself will report it
            line.call(hold)

    threads = [threading.Thread(target=open_one, args=(request,), daemon=True) for request in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _play(script: ClientScript, line: RunPool) -> None:
    answer: Any = None
    with suppress(StopIteration):
        while True:
            answer = line.call(script.send(answer).on)


def _each(connection: Connection[TupleRow], verbs: Sequence[Operation]) -> list[object]:
    return [verb.on(connection) for verb in verbs]


async def _wait_until_due(agenda: ArrivalSchedule, turn: ScheduledRequest) -> bool:
    while (seconds := agenda.seconds_until(turn)) > 0:
        if agenda.stopped.is_set():
            return False
        await asyncio.sleep(min(seconds, POLL_SECONDS))
    return True
