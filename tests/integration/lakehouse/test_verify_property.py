"""Property test: the comparison reports equality if and only if the rows are equal, and lists differing keys.

The test does not copy the rows with ridelake: Postgres gets the values as parameters, and pyarrow writes the
file.
"""

import math
import struct
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import Connection, IsolationLevel
from psycopg.rows import TupleRow
from published_tables import columns_of

from lakehouse.table.columns import arrow_schema
from lakehouse.verify.compare import compare_table
from oltp.store import Store, transaction

TABLE = """
CREATE TABLE t (
    part smallint, word text, flag boolean, whole integer, big bigint, half real, full_ float8, words text,
    more varchar, raw bytea, id uuid, day date, at timestamptz, wall timestamp, price numeric(12, 3),
    share numeric(5, 5), PRIMARY KEY (part, word)
)
"""
INSERT = f"INSERT INTO t VALUES ({', '.join(['%b'] * 10)}, %b::text::uuid, {', '.join(['%b'] * 5)})"
KEY_WIDTH = 2

# Fixed values, so that rows are often similar, and random values.
TEXT = st.sampled_from(["", "a", "ab", "b", "NULL", "é", "\n"]) | st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8
)
MOMENT = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999))


def float_of(width: int) -> st.SearchStrategy[float]:
    """Floats with one NaN only, because Python does not preserve the bits of others."""
    return st.floats(width=width).map(lambda number: math.nan if math.isnan(number) else number)


def decimal_of(digits: int, scale: int) -> st.SearchStrategy[Decimal]:
    limit = 10**digits - 1
    return st.integers(-limit, limit).map(lambda unscaled: Decimal(unscaled).scaleb(-scale))


VALUES: list[st.SearchStrategy[Any]] = [
    st.booleans(),
    st.integers(-(2**31), 2**31 - 1) | st.integers(0, 2),
    st.integers(-(2**63), 2**63 - 1) | st.integers(0, 2),
    float_of(32),
    float_of(64),
    TEXT,
    TEXT,
    st.binary(max_size=4),
    st.uuids().map(str),
    st.dates(),
    MOMENT.map(lambda moment: moment.replace(tzinfo=UTC)),
    MOMENT,
    decimal_of(12, 3),
    decimal_of(5, 5),
]
KEY = st.tuples(st.integers(-2, 2), st.sampled_from(["", "a", "ab"]))
ROW = st.tuples(*(st.none() | value for value in VALUES))
Row = tuple[Any, ...]


@st.composite
def both_sides(draw: st.DrawFn) -> tuple[list[Row], list[Row]]:
    """Rows of Postgres with unique keys, and rows of the lake. Some are missing, changed or added."""
    rows = [key + draw(ROW) for key in draw(st.lists(KEY, unique=True, max_size=6))]
    lake = []
    for row in rows:
        match draw(st.sampled_from(["same"] * 12 + ["left out", "doubled", "changed", "exchanged"])):
            case "same":
                lake.append(row)
            case "doubled":
                lake += [row, row]
            case "changed":
                at = draw(st.integers(0, len(VALUES) - 1))
                value = draw(st.none() | VALUES[at])
                lake.append((*row[: KEY_WIDTH + at], value, *row[KEY_WIDTH + at + 1 :]))
            case "exchanged":  # two text columns are exchanged
                lake.append((*row[:7], row[8], row[7], *row[9:]))
    if draw(st.integers(0, 5)) == 0:
        lake.append(draw(KEY) + draw(ROW))
    return rows, draw(st.permutations(lake))


def bits(row: Row) -> Row:
    return tuple(struct.pack(">d", value) if isinstance(value, float) else value for value in row)


def different_keys(rows: list[Row], lake: list[Row]) -> set[Row]:
    by_key: dict[Row, list[Counter[Row]]] = defaultdict(lambda: [Counter(), Counter()])
    for side, all_rows in enumerate((rows, lake)):
        for row in all_rows:
            by_key[row[:KEY_WIDTH]][side][bits(row)] += 1
    return {key for key, (one, other) in by_key.items() if one != other}


@pytest.fixture
def emptied(store: Store) -> Iterator[Connection[TupleRow]]:
    with store.connect() as connection:
        connection.execute(TABLE)
        yield connection


@pytest.mark.parametrize("examples", [10, pytest.param(200, marks=pytest.mark.slow)])
def test_equal_if_and_only_if_equal(emptied: Connection[TupleRow], tmp_path: Path, examples: int):
    @settings(max_examples=examples, deadline=None)
    @given(sides=both_sides())
    def check(sides) -> None:
        assert_equal_if_and_only_if_equal(emptied, tmp_path, *sides)

    check()


def assert_equal_if_and_only_if_equal(
    emptied: Connection[TupleRow], tmp_path: Path, rows: list[Row], lake: list[Row]
) -> None:
    columns = columns_of(emptied, "t")
    names = [column.name for column in columns]
    written = pa.Table.from_pylist(
        [dict(zip(names, row, strict=True)) for row in lake], arrow_schema(columns)
    )
    pq.write_table(written, tmp_path / "t.parquet")
    with transaction(emptied, IsolationLevel.REPEATABLE_READ):
        with emptied.cursor() as cursor:
            cursor.executemany(INSERT, rows)
        found = compare_table(emptied, "ridelake", "t", columns, [tmp_path / "t.parquet"])
        raise psycopg.Rollback
    expected = different_keys(rows, lake)
    assert found.equal == (not expected)
    assert {difference.key for difference in found.differences} == {(str(p), word) for p, word in expected}
    assert (found.rows, found.rows_in_lake, found.rows_different) == (len(rows), len(lake), len(expected))
    kinds = {difference.kind for difference in found.differences}
    assert ("more than once in the lake" in kinds) == any(
        n > 1 and key in {row[:KEY_WIDTH] for row in rows}
        for key, n in Counter(row[:KEY_WIDTH] for row in lake).items()
    )


def test_dates_are_equal_in_python_and_both_engines(emptied: Connection[TupleRow], tmp_path: Path):
    """Every 29 February and 1 March in the first and the last century."""
    days = [
        date(year, 2 + (day == 1), day)
        for year in (*range(4, 100, 4), *range(9904, 9999, 4))
        for day in (29, 1)
    ]
    emptied.execute("CREATE TABLE d (day date PRIMARY KEY)")
    with emptied.cursor() as cursor:
        cursor.executemany("INSERT INTO d VALUES (%s)", [(day,) for day in days])
    pq.write_table(pa.table({"day": days}), tmp_path / "d.parquet")
    with transaction(emptied, IsolationLevel.REPEATABLE_READ, read_only=True):
        assert compare_table(
            emptied, "ridelake", "d", columns_of(emptied, "d"), [tmp_path / "d.parquet"]
        ).equal
