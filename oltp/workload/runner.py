"""Runs concurrent clients, one thread each.

    def client(group: ClientGroup) -> None:
        with store.connect() as connection:
            group.together()                       # all clients begin at the same time
            while not group.stopped:               # closed loop; open loop: `group.sleep` until the due time
                group.timed(lambda: book(connection))

    group = run_clients([client] * 8, seconds=2.0)
    group.latencies, group.seconds

The first error of a client stops all of them and is re-raised by the caller.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import TypeVar

from ridelake.errors import RidelakeError

Answer = TypeVar("Answer")
Client = Callable[["ClientGroup"], None]
AsyncClient = Callable[["ClientGroup"], Awaitable[None]]

STOP_SECONDS_MAX = 60.0  # from the stop to the end of the last client
INTERRUPT_SECONDS_MAX = 0.2  # the same after an error or Ctrl-C, after which the process has about one second


class ClientStopped(Exception):
    """The group was stopped while this client waited for the others. Ends the client without an error."""


class ClientGroup:
    """Clients that work at the same time. `on_stop` is called when they are stopped.

    `failure`: the first error of a client. `latencies`: seconds of each `timed` call. `began`: when the
    clients began together, or were started. `seconds`: from then until the last one ended."""

    def __init__(self, clients: Sequence[Client], on_stop: Callable[[], None] = lambda: None) -> None:
        self.failure: BaseException | None = None
        self.latencies: list[float] = []
        self.began = self._ended = 0.0
        self._clients, self._on_stop = clients, on_stop
        self._working = len(clients)
        self._stop = threading.Event()
        self._over = threading.Event()  # instead of Thread.join(), which Ctrl-C corrupts before Python 3.13
        self._lock = threading.Lock()
        self._released = False
        self._barrier = threading.Barrier(len(clients), self._begin)

    # For the clients.

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    def sleep(self, seconds: float) -> bool:
        """Wait. False if the group was stopped in the meantime."""
        return not self._stop.wait(max(0.0, seconds))

    def together(self) -> None:
        """Wait until every client of the group has called this. Ends the client if the group is stopped."""
        try:
            self._barrier.wait()
        except threading.BrokenBarrierError as error:
            raise ClientStopped from error

    def timed(self, operation: Callable[[], Answer]) -> Answer:
        """`operation()`; its time is added to `latencies`."""
        began = perf_counter()
        answer = operation()
        self.latencies.append(perf_counter() - began)
        return answer

    # For the caller. Clients that share a thread also call `fail`.

    @property
    def seconds(self) -> float:
        return self._ended - self.began

    def start(self) -> None:
        self.began = perf_counter()
        for client in self._clients:  # daemons: an exit of the program does not wait for them
            threading.Thread(target=self._run, args=(client,), daemon=True).start()

    def stop(self) -> None:
        """Ask the clients to end after their current operation."""
        self._stop.set()
        self._barrier.abort()
        self._on_stop()

    def fail(self, error: BaseException) -> None:
        """Record the error of a client, and stop the others."""
        with self._lock:
            self.failure = self.failure or error
        self.stop()

    def wait(self, seconds_max: float | None = None) -> bool:
        """Wait until all clients have ended. False if they have not after `seconds_max`."""
        return self._over.wait(seconds_max)

    def _begin(self) -> None:
        if not self._released:
            self.began, self._released = perf_counter(), True

    def _run(self, client: Client) -> None:
        try:
            client(self)
        except ClientStopped:
            pass
        except BaseException as error:
            self.fail(error)
        with self._lock:
            self._working -= 1
            if not self._working:
                self._ended = perf_counter()
                self._over.set()


def run_clients(clients: Sequence[Client], *, seconds: float | None = None) -> ClientGroup:
    """Run the clients until they end; with `seconds`, stop them after that time.

    Raises the first error of a client, and RidelakeError if they do not end in time after a stop."""
    with running_clients(clients) as group:
        if seconds is None:
            group.wait()
        while seconds is not None and (left := group.began + seconds - perf_counter()) > 0:
            if group.wait(left):
                break
    return group


@contextmanager
def running_clients(
    clients: Sequence[Client], stop_seconds_max: float = STOP_SECONDS_MAX
) -> Iterator[ClientGroup]:
    """Run the clients during the block, then stop them and wait until they have ended. After an error of the
    block the wait is short, because the clients may depend on what has failed.

    Raises the first error of a client, and RidelakeError if they do not end in time."""
    group = ClientGroup(clients)
    try:
        group.start()
        yield group
    except BaseException:
        group.stop()
        group.wait(INTERRUPT_SECONDS_MAX)
        raise
    group.stop()
    if not group.wait(stop_seconds_max) and group.failure is None:
        raise RidelakeError(
            f"the clients did not end within {stop_seconds_max:.0f} s after they were stopped"
        )
    if group.failure is not None:
        raise group.failure


def in_one_thread(clients: Sequence[AsyncClient]) -> Client:
    """One client for `ClientGroup` that runs all these clients in an event loop. If one fails, the others
    complete their current operation."""

    async def guarded(client: AsyncClient, group: ClientGroup) -> None:
        try:
            await client(group)
        except Exception as error:
            group.fail(error)

    async def run_all(group: ClientGroup) -> None:
        await asyncio.gather(*(guarded(client, group) for client in clients))

    return lambda group: asyncio.run(run_all(group))
