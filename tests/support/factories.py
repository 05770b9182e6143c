"""Adds riders and drivers to a store one by one, so that a test controls its whole content."""

from dataclasses import dataclass

from psycopg.rows import TupleRow

from oltp.store import Store
from ridelake.ride import RideRequest, new_request_id

QUAD, STADIUM, SOMA = 1002, 1007, 2001  # zones: two in Stanford, one in San Francisco


@dataclass(frozen=True, slots=True)
class Town:
    """A store, with methods to add riders and drivers."""

    store: Store

    def rider(self, balance_cents: int = 10_000) -> int:
        return self._one(
            "WITH a AS (INSERT INTO accounts (kind, balance_cents) VALUES ('rider', 0) RETURNING account_id),"
            " r AS (INSERT INTO riders (account_id, city_id, username)"
            "       SELECT account_id, 1, 'rider_' || account_id FROM a RETURNING rider_id)"
            " SELECT rider_id FROM r",
            then=("SELECT top_up(%s, %s)", balance_cents) if balance_cents else None,
        )

    def driver(self, zone_id: int = QUAD, status: str = "available") -> int:
        return self._one(
            "WITH a AS (INSERT INTO accounts (kind, balance_cents) VALUES ('driver', 0)"
            " RETURNING account_id) INSERT INTO drivers (account_id, city_id, zone_id, status, name)"
            f" SELECT account_id, {zone_id // 1000}, {zone_id}, '{status}', 'someone'"
            " FROM a RETURNING driver_id"
        )

    def request(self, rider_id: int, zone_id: int = QUAD, fare_cents: int = 2_000) -> RideRequest:
        return RideRequest(new_request_id(), rider_id, zone_id, zone_id, 1_500, fare_cents)

    def ask(self, query: str, *parameters: object) -> list[TupleRow]:
        with self.store.connect() as connection:
            return connection.execute(query.encode(), parameters).fetchall()

    def trace(self) -> dict[str, list[TupleRow]]:
        """All rows that a booking may change, except the recorded decisions."""
        orders = {"rides": "ride_id", "payments": "ride_id", "ledger": "transfer_id"}
        orders |= {"accounts": "account_id", "drivers": "driver_id", "ride_events": "ride_id, step"}
        return {table: self.ask(f"SELECT * FROM {table} ORDER BY {key}") for table, key in orders.items()}

    def _one(self, query: str, then: tuple[str, int] | None = None) -> int:
        with self.store.connect() as connection:
            row = connection.execute(query.encode()).fetchone()
            assert row is not None
            if then is not None:
                connection.execute(then[0].encode(), (row[0], then[1]))
            return int(row[0])
