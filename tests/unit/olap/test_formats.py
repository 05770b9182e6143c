"""Answers in each text format."""

import csv
import datetime as dt
import io
import json
from decimal import Decimal

import pyarrow as pa
import pytest

from olap import options
from olap.formats import FORMATS, write

ANSWER = pa.table(
    {
        "city": ["Stanford", None, 'a "b", c'],
        "rides": pa.array([1, 2, None], pa.int64()),
        "price": pa.array([Decimal("20.40"), None, Decimal("5.00")], pa.decimal128(12, 2)),
    }
)


def text(answer: pa.Table, format_: str, width: int | None = None) -> str:
    out = io.StringIO()
    write(answer, format_, out, width=width)
    return out.getvalue()


def test_the_command_offers_all_formats():
    assert (*FORMATS, "parquet", "none") == options.FORMATS


def test_csv_writes_null_as_an_empty_field_and_reads_back():
    assert list(csv.reader(io.StringIO(text(ANSWER, "csv")))) == [
        ["city", "rides", "price"],
        ["Stanford", "1", "20.40"],
        ["", "2", ""],
        ['a "b", c', "", "5.00"],
    ]


def test_csv_quotes_only_if_necessary():
    assert text(ANSWER.slice(0, 2), "csv") == "city,rides,price\nStanford,1,20.40\n,2,\n"


def test_csv_distinguishes_empty_text_from_null():
    assert text(pa.table({"a": ["", None], "b": ["x", "y"]}), "csv") == 'a,b\n"","x"\n,"y"\n'


def test_csv_of_an_empty_answer_is_a_header():
    assert text(ANSWER.slice(0, 0), "csv") == "city,rides,price\n"


def test_csv_supports_types_that_arrow_does_not():
    odd = pa.table({"l": [[1, 2]], "s": [{"a": 1}], "b": [b"\x01\xff"], "d": [dt.timedelta(hours=1)]})
    header, row = csv.reader(io.StringIO(text(odd, "csv")))
    assert header == ["l", "s", "b", "d"]
    assert row == ["[1, 2]", '{"a": 1}', "01ff", "1:00:00"]


def test_csv_of_many_rows_has_one_header():
    lines = text(pa.table({"n": range(25_000)}), "csv").splitlines()
    assert lines == ["n", *map(str, range(25_000))]


@pytest.mark.parametrize("last", ["plain", "", "a,b", 'a"b', "a\nb", None])
def test_csv_of_many_strings_reads_back(last):
    texts = [f"text {number}" for number in range(25_000)] + [last]
    rows = list(csv.reader(io.StringIO(text(pa.table({"t": texts, "n": range(25_001)}), "csv"), newline="")))
    assert rows[0] == ["t", "n"]
    assert [row[0] for row in rows[1:]] == [t or "" for t in texts]


def test_json_writes_numbers_and_nulls_as_such():
    assert json.loads(text(ANSWER, "json")) == [
        {"city": "Stanford", "rides": 1, "price": 20.4},
        {"city": None, "rides": 2, "price": None},
        {"city": 'a "b", c', "rides": None, "price": 5},
    ]
    assert json.loads(text(ANSWER.slice(0, 0), "json")) == []


def test_json_converts_types_that_json_does_not_have():
    moment = dt.datetime(2024, 7, 1, 12, tzinfo=dt.UTC)
    odd = pa.table({"x": [float("nan")], "t": pa.array([moment], pa.timestamp("us", "UTC")), "b": [b"\x01"]})
    assert json.loads(text(odd, "json")) == [{"x": None, "t": "2024-07-01T12:00:00+00:00", "b": "01"}]


NESTED = pa.table(
    {
        "m": pa.array([[("a", 1), ("b", None)]], pa.map_(pa.string(), pa.int32())),
        "s": pa.array(
            [{"x": [Decimal("1.50"), None], "y": [(7, 'é"')]}],
            pa.struct({"x": pa.list_(pa.decimal128(5, 2)), "y": pa.map_(pa.int64(), pa.string())}),
        ),
        "d": pa.array([[-735_160, None]], pa.list_(pa.int32())).cast(pa.list_(pa.date32())),
    }
)


@pytest.mark.parametrize("format_", ["json", "jsonl"])
def test_a_map_is_an_object_in_json(format_):
    found = json.loads(text(NESTED, format_))
    assert (found[0] if format_ == "json" else found) == {
        "m": {"a": 1, "b": None},
        "s": {"x": [1.5, None], "y": {"7": 'é"'}},
        "d": ["-0043-03-15", None],
    }


def test_nested_values_are_written_as_json():
    row = ['{"a": 1, "b": null}', '{"x": [1.50, null], "y": {"7": "é\\""}}', '["-0043-03-15", null]']
    assert list(csv.reader(io.StringIO(text(NESTED, "csv"))))[1] == row
    assert text(NESTED, "markdown").splitlines()[2] == f"| {' | '.join(row)} |"


def test_json_keeps_two_columns_of_the_same_name():
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["n", "n"])
    assert json.loads(text(twice, "jsonl")) == {"n": 1, "n_2": 2}
    assert text(twice, "csv") == "n,n\n1,2\n"


def test_jsonl_writes_one_object_a_line():
    assert [json.loads(line)["rides"] for line in text(ANSWER, "jsonl").splitlines()] == [1, 2, None]


def test_markdown_right_aligns_numbers():
    assert (
        text(pa.table({"a|b": ["x|y\nz"], "n": [1]}), "markdown")
        == "| a\\|b | n |\n| --- | --: |\n| x\\|y\\nz | 1 |\n"
    )


def test_the_table_shows_types_and_is_aligned():
    assert text(ANSWER, "table").splitlines() == [
        "city       rides          price",
        "text      bigint  decimal(12,2)",
        "────────  ──────  ─────────────",
        "Stanford       1          20.40",
        "null           2           null",
        'a "b", c    null           5.00',
    ]


def test_the_table_is_truncated_to_the_terminal():
    wide = pa.table({"n": [1], "text": ["x" * 200]})
    assert max(map(len, text(wide, "table", width=40).splitlines())) == 40
    assert "…" in text(wide, "table", width=40)
    assert "x" * 200 in text(wide, "table")


def test_the_table_escapes_control_characters():
    assert "\x1b" not in text(pa.table({"a\x1b": ["\x1b[2J\n"]}), "table")


def test_wide_characters_take_two_cells():
    lines = text(pa.table({"a": ["東京", "ab"], "b": ["x", "y"]}), "table").splitlines()
    assert lines[3:] == ["東京  x", "ab    y"]


@pytest.mark.parametrize("format_", FORMATS)
def test_timestamps_outside_the_range_of_python_are_shown(format_):
    far = pa.table({"t": pa.array([9_224_318_015_999_999, 10**18], pa.timestamp("us"))})
    assert "2262" in text(far, format_)


@pytest.mark.parametrize("rows", [1, 20_000])
@pytest.mark.parametrize("format_", FORMATS)
def test_a_year_of_more_than_16_bits_is_shown(format_: str, rows: int):
    year_294000 = 9_215_576_668_800_000_000  # microseconds
    times = pa.array([year_294000] * rows + [None], pa.timestamp("us", tz="UTC"))
    days = pa.array([2_145_042_905] * rows + [0], pa.int32()).cast(pa.date32())
    written = text(pa.table({"t": times, "d": days}), format_)
    assert "294000-01-01 00:00:00.000000Z" in written
    assert "5874897-12-31" in written
    assert "1970-01-01" in written
