"""Load finished trips: riders, drivers, payments and ledger, one COPY per table.

A trip, generated or from a file, has no rider and no driver. Both are assigned here, so that no person has
two rides at the same time (`draw_drivers`, `draw_riders`). Riders and drivers of the store who are idle
during the whole period of the trips are reused (`find_or_create_people`). Every amount has its ledger entries
(`ledger_of`).
"""

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush

import numpy as np
import polars as pl
from numpy.typing import NDArray
from psycopg import Connection
from psycopg.rows import TupleRow

from oltp.ingest.bulk import (
    copy_into,
    find_or_create_people,
    foreign_keys_disabled,
    reserve_ids,
    write_people,
)
from ridelake.errors import BadInput
from ridelake.queries import load_queries

QUERIES = load_queries("oltp.ingest")

Ints = NDArray[np.int64]

TRIPS = pl.Schema(
    {
        "request_id": pl.Binary(),  # 16 bytes, a UUIDv8 that is a hash of the trip
        "city_id": pl.Int32(),
        "pickup_zone_id": pl.Int32(),
        "dropoff_zone_id": pl.Int32(),
        "requested_at": pl.Datetime("us", "UTC"),
        "requested_local": pl.Datetime("us"),  # in the city's local time
        "started_at": pl.Datetime("us", "UTC"),  # null: cancelled
        "ended_at": pl.Datetime("us", "UTC"),
        "distance_metres": pl.Int32(),
        "fare_cents": pl.Int64(),  # > 0; without the tip
        "tip_cents": pl.Int64(),  # ≥ 0
    }
)


def draw_drivers(begin: Ints, end: Ints, drivers: int) -> Ints:
    """For intervals sorted by `begin`, the driver of each: 0 … drivers-1, and higher numbers while all of
    these are busy. The intervals of a driver do not overlap; one may begin when the previous one ends. The
    driver that has been idle longest is next.

    Interval partitioning (Kleinberg & Tardos, Algorithm Design, §4.1): with `drivers` = 0 the number of
    drivers is the maximum number of concurrent rides, which is optimal."""
    server = np.empty(len(begin), dtype=np.int64)
    busy: list[tuple[int, int]] = []
    idle = deque(range(drivers))
    count = drivers
    for index, (first, last) in enumerate(zip(begin.tolist(), end.tolist(), strict=True)):
        while busy and busy[0][0] <= first:
            idle.append(heappop(busy)[1])
        if idle:
            chosen = idle.popleft()
        else:
            chosen = count
            count += 1
        server[index] = chosen
        heappush(busy, (last, chosen))
    return server


def draw_riders(begin: Ints, end: Ints, riders: int, random: np.random.Generator) -> Ints:
    """For intervals sorted by `begin`, a rider (0 … riders-1) for each, few of them often. Riders are drawn
    again where rides of one rider overlap; a ride that still overlaps gets a new rider with a number ≥
    riders."""
    rider = (riders * random.random(len(begin)) ** 2).astype(np.int64)
    for _ in range(20):
        clash = _overlaps(rider, begin, end)
        if not clash.any():
            return rider
        rider[clash] = random.integers(0, riders, int(clash.sum()))
    clash = _overlaps(rider, begin, end)
    rider[clash] = riders + np.arange(int(clash.sum()))
    return rider


def _overlaps(rider: Ints, begin: Ints, end: Ints) -> NDArray[np.bool_]:
    """True where an earlier ride of the same rider has not ended yet."""
    order = np.lexsort((begin, rider))
    frame = pl.DataFrame({"rider": rider[order], "begin": begin[order], "end": end[order]})
    until = pl.col("end").cum_max().shift(1).over("rider")
    clash = np.zeros(len(rider), dtype=bool)
    clash[order] = frame.select((pl.col("begin") < until).fill_null(False)).to_series().to_numpy()
    return clash


COMMISSION_DIVISOR = 5  # as in complete_ride(): one fifth, rounded down
OUTSIDE, REVENUE = 1, 2  # the platform accounts of schema.sql


def ledger_of(rides: pl.DataFrame) -> pl.DataFrame:
    """The transfers of each completed ride: pay to the driver, commission to the platform, the tip."""
    commission = pl.col("fare_cents") // COMMISSION_DIVISOR
    paid = rides.filter("completed")
    parts = [
        ("pay", pl.col("driver_account_id"), pl.col("fare_cents") - commission),
        ("commission", pl.lit(REVENUE, dtype=pl.Int64), commission),
        ("tip", pl.col("driver_account_id"), pl.col("tip_cents")),
    ]
    return pl.concat(
        paid.select(
            from_account_id="rider_account_id",
            to_account_id=to_account,
            amount_cents=amount,
            ride_id="ride_id",
            moved_at="ended_at",
            kind=pl.lit(kind),
        )
        for kind, to_account, amount in parts
    ).filter(pl.col("amount_cents") > 0)


