"""Client processes that book or query in a closed loop, and their events within a window of time.

A process starts once and waits for orders. An order is a window on the monotonic clock. All processes of a
machine share this clock, so no stop signal is needed. If the parent ends, the pipe closes and the client
ends.
"""

import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from time import monotonic, sleep
from typing import Protocol
from uuid import UUID

from lakehouse.table.epoch import SnapshotToken
from ridelake.errors import RidelakeError
from ridelake.ride import Outcome

# Forked from a process that has loaded all modules and has no threads or connections. Loading the modules in
# each client would take longer than measuring a point.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["bench.frontier.client_functions", "lakehouse.engines.postgres", "lakehouse.engines.duckdb"]
)
START_SECONDS_MAX = 120.0  # enough for a busy machine
LATE_SECONDS_MAX = 60.0  # allowed time of the last booking or query after the end of a window
LEAVE_SECONDS_MAX = 10.0
LEAD_SECONDS = 0.02  # from the order to the start, so that all clients have received it


@dataclass(frozen=True, slots=True)
class BookingEvent:
    """A decided request: start and end time, and the number of conflicts before it."""

    began: float
    ended: float
    request_id: UUID
    outcome: Outcome
    conflicts: int = 0


@dataclass(frozen=True, slots=True)
class QueryEvent:
    """A query: start and end time, and the token of the copy it read, if it read a copy."""

    began: float
    ended: float
    token: SnapshotToken | None = None


Event = BookingEvent | QueryEvent
ClientFunction = Callable[[], Event]
"""A client function: each call makes one booking or one query."""


@dataclass(frozen=True, slots=True)
class ClientFunctions:
    booking: Sequence[ClientFunction] = ()
    querying: Sequence[ClientFunction] = ()


class ClientSpec(Protocol):
    """The clients of a process and their number. It is pickled here and opened in the process."""

    @property
    def booking(self) -> int: ...

    @property
    def querying(self) -> int: ...

    def opened(self) -> AbstractContextManager[ClientFunctions]: ...


@dataclass(frozen=True, slots=True)
class Window:
    """Clients work from `start` to `end`. Events that end after `begin` are counted. Monotonic seconds."""

    start: float
    begin: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.begin

    def counts(self, event: Event) -> bool:
        return self.begin < event.ended <= self.end


@dataclass(frozen=True, slots=True)
class WindowResult:
    """All events from the start of a window until the last client finished."""

    window: Window
    events: list[Event]


@dataclass(frozen=True, slots=True)
class _Order:
    window: Window
    booking: int
    querying: int


@dataclass(frozen=True, slots=True)
class _Client:
    spec: ClientSpec
    process: BaseProcess
    pipe: Connection

    def receive(self, until: float) -> object:
        """The next message. Raises the error of the client, or RidelakeError if no message arrives in
        time."""
        if not self.pipe.poll(max(0.0, until - monotonic())):
            raise RidelakeError(f"client {self.process.name} does not answer")
        try:
            message = self.pipe.recv()
        except EOFError:
            raise RidelakeError(f"client {self.process.name} ended without an answer") from None
        if isinstance(message, RidelakeError):
            raise message
        return message


class Clients:
    """The client processes of a set-up."""

    def __init__(self, clients: Sequence[_Client]) -> None:
        self._clients = clients

    def work(self, booking: int, querying: int, *, warm_seconds: float, seconds: float) -> WindowResult:
        """Run this many clients of each kind for a window. Raises RidelakeError if one of them fails."""
        start = monotonic() + LEAD_SECONDS
        window = Window(start, start + warm_seconds, start + warm_seconds + seconds)
        busy: list[_Client] = []
        for client in self._clients:
            order = _Order(window, min(booking, client.spec.booking), min(querying, client.spec.querying))
            if order.booking or order.querying:
                client.pipe.send(order)
                busy.append(client)
            booking, querying = booking - order.booking, querying - order.querying
        assert not booking, f"{booking} booking clients too many"
        assert not querying, f"{querying} querying clients too many"
        events: list[Event] = []
        for client in busy:
            events += client.receive(window.end + LATE_SECONDS_MAX)  # type: ignore[arg-type]
        return WindowResult(window, events)


@contextmanager
def started(specs: Sequence[ClientSpec]) -> Iterator[Clients]:
    """Start a process for each client; it ends with the block. Raises RidelakeError if one does not start."""
    clients: list[_Client] = []
    try:
        for number, spec in enumerate(specs, start=1):
            ours, theirs = CONTEXT.Pipe()
            name = f"{type(spec).__name__} {number}"
            process = CONTEXT.Process(target=_serve, args=(theirs, spec), name=name, daemon=True)
            process.start()
            theirs.close()
            clients.append(_Client(spec, process, ours))
        for client in clients:
            client.receive(monotonic() + START_SECONDS_MAX)
        yield Clients(clients)
    finally:
        for client in clients:
            client.pipe.close()  # ends the client
        for client in clients:
            client.process.join(LEAVE_SECONDS_MAX)
            if client.process.is_alive():
                client.process.kill()
                client.process.join()


def _serve(parent: Connection, spec: ClientSpec) -> None:
    """Run in the client process: execute orders until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    orders: SimpleQueue[_Order | None] = SimpleQueue()
    parent_ended = threading.Event()
    threading.Thread(target=_listen, args=(parent, orders, parent_ended), daemon=True).start()
    with suppress(BrokenPipeError):  # the parent has ended
        try:
            with spec.opened() as functions, ThreadPoolExecutor(spec.booking + spec.querying) as threads:
                parent.send("ready")
                while (order := orders.get()) is not None:
                    taken = [*functions.booking[: order.booking], *functions.querying[: order.querying]]
                    works = [
                        threads.submit(_work, client_function, order.window, parent_ended)
                        for client_function in taken
                    ]
                    parent.send([event for work in works for event in work.result()])
        except Exception as error:
            if not parent_ended.is_set():
                message = (
                    str(error) if isinstance(error, RidelakeError) else f"{type(error).__name__}: {error}"
                )
                parent.send(RidelakeError(message))


def _listen(parent: Connection, orders: SimpleQueue[_Order | None], parent_ended: threading.Event) -> None:
    with suppress(EOFError, OSError):
        while True:
            orders.put(parent.recv())
    parent_ended.set()
    orders.put(None)


def _work(client_function: ClientFunction, window: Window, parent_ended: threading.Event) -> list[Event]:
    sleep(max(0.0, window.start - monotonic()))
    done: list[Event] = []
    while not parent_ended.is_set() and monotonic() < window.end:
        done.append(client_function())
    return done
