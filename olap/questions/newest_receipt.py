"""Polars frames for newest_receipt.sql."""

from collections.abc import Mapping

import polars as pl


def answer(tables: Mapping[str, pl.LazyFrame]) -> pl.LazyFrame:
    newest = tables["ledger"].select(pl.col("ride_id").max())
    return (
        tables["ledger"]
        .join(newest, on="ride_id")
        .sort("transfer_id")
        .select(
            "transfer_id", "ride_id", "kind", "from_account_id", "to_account_id", "amount_cents", "moved_at"
        )
    )
