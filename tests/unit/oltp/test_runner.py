"""Concurrent clients start together, stop at the first error or after a given time, and leave no thread."""

import asyncio
import threading
import time

import pytest

from oltp.workload.runner import Client, ClientGroup, in_one_thread, run_clients, running_clients
from ridelake.errors import RidelakeError


def until_stopped(group: ClientGroup) -> None:
    while group.sleep(0.001):
        pass


def failing(error: Exception) -> Client:
    def client(group: ClientGroup) -> None:
        group.together()
        raise error

    return client


def waiting(group: ClientGroup) -> None:
    group.together()
    group.together()  # the failing client never calls this


def test_clients_begin_when_the_last_one_is_ready():
    began: list[float] = []
    ready: list[float] = []

    def client(delay: float) -> Client:
        def work(group: ClientGroup) -> None:
            time.sleep(delay)
            ready.append(time.perf_counter())
            group.together()
            began.append(time.perf_counter())

        return work

    group = run_clients([client(0.0), client(0.05)])
    assert min(began) >= max(ready)
    assert max(ready) <= group.began <= min(began) + 0.05
    assert group.seconds >= 0


def test_the_first_error_stops_all_clients_and_is_raised():
    before = {*threading.enumerate()}
    with pytest.raises(ValueError, match="first"):
        run_clients([failing(ValueError("first")), waiting, waiting])
    for thread in {*threading.enumerate()} - before:  # the thread of a client may still be exiting
        thread.join(1)
        assert not thread.is_alive()


def test_clients_stop_after_the_given_time_and_their_latencies_are_collected():
    def client(group: ClientGroup) -> None:
        while not group.stopped:
            group.timed(lambda: group.sleep(0.002))

    group = run_clients([client] * 3, seconds=0.05)
    assert group.seconds >= 0.05
    assert len(group.latencies) >= 3
    assert max(group.latencies) < group.seconds + 1


def test_clients_run_during_the_block_and_stop_with_it():
    with running_clients([until_stopped] * 2) as group:
        assert not group.wait(0.01)
    assert group.wait(0)
    with pytest.raises(KeyError), running_clients([until_stopped]) as group:
        raise KeyError
    assert group.wait(1)


def test_a_client_that_does_not_stop_is_reported():
    released = threading.Event()

    def client(group: ClientGroup) -> None:
        released.wait(10)

    with (
        pytest.raises(RidelakeError, match="did not end"),
        running_clients([client], stop_seconds_max=0.01),
    ):
        pass
    released.set()


def test_clients_of_one_thread_complete_their_operation_when_another_fails():
    completed: list[int] = []

    async def fails(group: ClientGroup) -> None:
        raise ValueError("of one client")

    async def works(group: ClientGroup) -> None:
        while not group.stopped:
            await asyncio.sleep(0.001)
        completed.append(threading.get_ident())

    with pytest.raises(ValueError, match="of one client"):
        run_clients([in_one_thread([works, fails, works])])
    assert len(completed) == 2
    assert len({*completed}) == 1
