"""For any content of a file, every row counts once, and equal trips have equal ids."""

import random
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oltp.ingest.tlc import check_files
from oltp.ingest.tlc.rules import CODE, GOOD, RejectReason, as_trips
from oltp.ingest.tlc.values import read_values

# Small ranges, so that there are copies and refunds.
TIMES = st.one_of(
    st.none(),
    st.integers(0, 3000).map(lambda minutes: datetime(2024, 1, 1) + timedelta(minutes=minutes)),
    st.sampled_from([datetime(2024, 3, 10, 2, 30), datetime(2024, 11, 3, 1, 30), datetime(1999, 1, 1)]),
)
MONEY = st.one_of(st.none(), st.sampled_from([-5.0, 0.0, 5.0, 12.34, 5000.0, float("nan"), float("inf")]))
DIRTY = st.fixed_dictionaries(
    {
        "VendorID": st.sampled_from([None, 1, 2]),
        "tpep_pickup_datetime": TIMES,
        "tpep_dropoff_datetime": TIMES,
        "trip_distance": st.one_of(st.none(), st.sampled_from([-1.0, 0.0, 1.5, 3.0, 1e6, float("nan")])),
        "PULocationID": st.sampled_from([None, 1, 132, 264, 999]),
        "DOLocationID": st.sampled_from([1, 140, 265]),
        "total_amount": MONEY,
        "tip_amount": st.sampled_from([None, -1.0, 0.0, 1.0]),
    }
)
# Every file has this row, because a file without a readable row is refused.
READABLE = {
    "VendorID": 1, "trip_distance": 2.0,
    "tpep_pickup_datetime": datetime(2024, 1, 2, 9, 0), "tpep_dropoff_datetime": datetime(2024, 1, 2, 9, 9),
    "PULocationID": 2, "DOLocationID": 3,
    "total_amount": 9.99, "tip_amount": 0.5,
}  # fmt: skip
SCHEMA = {
    "VendorID": pl.Int64, "trip_distance": pl.Float64,
    "tpep_pickup_datetime": pl.Datetime("us"), "tpep_dropoff_datetime": pl.Datetime("us"),
    "PULocationID": pl.Int64, "DOLocationID": pl.Int64,
    "total_amount": pl.Float64, "tip_amount": pl.Float64,
}  # fmt: skip


def judged(frame: pl.DataFrame, kind: str) -> tuple[list[str], list[bytes]]:
    """The reason for the rejection of each row ("" if accepted), and the ids of the accepted rows."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "trips"
        if kind == "parquet":
            frame.write_parquet(path)
        else:
            path.write_text(frame.write_csv(datetime_format="%Y-%m-%d %H:%M:%S", line_terminator=kind))
        (checked,) = check_files([path])
        values = pl.concat(
            read_values(batch, checked.layout) for batch in checked.file.batches(checked.file.columns)
        )
        trips = as_trips(values.filter(checked.verdicts == GOOD))
    names = {code: str(reason) for reason, code in CODE.items()} | {GOOD: ""}
    return [names[code] for code in checked.verdicts], trips["request_id"].to_list()


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(DIRTY, min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_every_row_counts_once_in_every_format_and_order(rows, shuffler: random.Random):
    rows = [READABLE, *rows, *rows[: len(rows) // 3]]
    frame = pl.DataFrame(rows, schema=SCHEMA)
    reasons, ids = judged(frame, "parquet")
    assert len(reasons) == len(rows)
    assert reasons.count("") == len(ids) == len(set(ids))
    assert reasons.count(RejectReason.REFUND) == reasons.count(RejectReason.REFUNDED)
    for kind in ("\n", "\r\n", "\r"):
        # CSV has Infinity as text that is not a number, and NaN as a missing value.
        assert judged(frame, kind) == (reasons, ids)

    shuffled = list(range(len(rows)))
    shuffler.shuffle(shuffled)
    other_reasons, other_ids = judged(frame[shuffled], "parquet")
    assert sorted(other_ids) == sorted(ids)
    assert Counter(other_reasons) == Counter(reasons)


@settings(max_examples=30, deadline=None)
@given(st.lists(DIRTY, min_size=1, max_size=40))
def test_refunds_and_refunded_trips_sum_to_zero(rows):
    """Refunds and the refunded trips sum to zero, so their rejection does not change the revenue."""
    frame = pl.DataFrame([READABLE, *rows], schema=SCHEMA)
    reasons, _ = judged(frame, "parquet")
    pairs = frame.filter(pl.Series(reasons).is_in(["refund", "refunded"]))
    assert abs((pairs["total_amount"] - pairs["tip_amount"].fill_null(0)).sum()) < 0.001


@settings(max_examples=20, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_after_the_header_are_counted_as_rows(garbage):
    header = ",".join(SCHEMA)
    good = "1,1.5,2024-01-01 10:00:00,2024-01-01 10:10:00,132,140,12.3,1.0"
    with TemporaryDirectory() as folder:
        path = Path(folder) / "trips.csv"
        path.write_bytes(
            f"{header}\n{good}\n".encode() + garbage.replace(b"\0", b"") + f"\n{good[:-1]}5\n".encode()
        )
        (checked,) = check_files([path])
        rows = pl.concat(batch.rows for batch in checked.file.batches(checked.file.columns))
    assert rows.height == checked.rows >= 2
    assert checked.verdicts[0] == GOOD
    assert checked.verdicts[-1] == GOOD
