"""Writes finished trips into the store, with riders, drivers, payments and ledger; one COPY per table.

A generated trip, or one from a file, has no rider and no driver. It gets both here, so that no one has two
rides at once (`schedule`). Riders and drivers of the store who are idle during the whole period of the trips
are reused (`people`). Every amount has its ledger entries (`money`).
"""

from collections.abc import Callable

import numpy as np
import polars as pl
from psycopg import Connection
from psycopg.rows import TupleRow

from oltp.history.money import apply_to_balances, ledger_of, top_ups_of
from oltp.history.people import gather, write_people
from oltp.history.schedule import draw_drivers, draw_riders
from oltp.history.tables import copy_into, keys_by_construction, reserve, statement
from oltp.trips import TRIPS
from ridelake.errors import BadInput

BULK_LOCK = 0x42_55_4C_4B  # an advisory lock, any unused number
RIDES_PER_RIDER = 12  # on average, so that riders have several rides each
RIDES_PER_DRIVER = 400  # on average: far more drivers than are busy at once, so that live requests find one
BROKE_RIDERS_SHARE = 0.03  # riders with a balance of 0, whose next payment is declined
POCKET_CENTS = (5_000, 60_000)  # the balance of the others


def known_requests(connection: Connection[TupleRow], request_ids: pl.Series) -> pl.Series:
    """Those of the 16-byte `request_ids` whose ride is in the store. Call it in a transaction."""
    _one_at_a_time(connection)
    connection.execute("CREATE TEMP TABLE candidates (request_id uuid) ON COMMIT DROP")
    copy_into(connection, "candidates", pl.DataFrame({"request_id": request_ids}))
    found = connection.execute(statement("known_requests.sql")).fetchall()
    connection.execute("DROP TABLE candidates")
    return pl.Series("request_id", [row[0].bytes for row in found], dtype=pl.Binary)


def store_trips(
    connection: Connection[TupleRow],
    trips: pl.DataFrame,
    *,
    seed: int,
    on_trips: Callable[[float], None] = lambda trips: None,
) -> int:
    """Store `trips` (schema TRIPS, in the past, with ids that are not in the store) with riders, drivers,
    payments and ledger, in the caller's transaction. `on_trips` is called with the number of trips that were
    sent since the last call. Returns the number of trips."""
    _one_at_a_time(connection)
    random = np.random.default_rng([seed, trips.height])
    for city in trips.select(TRIPS.names()).sort("requested_at", "request_id").partition_by("city_id"):
        _store_city(connection, city, random, on_trips)
    return trips.height


def _one_at_a_time(connection: Connection[TupleRow]) -> None:
    """Serialize bulk writers until the commit: two would find the same trips new, and the same drivers idle.
    Bookings do not take this lock."""
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (BULK_LOCK,))


def settle(connection: Connection[TupleRow]) -> None:
    """VACUUM and ANALYZE after the commit of a bulk write: statistics for the planner, and the visibility
    map."""
    connection.execute("VACUUM (ANALYZE) rides, payments, ledger, accounts, riders, drivers")


def _store_city(
    connection: Connection[TupleRow],
    trips: pl.DataFrame,
    random: np.random.Generator,
    on_trips: Callable[[float], None],
) -> None:
    """Store the trips of one city, which are sorted by request time."""
    city_id = trips.item(0, "city_id")
    begin = trips["requested_at"].to_physical().to_numpy()
    end = trips["ended_at"].to_physical().to_numpy()
    window = {"city_id": city_id, "begin": trips["requested_at"].min(), "end": trips["ended_at"].max()}

    _check_zones(connection, city_id, trips)
    fleet = 4 + trips.height // RIDES_PER_DRIVER
    driver = draw_drivers(begin, end, fleet)
    rider = draw_riders(begin, end, max(1, trips.height // RIDES_PER_RIDER), random)
    drivers = gather(connection, "drivers", window, max(fleet, int(driver.max()) + 1))
    riders = gather(connection, "riders", window, int(rider.max()) + 1)

    rides = trips.with_columns(
        ride_id=reserve(connection, "rides", "ride_id", trips.height),
        rider_id=riders.ids[rider],
        driver_id=drivers.ids[driver],
        rider_account_id=riders.account_ids[rider],
        driver_account_id=drivers.account_ids[driver],
        assigned_at="requested_at",
        completed=pl.col("started_at").is_not_null(),
    )
    pocket_cents = random.integers(*POCKET_CENTS, len(riders.ids))
    pocket_cents[random.random(len(riders.ids)) < BROKE_RIDERS_SHARE] = 0
    pocket_cents[: riders.old] = 0  # riders of the store keep their balance

    ledger = pl.concat([top_ups_of(rides, riders.account_ids, pocket_cents), ledger_of(rides)])
    rows_of_a_trip = 2 + ledger.height / trips.height  # the ride, its payment, its ledger entries

    def on_rows(rows: int) -> None:
        on_trips(rows / rows_of_a_trip)

    with keys_by_construction(connection):
        write_people(connection, city_id, riders, drivers, trips["pickup_zone_id"], random)
        _write_rides(connection, rides, on_rows)
        copy_into(connection, "ledger", ledger, on_rows)
    apply_to_balances(connection, ledger)


def _check_zones(connection: Connection[TupleRow], city_id: int, trips: pl.DataFrame) -> None:
    rows = connection.execute(statement("zones_of_city.sql"), (city_id,)).fetchall()
    named = pl.concat([trips["pickup_zone_id"], trips["dropoff_zone_id"]]).unique()
    unknown = named.filter(~named.is_in([zone_id for (zone_id,) in rows]))
    if not unknown.is_empty():
        raise BadInput(f"city {city_id} has no zone {unknown.item(0)}; use the zones of oltp/places.csv")


def _write_rides(
    connection: Connection[TupleRow], rides: pl.DataFrame, on_rows: Callable[[int], None]
) -> None:
    completed = pl.col("completed")
    with_status = rides.with_columns(
        status=pl.when(completed).then(pl.lit("completed")).otherwise(pl.lit("cancelled")),
        cancel_reason=pl.when(~completed).then(pl.lit("rider")),
    )
    copy_into(
        connection,
        "rides",
        with_status.select(
            "ride_id", "rider_id", "driver_id", *TRIPS.names(), "assigned_at", "status", "cancel_reason"
        ).drop("tip_cents"),
        on_rows,
    )
    payments = rides.select(
        "ride_id",
        held_cents="fare_cents",
        captured_cents=pl.when(completed).then("fare_cents").otherwise(0),
        tip_cents=pl.when(completed).then("tip_cents").otherwise(0),
        status=pl.when(completed).then(pl.lit("captured")).otherwise(pl.lit("voided")),
    )
    copy_into(connection, "payments", payments, on_rows)
