"""The same trips in all formats of trip files."""

import gzip
import re
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from oltp.ingest.tlc import check_files
from oltp.ingest.tlc.trip_file import open_trip_file
from ridelake.errors import BadInput, RidelakeError, UsageError

OLD = {
    "VendorID": "vendor_id",
    "tpep_pickup_datetime": "pickup_datetime", "tpep_dropoff_datetime": "dropoff_datetime",
    "PULocationID": "pickup_location_id", "DOLocationID": "dropoff_location_id",
}  # fmt: skip
OLDEST = {
    "VendorID": "vendor_name", "tpep_pickup_datetime": "Trip_Pickup_DateTime",
    "tpep_dropoff_datetime": "Trip_Dropoff_DateTime", "trip_distance": "Trip_Distance",
    "total_amount": "Total_Amt", "tip_amount": "Tip_Amt",
}  # fmt: skip


def as_csv(frame: pl.DataFrame, **how: str) -> bytes:
    return frame.write_csv(datetime_format="%Y-%m-%d %H:%M:%S", **how).encode()


@pytest.fixture
def frame(yellow) -> pl.DataFrame:
    return pl.DataFrame([yellow(number, trip_distance=1.1 + number / 10) for number in range(8)])


@pytest.fixture
def ids(trips_of, tmp_path):
    def ids_of(content: bytes | pl.DataFrame, name: str = "trips") -> list[bytes]:
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            content.write_parquet(path)
        return trips_of(path)["request_id"].to_list()

    return ids_of


def test_the_same_trip_has_the_same_id_in_every_spelling_type_and_order(ids, frame):
    expected = ids(frame)
    assert len(set(expected)) == frame.height
    assert ids(frame.rename(OLD)) == expected
    assert ids(frame.rename(OLDEST)) == expected
    assert ids(frame.rename(str.upper)) == expected
    assert ids(frame.with_columns(pl.col("VendorID", "PULocationID").cast(pl.Float64))) == expected
    assert ids(frame.with_columns(pl.col("tpep_pickup_datetime").cast(pl.Datetime("ns")))) == expected
    assert ids(frame.with_columns(pl.col("total_amount").cast(pl.Decimal(10, 2)))) == expected
    assert ids(frame.select(reversed(frame.columns))) == expected
    assert ids(frame.reverse()) == expected[::-1]
    assert ids(as_csv(frame)) == expected
    assert ids(as_csv(frame, separator=";")) == expected
    assert ids(as_csv(frame, quote_style="always")) == expected


SLASHED = ["%m/%d/%Y", "%d/%m/%Y"]
CLOCKS = ["%I:%M:%S %p", "%H:%M:%S", "%H:%M", "%-I:%M %p"]


@pytest.mark.parametrize("form", ["%Y-%m-%dT%H:%M:%S%.3f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"])
def test_iso_times_are_read(ids, frame, form):
    assert ids(frame.write_csv(datetime_format=form).encode()) == ids(frame)


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("order", SLASHED)
def test_the_order_of_dates_with_slashes_is_found_from_the_values(ids, yellow, order, clock):
    days = [datetime(2024, 1, day, 15, 5) for day in (9, 10, 13)]
    frame = pl.DataFrame(
        [yellow(tpep_pickup_datetime=at, tpep_dropoff_datetime=at + timedelta(minutes=9)) for at in days]
    )
    text = frame.write_csv(datetime_format=f"{order} {clock}")
    assert ids(text.encode()) == ids(frame)
    padded = re.sub(r"\b0(?=\d?/|\d/)", "", text)  # without leading zeros, as in Excel: 1/9/2024
    assert ids(padded.encode()) == ids(frame)


def test_the_order_is_found_from_all_rows_and_all_time_columns(ids, yellow, monkeypatch):
    monkeypatch.setattr("oltp.ingest.tlc.trip_file.CHUNK_BYTES", 100)
    begin = datetime(2024, 1, 12, 23, 50)
    frame = pl.DataFrame(
        [yellow(number) for number in range(9)]
        + [yellow(tpep_pickup_datetime=begin, tpep_dropoff_datetime=begin + timedelta(minutes=20))]
    )
    assert ids(frame.write_csv(datetime_format="%d/%m/%Y %H:%M").encode()) == ids(frame)