def top_ups_of(rides: pl.DataFrame, rider_account_ids: Ints, pocket_cents: Ints) -> pl.DataFrame:
    """One top-up per rider, before the first ride: the cost of all rides plus `pocket_cents`."""
    spent = (
        rides.filter("completed")
        .group_by("rider_account_id")
        .agg(spent_cents=(pl.col("fare_cents") + pl.col("tip_cents")).sum())
    )
    return (
        pl.DataFrame({"to_account_id": rider_account_ids, "pocket_cents": pocket_cents})
        .join(spent, left_on="to_account_id", right_on="rider_account_id", how="left", maintain_order="left")
        .select(
            from_account_id=pl.lit(OUTSIDE, dtype=pl.Int64),
            to_account_id="to_account_id",
            amount_cents=pl.col("pocket_cents") + pl.col("spent_cents").fill_null(0),
            ride_id=pl.lit(None, dtype=pl.Int64),
            moved_at=pl.lit(rides["requested_at"].min(), dtype=pl.Datetime("us", "UTC")),
            kind=pl.lit("top_up"),
        )
        .filter(pl.col("amount_cents") > 0)
    )


def apply_to_balances(connection: Connection[TupleRow], ledger: pl.DataFrame) -> None:
    """Add the transfers to the balances."""
    moved = pl.concat(
        [
            ledger.select(account_id="from_account_id", change_cents=-pl.col("amount_cents")),
            ledger.select(account_id="to_account_id", change_cents="amount_cents"),
        ]
    )
    change = moved.group_by("account_id").agg(pl.col("change_cents").sum())
    connection.execute("CREATE TEMP TABLE change (account_id bigint, change_cents bigint) ON COMMIT DROP")
    copy_into(connection, "change", change)
    connection.execute(QUERIES["apply_change"])
    connection.execute("DROP TABLE change")


BULK_LOCK = 0x42_55_4C_4B  # an advisory lock, any unused number
RIDES_PER_RIDER = 12  # on average, so that riders have several rides each
RIDES_PER_DRIVER = 400  # on average: there are always available drivers for live requests
EMPTY_ACCOUNT_SHARE = 0.03  # riders with a balance of 0, whose next payment is declined
INITIAL_BALANCE_CENTS = (5_000, 60_000)  # the balance of the others


def known_requests(connection: Connection[TupleRow], request_ids: pl.Series) -> pl.Series:
    """The 16-byte `request_ids` whose ride is in the store. Call it in a transaction."""
    _one_at_a_time(connection)
    connection.execute("CREATE TEMP TABLE candidates (request_id uuid) ON COMMIT DROP")
    copy_into(connection, "candidates", pl.DataFrame({"request_id": request_ids}))
    found = connection.execute(QUERIES["known_requests"]).fetchall()
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


def vacuum_and_analyze(connection: Connection[TupleRow]) -> None:
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
    drivers = find_or_create_people(connection, "drivers", window, max(fleet, int(driver.max()) + 1))
    riders = find_or_create_people(connection, "riders", window, int(rider.max()) + 1)

    rides = trips.with_columns(
        ride_id=reserve_ids(connection, "rides", "ride_id", trips.height),
        rider_id=riders.ids[rider],
        driver_id=drivers.ids[driver],
        rider_account_id=riders.account_ids[rider],
        driver_account_id=drivers.account_ids[driver],
        assigned_at="requested_at",
        completed=pl.col("started_at").is_not_null(),
    )
    pocket_cents = random.integers(*INITIAL_BALANCE_CENTS, len(riders.ids))
    pocket_cents[random.random(len(riders.ids)) < EMPTY_ACCOUNT_SHARE] = 0
    pocket_cents[: riders.old] = 0  # riders of the store keep their balance

    ledger = pl.concat([top_ups_of(rides, riders.account_ids, pocket_cents), ledger_of(rides)])
    rows_of_a_trip = 2 + ledger.height / trips.height  # the ride, its payment, its ledger entries

    def on_rows(rows: int) -> None:
        on_trips(rows / rows_of_a_trip)

    with foreign_keys_disabled(connection):
        write_people(connection, city_id, riders, drivers, trips["pickup_zone_id"], random)
        _write_rides(connection, rides, on_rows)
        copy_into(connection, "ledger", ledger, on_rows)
    apply_to_balances(connection, ledger)


def _check_zones(connection: Connection[TupleRow], city_id: int, trips: pl.DataFrame) -> None:
    rows = connection.execute(QUERIES["zones_of_city"], (city_id,)).fetchall()
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
