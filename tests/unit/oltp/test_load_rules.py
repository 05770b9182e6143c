"""Rows of a trip file that are rejected, and the reasons."""

from datetime import datetime, timedelta

import polars as pl
import pytest

BEGIN = datetime(2024, 1, 10, 12)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"total_amount": -21.66, "tip_amount": -1.0}, "negative_fare"),
        ({"tip_amount": -1.0}, "negative_fare"),
        ({"total_amount": 2.0}, "zero_fare"),
        ({"total_amount": 2003.0}, "implausible_fare"),
        ({"total_amount": 1522.0, "tip_amount": 1500.0}, "implausible_fare"),
        ({"tpep_dropoff_datetime": BEGIN}, "impossible_times"),
        ({"tpep_dropoff_datetime": BEGIN - timedelta(hours=1)}, "impossible_times"),
        ({"tpep_dropoff_datetime": BEGIN + timedelta(hours=20, seconds=1)}, "too_long"),
        ({"trip_distance": 0.0}, "no_distance"),
        ({"trip_distance": -2.0}, "no_distance"),
        ({"trip_distance": 201421.68}, "too_far"),
        ({"trip_distance": 30.0}, "too_fast"),
        ({"PULocationID": 264}, "unknown_zone"),
        ({"PULocationID": 265}, "unknown_zone"),
        ({"PULocationID": 300}, "unknown_zone"),
        ({"DOLocationID": 0}, "unknown_zone"),
        ({"DOLocationID": 265}, ""),  # outside of the city, which is valid
        ({"total_amount": None}, "missing_value"),
        ({"tpep_pickup_datetime": None}, "missing_value"),
        ({"trip_distance": float("nan")}, "missing_value"),
        ({"trip_distance": float("inf")}, "unreadable"),
        ({"total_amount": 1e300}, "unreadable"),
        ({"tip_amount": None, "VendorID": None}, ""),
    ],
)
def test_an_invalid_row_is_rejected_with_its_reason(judge, yellow, changes, reason):
    assert judge([yellow(1), yellow(0) | changes, yellow(2)]) == ["", reason, ""]


def test_a_trip_that_ends_in_the_future_is_rejected(judge, yellow):
    later = datetime(2190, 1, 1)
    row = yellow(tpep_pickup_datetime=later, tpep_dropoff_datetime=later + timedelta(minutes=9))
    assert judge([row]) == ["in_the_future"]


def test_a_refund_and_its_trip_are_both_rejected(judge, yellow):
    back = {"total_amount": -21.66, "tip_amount": -2.0}
    assert judge([yellow(0), yellow(1), yellow(1) | back]) == ["", "refunded", "refund"]


def test_a_refund_may_precede_its_trip(judge, yellow):
    back = {"total_amount": -21.66, "tip_amount": -2.0}
    assert judge([yellow(1) | back, yellow(0), yellow(1)]) == ["refund", "", "refunded"]


def test_a_trip_charged_twice_and_refunded_once_is_kept_once(judge, yellow):
    back = {"total_amount": -21.66, "tip_amount": -2.0}
    assert judge([yellow(), yellow(), yellow() | back]) == ["refunded", "", "refund"]


def test_a_refund_of_another_amount_removes_no_trip(judge, yellow):
    back = {"total_amount": -10.00, "tip_amount": -2.0}
    assert judge([yellow(), yellow() | back]) == ["", "negative_fare"]


def test_copies_of_a_trip_are_duplicates_and_one_is_kept(judge, yellow):
    assert judge([yellow(), yellow(1), yellow(), yellow()]) == ["", "", "duplicate", "duplicate"]


def test_copies_and_refunds_are_found_across_batches(judge, yellow, monkeypatch):
    monkeypatch.setattr("oltp.ingest.tlc.trip_file.BATCH_ROWS", 2)
    back = {"total_amount": -21.66, "tip_amount": -2.0}
    rows = [yellow(number) for number in range(5)]
    verdicts = judge([*rows, yellow(0) | back, yellow(3)])
    assert verdicts == ["refunded", "", "", "", "", "refund", "duplicate"]


