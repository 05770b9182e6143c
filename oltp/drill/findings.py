"""Compares the clients' log with the store, request by request."""

from dataclasses import dataclass
from importlib.resources import files
from uuid import UUID

from psycopg import Connection
from psycopg.rows import TupleRow

from oltp.booking import array_literal
from oltp.drill.clients import Told
from ridelake.ride import Decision, Outcome


@dataclass(frozen=True, slots=True)
class Findings:
    """`lost`: requests that were acknowledged, and are missing or different in the store. `undone`: rides
    whose end was acknowledged, and that have not ended. `doubled`: requests with more than one ride.
    `in_doubt`: requests whose first answer did not arrive; `settled`: those of them that were answered
    later."""

    acknowledged: int
    rides_ended: int
    lost: list[UUID]
    undone: list[int]
    doubled: list[UUID]
    in_doubt: int
    settled: int

    @property
    def nothing_lost(self) -> bool:
        return not (self.lost or self.undone) and self.nothing_doubled

    @property
    def nothing_doubled(self) -> bool:
        """No request has two rides, and none is still in doubt."""
        return not self.doubled and self.in_doubt == self.settled


def compare(connection: Connection[TupleRow], log: Told) -> Findings:
    """Compare the log with the current primary. The clients must have stopped."""
    query = files("oltp.drill").joinpath("stored.sql").read_bytes()
    rows = connection.execute(query, {"sent": array_literal(log.sent)}).fetchall()
    stored: dict[UUID, Decision | None] = {}
    doubled: list[UUID] = []
    ended: set[int] = set()
    for request_id, outcome, ride_id, driver_id, rides, completed in rows:
        found = None if outcome is None else Decision(request_id, Outcome(outcome), ride_id, driver_id)
        stored[request_id] = found
        if rides > 1:
            doubled.append(request_id)
        if completed:
            ended.add(ride_id)
    lost = [id_ for _, id_ in log.decided if stored[id_] != log.decisions[id_]]
    in_doubt = log.in_doubt
    return Findings(
        acknowledged=len(log.decisions),
        rides_ended=len(log.completed),
        lost=lost,
        undone=sorted(log.completed - ended),
        doubled=doubled,
        in_doubt=len(in_doubt),
        settled=sum(id_ in log.decisions for id_ in in_doubt),
    )
