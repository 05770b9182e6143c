"""A process with clients that work for a minute. Tests kill it: `python busy_clients_process.py`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic, sleep

from bench.frontier.clients import ClientFunctions, QueryEvent, started


@dataclass(frozen=True)
class SleepingClients:
    """Clients that sleep a millisecond per call. With `calls_max` they fail at that call."""

    calls_max: int | None = None
    booking: int = 0
    querying: int = 2

    @contextmanager
    def opened(self) -> Iterator[ClientFunctions]:
        done = 0

        def sleep_once() -> QueryEvent:
            nonlocal done
            done += 1
            if done == self.calls_max:
                raise ValueError("no more")
            began = monotonic()
            sleep(0.001)
            return QueryEvent(began, monotonic())

        yield ClientFunctions(querying=[sleep_once] * self.querying)


if __name__ == "__main__":
    with started([SleepingClients(), SleepingClients()]) as clients:
        print("at work", flush=True)
        clients.work(0, 4, warm_seconds=0.0, seconds=60.0)
