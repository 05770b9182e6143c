"""Samples what a mover costs the server: its longest statement and its oldest snapshot."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

from oltp.store import Store
from oltp.workload.runner import ClientGroup, running_clients
from ridelake.queries import load_queries

QUERIES = load_queries("bench.movers")
SAMPLE_SECONDS = 0.1


@dataclass(slots=True)
class ServerCost:
    """The longest statement and the greatest age of a snapshot, in seconds. Dead rows that a snapshot may
    still see cannot be removed."""

    statement_seconds: float = 0.0
    snapshot_seconds: float = 0.0
    _since: dict[tuple[int, str], float] = field(default_factory=dict)

    def add(self, sessions: list[tuple[int, str | None, float | None]], now: float) -> None:
        """A sample: process id, oldest visible transaction, age of the statement. A session that still has
        the same oldest transaction still has the same snapshot."""
        seen = {(pid, xmin) for pid, xmin, _ in sessions if xmin is not None}
        self._since = {key: self._since.get(key, now) for key in seen}
        ages = [now - began for began in self._since.values()]
        self.snapshot_seconds = max([self.snapshot_seconds, *ages])
        running = [seconds for _, _, seconds in sessions if seconds is not None]
        self.statement_seconds = max([self.statement_seconds, *running])


@contextmanager
def watching(store: Store, cost: ServerCost) -> Iterator[None]:
    """Sample during the block, and add the samples to `cost`."""

    def sample(group: ClientGroup) -> None:
        with store.connect() as connection:
            while group.sleep(SAMPLE_SECONDS):
                cost.add(connection.execute(QUERIES["activity"]).fetchall(), perf_counter())

    with running_clients([sample]):
        yield
