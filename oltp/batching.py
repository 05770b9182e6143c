"""Batching: many concurrent callers, few round trips.

    caller ─┐                        ┌─ worker ── book_rides([…]) ──> Postgres
    caller ─┼─> queue, first in ─────┤     while one batch is executed, the next one is collected
    caller ─┘   first out, bounded   └─ worker ── book_rides([…]) ──> Postgres

A worker takes all waiting items, up to a limit, and does not wait for more. A single request is a batch of
one and is sent immediately; under load the batches grow, as in TigerBeetle's clients. The fixed costs of a
booking (a round trip, a parse, a commit and its flush) are paid once per batch.

Every item gets its own result. If a batch fails, it is halved until the failing item is alone, and only its
caller gets the error. Every accepted item gets a result: `close` processes the queue first.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Generic, Self, TypeVar

from psycopg import Connection
from psycopg.rows import TupleRow

from oltp import booking, lifecycle
from oltp.pool import RetryPool
from ridelake.errors import BatcherClosed, CannotConnect
from ridelake.ride import Decision, RideRequest

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Flush = Callable[[Connection[TupleRow], Sequence[Item]], Sequence[Answer]]

# In batches of more than some hundred items, the round trip and the commit are a small part of the cost, and
# the latency of the first item grows: docs/store.md has the measurements.
BATCH_MAX = 512
# Ten full batches, about half a second of work. Further callers wait until there is room.
WAITING_MAX = 5_120


class PendingItem(Generic[Item, Answer]):
    """An item and the future for its result, of a thread or of an event loop."""

    __slots__ = ("admitted", "future", "item", "loop")

    def __init__(self, item: Item, loop: asyncio.AbstractEventLoop | None) -> None:
        self.item = item
        self.loop = loop
        self.future: Any = Future() if loop is None else loop.create_future()
        self.admitted: Future[None] | None = None  # set if the queue was full: done when there is room


class BatchQueue(Generic[Item, Answer]):
    """A queue for one operation, and the workers that process it."""

    def __init__(
        self,
        pool: RetryPool,
        flush: Flush[Item, Answer],
        *,
        workers: int = 1,
        batch_max: int = BATCH_MAX,
        waiting_max: int = WAITING_MAX,
    ) -> None:
        self.items = self.flushes = 0  # counters: items processed, batches sent
        self._pool = pool
        self._flush = flush
        self._batch_max = batch_max
        self._queue: deque[PendingItem[Item, Answer]] = deque()
        self._outside: deque[PendingItem[Item, Answer]] = deque()
        self._waiting_max = waiting_max
        self._changed = threading.Condition()
        self._closed = False
        self._workers = [threading.Thread(target=self._work, daemon=True) for _ in range(workers)]
        for worker in self._workers:
            worker.start()

    def submit(self, item: Item) -> "Future[Answer]":
        """Accept the item and return the future of its result. Waits while the queue is full.

        A done-callback of the future runs in a worker of this object. It may submit an item, but must not
        wait for a result of the same object.

        Raises BatcherClosed after close(), and RuntimeError in a done-callback if the queue is full."""
        entry = self._enter(PendingItem(item, None))
        if entry.admitted is not None:
            entry.admitted.result()
        future: Future[Answer] = entry.future
        return future

    def call(self, item: Item) -> Answer:
        """The result, for a caller in a thread. Raises BatcherClosed after close(), and RuntimeError in
        a done-callback, where the worker would wait for itself."""
        self._refuse_its_worker("call")
        answer: Answer = self._enter(PendingItem(item, None)).future.result()
        return answer

    async def ask(self, item: Item) -> Answer:
        """The result of the item, for a caller in an event loop. Raises BatcherClosed after close()."""
        answer: Answer = await self._enter(PendingItem(item, asyncio.get_running_loop())).future
        return answer

    def close(self) -> None:
        """Refuse new items, complete the accepted ones, and stop the workers."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for worker in self._workers:
            worker.join()

    def _refuse_its_worker(self, what: str) -> None:
        if threading.current_thread() in self._workers:
            raise RuntimeError(
                f"{what} in a done-callback of the same queue: its worker would wait for itself"
            )

    def _enter(self, entry: "PendingItem[Item, Answer]") -> "PendingItem[Item, Answer]":
        with self._changed:
            if self._closed:
                raise BatcherClosed("the batcher is closed and accepts no more requests")
            if len(self._queue) < self._waiting_max:
                self._queue.append(entry)
                self._changed.notify()
            else:
                self._refuse_its_worker("submit to a full queue")
                entry.admitted = Future()
                self._outside.append(entry)
        return entry

    def _take(self) -> "list[PendingItem[Item, Answer]]":
        """Wait for the next batch; empty if this object is closed and has no more items."""
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
            # Items whose caller has cancelled are skipped.
            pending = [
                entry
                for entry in batch
                if (
                    not entry.future.cancelled()
                    if entry.loop
                    else entry.future.set_running_or_notify_cancel()
                )
            ]
            if pending:
                self._process(pending)

    def _process(self, batch: "list[PendingItem[Item, Answer]]") -> None:
        items = [entry.item for entry in batch]
        try:
            answers = self._pool.call(lambda connection: self._flush(connection, items))
            answered = [(entry, answer, None) for entry, answer in zip(batch, answers, strict=True)]
        except CannotConnect as error:
            _deliver([(entry, None, error) for entry in batch])
        except Exception as error:
            if len(batch) == 1:
                _deliver([(batch[0], None, error)])
            else:  # the batch was rolled back, or may be repeated: halve it to find the failing item
                self._process(batch[: len(batch) // 2])
                self._process(batch[len(batch) // 2 :])
        except BaseException as error:
            _deliver([(entry, None, error) for entry in batch])
        else:
            with self._changed:  # the counters are shared by the workers
                self.items, self.flushes = self.items + len(batch), self.flushes + 1
            _deliver(answered)


def _deliver(answers: "Sequence[tuple[PendingItem[Any, Any], Any, BaseException | None]]") -> None:
    """Complete the futures. An event loop is woken once for all of its callers."""
    of_loops: dict[
        asyncio.AbstractEventLoop, list[tuple[PendingItem[Any, Any], Any, BaseException | None]]
    ] = {}
    for entry, answer, error in answers:
        if entry.loop is not None:
            of_loops.setdefault(entry.loop, []).append((entry, answer, error))
        else:
            _set(entry, answer, error)
    for loop, of_loop in of_loops.items():
        with suppress(RuntimeError):  # the loop was closed
            loop.call_soon_threadsafe(_set_all, of_loop)


def _set_all(answers: "list[tuple[PendingItem[Any, Any], Any, BaseException | None]]") -> None:
    for entry, answer, error in answers:
        if not entry.future.cancelled():
            _set(entry, answer, error)


def _set(entry: "PendingItem[Any, Any]", answer: Any, error: BaseException | None) -> None:
    if error is None:
        entry.future.set_result(answer)
    else:
        entry.future.set_exception(error)


class Batcher:
    """A queue for each operation on a ride. Share one among all threads and event loops of a process."""

    def __init__(self, pool: RetryPool, *, booking_workers: int = 2, batch_max: int = BATCH_MAX) -> None:
        self.bookings: BatchQueue[RideRequest, Decision] = BatchQueue(
            pool, booking.book_many, workers=booking_workers, batch_max=batch_max
        )
        self.starts: BatchQueue[int, lifecycle.OptionalRideStatus] = BatchQueue(
            pool, lifecycle.start_many, batch_max=batch_max
        )
        self.completions: BatchQueue[tuple[int, int], lifecycle.OptionalRideStatus] = BatchQueue(
            pool, lifecycle.complete_many, batch_max=batch_max
        )
        self.cancellations: BatchQueue[int, lifecycle.OptionalRideStatus] = BatchQueue(
            pool, lifecycle.cancel_many, batch_max=batch_max
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Complete the accepted items, and stop."""
        for lane in (self.bookings, self.starts, self.completions, self.cancellations):
            lane.close()
