"""Answers are equal if their values are equal, even if their types differ."""

import datetime as dt
import math
from decimal import Decimal
from uuid import UUID

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from olap.answer import checksum, difference


def table(*columns: pa.Array) -> pa.Table:
    return pa.table(list(columns), names=[f"c{index}" for index in range(len(columns))])


def of(values, type_) -> pa.Table:
    return table(pa.array(values, type_))


UTC = dt.UTC
NOON = dt.datetime(2024, 7, 1, 12, tzinfo=UTC)
MIDNIGHT = dt.datetime(2024, 7, 1)
LARGE, LARGER = Decimal(10**30), Decimal(10**30 + 1)


def doubles(*values: float | None) -> pa.Table:
    return of(values, pa.float64())


def timestamp(value: dt.datetime, unit: str = "us", zone: str | None = None) -> pa.Table:
    return of([value], pa.timestamp(unit, zone))


EQUAL = {
    "a sum as numeric, HUGEINT and bigint": (of([45], pa.decimal128(38, 0)), of([45], pa.int64())),
    "a decimal of another scale": (
        of([Decimal("20.40")], pa.decimal128(12, 2)),
        of([Decimal("20.4")], pa.decimal128(38, 1)),
    ),
    "a decimal beyond 64 bits": (of([LARGE], pa.decimal128(38, 0)), of([LARGE], pa.decimal256(60, 0))),
    "a whole decimal and an integer": (of([Decimal("5.00")], pa.decimal128(12, 2)), of([5], pa.int16())),
    "an integer and a double": (of([5], pa.int64()), doubles(5.0)),
    "an average as numeric and as double": (
        of([Decimal("20.4166666666666667")], pa.decimal128(38, 16)),
        doubles(245 / 12),
    ),
    "doubles added in another order": (doubles(0.1 + 0.2 + 0.3), doubles(0.3 + 0.2 + 0.1)),
    "NaN and NaN": (doubles(math.nan), doubles(math.nan)),
    "infinity": (doubles(math.inf), doubles(math.inf)),
    "zero and minus zero": (doubles(0.0), doubles(-0.0)),
    "a dictionary and plain text": (
        of(["x", None], pa.large_string()),
        table(pa.array(["x", None]).dictionary_encode()),
    ),
    "a view of text": (of(["x"], pa.string_view()), of(["x"], pa.string())),
    "a column without a type": (of([None, None], pa.null()), of([None, None], pa.int64())),
    "nulls of two types": (of([None], pa.string()), of([None], pa.int64())),
    "a timestamp with and without time zone": (
        timestamp(NOON, "us", "UTC"),
        timestamp(NOON.replace(tzinfo=None)),
    ),
    "a timestamp in the zone of New York": (
        timestamp(NOON, "us", "America/New_York"),
        timestamp(NOON, "ms", "UTC"),
    ),
    "nanoseconds that are microseconds": (timestamp(NOON, "ns", "UTC"), timestamp(NOON, "us", "UTC")),
    "a date and its midnight": (of([dt.date(2024, 7, 1)], pa.date32()), timestamp(MIDNIGHT)),
    "a duration and an interval": (
        of([dt.timedelta(days=1, hours=2)], pa.duration("us")),
        of([pa.MonthDayNano([0, 1, 7_200_000_000_000])], pa.month_day_nano_interval()),
    ),
    "a uuid as text": (of([UUID(int=7)], pa.uuid()), of([str(UUID(int=7))], pa.string())),
    "lists": (of([[1, None]], pa.list_(pa.int32())), of([[1.0, None]], pa.large_list(pa.float64()))),
    "names of columns": (pa.table({"avg": [1]}), pa.table({'avg("Price")': [1]})),
    "no rows": (of([], pa.int64()), of([], pa.string())),
    "chunks": (pa.concat_tables([of([1], pa.int64()), of([2], pa.int64())]), of([1, 2], pa.int64())),
}  # fmt: skip

