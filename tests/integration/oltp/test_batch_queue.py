"""The batch queues: order, limits, closing, and callers in threads and event loops."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet

import pytest
from factories import Town
from psycopg import Connection

from oltp.batching import Batcher, BatchQueue
from oltp.pool import RetryPool
from ridelake.errors import BatcherClosed
from ridelake.ride import Decision, Outcome, RideRequest, RideStatus


@pytest.fixture
def batcher(pool: RetryPool) -> Iterator[Batcher]:
    with Batcher(pool) as batcher:
        yield batcher


class Gate:
    """A queue whose batches wait until the test opens the gate. Items are numbers; their results are the
    doubles."""

    def __init__(self, pool: RetryPool, **limits: int) -> None:
        self.batches: list[list[int]] = []
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()
        self.lane: BatchQueue[int, int] = BatchQueue(pool, self._flush, **limits)

    def _flush(self, connection: Connection, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        self.entered.release()
        assert self.open.wait(30)
        return [2 * item for item in items]

    def occupy(self) -> "Future[int]":
        """Submit an item, and return when the worker processes it."""
        future = self.lane.submit(0)
        assert self.entered.acquire(timeout=30)
        return future


def together(batcher: Batcher, requests: Sequence[RideRequest]) -> list[Decision]:
    futures = [batcher.bookings.submit(request) for request in requests]
    return [future.result(30) for future in futures]


def test_submit_blocks_while_the_queue_is_full(pool: RetryPool):
    gate = Gate(pool, batch_max=2, waiting_max=4)
    first = gate.occupy()
    futures = [gate.lane.submit(number) for number in range(1, 5)]  # the queue is full now
    with ThreadPoolExecutor(3) as outside:
        blocked = [outside.submit(gate.lane.submit, number) for number in range(5, 8)]
        with pytest.raises(NotYet):
            blocked[0].result(0.2)
        assert not any(caller.done() for caller in blocked)
        gate.open.set()
        futures += [caller.result(30) for caller in blocked]
    assert first.result(30) == 0
    assert sorted(future.result(30) for future in futures) == [2, 4, 6, 8, 10, 12, 14]
    assert max(map(len, gate.batches)) == 2
    gate.lane.close()


def test_a_callback_that_would_wait_for_its_own_queue_raises(pool: RetryPool):
    gate = Gate(pool, waiting_max=2)
    first = gate.occupy()
    raised: Future[Sequence[str]] = Future()

    def callback(done: "Future[int]") -> None:
        answers = []
        for operation in (gate.lane.call, *[gate.lane.submit] * 3):
            try:
                operation(1)
                answers.append("accepted")
            except RuntimeError as error:
                answers.append(str(error))
        raised.set_result(answers)

    first.add_done_callback(callback)
    gate.open.set()
    call, *submitted = raised.result(30)
    assert call == "call in a done-callback of the same queue: its worker would wait for itself"
    assert submitted[:2] == ["accepted", "accepted"]
    assert submitted[2].startswith("submit to a full queue in a done-callback")
    gate.lane.close()


def test_close_completes_accepted_items_and_refuses_more(pool: RetryPool):
    gate = Gate(pool, batch_max=2, waiting_max=3)
    futures = [gate.occupy(), *(gate.lane.submit(number) for number in range(1, 4))]
    with ThreadPoolExecutor(2) as others:
        outside = others.submit(gate.lane.call, 4)  # waits because the queue is full, but is accepted
        while not gate.lane._outside:
            time.sleep(0.01)
        closing = others.submit(gate.lane.close)
        while not gate.lane._closed:
            time.sleep(0.01)
        for late in (gate.lane.submit, gate.lane.call):
            with pytest.raises(BatcherClosed):
                late(5)
        with pytest.raises(BatcherClosed):
            asyncio.run(gate.lane.ask(5))
        assert not closing.done()
        gate.open.set()
        closing.result(30)
        assert [future.result(0) for future in futures] == [0, 2, 4, 6]
        assert outside.result(30) == 8
    gate.lane.close()  # a second close is allowed


def test_batches_grow_under_load_and_are_single_items_without_load(pool: RetryPool):
    gate = Gate(pool)
    gate.occupy()
    waiting = [gate.lane.submit(number) for number in range(1, 101)]
    gate.open.set()
    assert sum(future.result(30) for future in waiting) == 10_100
    assert [gate.lane.call(number) for number in range(5)] == [0, 2, 4, 6, 8]
    assert [len(batch) for batch in gate.batches] == [1, 100, 1, 1, 1, 1, 1]
    gate.lane.close()
    assert (gate.lane.items, gate.lane.flushes) == (106, 7)


def test_an_item_whose_caller_has_cancelled_is_skipped(pool: RetryPool):
    gate = Gate(pool)
    gate.occupy()
    given_up, kept = gate.lane.submit(1), gate.lane.submit(2)
    assert given_up.cancel()
    loop = asyncio.new_event_loop()

    async def impatient() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(gate.lane.ask(3), 0.1)

    loop.run_until_complete(impatient())
    loop.close()
    gate.open.set()
    assert kept.result(30) == 4
    gate.lane.close()
    assert gate.batches == [[0], [2]]


def test_a_result_for_a_closed_event_loop_does_not_affect_others(pool: RetryPool):
    gate = Gate(pool)
    first = gate.occupy()
    loop = asyncio.new_event_loop()
    question = loop.create_task(gate.lane.ask(1))
    loop.run_until_complete(asyncio.sleep(0.05))  # the task has queued its item now
    loop.close()
    neighbour = gate.lane.submit(2)
    gate.open.set()
    assert (first.result(30), neighbour.result(30)) == (0, 4)
    gate.lane.close()
    question._log_destroy_pending = False  # type: ignore[attr-defined]  # no warning: the task is never finished


def test_threads_and_event_loops_share_one_batcher(town: Town, batcher: Batcher):
    for _ in range(40):
        town.driver()
    riders = [town.rider() for _ in range(40)]

    async def many_at_once(requests: list[RideRequest]) -> list[Decision]:
        return list(await asyncio.gather(*(batcher.bookings.ask(request) for request in requests)))

    def loop(riders: list[int]) -> list[Decision]:
        return asyncio.run(many_at_once([town.request(rider) for rider in riders]))

    with ThreadPoolExecutor(12) as threads:
        loops = [threads.submit(loop, riders[:10]), threads.submit(loop, riders[10:20])]
        calls = [threads.submit(batcher.bookings.call, town.request(rider)) for rider in riders[20:]]
        decisions = [decision for answered in loops for decision in answered.result(60)]
        decisions += [call.result(60) for call in calls]
    assert {decision.outcome for decision in decisions} == {Outcome.ASSIGNED}
    assert len({decision.driver_id for decision in decisions}) == 40


def test_a_ride_from_booking_to_completion_through_the_batcher(town: Town, batcher: Batcher):
    for _ in range(20):
        town.driver()
    rides = [
        decision.ride_id for decision in together(batcher, [town.request(town.rider()) for _ in range(20)])
    ]
    ridden, dropped = rides[:15], rides[15:]
    started = [batcher.starts.submit(ride) for ride in ridden]
    assert {future.result(30) for future in started} == {RideStatus.STARTED}
    ended = [batcher.completions.submit((ride, 100)) for ride in ridden]
    ended += [batcher.cancellations.submit(ride) for ride in dropped]
    assert Counter(future.result(30) for future in ended) == {
        RideStatus.COMPLETED: 15,
        RideStatus.CANCELLED: 5,
    }
    assert batcher.starts.call(10**9) is None
    assert town.ask("SELECT status, count(*) FROM drivers GROUP BY 1") == [("available", 20)]
