"""The ledger entries of finished rides, and the resulting balances."""

import numpy as np
import polars as pl
from numpy.typing import NDArray
from psycopg import Connection
from psycopg.rows import TupleRow

from oltp.history.tables import copy_into, statement

COMMISSION_DIVISOR = 5  # as in complete_ride(): one fifth, rounded down
OUTSIDE, REVENUE = 1, 2  # the platform accounts of schema.sql

Ints = NDArray[np.int64]


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
    connection.execute(statement("apply_change.sql"))
    connection.execute("DROP TABLE change")
