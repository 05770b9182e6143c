"""Rows and cents of an epoch's append-only tables, which the audit compares with the store."""

import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakehouse.epoch import Epoch
from lakehouse.published import read_epochs, refuse_missing_files
from lakehouse.s3 import refusing_a_bad_bucket
from lakehouse.storage import Storage
from oltp.audit import EpochSums
from oltp.store import Store
from ridelake.settings import LakeAddress


def sums_of_newest_epoch(store: Store, lake: LakeAddress) -> EpochSums | None:
    """None if there is no epoch, if it lacks a table that the audit sums, or if it was taken from another
    server, whose transaction numbers mean nothing on the store's server."""
    newest = read_epochs(lake, limit=1)
    if not newest or newest[0].token.system_identifier != store.system_identifier():
        return None
    epoch, storage = newest[0], Storage.of(lake)
    if not {"ledger", "requests"} <= epoch.tables.keys():
        return None
    refuse_missing_files(lake, epoch)
    with refusing_a_bad_bucket(lake):
        ledger_rows, ledger_cents = _rows_and_cents(storage, epoch, "ledger", "amount_cents")
        request_rows, request_cents = _rows_and_cents(storage, epoch, "requests", "fare_cents")
    return EpochSums(
        epoch.number, epoch.token.snapshot, ledger_rows, ledger_cents, request_rows, request_cents
    )


def _rows_and_cents(storage: Storage, epoch: Epoch, table: str, column: str) -> tuple[int, int]:
    rows = cents = 0
    for location in epoch.tables[table].locations:
        with storage.open(location) as file:
            values = pq.ParquetFile(file).read(columns=[column]).column(0)
        rows, cents = rows + len(values), cents + (pc.sum(values).as_py() or 0)
    return rows, cents
