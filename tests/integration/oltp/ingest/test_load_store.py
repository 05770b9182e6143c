"""Loading files: each trip once, all files or none, and rejected rows in the quarantine."""

import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from oltp.ingest.tlc import LoadReport, check_files, load_files
from oltp.store import Store
from ridelake.__main__ import _run
from ridelake.errors import BadInput

Load = Callable[..., LoadReport]


@pytest.fixture
def load(store: Store, tmp_path: Path) -> Load:
    def run(*paths: Path) -> LoadReport:
        return load_files(store, check_files(paths), tmp_path / "quarantine")

    return run


@pytest.fixture
def dirty(yellow, tmp_path) -> Path:
    """Twenty rows: 16 trips, a copy, a refund and its trip, and a trip without a distance."""
    rows = [yellow(number) for number in range(17)]
    rows += [yellow(3), yellow(5, total_amount=-21.66, tip_amount=-2.0), yellow(18, trip_distance=0.0)]
    path = tmp_path / "yellow_tripdata_2024-01.parquet"
    pl.DataFrame(rows).write_parquet(path)
    return path


def ask(store: Store, query: str) -> Sequence[Any]:
    with store.connect() as connection:
        return connection.execute(query).fetchall()


def balanced(report: LoadReport) -> bool:
    return report.read == report.loaded + sum(report.rejected.values())


def test_every_row_is_loaded_or_rejected_for_one_reason(load, store, dirty):
    report = load(dirty)
    assert (report.read, report.loaded) == (20, 16)
    assert report.rejected == {"refund": 1, "refunded": 1, "no_distance": 1, "duplicate": 1}
    assert ask(store, "SELECT count(*), min(status::text), max(status::text) FROM rides") == [
        (16, "completed", "completed")
    ]


def test_stored_values_equal_the_file(load, store, yellow, tmp_path):
    pl.DataFrame([yellow()]).write_parquet(tmp_path / "one")
    load(tmp_path / "one")
    (row,) = ask(
        store,
        """SELECT city_id, pickup_zone_id, dropoff_zone_id, requested_at::text, requested_local,
                  ended_at - started_at, distance_metres, fare_cents, captured_cents, tip_cents
           FROM rides JOIN payments USING (ride_id)""",
    )
    assert row == (
        3, 3132, 3140, "2024-01-10 17:00:00+00", datetime(2024, 1, 10, 12),
        timedelta(minutes=15), 4023, 1966, 1966, 200,
    )  # fmt: skip


def test_loading_again_loads_nothing_and_the_quarantine_does_not_grow(load, store, dirty):
    first = load(dirty)
    before = first.files[0].quarantine.read_bytes()
    again = load(dirty)
    assert again.loaded == 0
    assert again.rejected == first.rejected | {"already_loaded": 16}
    assert balanced(again)
    assert again.files[0].quarantine == first.files[0].quarantine
    assert pl.read_parquet(again.files[0].quarantine).equals(pl.read_parquet(before))
    assert len(list(again.files[0].quarantine.parent.iterdir())) == 1
    assert ask(store, "SELECT count(*) FROM rides") == [(16,)]


def test_the_same_trips_in_another_file_are_already_loaded(load, dirty, tmp_path):
    frame = pl.read_parquet(dirty).rename(
        {"tpep_pickup_datetime": "pickup_datetime", "VendorID": "vendor_id"}
    )
    (tmp_path / "copy.csv").write_text(frame.write_csv(datetime_format="%Y-%m-%d %H:%M:%S"))
    report = load(dirty, tmp_path / "copy.csv", dirty)
    assert [file.loaded for file in report.files] == [16, 0, 0]
    assert [file.rejected.get("already_loaded") for file in report.files] == [None, 16, 16]
    assert balanced(report)


def test_kinds_are_loaded_together_without_overlapping_rides(load, store, dirty, hvfhv, tmp_path):
    pl.DataFrame([hvfhv(number) for number in range(40)]).write_parquet(tmp_path / "fhvhv.parquet")
    report = load(dirty, tmp_path / "fhvhv.parquet")
    assert [(file.kind, file.loaded) for file in report.files] == [("yellow", 16), ("hvfhv", 40)]
    for who in ("driver_id", "rider_id"):
        overlaps = f"""SELECT FROM rides AS a JOIN rides AS b USING ({who}) WHERE a.ride_id < b.ride_id
                       AND a.requested_at < b.ended_at AND b.requested_at < a.ended_at"""
        assert ask(store, overlaps) == []


def test_a_file_of_several_batches_is_loaded_completely(load, store, dirty, monkeypatch):
    monkeypatch.setattr("oltp.ingest.tlc.trip_file.BATCH_ROWS", 3)
    report = load(dirty)
    assert report.loaded == 16
    assert ask(store, "SELECT count(*), count(DISTINCT request_id) FROM rides") == [(16, 16)]
    rows = pl.read_parquet(report.files[0].quarantine)["row"]
    assert rows.to_list() == [6, 18, 19, 20]


