"""What was told against what is there, request by request."""

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
    """`lost`: acknowledged, and not in the store, or not as it was acknowledged. `undone`: rides whose end
    was acknowledged, and that have not ended. `doubled`: requests with more than one ride. `in_doubt`: sent,
    and the answer did not come; `settled`: of those, the ones whose answer is known now."""

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
        """Nor left in doubt."""
        return not self.doubled and self.in_doubt == self.settled


def compare(connection: Connection[TupleRow], told: Told) -> Findings:
    """Ask the server that leads now. The clients have stopped."""
    query = files("oltp.drill").joinpath("stored.sql").read_bytes()
    rows = connection.execute(query, {"sent": array_literal(told.sent)}).fetchall()
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
    lost = [id_ for _, id_ in told.decided if stored[id_] != told.decisions[id_]]
    doubts = told.in_doubt
    return Findings(
        acknowledged=len(told.decisions),
        rides_ended=len(told.completed),
        lost=lost,
        undone=sorted(told.completed - ended),
        doubled=doubled,
        in_doubt=len(doubts),
        settled=sum(id_ in told.decisions for id_ in doubts),
    )