UNEQUAL = {
    "a cent": (of([2040], pa.int64()), of([2041], pa.int64())),
    "a cent of a large sum": (of([LARGE], pa.decimal128(38, 0)), of([LARGER], pa.decimal128(38, 0))),
    "a double off by more than rounding": (doubles(1.0), doubles(1.0 + 1e-8)),
    "null and zero": (of([None, 1], pa.int64()), of([0, 1], pa.int64())),
    "null and NaN": (doubles(None, 1.0), doubles(math.nan, 1.0)),
    "null and empty text": (of([None, "x"], pa.string()), of(["", "x"], pa.string())),
    "a number and its text": (of([5], pa.int64()), of(["5"], pa.string())),
    "a boolean and one": (of([True], pa.bool_()), of([1], pa.int64())),
    "a timestamp and its integer": (timestamp(NOON, "us"), doubles(NOON.timestamp() * 1e6)),
    "a timestamp in a wrong time zone": (
        timestamp(NOON, "us", "UTC"),
        timestamp(NOON + dt.timedelta(hours=7), "us", "UTC"),
    ),
    "a nanosecond": (of([1_000], pa.timestamp("ns")), of([1_001], pa.timestamp("ns"))),
    "text of another case": (of(["Stanford"], pa.string()), of(["stanford"], pa.string())),
    "a trailing space": (of(["a"], pa.string()), of(["a "], pa.string())),
    "infinity and its opposite": (doubles(math.inf), doubles(-math.inf)),
    "a missing row": (of([1, 2], pa.int64()), of([1], pa.int64())),
    "an additional column": (pa.table({"a": [1]}), pa.table({"a": [1], "b": [2]})),
    "a longer list": (of([[1]], pa.list_(pa.int32())), of([[1, 2]], pa.list_(pa.int32()))),
    "a month and thirty days": (
        of([pa.MonthDayNano([1, 0, 0])], pa.month_day_nano_interval()),
        of([pa.MonthDayNano([0, 30, 0])], pa.month_day_nano_interval()),
    ),
}  # fmt: skip


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("case", EQUAL)
def test_equal_values_of_different_types_are_equal_and_share_a_checksum(case, ordered):
    left, right = EQUAL[case]
    assert difference(left, right, ordered=ordered) is None
    assert difference(right, left, ordered=ordered) is None
    assert checksum(left, ordered=ordered) == checksum(right, ordered=ordered)


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("case", UNEQUAL)
def test_different_values_are_reported_in_both_directions(case, ordered):
    left, right = UNEQUAL[case]
    for pair in ((left, right), (right, left)):
        message = difference(*pair, ordered=ordered)
        assert message is not None
        assert "\n" not in message


def test_the_first_differing_row_and_column_are_named_with_both_values():
    left = pa.table({"city": ["a", "b", "c"], "cents": [1, 2, 3], "share": [0.1, 0.2, 0.3]})
    right = pa.table({"city": ["a", "b", "x"], "cents": [1, 9, 3], "share": [0.1, 0.5, 0.3]})
    message = difference(left, right, names=("postgres", "duckdb"))
    assert message == "row 2, column 2 (cents): 2 in postgres, 9 in duckdb"


def test_an_order_by_with_ties_is_reported():
    left, right = pa.table({"n": [1, 1], "m": [1, 2]}), pa.table({"n": [1, 1], "m": [2, 1]})
    assert "same rows are in a different order" in difference(left, right)
    assert difference(left, right, ordered=False) is None


def test_without_order_by_each_row_pairs_once():
    left, right = pa.table({"n": [1, 1, 2]}), pa.table({"n": [1, 2, 2]})
    assert "row 2 of the first is not in the second" in difference(left, right, ordered=False)


