"""DuckDB as a row store: the tables of an epoch in one file, with keys, and bookings as transactions.

Commits are durable, as in Postgres: they flush the log. One process opens the file; its clients are threads
with a cursor each. A transaction that fails with a conflict is retried.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import UUID

import duckdb

from bench.frontier.clients import BookingEvent
from lakehouse.engines import ride_table_view
from lakehouse.table.epoch import Epoch
from oltp.audit import conditions
from ridelake.errors import RidelakeError
from ridelake.queries import load_queries, load_script
from ridelake.ride import Outcome, RideRequest

QUERIES = load_queries("bench.frontier")

TRIES_MAX = 200
PARAMETER = re.compile(r"\$(\w+)")
TABLES = ("cities", "zones", "accounts", "riders", "drivers", "rides", "payments", "requests", "ledger")

Cursor = duckdb.DuckDBPyConnection


def create(file: Path, epoch: Epoch) -> None:
    """Create a database with the rows of the epoch in a new file."""
    with closing(duckdb.connect(file)) as connection:
        connection.execute(load_script("bench.frontier", "duckdb_schema.sql"))
        for name in TABLES:
            rows = connection.read_parquet(epoch.tables[name].locations, hive_partitioning=False)
            # insert_into matches columns by position.
            rows.project(", ".join(connection.table(name).columns)).insert_into(name)
        connection.execute(QUERIES["duckdb_loaded"])
        connection.execute(ride_table_view())


@contextmanager
def opened(file: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with closing(duckdb.connect(file)) as connection:
        yield connection


def session(connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """A cursor for one client, with the time zone of the store."""
    cursor = connection.cursor()
    cursor.execute("SET TimeZone = 'UTC'")
    return cursor


def broken_conditions(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """The names of the audit conditions that do not hold. Their SQL is that of the store, unchanged."""
    with closing(session(connection)) as cursor:
        cursor.execute("SET integer_division = true")  # the audit expects 5 / 2 = 2, as in Postgres
        asked = [condition for condition in conditions() if "%(" not in condition.query]
        return [one.name for one in asked if cursor.execute(one.query).fetchone() is not None]


def decided(connection: duckdb.DuckDBPyConnection, request_ids: Sequence[UUID]) -> dict[object, str]:
    """The outcomes of these requests that are stored."""
    rows = connection.execute(
        "SELECT request_id, outcome FROM requests WHERE request_id IN (SELECT unnest($ids))",
        {"ids": list(request_ids)},
    )
    return dict(rows.fetchall())


class Booking:
    """Books and cancels on one cursor."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection) -> None:
        self._cursor = cursor
        self._statements = load_queries("bench.frontier", "duckdb_booking.sql")

    def cycle(self, request: RideRequest) -> BookingEvent:
        """Book and cancel in two transactions. The returned event is the booking."""
        values: dict[str, Any] = {name: getattr(request, name) for name in RideRequest.__slots__}
        began = monotonic()
        outcome, conflicts = self._retry(self._book, values)
        ended = monotonic()
        if outcome is Outcome.ASSIGNED:
            self._retry(self._cancel, values)
        return BookingEvent(began, ended, request.request_id, outcome, conflicts)

    def _book(self, values: dict[str, Any]) -> Outcome:
        outcome = self._set_verdict(values)
        values |= {"outcome": str(outcome), "ride_id": None}
        if outcome is Outcome.ASSIGNED:
            self._do("claim", values)
            self._do("hold", values)
            (values["ride_id"],) = self._ask("ride", values) or (None,)
            self._do("payment", values)
            self._do("assigned", values)
        self._do("request", values)
        return outcome

    def _set_verdict(self, values: dict[str, Any]) -> Outcome:
        values["driver_id"] = None
        account = self._ask("account", values)
        if account is None:
            return Outcome.UNKNOWN_RIDER
        values["account_id"], free_cents = account
        city = self._ask("city", values)
        if city is None:
            return Outcome.UNKNOWN_ZONE
        values["city_id"], values["time_zone"] = city
        if self._ask("under_way", values) != (0,):
            return Outcome.RIDER_BUSY
        if free_cents < values["fare_cents"]:
            return Outcome.PAYMENT_DECLINED
        driver = self._ask("near", values) or self._ask("far", values)
        if driver is None:
            return Outcome.NO_DRIVER_AVAILABLE
        (values["driver_id"],) = driver
        return Outcome.ASSIGNED

    def _cancel(self, values: dict[str, Any]) -> Outcome:
        for statement in ("cancel", "void", "release_hold", "free", "cancelled"):
            self._do(statement, values)
        return Outcome.ASSIGNED

    def _retry(
        self, work: Callable[[dict[str, Any]], Outcome], values: dict[str, Any]
    ) -> tuple[Outcome, int]:
        """Run `work` in a transaction and retry on conflicts. Returns its result and the number of
        conflicts."""
        for conflicts in range(TRIES_MAX):
            self._cursor.begin()
            try:
                outcome = work(values)
                self._cursor.commit()
            except duckdb.TransactionException:
                self._roll_back()
            except BaseException:
                self._roll_back()
                raise
            else:
                return outcome, conflicts
        raise RidelakeError(f"DuckDB rejected a booking {TRIES_MAX} times because of conflicts")

    def _roll_back(self) -> None:
        try:
            self._cursor.rollback()
        except duckdb.TransactionException:
            return  # the failed commit has already rolled back

    def _do(self, name: str, values: dict[str, Any]) -> None:
        statement = self._statements[name]
        self._cursor.execute(statement, {name: values[name] for name in PARAMETER.findall(statement)})

    def _ask(self, name: str, values: dict[str, Any]) -> tuple[Any, ...] | None:
        self._do(name, values)
        return self._cursor.fetchone()