def test_the_quarantine_keeps_the_rejected_row_unchanged(load, dirty):
    kept = pl.read_parquet(load(dirty).files[0].quarantine)
    file = pl.read_parquet(dirty)
    assert kept.columns == ["reason", "column", "value", "expected", "file", "row", *file.columns]
    assert kept["reason"].to_list() == ["refunded", "duplicate", "refund", "no_distance"]
    assert kept["file"].unique().to_list() == [str(dirty)]
    assert kept.select(file.columns).equals(file[[row - 1 for row in kept["row"]]])


# A change to a valid trip; the reason, the column, the value and a part of the expected value.
REJECTED: list[tuple[dict[str, Any], str, str, str, str]] = [
    ({"total_amount": "abc"}, "unreadable", "total_amount", "abc", "a number"),
    ({"PULocationID": "1.5"}, "unreadable", "PULocationID", "1.5", "a whole number"),
    ({"tpep_dropoff_datetime": "noon"}, "unreadable", "tpep_dropoff_datetime", "noon", "a time such as"),
    ({"trip_distance": ""}, "missing_value", "trip_distance", "", "a value"),
    ({"total_amount": "-21.66"}, "negative_fare", "total_amount", "-21.66", "0 or more"),
    ({"tip_amount": "-1"}, "negative_fare", "tip_amount", "-1", "0 or more"),
    ({"total_amount": "2"}, "zero_fare", "total_amount", "2", "more than the tip"),
    ({"total_amount": "9999"}, "implausible_fare", "total_amount", "9999", "at most 1,000"),
    ({"tip_amount": "2000", "total_amount": "2100"}, "implausible_fare", "tip_amount", "2000",
     "at most 1,000"),
    ({"tpep_dropoff_datetime": "2024-01-10 11:00:00"}, "impossible_times", "tpep_dropoff_datetime",
     "2024-01-10 11:00:00", "later than the pick-up"),
    ({"tpep_dropoff_datetime": "2024-01-11 11:00:00"}, "too_long", "tpep_dropoff_datetime",
     "2024-01-11 11:00:00", "at most 20 hours"),
    ({"tpep_pickup_datetime": "2190-01-01 11:00:00", "tpep_dropoff_datetime": "2190-01-01 11:09:00"},
     "in_the_future", "tpep_dropoff_datetime", "2190-01-01 11:09:00", "before now"),
    ({"trip_distance": "0"}, "no_distance", "trip_distance", "0", "more than 0"),
    ({"trip_distance": "900"}, "too_far", "trip_distance", "900", "200 miles"),
    ({"trip_distance": "90"}, "too_fast", "trip_distance", "90", "100 miles per hour"),
    ({"PULocationID": "265"}, "unknown_zone", "PULocationID", "265", "a TLC zone"),
    ({"DOLocationID": "999"}, "unknown_zone", "DOLocationID", "999", "a TLC zone"),
    ({"tpep_pickup_datetime": "2023-05-01 11:00:00", "tpep_dropoff_datetime": "2023-05-01 11:09:00"},
     "other_period", "tpep_pickup_datetime", "2023-05-01 11:00:00", "a time in 2024-01"),
    ({"VendorID": "2"}, "duplicate", "tpep_pickup_datetime", "2024-01-10 12:00:00", "no copy"),
]  # fmt: skip


def test_every_rejected_row_names_column_value_and_what_is_expected(load, yellow, tmp_path):
    form = "%Y-%m-%d %H:%M:%S"
    good = pl.DataFrame([yellow(number) for number in range(200)])
    as_text = good.with_columns(pl.col("^tpep.*$").dt.to_string(form)).cast(pl.String).to_dicts()
    rows = as_text + [as_text[0] | change for change, *_ in REJECTED]
    path = tmp_path / "yellow_tripdata_2024-01.csv"
    path.write_text(pl.DataFrame(rows).write_csv() + "2,too short\n")
    (file,) = load(path).files
    kept = pl.read_parquet(file.quarantine)
    for found, (_, reason, column, value, expected) in zip(kept.to_dicts(), REJECTED, strict=False):
        assert (found["reason"], found["column"], found["value"]) == (reason, column, value)
        assert expected in found["expected"]
    short = kept.row(-1, named=True)
    assert (short["column"], short["value"], short["expected"]) == (
        "(line)", "2 fields", "10 fields, as in the header",
    )  # fmt: skip
    assert kept.height == len(REJECTED) + 1
    assert file.examples["no_distance"] == ["row 213: trip_distance is '0', expected more than 0"]
    assert len(file.examples["unreadable"]) == 2
    assert file.examples.keys() == set(kept["reason"])