class TestPeriod:
    def test_the_file_name_determines_the_month(self, judge, yellow):
        rows = [yellow(number) for number in range(20)]
        stray = {
            "tpep_pickup_datetime": datetime(2024, 2, 1, 0, 1),
            "tpep_dropoff_datetime": datetime(2024, 2, 1, 0, 9),
        }
        assert judge([*rows, yellow() | stray], "yellow_tripdata_2024-01.parquet")[-1] == "other_period"

    def test_a_year_in_the_name_is_enough_for_a_sample(self, judge, yellow):
        rows = [yellow(0) | _on(datetime(2024, month, 3)) for month in range(1, 13)]
        verdicts = judge([*rows, yellow(0) | _on(datetime(2008, 12, 31))], "yellow_sample_2024.parquet")
        assert verdicts == [""] * 12 + ["other_period"]

    def test_without_a_name_the_majority_of_rows_determines_the_month(self, judge, yellow):
        rows = [yellow(number) for number in range(20)]
        assert judge([*rows, yellow() | _on(datetime(2023, 12, 31))])[-1] == "other_period"

    def test_a_wrong_name_rejects_nothing(self, judge, yellow):
        assert judge([yellow(number) for number in range(20)], "trips_2019-07.parquet") == [""] * 20

    def test_trips_of_several_years_are_all_accepted(self, judge, yellow):
        assert judge([yellow() | _on(datetime(year, 1, 1)) for year in range(2015, 2023)]) == [""] * 8


def _on(day: datetime) -> dict[str, datetime]:
    return {"tpep_pickup_datetime": day, "tpep_dropoff_datetime": day + timedelta(minutes=10)}


class TestUnits:
    def test_cents_are_exact(self):
        from oltp.ingest.tlc.values import cents

        dollars = pl.Series([21.66, 0.29, 1.13, 1.005, 1.015, 1.025, -4.35, 999.99, 4.349999999999999])
        assert cents(dollars).to_list() == [2166, 29, 113, 100, 102, 102, -435, 99999, 435]

    def test_a_taxi_fare_excludes_the_tip(self, trips_of, yellow, tmp_path):
        pl.DataFrame([yellow()]).write_parquet(tmp_path / "a")
        trip = trips_of(tmp_path / "a").row(0, named=True)
        assert (trip["fare_cents"], trip["tip_cents"], trip["distance_metres"]) == (1966, 200, 4023)
        assert (trip["city_id"], trip["pickup_zone_id"], trip["dropoff_zone_id"]) == (3, 3132, 3140)
        assert trip["requested_at"] == trip["started_at"]

    def test_an_hvfhv_fare_includes_all_fees(self, trips_of, hvfhv, tmp_path):
        pl.DataFrame([hvfhv()]).write_parquet(tmp_path / "a")
        trip = trips_of(tmp_path / "a").row(0, named=True)
        assert trip["fare_cents"] == 2010 + 694 + 74 + 240 + 275 + 250
        assert trip["tip_cents"] == 300
        assert trip["started_at"] - trip["requested_at"] == timedelta(minutes=4)
        assert trip["requested_local"] == datetime(2024, 1, 10, 11, 56)

    @pytest.mark.parametrize("ahead", [timedelta(minutes=5), timedelta(days=-700)])
    def test_an_impossible_request_time_is_replaced_by_the_pickup_time(
        self, trips_of, hvfhv, tmp_path, ahead
    ):
        row = hvfhv()
        pl.DataFrame([row | {"request_datetime": row["pickup_datetime"] + ahead}]).write_parquet(
            tmp_path / "a"
        )
        trip = trips_of(tmp_path / "a").row(0, named=True)
        assert trip["requested_at"] == trip["started_at"]
