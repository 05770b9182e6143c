"""The batching front: many callers at once, few round trips.

    caller ─┐                        ┌─ worker ── book_rides([…]) ──> Postgres
    caller ─┼─> queue, first in ─────┤     while one batch is under way, the next one gathers
    caller ─┘   first out, bounded   └─ worker ── book_rides([…]) ──> Postgres

A worker takes whatever waits, up to a bound, and never waits for more: alone, a request is a batch of one
and as fast as ever; under load the batches grow by themselves, as in TigerBeetle's clients. What limits
one-by-one booking (a round trip, a parse, a commit and its flush for every ride) is paid once a batch.

Every item has its own answer. An item that Postgres cannot digest is found by halving the batch, and only
its caller hears of it. Once `submit` has returned, the item is answered, whatever comes: on close the queue
is emptied first.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, TypeVar

from psycopg import Connection
from psycopg.rows import TupleRow

from oltp import booking, moves
from oltp.pool import Pool
from ridelake.errors import CannotConnect, Closed
from ridelake.ride import Decision, RideRequest

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Flush = Callable[[Connection[TupleRow], Sequence[Item]], Sequence[Answer]]

# Beyond some hundreds the round trip and the commit are a small part of the batch already, and the first
# caller waits for the last: docs/store.md has the curve.
BATCH_MAX = 512
# Ten full batches: half a second of work in the queue, not more. Who comes then has to wait outside.
WAITING_MAX = 5_120


class Waiting(Generic[Item, Answer]):
    """An item, and where its answer goes: to a thread's future, or to an event loop's."""

    __slots__ = ("admitted", "future", "item", "loop")

    def __init__(self, item: Item, loop: asyncio.AbstractEventLoop | None) -> None:
        self.item = item
        self.loop = loop
        self.future: Any = Future() if loop is None else loop.create_future()
        self.admitted: Future[None] | None = None  # for a caller who has to wait until there is room


class Lane(Generic[Item, Answer]):
    """A queue for one verb, and the workers that empty it."""

    def __init__(
        self,
        pool: Pool,
        flush: Flush[Item, Answer],
        *,
        workers: int = 1,
        batch_max: int = BATCH_MAX,
        waiting_max: int = WAITING_MAX,
    ) -> None:
        self.items = self.flushes = 0  # done so far
        self._pool = pool
        self._flush = flush
        self._batch_max = batch_max
        self._queue: deque[Waiting[Item, Answer]] = deque()
        self._outside: deque[Waiting[Item, Answer]] = deque()
        self._waiting_max = waiting_max
        self._changed = threading.Condition()
        self._closed = False
        self._workers = [threading.Thread(target=self._work, daemon=True) for _ in range(workers)]
        for worker in self._workers:
            worker.start()

    def submit(self, item: Item) -> "Future[Answer]":
        """Accept the item; the future has its answer. Waits while the queue is full.

        A done-callback of the future runs in the lane's worker, which answers nobody meanwhile: it may
        submit, but not wait for an answer of the same lane.

        Raises Closed after close(), and RuntimeError in a done-callback if there is no room."""
        entry = self._enter(Waiting(item, None))
        if entry.admitted is not None:
            entry.admitted.result()
        future: Future[Answer] = entry.future
        return future

    def call(self, item: Item) -> Answer:
        """The item's answer, for a caller in a thread. Raises Closed after close(), and RuntimeError in a
        done-callback, where the lane's worker would wait for itself."""
        self._refuse_its_worker("call")
        answer: Answer = self._enter(Waiting(item, None)).future.result()
        return answer

    async def ask(self, item: Item) -> Answer:
        """The item's answer, for a caller in an event loop, which goes on meanwhile. Raises Closed after
        close()."""
        answer: Answer = await self._enter(Waiting(item, asyncio.get_running_loop())).future
        return answer

    def close(self) -> None:
        """Accept nothing more, answer what was accepted, stop."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for worker in self._workers:
            worker.join()

    def _refuse_its_worker(self, what: str) -> None:
        if threading.current_thread() in self._workers:
            raise RuntimeError(
                f"{what} in a done-callback of the same lane: its worker would wait for itself"
            )

    def _enter(self, entry: "Waiting[Item, Answer]") -> "Waiting[Item, Answer]":
        with self._changed:
            if self._closed:
                raise Closed("the dispatcher is closed: what was accepted is answered, this is not accepted")
            if len(self._queue) < self._waiting_max:
                self._queue.append(entry)
                self._changed.notify()
            else:
                self._refuse_its_worker("submit to a full queue")
                entry.admitted = Future()
                self._outside.append(entry)
        return entry

    def _take(self) -> "list[Waiting[Item, Answer]]":
        """Wait for something to do; nothing means that the lane is closed and empty."""
        with self._changed:
            while not self._queue and not self._closed:
                self._changed.wait()
            count = min(len(self._queue), self._batch_max)
            batch = [self._queue.popleft() for _ in range(count)]
            while self._outside and len(self._queue) < self._waiting_max:
                entry = self._outside.popleft()
                self._queue.append(entry)
                if entry.admitted is not None:
                    entry.admitted.set_result(None)
            return batch

    def _work(self) -> None:
        while batch := self._take():
            # A caller who has given up is not asked for.
            wanted = [
                entry
                for entry in batch
                if (
                    not entry.future.cancelled()
                    if entry.loop
                    else entry.future.set_running_or_notify_cancel()
                )
            ]
            if wanted:
                self._settle(wanted)

    def _settle(self, batch: "list[Waiting[Item, Answer]]") -> None:
        items = [entry.item for entry in batch]
        try:
            answers = self._pool.call(lambda connection: self._flush(connection, items))
            answered = [(entry, answer, None) for entry, answer in zip(batch, answers, strict=True)]
        except CannotConnect as error:
            _deliver([(entry, None, error) for entry in batch])
        except Exception as error:
            if len(batch) == 1:
                _deliver([(batch[0], None, error)])
            else:  # nothing of it was done, or may be done again: one of them is poison, half of them are not
                self._settle(batch[: len(batch) // 2])
                self._settle(batch[len(batch) // 2 :])
        except BaseException as error:
            _deliver([(entry, None, error) for entry in batch])
        else:
            with self._changed:  # the workers count together
                self.items, self.flushes = self.items + len(batch), self.flushes + 1
            _deliver(answered)


def _deliver(answers: "Sequence[tuple[Waiting[Any, Any], Any, BaseException | None]]") -> None:
    """To each its own. An event loop is woken once for all of its callers."""
    of_loops: dict[asyncio.AbstractEventLoop, list[tuple[Waiting[Any, Any], Any, BaseException | None]]] = {}
    for entry, answer, error in answers:
        if entry.loop is not None:
            of_loops.setdefault(entry.loop, []).append((entry, answer, error))
        else:
            _set(entry, answer, error)
    for loop, theirs in of_loops.items():
        with suppress(RuntimeError):  # the loop was closed; nobody is there to be told
            loop.call_soon_threadsafe(_set_all, theirs)


def _set_all(answers: "list[tuple[Waiting[Any, Any], Any, BaseException | None]]") -> None:
    for entry, answer, error in answers:
        if not entry.future.cancelled():
            _set(entry, answer, error)


def _set(entry: "Waiting[Any, Any]", answer: Any, error: BaseException | None) -> None:
    if error is None:
        entry.future.set_result(answer)
    else:
        entry.future.set_exception(error)


class Dispatcher:
    """A lane for each verb of a ride. One to be shared by all threads and event loops of a process."""

    def __init__(self, pool: Pool, *, booking_workers: int = 2, batch_max: int = BATCH_MAX) -> None:
        self.bookings: Lane[RideRequest, Decision] = Lane(
            pool, booking.book_many, workers=booking_workers, batch_max=batch_max
        )
        self.starts: Lane[int, moves.Standing] = Lane(pool, moves.start_many, batch_max=batch_max)
        self.completions: Lane[tuple[int, int], moves.Standing] = Lane(
            pool, moves.complete_many, batch_max=batch_max
        )
        self.cancellations: Lane[int, moves.Standing] = Lane(pool, moves.cancel_many, batch_max=batch_max)

    def __enter__(self) -> "Dispatcher":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Answer what was accepted, and stop."""
        for lane in (self.bookings, self.starts, self.completions, self.cancellations):
            lane.close()