@pytest.mark.parametrize("suffix", ["Z", "+00:00", "+0000", "+00", " +00:00"])
@pytest.mark.parametrize("form", ["%Y-%m-%dT%H:%M:%S%.3f", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M"])
def test_iso_times_with_an_offset_are_converted(ids, frame, form, suffix):
    aware = frame.with_columns(pl.col("^tpep.*$").dt.replace_time_zone("UTC"))
    assert ids(frame.write_csv(datetime_format=form + suffix).encode()) == ids(aware)


def test_ambiguous_times_are_refused_until_their_form_is_stated(tmp_path, frame, yellow):
    path = tmp_path / "trips.csv"
    path.write_text(frame.write_csv(datetime_format="%d/%m/%Y %H:%M"))  # 10/01/2024
    with pytest.raises(BadInput, match=r"'10/01/2024 12:00' in column tpep_pickup_datetime .*--time-format"):
        check_files([path])
    (checked,) = check_files([path], time_format="%d/%m/%Y %H:%M")
    assert (checked.verdicts.sum(), checked.period) == (0, "2024-01")
    with pytest.raises(UsageError, match=r"--time-format 'dd\.mm\.yyyy' is not"):
        check_files([path], time_format="dd.mm.yyyy")


def test_a_stated_form_may_have_an_offset(tmp_path, frame):
    path = tmp_path / "trips.csv"
    path.write_text(frame.write_csv(datetime_format="%d.%m.%Y %H:%M +0000"))
    (checked,) = check_files([path], time_format="%d.%m.%Y %H:%M %z")
    assert checked.verdicts.sum() == 0


def test_times_of_two_forms_are_refused(tmp_path, frame):
    path = tmp_path / "trips.csv"
    lines = frame.write_csv(datetime_format="%m/%d/%Y %H:%M").splitlines()
    lines[1] = lines[1].replace("01/10/2024", "01/13/2024")
    lines[2] = lines[2].replace("01/10/2024", "13/01/2024")
    path.write_text("\n".join(lines))
    with pytest.raises(BadInput, match=r"two formats, '01/13/2024 12:00' in .* and '13/01/2024 12:01' in "):
        check_files([path])


@pytest.mark.parametrize("name", ["12_yellow_excel_2019-03.csv", "12_yellow_isoz_2019-03.csv"])
def test_files_saved_by_excel_and_by_a_web_service_are_read(real_data, name):
    path = real_data / "bugs" / name
    if not path.exists():
        pytest.skip(f"{name} is not among the real trip files")
    (checked,) = check_files([path])
    assert checked.verdicts.to_list() == [0] * 5
    assert checked.period == "2019-03"


def test_a_file_without_a_readable_row_is_an_error_with_column_and_value(tmp_path, frame):
    path = tmp_path / "trips.csv"
    path.write_text(frame.write_csv(datetime_format="%d. %B %Y %H:%M"))
    with pytest.raises(RidelakeError) as failed:
        check_files([path])
    assert failed.value.exit_code == 1
    output = (
        "cannot read any of the 8 rows of .*row 1 tpep_pickup_datetime is '10. January 2024 12:00', expected"
    )
    assert re.search(output, str(failed.value))


def test_line_endings_byte_order_mark_and_gzip_change_nothing(ids, frame):
    expected, text = ids(frame), as_csv(frame)
    lines = text.split(b"\n")
    mixed = b"".join(line + [b"\n", b"\r\n", b"\r"][index % 3] for index, line in enumerate(lines[:-1]))
    assert ids(text.replace(b"\n", b"\r\n")) == expected
    assert ids(text.replace(b"\n", b"\r")) == expected
    assert ids(mixed) == expected
    assert ids(b"\xef\xbb\xbf" + text) == expected
    assert ids(text.replace(b"\n", b"\n\n", 1) + b"\n\n") == expected
    assert ids(text.rstrip()) == expected
    assert ids(gzip.compress(text), "trips.csv.gz") == expected
    assert ids(text.replace(b",", b", ")) == expected


def test_chunks_may_end_anywhere(ids, frame, monkeypatch, tmp_path):
    path = tmp_path / "trips.csv"
    path.write_bytes(as_csv(frame).replace(b"\n", b"\r\n"))
    expected = next(open_trip_file(path).batches(frame.columns)).rows
    for size in range(1, 300, 7):
        monkeypatch.setattr("oltp.ingest.tlc.trip_file.CHUNK_BYTES", size)
        parts = [batch.rows for batch in open_trip_file(path).batches(frame.columns)]
        assert pl.concat(parts).equals(expected)


def test_the_format_is_not_derived_from_the_file_name(ids, frame):
    assert ids(frame, "trips.csv") == ids(as_csv(frame), "trips.parquet")


def test_a_line_with_too_few_or_too_many_fields_is_unreadable(tmp_path, frame):
    path = tmp_path / "trips.csv"
    lines = as_csv(frame).split(b"\n")
    lines[2] = lines[2].rsplit(b",", 1)[0]
    lines[3] += b",7"
    lines[4] += b",,"  # as in the TLC's files of 2016
    lines[1] = lines[1][:20]
    lines[6] = lines[6].replace(b"132", b"x")
    path.write_bytes(b"\n".join(lines))
    (checked,) = check_files([path])
    assert checked.verdicts.to_list() == [1, 1, 1, 0, 0, 1, 0, 0]


def test_a_stray_quotation_mark_makes_only_its_line_unreadable(tmp_path, frame):
    path = tmp_path / "trips.csv"
    lines = as_csv(frame).split(b"\n")
    lines[3] = b'"' + lines[3]
    path.write_bytes(b"\n".join(lines))
    (checked,) = check_files([path])
    assert checked.verdicts.to_list() == [0, 0, 1, 0, 0, 0, 0, 0]


def test_ids_never_change(ids, yellow, hvfhv):
    """If this fails, trips that are already stored would be loaded again."""
    assert ids(pl.DataFrame([yellow()]))[0].hex() == "556ec9c5ba918947a93eaf6d2e91bcb4"
    assert ids(pl.DataFrame([hvfhv()]))[0].hex() == "8116422d87118a7da77dd3ff19e04544"


def test_ids_are_version_8_uuids_without_collisions(trips_of, yellow, tmp_path):
    from uuid import RFC_4122, UUID

    rows = pl.DataFrame([yellow()]).select(pl.exclude("total_amount", "trip_distance"))
    many = rows.join(pl.DataFrame({"total_amount": [5 + cents / 100 for cents in range(300)]}), how="cross")
    many = many.join(pl.DataFrame({"trip_distance": [1 + miles / 100 for miles in range(300)]}), how="cross")
    many.write_parquet(tmp_path / "many")
    found = trips_of(tmp_path / "many")["request_id"]
    assert found.n_unique() == 90_000
    one = UUID(bytes=found[0])
    assert (one.version, one.variant) == (8, RFC_4122)


class TestBadInput:
    """The error is one line that names the file and says what to do."""

    def refuse(self, path: Path, *words: str) -> None:
        with pytest.raises(BadInput) as refusal:
            check_files([path])
        message = str(refusal.value)
        assert str(path) in message
        assert "\n" not in message
        for word in words:
            assert word in message

    def test_a_path_that_is_not_a_file_is_refused(self, tmp_path):
        self.refuse(tmp_path / "nowhere.parquet", "does not exist")
        self.refuse(tmp_path, "is a folder")
        (tmp_path / "empty").touch()
        self.refuse(tmp_path / "empty", "is empty")

    def test_a_file_that_may_not_be_read_is_refused(self, tmp_path, monkeypatch, frame):
        path = tmp_path / "trips"
        frame.write_parquet(path)

        def refuse(*_, **__):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", refuse)  # root ignores file permissions
        self.refuse(path, "Permission denied")

    @pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
    def test_a_truncated_parquet_file_is_refused(self, tmp_path, frame, share):
        path = tmp_path / "trips.parquet"
        frame.write_parquet(path)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
        self.refuse(path, "download it again")

    def test_a_damaged_parquet_file_is_refused(self, tmp_path, frame):
        path = tmp_path / "trips.parquet"
        frame.write_parquet(path)
        content = path.read_bytes()
        path.write_bytes(content[:4] + bytes(len(content) // 2) + content[4 + len(content) // 2 :])
        self.refuse(path, "download it again")

    def test_a_truncated_gzip_file_is_refused(self, tmp_path, frame):
        path = tmp_path / "trips.csv.gz"
        path.write_bytes(gzip.compress(as_csv(frame))[:-20])
        self.refuse(path, "download it again")

    def test_a_text_file_with_the_suffix_parquet_is_refused(self, tmp_path):
        (tmp_path / "notes.parquet").write_text("this is not\na table at all\n")
        self.refuse(tmp_path / "notes.parquet", "is not a trip file", "this is not")

    def test_a_file_with_the_columns_of_another_table_is_refused(self, tmp_path):
        (tmp_path / "zones.csv").write_bytes(b"LocationID,Borough,Zone\r1,EWR,Newark Airport\r")
        self.refuse(
            tmp_path / "zones.csv",
            "PULocationID",
            "it has LocationID, Borough, Zone",
            "yellow",
            "HVFHV",
        )

    @pytest.mark.parametrize("column", ["PULocationID", "total_amount", "tip_amount"])
    def test_a_file_without_a_needed_column_is_refused(self, tmp_path, frame, column):
        frame.drop(column).write_parquet(tmp_path / "trips")
        self.refuse(tmp_path / "trips", f"no column {column}")

    def test_two_columns_with_the_same_meaning_are_refused(self, tmp_path, frame):
        frame.with_columns(pulocationid=pl.lit(1)).write_parquet(tmp_path / "trips")
        self.refuse(tmp_path / "trips", "PULocationID and pulocationid have the same meaning")

    def test_a_column_of_the_wrong_type_is_refused(self, tmp_path, frame):
        frame.with_columns(tpep_pickup_datetime=pl.lit(5)).write_parquet(tmp_path / "trips")
        self.refuse(tmp_path / "trips", "tpep_pickup_datetime has type Int32, not a time")

    def test_an_old_file_without_zones_is_refused(self, tmp_path):
        (tmp_path / "old.csv").write_text(
            "vendor_name,Trip_Pickup_DateTime,Start_Lon,Start_Lat\nVTS,2009-01-04,1,2\n"
        )
        self.refuse(tmp_path / "old.csv", "coordinates instead of zones")

    def test_a_file_without_rows_is_refused(self, tmp_path, frame):
        (tmp_path / "head.csv").write_bytes(as_csv(frame.clear()))
        self.refuse(tmp_path / "head.csv", "no rows")

    def test_a_file_in_another_encoding_is_refused(self, tmp_path, frame):
        (tmp_path / "wide.csv").write_bytes(as_csv(frame).decode().encode("utf-16"))
        self.refuse(tmp_path / "wide.csv", "UTF-8")
        (tmp_path / "latin.csv").write_bytes("Número,Año\n1,2\n".encode("latin-1"))
        self.refuse(tmp_path / "latin.csv", "UTF-8")

    def test_a_zip_archive_is_refused(self, tmp_path):
        (tmp_path / "trips.zip").write_bytes(b"PK\x03\x04" + bytes(100))
        self.refuse(tmp_path / "trips.zip", "unpack it")


def test_invalid_utf8_does_not_make_the_row_unreadable(tmp_path, frame):
    frame = frame.with_columns(note=pl.lit("ok"))
    path = tmp_path / "trips.csv"
    path.write_bytes(as_csv(frame).replace(b"ok", b"\xff\xfe", 1))
    (checked,) = check_files([path])
    assert checked.verdicts.sum() == 0


def test_the_time_zone_of_a_column_is_used(trips_of, frame, tmp_path):
    aware = frame.with_columns(pl.col("^tpep.*$").dt.replace_time_zone("UTC"))
    aware.write_parquet(tmp_path / "trips")
    assert trips_of(tmp_path / "trips")["requested_local"][0] == datetime(2024, 1, 10, 7)
