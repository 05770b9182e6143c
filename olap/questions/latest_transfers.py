"""Polars frames for latest_transfers.sql."""

from collections.abc import Mapping

import polars as pl


def answer(tables: Mapping[str, pl.LazyFrame]) -> pl.LazyFrame:
    return (
        tables["ledger"]
        .sort("transfer_id", descending=True)
        .head(20)
        .select(
            "transfer_id", "kind", "from_account_id", "to_account_id", "amount_cents", "ride_id", "moved_at"
        )
    )
