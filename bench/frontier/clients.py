"""Processes that book or ask in a closed loop, and what they did within a window of time.

A process is started once for what its post says and waits for orders. An order is a window on the monotonic
clock, which all processes of one machine share; so nobody is told to stop: everybody knows when. The pipe to
the parent ends with the parent, however that ends, and then the client does too.
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

from lakehouse.epoch import Token
from ridelake.errors import RidelakeError
from ridelake.ride import Outcome

# Forked from one process that has loaded everything and has neither threads nor connections: for each to load
# it takes longer than to measure a point.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["bench.frontier.posts", "lakehouse.engines.postgres", "lakehouse.engines.duckdb"]
)
START_SECONDS_MAX = 120.0  # a machine may be busy
LATE_SECONDS_MAX = 60.0  # what the last booking or question of a window may take beyond its end
LEAVE_SECONDS_MAX = 10.0
LEAD_SECONDS = 0.02  # from the order to the start, so that all have heard it


@dataclass(frozen=True, slots=True)
class Booked:
    """A decided request: when it was asked and answered, and how often it was tried in vain before."""

    began: float
    ended: float
    request_id: UUID
    outcome: Outcome
    conflicts: int = 0


@dataclass(frozen=True, slots=True)
class Answered:
    """A question: when it was asked and answered; the state it was answered from, if that is a copy's."""

    began: float
    ended: float
    token: Token | None = None


Event = Booked | Answered
Seat = Callable[[], Event]
"""Where one client sits: called, it books or asks once."""


@dataclass(frozen=True, slots=True)
class Seats:
    booking: Sequence[Seat] = ()
    asking: Sequence[Seat] = ()


class Post(Protocol):
    """What a process is for, and how many clients sit in it. Pickled here and opened there."""

    @property
    def booking(self) -> int: ...

    @property
    def asking(self) -> int: ...

    def opened(self) -> AbstractContextManager[Seats]: ...


@dataclass(frozen=True, slots=True)
class Window:
    """Clients work from `start` to `end`; what they end from `begin` on is counted. Monotonic seconds."""

    start: float
    begin: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.begin

    def counts(self, event: Event) -> bool:
        return self.begin < event.ended <= self.end


@dataclass(frozen=True, slots=True)
class Shift:
    """All that was done from the start of a window until the last client was done."""

    window: Window
    events: list[Event]


@dataclass(frozen=True, slots=True)
class _Order:
    window: Window
    booking: int
    asking: int


@dataclass(frozen=True, slots=True)
class _Client:
    post: Post
    process: BaseProcess
    pipe: Connection

    def receive(self, until: float) -> object:
        """What it sends. Raises its error, or RidelakeError if it says nothing in time."""
        if not self.pipe.poll(max(0.0, until - monotonic())):
            raise RidelakeError(f"client {self.process.name} does not answer")
        try:
            said = self.pipe.recv()
        except EOFError:
            raise RidelakeError(f"client {self.process.name} ended without a word") from None
        if isinstance(said, RidelakeError):
            raise said
        return said


class Clients:
    """All processes of a set-up."""

    def __init__(self, clients: Sequence[_Client]) -> None:
        self._clients = clients

    def work(self, booking: int, asking: int, *, warm_seconds: float, seconds: float) -> Shift:
        """Let so many clients of each kind work at once. Raises what one of them raises, as RidelakeError."""
        start = monotonic() + LEAD_SECONDS
        window = Window(start, start + warm_seconds, start + warm_seconds + seconds)
        busy: list[_Client] = []
        for client in self._clients:
            order = _Order(window, min(booking, client.post.booking), min(asking, client.post.asking))
            if order.booking or order.asking:
                client.pipe.send(order)
                busy.append(client)
            booking, asking = booking - order.booking, asking - order.asking
        assert not booking, f"{booking} booking clients have no seat"
        assert not asking, f"{asking} asking clients have no seat"
        events: list[Event] = []
        for client in busy:
            events += client.receive(window.end + LATE_SECONDS_MAX)  # type: ignore[arg-type]
        return Shift(window, events)


@contextmanager
def started(posts: Sequence[Post]) -> Iterator[Clients]:
    """A process for each post, for as long as the block. Raises RidelakeError if one does not get ready."""
    clients: list[_Client] = []
    try:
        for number, post in enumerate(posts, start=1):
            ours, theirs = CONTEXT.Pipe()
            name = f"{type(post).__name__} {number}"
            process = CONTEXT.Process(target=_serve, args=(theirs, post), name=name, daemon=True)
            process.start()
            theirs.close()
            clients.append(_Client(post, process, ours))
        for client in clients:
            client.receive(monotonic() + START_SECONDS_MAX)
        yield Clients(clients)
    finally:
        for client in clients:
            client.pipe.close()  # each knows by that
        for client in clients:
            client.process.join(LEAVE_SECONDS_MAX)
            if client.process.is_alive():
                client.process.kill()
                client.process.join()


def _serve(parent: Connection, post: Post) -> None:
    """In the process: orders, until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    orders: SimpleQueue[_Order | None] = SimpleQueue()
    gone = threading.Event()
    threading.Thread(target=_listen, args=(parent, orders, gone), daemon=True).start()
    with suppress(BrokenPipeError):  # the parent is gone, and nobody wants to know
        try:
            with post.opened() as seats, ThreadPoolExecutor(post.booking + post.asking) as threads:
                parent.send("ready")
                while (order := orders.get()) is not None:
                    taken = [*seats.booking[: order.booking], *seats.asking[: order.asking]]
                    works = [threads.submit(_work, seat, order.window, gone) for seat in taken]
                    parent.send([event for work in works for event in work.result()])
        except Exception as error:
            if not gone.is_set():
                said = str(error) if isinstance(error, RidelakeError) else f"{type(error).__name__}: {error}"
                parent.send(RidelakeError(said))


def _listen(parent: Connection, orders: SimpleQueue[_Order | None], gone: threading.Event) -> None:
    with suppress(EOFError, OSError):
        while True:
            orders.put(parent.recv())
    gone.set()
    orders.put(None)


def _work(seat: Seat, window: Window, gone: threading.Event) -> list[Event]:
    sleep(max(0.0, window.start - monotonic()))
    done: list[Event] = []
    while not gone.is_set() and monotonic() < window.end:
        done.append(seat())
    return done
