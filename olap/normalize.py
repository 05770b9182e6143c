"""Normalize values, so that equal values of different engines and types compare equal."""

import datetime as dt
from collections.abc import Callable
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
        return f"{f'{self.months} months ' if self.months else ''}{self.ns / 1e9:g} s"


Scalar = None | bool | int | Decimal | float | str | bytes | dt.time | UtcTimestamp | IntervalValue
NormalizedValue = Scalar | tuple["NormalizedValue", ...]


_is = pa.types

# (kind, test, the widest type of the kind that Arrow can cast to). The first test that succeeds counts.
_KINDS: tuple[tuple[str, Callable[[pa.DataType], bool], pa.DataType | None], ...] = (
    ("null", _is.is_null, None),
    ("boolean", _is.is_boolean, None),
    ("number", lambda t: _is.is_integer(t) or (_is.is_decimal(t) and t.scale == 0), pa.int64()),
    ("number", _is.is_decimal, None),
    ("number", _is.is_floating, pa.float64()),
    ("text", lambda t: t in (pa.string(), pa.large_string(), pa.string_view()), pa.large_string()),
    ("text", lambda t: t.equals(pa.uuid()), None),
    # Arrow keeps the UTC value when the zone is dropped.
    ("timestamp", lambda t: _is.is_timestamp(t) or _is.is_date(t), pa.timestamp("us")),
    ("time of day", _is.is_time, None),
    ("interval", lambda t: _is.is_duration(t) or _is.is_interval(t), None),
    ("bytes", lambda t: t in (pa.binary(), pa.large_binary(), pa.binary_view()), pa.large_binary()),
    ("bytes", _is.is_fixed_size_binary, pa.large_binary()),
    ("struct", _is.is_struct, None),
    ("list", _is.is_nested, None),
)


def _kind_and_widest(type_: pa.DataType) -> tuple[str, pa.DataType | None]:
    if _is.is_dictionary(type_):
        kind, widest = _kind_and_widest(type_.value_type)
        return kind, widest or type_.value_type
    return next(((kind, widest) for kind, test, widest in _KINDS if test(type_)), (str(type_), None))


def type_kind(type_: pa.DataType) -> str:
    """The kind of value of a type. Columns of different kinds are never equal, unless one is all null."""
    return _kind_and_widest(type_)[0]


def holds_doubles(type_: pa.DataType) -> bool:
    """Whether values of this type contain doubles, which are compared with a tolerance."""
    if _is.is_dictionary(type_):
        return holds_doubles(type_.value_type)
    if _is.is_nested(type_):
        return any(holds_doubles(type_.field(index).type) for index in range(type_.num_fields))
    return bool(_is.is_floating(type_))


def widen_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column cast to the widest type of its kind, so that Arrow can compare equal columns of two engines
    without a loop over the values. Unchanged if a value does not fit."""
    _, target = _kind_and_widest(column.type)
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
    if _is.is_timestamp(type_):  # as integers, because Python's datetime ends at year 9999
        factor = _NS_PER_UNIT[type_.unit]
        return [
            None if value is None else UtcTimestamp(value * factor)
            for value in column.cast(pa.int64()).to_pylist()
        ]
    values: list[Any] = column.to_pylist()
    if _is.is_nested(type_) or type_kind(type_) in ("text", "time of day", "interval", "timestamp"):
        return [_normalized(value) for value in values]
    return values


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
