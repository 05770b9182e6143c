"""Files are read back unchanged, and values that a format does not preserve are listed."""

import math
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from bench.claims.bench_floats import READERS, TEXTBOOK_FLOAT, WRITERS, changed, floats, through_json
from bench.claims.bench_row_and_column import FEATURE_COLUMNS, READ_FEATURES, crossings, feature_table
from bench.claims.bench_text_and_binary import column_bytes, number_bytes
from bench.claims.file_format import HARD_VALUES, identical, is_readable, kept, lost
from bench.claims.formats import FORMATS, FileFormat, runs_code

LOST = {"CSV": ["empty text"], "JSON": ["infinity"], "JSONL": ["infinity"]}
UTC_MICROSECONDS = pa.timestamp("us", tz="UTC")

each_format = pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)


def rides(rows: int) -> pa.Table:
    """Rides with nulls, non-Latin text, negative and large numbers, and times with and without a zone."""
    one = {
        "ride_id": [2**63 - 1 - n for n in range(rows)],
        "fare_cents": [-n for n in range(rows)],
        "requested_at": [datetime(2025, 7, 1, 8, 0, 0, n, UTC) for n in range(rows)],
        "requested_local": [datetime(1969, 7, 20, 22, 17, 40, n) for n in range(rows)],
        "ended_at": [None if n % 2 else datetime(2025, 7, 1, 9, tzinfo=UTC) for n in range(rows)],
        "city_id": [-(2**31) + n for n in range(rows)],
        "rating": [0.1 + n for n in range(rows)],
        "zone": ['Zoë 🚕, "名古屋"' if n % 3 else None for n in range(rows)],
    }
    types = [
        pa.int64(), pa.int64(), UTC_MICROSECONDS, pa.timestamp("us"), UTC_MICROSECONDS,
        pa.int32(), pa.float64(), pa.string(),
    ]  # fmt: skip
    return pa.table(one, schema=pa.schema(list(zip(one, types, strict=True))))


@each_format
def test_rides_survive_a_round_trip_bit_by_bit(form: FileFormat, tmp_path: Path):
    table = rides(7)
    assert identical(form.round_trip(table, tmp_path / "rides"), table)


@each_format
def test_columns_are_read_in_the_requested_order(form: FileFormat, tmp_path: Path):
    table = rides(7)
    form.write(table.to_pylist(), table.schema, tmp_path / "rides")
    columns = ["zone", "ended_at", "ride_id"]
    assert identical(form.read(tmp_path / "rides", table.schema, columns), table.select(columns))


@each_format
def test_later_rows_are_appended_or_replace_the_file(form: FileFormat, tmp_path: Path):
    table = rides(4)
    form.write(table.slice(0, 3).to_pylist(), table.schema, tmp_path / "rides")
    form.write(table.slice(3).to_pylist(), table.schema, tmp_path / "rides")
    found = form.read(tmp_path / "rides", table.schema, table.column_names)
    assert identical(found, table if form.appends else table.slice(3))


@each_format
def test_lost_values_are_listed_by_kind(form: FileFormat, tmp_path: Path):
    assert lost(form, tmp_path) == LOST.get(form.name, [])


@each_format
def test_a_file_has_the_properties_of_its_format(form: FileFormat, tmp_path: Path):
    path = tmp_path / "rides"
    form.round_trip(rides(3), path)
    content = path.read_bytes()
    assert content.startswith(form.magic)
    assert is_readable(path) == form.is_text
    assert (b"fare_cents" in content) == (form.describes != "nothing")


def test_a_loss_is_detected(tmp_path: Path):
    lossy = FileFormat(
        "lossy", "lossy", "rows", True, "nothing", False, False, b"",
        write=lambda rows, schema, path: None,
        read=lambda path, schema, columns: pa.table({"number": [0, 1, 2], "value": [0.1, 0.0, 5e-324]}),
    )  # fmt: skip
    assert not kept(lossy, HARD_VALUES["float64"], tmp_path / "x")  # -0.0 becomes 0.0
    assert not kept(lossy, HARD_VALUES["null"], tmp_path / "x")


def test_nan_is_identical_to_itself_and_types_are_compared():
    table = pa.table({"x": [math.nan]})
    assert identical(table, table)
    assert not identical(pa.table({"x": pa.array([1], pa.int32())}), pa.table({"x": [1]}))


def test_reading_a_pickle_executes_its_code(tmp_path: Path):
    assert runs_code(tmp_path)


def test_a_million_takes_seven_bytes_as_text_and_four_as_an_integer(tmp_path: Path):
    million = number_bytes(1_000_000)
    assert (million["text"], million["int32"], million["avro"]) == (7, 4, 3)
    same, *_ = column_bytes(tmp_path)
    assert same["parquet"] < 0.01  # repeated values are stored once


@pytest.mark.parametrize("writer", WRITERS)
def test_floats_change_only_if_digits_are_omitted(writer: str, tmp_path: Path):
    values = floats(500, seed=1)
    assert TEXTBOOK_FLOAT in values
    assert len(values) == 500
    WRITERS[writer](values, tmp_path / "floats.csv")
    lossy = writer in ("15 digits", "6 decimals")
    for reader, read in READERS.items():
        if reader != "pandas":  # exact only since 3.1
            assert (changed(values, read(tmp_path / "floats.csv")) > 0) == lossy, reader
    assert changed(values, through_json(values)) == 0


def test_the_wide_table_has_1000_columns_including_the_four_to_read():
    table = feature_table(3)
    assert table.num_columns == FEATURE_COLUMNS == len(set(table.column_names))
    assert [table.column_names[place] for place in READ_FEATURES] == list(READ_FEATURES.values())


def test_crossings_are_interpolated_on_logarithmic_axes():
    assert list(crossings({10: 0.5, 1_000: 2.0})) == [pytest.approx(100)]
    assert list(crossings({10: 2.0, 1_000: 3.0})) == []
