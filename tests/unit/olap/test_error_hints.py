"""An SQL error keeps the message of the engine, and adds the position and a hint."""

import pyarrow as pa
import pytest

from olap.error_hints import error_hint, error_position, error_sentence

RELATIONS = {
    "rides": pa.schema({"ride_id": pa.int64(), "fare_cents": pa.int64()}),
    "RideTable": pa.schema({"Price": pa.int64(), "City": pa.string()}),
}


@pytest.mark.parametrize(
    ("message", "query", "expected"),
    [
        (
            'postgres: column "fare_cent" does not exist',
            "SELECT fare_cent FROM rides",
            "did you mean fare_cents?",
        ),
        ('postgres: relation "rids" does not exist', "SELECT 1 FROM rids", "did you mean rides?"),
        ("polars: relation 'RIDETABEL' was not found", "SELECT 1 FROM RideTabel", "did you mean RideTable?"),
        ("x: No field named prise.", "SELECT prise FROM RideTable", "did you mean Price?"),
        ("x: table name rides.fare_cent not found", "SELECT rides.fare_cent", "did you mean fare_cents?"),
        (
            'postgres: column "Stanford" does not exist',
            'SELECT 1 FROM cities WHERE name = "Stanford"',
            "write text in single quotes: 'Stanford'",
        ),
        (
            'postgres: relation "bookings" does not exist',
            "SELECT 1 FROM bookings",
            r"\d in the shell (`ridelake sql`) lists the tables, \d TABLE its columns",
        ),
        ('duckdb: Table "rids" not found! Did you mean "rides"?', "SELECT 1 FROM rids", None),
        ('postgres: column "fare_cents" must appear in GROUP BY', "SELECT fare_cents", None),
        ("postgres: division by zero", "SELECT 1 / 0", None),
        ('x: column "elsewhere" does not exist', "SELECT 1", None),
    ],
)
def test_one_hint_if_the_engine_gives_none(message: str, query: str, expected: str | None):
    assert error_hint(message, query, lambda: RELATIONS) == expected


def test_the_caret_is_that_of_the_engine_or_drawn_at_the_position():
    postgres = 'postgres: syntax error at or near "FORM"\nLINE 1: SELECT 1 FORM x\n                 ^'
    assert error_sentence(postgres) == 'postgres: syntax error at or near "FORM"'
    assert error_position(postgres, "SELECT 1 FORM x") == "LINE 1: SELECT 1 FORM x\n                 ^"
    polars = "polars: sql parser error: Expected: x, found: FORM at Line: 2, Column: 3"
    assert error_position(polars, "SELECT\n  FORM") == "LINE 2:   FORM\n          ^"
    assert error_position(polars, "SELECT") == ""  # the position is outside the query
    assert error_position("polars: no", "SELECT") == ""