def test_rejected_rows_of_a_parquet_file_are_explained_too(load, dirty):
    (file,) = load(dirty).files
    kept = pl.read_parquet(file.quarantine)
    assert kept["column"].to_list() == [
        "total_amount", "tpep_pickup_datetime", "total_amount", "trip_distance",
    ]  # fmt: skip
    assert kept["value"].to_list() == ["21.66", "2024-01-10 12:03:00.000000", "-21.66", "0.0"]
    assert kept["expected"].null_count() == 0


def test_a_file_may_have_the_column_names_of_the_quarantine(load, yellow, tmp_path):
    pl.DataFrame(
        [yellow(reason="none", row=9), yellow(1, trip_distance=0.0, reason="sea", row=8)]
    ).write_parquet(tmp_path / "a")
    kept = pl.read_parquet(load(tmp_path / "a").files[0].quarantine).row(0, named=True)
    assert (kept["reason"], kept["reason_of_file"], kept["row"], kept["row_of_file"]) == (
        "no_distance",
        "sea",
        2,
        8,
    )


def test_a_clean_file_leaves_no_quarantine(load, yellow, tmp_path):
    pl.DataFrame([yellow()]).write_parquet(tmp_path / "clean")
    assert load(tmp_path / "clean").files[0].quarantine is None
    assert not (tmp_path / "quarantine").exists()


def test_nothing_is_loaded_if_one_file_is_bad(load, store, dirty, tmp_path):
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    with pytest.raises(BadInput):
        load(dirty, tmp_path / "bad.csv")
    assert ask(store, "SELECT count(*) FROM rides") == [(0,)]


def test_a_file_that_changes_during_the_load_leaves_nothing(store, dirty, tmp_path, yellow):
    second = tmp_path / "second.csv"
    second.write_text(pl.DataFrame([yellow(number) for number in range(30, 40)]).write_csv())
    checked = check_files([dirty, second])
    second.write_text(second.read_text() + "one line more\n")
    with pytest.raises(BadInput, match="changed while it was read"):
        load_files(store, checked, tmp_path / "quarantine")
    assert ask(store, "SELECT count(*) FROM rides") == [(0,)]
    assert list((tmp_path / "quarantine").iterdir()) == []


class TestCommand:
    def test_json_accounts_for_every_row(self, store, dirty, tmp_path, capsys):
        arguments = ["load", str(dirty), "--dsn", store.conninfo, "--home", str(tmp_path / "home"), "--json"]
        assert _run(arguments) == 0
        report = json.loads(capsys.readouterr().out)
        assert (report["read"], report["loaded"], sum(report["rejected"].values())) == (20, 16, 4)
        assert Path(report["files"][0]["quarantine"]).parent == tmp_path / "home" / "quarantine"

    def test_text_reports_read_loaded_already_loaded_and_rejected_rows(self, store, dirty, tmp_path, capsys):
        arguments = ["load", str(dirty), "--dsn", store.conninfo, "--quarantine", str(tmp_path / "q")]
        assert [_run(arguments), _run(arguments)] == [0, 0]
        first, second = (line for line in capsys.readouterr().out.splitlines() if " read = " in line)
        assert first.endswith("yellow 2024-01, 20 read = 16 loaded + 0 already loaded + 4 rejected")
        assert second.endswith("20 read = 0 loaded + 16 already loaded + 4 rejected")

    def test_text_shows_examples_and_the_format_of_times(self, store, yellow, tmp_path, capsys):
        begin = datetime(2024, 1, 13, 9)
        rows = [yellow(1), yellow(2, trip_distance=0.0)]
        rows.append(yellow(tpep_pickup_datetime=begin, tpep_dropoff_datetime=begin + timedelta(minutes=9)))
        path = tmp_path / "excel.csv"
        path.write_text(pl.DataFrame(rows).write_csv(datetime_format="%-m/%-d/%Y %-H:%M"))
        arguments = ["--dsn", store.conninfo, "--quarantine", str(tmp_path / "q")]
        assert _run(["load", str(path), *arguments]) == 0
        output = capsys.readouterr()
        assert "excel.csv: no_distance: row 2: trip_distance is '0.0', expected more than 0" in output.out
        assert (
            "excel.csv: dates are read as month/day/year, because of the value '1/13/2024 9:00'" in output.err
        )

    def test_bad_input_is_one_line_and_starts_no_server(self, tmp_path, capsys):
        assert _run(["load", str(tmp_path / "nowhere"), "--home", str(tmp_path / "home")]) == 2
        output = capsys.readouterr()
        assert output.out == ""
        assert output.err.count("\n") == 1
        assert not (tmp_path / "home").exists()
