"""The small tables as a target: booking with the statements of a strategy."""

from contextlib import closing
from typing import Any

from psycopg import Connection
from psycopg.rows import TupleRow, dict_row

from oltp.acid.rivals import Ask, Rules
from oltp.acid.strategies import Strategy, read_sql, read_statements
from oltp.store import Store, transaction


class SmallWorld:
    """The small tables, recreated for every strategy."""

    def __init__(self, small: Store, strategy: Strategy, rules: Rules) -> None:
        assert strategy.statements is not None, "RealWorld is for the store"
        self._small = small
        self._isolation = strategy.isolation
        self._rules = rules
        self._statements = read_statements(strategy.statements)
        self.attempts_max = strategy.attempts_max
        people = {"drivers": rules.drivers, "riders": rules.riders, "start_cents": rules.start_cents}
        with closing(self.connect()) as connection, transaction(connection):
            connection.execute(read_sql("schema"))
            if strategy.added is not None:
                connection.execute(read_sql(strategy.added))
            connection.execute(read_sql("people"), people)

    def connect(self) -> Connection[TupleRow]:
        return self._small.connect()

    def book(self, connection: Connection[TupleRow], ask: Ask) -> bool:
        if self._isolation is None:
            return self._steps(connection, ask)
        with transaction(connection, self._isolation):
            return self._steps(connection, ask)

    def _steps(self, connection: Connection[TupleRow], ask: Ask) -> bool:
        """Check, wait, write. The writes use the columns that the check returns, by name."""
        known: dict[str, Any] = {
            "request_id": ask.number,
            "round": ask.round,
            "rider_id": ask.rider + 1,
            "fare_cents": self._rules.fare_cents,
        }
        cursor = connection.cursor(row_factory=dict_row)
        for statement in self._statements.check:
            found = cursor.execute(statement.encode(), known).fetchone()
            if found is None:
                return False
            known |= found
        ask.think()
        writes = [self._statements.charge, self._statements.assign]
        first, second = writes if ask.pays_first else reversed(writes)
        for statement in first:
            cursor.execute(statement.encode(), known)
        ask.cross_the_middle(connection)
        for statement in second:
            cursor.execute(statement.encode(), known)
        return True

    def next_round(self) -> None:
        with closing(self.connect()) as connection:
            connection.execute(read_sql("next_round"))

    def count(self) -> dict[str, int]:
        """The counts of `anomalies.sql`."""
        with closing(self.connect()) as connection:
            cursor = connection.cursor(row_factory=dict_row)
            counts = cursor.execute(read_sql("anomalies"), {"fare_cents": self._rules.fare_cents}).fetchone()
            assert counts is not None, "a row of counts"
            return counts
