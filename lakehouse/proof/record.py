"""Decode the bytes of a row into text, to show the differing values."""

import struct
from collections.abc import Sequence
from datetime import date, datetime, timedelta

from lakehouse.columns import Column
from lakehouse.proof.forms import NO_TIME

MICROSECONDS = timedelta(microseconds=1)


def values_of(record: bytes) -> list[bytes | None]:
    """The bytes of each value of a record; None for NULL."""
    (count,) = struct.unpack_from(">i", record)
    values: list[bytes | None] = []
    at = 4
    for _ in range(count):
        (size,) = struct.unpack_from(">i", record, at + 4)  # after the type
        at += 8
        values.append(None if size < 0 else record[at : at + size])
        at += max(size, 0)
    return values


def key_shown(columns: Sequence[Column], record: bytes) -> tuple[str, ...]:
    """The key's values as text; strings without quotes, so that they can be searched for."""
    return tuple(
        _text(value) if value is not None and _is_text(column) else shown(column, value)
        for column, value in zip(columns, values_of(record), strict=True)
    )


def shown(column: Column, value: bytes | None) -> str:
    """A value as text. Different values have different texts: strings are quoted, floats have their bits."""
    if value is None:
        return "NULL"
    match column.pg_type:
        case _ if _is_text(column):
            return repr(_text(value))
        case "bool":
            return str(value != b"\x00").lower()
        case "int2" | "int4" | "int8":
            return str(int.from_bytes(value, "big", signed=True))
        case "float4" | "float8":
            (number,) = struct.unpack(">f" if len(value) == 4 else ">d", value)
            return f"{number!r} (0x{value.hex()})"
        case "bytea":
            return f"\\x{value.hex()}"
        case "date" | "timestamp" | "timestamptz":
            return _time(column, value)
        case _:  # uuid, numeric
            return _text(value)


def _is_text(column: Column) -> bool:
    return column.is_enum or column.pg_type in ("text", "varchar", "bpchar", "name")


def _text(value: bytes) -> str:
    return value.decode(errors="backslashreplace")


def _time(column: Column, value: bytes) -> str:
    if value == NO_TIME:
        return "a time that Postgres cannot store"
    since_2000 = int.from_bytes(value, "big", signed=True)
    limit = 1 << (8 * len(value) - 1)
    if since_2000 in (limit - 1, -limit):
        return "infinity" if since_2000 > 0 else "-infinity"
    try:
        if column.pg_type == "date":
            return (date(2000, 1, 1) + timedelta(days=since_2000)).isoformat()
        wall = (datetime(2000, 1, 1) + since_2000 * MICROSECONDS).isoformat(" ", "microseconds")
        return f"{wall}+00" if column.pg_type == "timestamptz" else wall
    except OverflowError:  # before year 1, or after 9999
        return f"{since_2000} {'days' if column.pg_type == 'date' else 'µs'} since 2000"
