"""Kill the embedded server during bookings, start it again, and look for every acknowledged decision."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol
from uuid import UUID

import psycopg

from bench.live.worker import one_line
from oltp.cluster.server import Cluster, kill_server, restart_server
from oltp.store import Store
from ridelake.errors import RidelakeError
from ridelake.queries import load_queries

QUERIES = load_queries("bench.live")

DOWN_SECONDS = 0.5  # so that the page shows the state
BOOKINGS_SECONDS_MAX = 20.0  # from the restart to the first acknowledged booking
IDS_PER_QUERY = 20_000

NO_CRASH: dict[str, Any] = {
    "state": "idle", "gap_seconds": None, "acknowledged": None, "found": None, "lost": None, "text": "",
}  # fmt: skip


class Acknowledgements(Protocol):
    """The ids and times of acknowledged decisions."""

    def take_ids(self) -> list[UUID]: ...
    def last_at(self) -> float | None: ...
    def longest_gap_after(self, moment: float) -> float | None: ...


def crash_and_check(
    cluster: Cluster,
    store: Store,
    log: Acknowledgements,
    report: Callable[[dict[str, Any]], None],
    *,
    expects_bookings: bool,
) -> None:
    """SIGKILL the server and its child processes, start it again, and count the acknowledged decisions that
    are stored. `report` receives the part `crash` of the state after each step."""
    killed_at = time.time()
    part = NO_CRASH | {"state": "down", "text": "The server and its processes were killed (SIGKILL)."}
    try:
        kill_server(cluster)
        report(part)
        time.sleep(DOWN_SECONDS)
        part |= {"state": "recovering", "text": "The server replays its write-ahead log (WAL)."}
        report(part)
        ids = log.take_ids()  # all that the killed server has acknowledged: no client gets an answer now
        restart_server(cluster)
        ready_seconds = time.time() - killed_at
        if expects_bookings:
            _wait_for_a_booking(log, time.time())
            part["gap_seconds"] = _rounded(log.longest_gap_after(killed_at))
        found = _count_stored(store, ids)
    except (RidelakeError, psycopg.Error) as error:
        report(part | {"state": "idle", "text": one_line(error)})
        return
    lost = len(ids) - found
    verdict = "none is lost" if not lost else f"{lost:,} are lost"
    part |= {"state": "recovered", "acknowledged": len(ids), "found": found, "lost": lost}
    part["text"] = (
        f"The server was ready again after {ready_seconds:.1f} s. Of {len(ids):,} decisions that it had "
        f"acknowledged, {found:,} are stored: {verdict}."
    )
    report(part)


def _wait_for_a_booking(log: Acknowledgements, after: float) -> None:
    give_up = time.monotonic() + BOOKINGS_SECONDS_MAX
    while (log.last_at() or 0.0) <= after and time.monotonic() < give_up:
        time.sleep(0.02)


def _count_stored(store: Store, ids: Sequence[UUID]) -> int:
    found = 0
    with store.connect() as connection:
        for first in range(0, len(ids), IDS_PER_QUERY):
            part = ids[first : first + IDS_PER_QUERY]
            row = connection.execute(QUERIES["acknowledged_found"], {"ids": part}).fetchone()
            assert row is not None, "a count returns one row"
            found += row[0]
    return found


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
