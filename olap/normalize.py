"""Normalize values, so that equal values of different engines and types compare equal."""

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa

NS_PER_US = 1_000
NS_PER_DAY = 86_400 * 1_000_000_000
_NS_PER_UNIT = {"s": 1_000_000_000, "ms": 1_000_000, "us": NS_PER_US, "ns": 1}
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class UtcTimestamp:
    """A point in time in UTC, as nanoseconds since 1970. An integer covers the whole range of Postgres."""

    ns: int

    def __str__(self) -> str:
        try:
            return (_EPOCH + dt.timedelta(microseconds=self.ns // NS_PER_US)).isoformat(" ")
        except OverflowError:
            return f"{self.ns} ns since 1970"


@dataclass(frozen=True, slots=True)
class IntervalValue:
    """An interval. Months are separate because their length varies; a day has 24 hours, as in Postgres."""

    months: int
    ns: int

    def __str__(self) -> str:
        return (
            f"{self.months} months {self.ns / 1_000_000_000:g} s" if self.months else f"{self.ns / 1e9:g} s"
        )


NormalizedValue = (
    None
    | bool
    | int
    | Decimal
    | float
    | str
    | bytes
    | dt.time
    | UtcTimestamp
    | IntervalValue
    | tuple["NormalizedValue", ...]
)


def type_kind(type_: pa.DataType) -> str:
    """The kind of value of a type. Columns of different kinds are never equal, unless one is all null."""
    is_ = pa.types
    if is_.is_dictionary(type_):
        return type_kind(type_.value_type)
    tests = (
        ("null", is_.is_null),
        ("boolean", is_.is_boolean),
        ("number", lambda t: is_.is_integer(t) or is_.is_floating(t) or is_.is_decimal(t)),
        ("text", lambda t: _is_text(t) or t.equals(pa.uuid())),
        ("timestamp", lambda t: is_.is_timestamp(t) or is_.is_date(t)),
        ("time of day", is_.is_time),
        ("interval", lambda t: is_.is_duration(t) or is_.is_interval(t)),
        ("bytes", _is_bytes),
        ("list", lambda t: is_.is_nested(t) and not is_.is_struct(t)),
        ("struct", is_.is_struct),
    )
    return next((name for name, test in tests if test(type_)), str(type_))


def holds_doubles(type_: pa.DataType) -> bool:
    """Whether values of this type contain doubles, which are compared with a tolerance."""
    if pa.types.is_dictionary(type_):
        return holds_doubles(type_.value_type)
    if pa.types.is_nested(type_):
        return any(holds_doubles(type_.field(index).type) for index in range(type_.num_fields))
    return bool(pa.types.is_floating(type_))


def widen_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column cast to the widest type of its kind, so that Arrow can compare equal columns of two engines
    without a loop over the values. Unchanged if a value does not fit."""
    target = _widest(column.type)
    if target is None or target == column.type:
        return column
    try:
        return column.cast(target)
    except pa.ArrowInvalid:
        return column


def normalized_values(column: pa.ChunkedArray) -> list[NormalizedValue]:
    """The normalized values of a column."""
    column = widen_column(column)
    type_ = column.type
    if pa.types.is_timestamp(type_):  # as integers, because Python's datetime ends at year 9999
        factor = _NS_PER_UNIT[type_.unit]
        return [
            None if value is None else UtcTimestamp(value * factor)
            for value in column.cast(pa.int64()).to_pylist()
        ]
    values: list[Any] = column.to_pylist()
    if pa.types.is_nested(type_) or type_kind(type_) in ("text", "time of day", "interval", "timestamp"):
        return [_normalized(value) for value in values]
    return values


def _is_text(type_: pa.DataType) -> bool:
    is_ = pa.types
    return bool(is_.is_string(type_) or is_.is_large_string(type_) or is_.is_string_view(type_))


def _is_bytes(type_: pa.DataType) -> bool:
    is_ = pa.types
    return bool(
        is_.is_binary(type_)
        or is_.is_large_binary(type_)
        or is_.is_binary_view(type_)
        or is_.is_fixed_size_binary(type_)
    )


def _widest(type_: pa.DataType) -> pa.DataType | None:
    is_ = pa.types
    if is_.is_dictionary(type_):
        return _widest(type_.value_type) or type_.value_type
    if is_.is_integer(type_) or (is_.is_decimal(type_) and type_.scale == 0):
        return pa.int64()
    if is_.is_floating(type_):
        return pa.float64()
    if _is_text(type_):
        return pa.large_string()
    if _is_bytes(type_):
        return pa.large_binary()
    if is_.is_timestamp(type_) or is_.is_date(type_):
        return pa.timestamp("us")  # Arrow keeps the UTC value when the zone is dropped
    return None


def _normalized(value: Any) -> NormalizedValue:
    if isinstance(value, dt.datetime):
        zoned = value if value.tzinfo else value.replace(tzinfo=dt.UTC)
        return UtcTimestamp((zoned - _EPOCH) // dt.timedelta(microseconds=1) * NS_PER_US)
    if isinstance(value, dt.date):
        return UtcTimestamp((value - _EPOCH.date()).days * NS_PER_DAY)
    if isinstance(value, dt.timedelta):
        return IntervalValue(0, value // dt.timedelta(microseconds=1) * NS_PER_US)
    if isinstance(value, pa.MonthDayNano):
        return IntervalValue(value.months, value.days * NS_PER_DAY + value.nanoseconds)
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, dict):
        return tuple(_normalized(inner) for inner in value.values())
    if isinstance(value, list | tuple):
        return tuple(_normalized(inner) for inner in value)
    cell: NormalizedValue = value
    return cell
