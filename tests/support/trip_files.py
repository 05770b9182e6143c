"""Fixtures: small trip files with invented rows."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

Row = dict[str, Any]


@pytest.fixture
def yellow() -> Callable[..., Row]:
    """A valid yellow trip in the TLC's current format. Each `number` gives a different trip."""

    def trip(number: int = 0, **changes: Any) -> Row:
        pickup = datetime(2024, 1, 10, 12) + timedelta(minutes=number)
        return {
            "VendorID": 2,
            "tpep_pickup_datetime": pickup,
            "tpep_dropoff_datetime": pickup + timedelta(minutes=15),
            "passenger_count": 1.0,
            "trip_distance": 2.5,
            "PULocationID": 132,
            "DOLocationID": 140,
            "fare_amount": 15.0,
            "tip_amount": 2.0,
            "total_amount": 21.66,
        } | changes

    return trip


@pytest.fixture
def hvfhv() -> Callable[..., Row]:
    """A valid HVFHV trip."""

    def trip(number: int = 0, **changes: Any) -> Row:
        pickup = datetime(2024, 1, 10, 12) + timedelta(minutes=number)
        return {
            "hvfhs_license_num": "HV0003",
            "request_datetime": pickup - timedelta(minutes=4),
            "pickup_datetime": pickup,
            "dropoff_datetime": pickup + timedelta(minutes=15),
            "PULocationID": 132,
            "DOLocationID": 140,
            "trip_miles": 2.515,
            "base_passenger_fare": 20.10,
            "tolls": 6.94,
            "bcf": 0.74,
            "sales_tax": 2.40,
            "congestion_surcharge": 2.75,
            "airport_fee": 2.5,
            "tips": 3.0,
            "driver_pay": 15.2,
        } | changes

    return trip


@pytest.fixture
def judge(tmp_path: Path) -> Callable[..., list[str]]:
    """For each row of a file: "" if it is accepted, otherwise the reason of the rejection."""

    def judge_rows(rows: list[Row], name: str = "trips.parquet") -> list[str]:
        from oltp.ingest.tlc import RejectReason, check_files

        path = tmp_path / name
        pl.DataFrame(rows, infer_schema_length=None).write_parquet(path)
        (checked,) = check_files([path])
        names = ["", *map(str, RejectReason)]
        return [names[code] for code in checked.verdicts]

    return judge_rows


@pytest.fixture
def trips_of() -> Callable[[Path], pl.DataFrame]:
    """The accepted rows of a file as they would be stored."""

    def read(path: Path) -> pl.DataFrame:
        from oltp.ingest.tlc.load import check_files
        from oltp.ingest.tlc.rules import GOOD, as_trips
        from oltp.ingest.tlc.values import read_values

        (checked,) = check_files([path])
        batches = checked.file.batches(checked.file.columns)
        values = pl.concat(read_values(batch, checked.layout) for batch in batches)
        return as_trips(values.filter(checked.verdicts == GOOD))

    return read
