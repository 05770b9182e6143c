"""The store as a target: its schema and its booking function, with new riders and drivers."""

from contextlib import closing

from psycopg import Connection
from psycopg.rows import TupleRow, dict_row

from oltp import booking
from oltp.acid.rivals import Ask, Rules
from oltp.acid.strategies import read_sql
from oltp.audit import AuditReport, audit
from oltp.store import Store, transaction
from ridelake.ride import RideRequest, new_request_id

DISTANCE_METRES = 1_500


class RealWorld:
    """Check and write are one call here, without think time in between. For a fair comparison, each booking
    waits as long before it commits, with its locks held; a client that dies does so after that."""

    attempts_max = 1

    def __init__(self, store: Store, rules: Rules) -> None:
        self._store = store
        self._rules = rules
        people = {"drivers": rules.drivers, "riders": rules.riders, "start_cents": rules.start_cents}
        with closing(self.connect()) as connection:
            made = connection.execute(read_sql("real_people"), people).fetchall()
        self._riders = [rider_id for rider_id, _ in made]
        self._zone_id: int = made[0][1]

    def connect(self) -> Connection[TupleRow]:
        return self._store.connect()

    def book(self, connection: Connection[TupleRow], ask: Ask) -> bool:
        request = RideRequest(
            new_request_id(),
            self._riders[ask.rider],
            self._zone_id,
            self._zone_id,
            DISTANCE_METRES,
            self._rules.fare_cents,
        )
        with transaction(connection):
            decision = booking.book(connection, request)
            if decision.ride_id is None:
                return False
            ask.think()
            ask.cross_the_middle(connection)
        return True

    def next_round(self) -> None:
        with closing(self.connect()) as connection:
            connection.execute(read_sql("real_next_round"))

    def count(self) -> dict[str, int]:
        """The counts of `real_anomalies.sql`."""
        with closing(self.connect()) as connection:
            cursor = connection.cursor(row_factory=dict_row)
            counts = cursor.execute(
                read_sql("real_anomalies"), {"fare_cents": self._rules.fare_cents}
            ).fetchone()
            assert counts is not None, "a row of counts"
            return counts

    def audit(self) -> AuditReport:
        with closing(self.connect()) as connection:
            return audit(connection)
