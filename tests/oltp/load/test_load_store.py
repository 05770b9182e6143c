"""Files into the store: each trip once, all files or none, and a place for what was rejected."""

import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from oltp.load import LoadReport, check_files, load_files
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
    """Twenty rows: sixteen trips, a copy, a refund and its trip, and one that went nowhere."""
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


def test_what_is_stored_is_what_the_file_says(load, store, yellow, tmp_path):
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


def test_the_same_trips_from_another_file_are_known(load, dirty, tmp_path):
    frame = pl.read_parquet(dirty).rename(
        {"tpep_pickup_datetime": "pickup_datetime", "VendorID": "vendor_id"}
    )
    (tmp_path / "copy.csv").write_text(frame.write_csv(datetime_format="%Y-%m-%d %H:%M:%S"))
    report = load(dirty, tmp_path / "copy.csv", dirty)
    assert [file.loaded for file in report.files] == [16, 0, 0]
    assert [file.rejected.get("already_loaded") for file in report.files] == [None, 16, 16]
    assert balanced(report)


def test_kinds_are_loaded_together_and_nobody_does_two_things_at_once(load, store, dirty, hvfhv, tmp_path):
    pl.DataFrame([hvfhv(number) for number in range(40)]).write_parquet(tmp_path / "fhvhv.parquet")
    report = load(dirty, tmp_path / "fhvhv.parquet")
    assert [(file.kind, file.loaded) for file in report.files] == [("yellow", 16), ("hvfhv", 40)]
    for who in ("driver_id", "rider_id"):
        overlaps = f"""SELECT FROM rides AS a JOIN rides AS b USING ({who}) WHERE a.ride_id < b.ride_id
                       AND a.requested_at < b.ended_at AND b.requested_at < a.ended_at"""
        assert ask(store, overlaps) == []


def test_batches_go_into_the_store_as_one(load, store, dirty, monkeypatch):
    monkeypatch.setattr("oltp.load.parquet_file.BATCH_ROWS", 3)
    report = load(dirty)
    assert report.loaded == 16
    assert ask(store, "SELECT count(*), count(DISTINCT request_id) FROM rides") == [(16, 16)]
    rows = pl.read_parquet(report.files[0].quarantine)["row"]
    assert rows.to_list() == [6, 18, 19, 20]


def test_the_quarantine_keeps_the_row_as_it_came(load, dirty):
    kept = pl.read_parquet(load(dirty).files[0].quarantine)
    file = pl.read_parquet(dirty)
    assert kept.columns == ["reason", "file", "row", *file.columns]
    assert kept["reason"].to_list() == ["refunded", "duplicate", "refund", "no_distance"]
    assert kept["file"].unique().to_list() == [str(dirty)]
    assert kept.select(file.columns).equals(file[[row - 1 for row in kept["row"]]])


def test_a_file_may_have_columns_of_our_names(load, yellow, tmp_path):
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


def test_one_bad_file_and_nothing_is_loaded(load, store, dirty, tmp_path):
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    with pytest.raises(BadInput):
        load(dirty, tmp_path / "bad.csv")
    assert ask(store, "SELECT count(*) FROM rides") == [(0,)]


def test_a_file_that_breaks_half_way_leaves_nothing_behind(store, dirty, tmp_path, yellow):
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

    def test_text_tells_read_loaded_there_and_rejected(self, store, dirty, tmp_path, capsys):
        arguments = ["load", str(dirty), "--dsn", store.conninfo, "--quarantine", str(tmp_path / "q")]
        assert [_run(arguments), _run(arguments)] == [0, 0]
        first, second = (line for line in capsys.readouterr().out.splitlines() if " read = " in line)
        assert first.endswith("yellow 2024-01, 20 read = 16 loaded + 0 there already + 4 rejected")
        assert second.endswith("20 read = 0 loaded + 16 there already + 4 rejected")

    def test_bad_input_is_one_line_and_starts_no_server(self, tmp_path, capsys):
        assert _run(["load", str(tmp_path / "nowhere"), "--home", str(tmp_path / "home")]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.count("\n") == 1
        assert not (tmp_path / "home").exists()