def test_without_order_by_nearly_equal_doubles_are_paired():
    left = pa.table({"x": [1.0, 1.0 + 1e-12, 2.0], "y": [2.0, 1.0, math.nan]})
    right = pa.table({"x": [2.0, 1.0 + 1e-12, 1.0], "y": [math.nan, 2.0, 1.0]})
    assert difference(left, right, ordered=False) is None


# ── Random values: other types are equal, other values are not ────────────────────────────────────

_WHOLE = st.lists(st.none() | st.integers(-(2**31), 2**31 - 1), max_size=20)
_DOUBLE = st.lists(st.none() | st.floats(allow_subnormal=False), max_size=20)
_TEXT = st.lists(st.none() | st.text(max_size=8), max_size=20)
_MOMENT = st.lists(st.none() | st.datetimes(), max_size=20)
_WHOLE_TYPES = st.sampled_from(
    [pa.int32(), pa.int64(), pa.decimal128(20, 0), pa.decimal128(38, 4), pa.float64()]
)
_TEXT_TYPES = st.sampled_from(
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
)
_MOMENT_TYPES = st.sampled_from(
    [pa.timestamp("us"), pa.timestamp("us", "UTC"), pa.timestamp("us", "Asia/Tokyo")]
)


@settings(deadline=None)
@given(st.data())
def test_a_table_equals_itself_in_other_types(data):
    left, right = [], []
    for values, types in ((_WHOLE, _WHOLE_TYPES), (_TEXT, _TEXT_TYPES), (_MOMENT, _MOMENT_TYPES)):
        drawn = (data.draw(values) + [None] * 20)[:20]
        left.append(pa.array(drawn, data.draw(types)))
        right.append(pa.array(drawn, data.draw(types)))
    for ordered in (True, False):
        assert difference(table(*left), table(*right), ordered=ordered) is None
        assert checksum(table(*left), ordered=ordered) == checksum(table(*right), ordered=ordered)


@settings(deadline=None)
@given(_DOUBLE, _TEXT, st.randoms())
def test_a_shuffled_table_is_the_same_multiset_and_has_the_same_checksum(doubles, texts, random):
    rows = list(zip(doubles, texts, strict=False))
    shuffled = random.sample(rows, len(rows))
    left, right = (
        table(pa.array([x for x, _ in drawn], pa.float64()), pa.array([t for _, t in drawn], pa.string()))
        for drawn in (rows, shuffled)
    )
    assert difference(left, right, ordered=False) is None
    assert checksum(left, ordered=False) == checksum(right, ordered=False)


@settings(deadline=None)
@given(st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=20), st.data())
def test_doubles_may_differ_in_their_last_digits(drawn, data):
    changed_doubles = [
        math.nextafter(value, data.draw(st.sampled_from([math.inf, -math.inf]))) if value else value
        for value in drawn
    ]
    changed_doubles = [w if abs(v) > 1e-300 else v for v, w in zip(drawn, changed_doubles, strict=True)]
    for ordered in (True, False):
        assert difference(doubles(*drawn), doubles(*changed_doubles), ordered=ordered) is None


@settings(deadline=None)
@given(st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=20), st.data())
def test_one_changed_number_is_reported_with_its_row(numbers, data):
    place = data.draw(st.integers(0, len(numbers) - 1))
    changed = [*numbers[:place], numbers[place] + 1, *numbers[place + 1 :]]
    message = difference(of(numbers, pa.int64()), of(changed, pa.decimal128(38, 0)))
    assert message is not None
    assert (
        f"row {place + 1}, column 1 (c0): {numbers[place]} in the first, {numbers[place] + 1} in" in message
        or "order" in message
    )
    assert difference(of(numbers, pa.int64()), of(changed, pa.decimal128(38, 0)), ordered=False) is not None


def test_a_different_position_of_nulls_is_reported():
    left, right = pa.table({"n": [None, 1]}), pa.table({"n": [1, None]})
    assert "NULLS FIRST or NULLS LAST" in difference(left, right)
