"""Polars frames for receipt_by_ride.sql."""

from collections.abc import Mapping

import polars as pl


def answer(tables: Mapping[str, pl.LazyFrame], ride_id: int) -> pl.LazyFrame:
    account, kind = pl.col("account_id"), pl.col("kind")
    payers = tables["accounts"].select(account.alias("from_account_id"), kind.alias("paid_by"))
    payees = tables["accounts"].select(account.alias("to_account_id"), kind.alias("paid_to"))
    return (
        tables["ledger"]
        .filter(pl.col("ride_id") == ride_id)
        .join(payers, on="from_account_id")
        .join(payees, on="to_account_id")
        .sort("transfer_id")
        .select("transfer_id", "kind", "paid_by", "paid_to", "amount_cents", "moved_at")
    )
