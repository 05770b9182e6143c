"""Decode a small number of rows of COPY BINARY, value by value.

This is 40 times slower than the compiled loop, but does not need 0.3 s for its import. Arrays and composites
of large tables are also decoded here:

    array       int32 dimensions │ int32 flags │ int32 type │ int32 size, int32 lower bound
                │ int32 length, bytes │ int32 length, bytes │ …
    composite   int32 columns │ int32 type, int32 length, bytes │ int32 type, int32 length, bytes │ …
"""

from collections.abc import Callable, Sequence
from decimal import Context, Decimal
from itertools import accumulate, chain
from struct import Struct, error
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.source.copy.memory import FIXED, TEXTS
from lakehouse.table.columns import SourceColumn, UnsupportedValue, arrow_schema
from ridelake.errors import RidelakeError

INT2, INT4, SIZE_AND_BOUND = Struct(">h"), Struct(">i"), Struct(">ii")
NUMERIC_HEAD = Struct(">hhHh")  # digits, the power of the first, sign, scale
NEGATIVE, NAN, INFINITIES = 0x4000, 0xC000, (0xD000, 0xF000)
DAY_US = 86_400_000_000
TOO_MANY_DIGITS = "more digits than its type has"
EXACT = Context(prec=1_000)  # more digits than a numeric(38, s) has
NUMBERS = {
    "bool": Struct(">?"), "int2": INT2, "int4": INT4, "int8": Struct(">q"), "float4": Struct(">f"),
    "float8": Struct(">d"), "date": INT4, "time": Struct(">q"), "timestamp": Struct(">q"),
    "timestamptz": Struct(">q"),
}  # fmt: skip


def torn() -> RidelakeError:
    return RidelakeError(
        "COPY sent rows that are longer or shorter than their columns: run the command again"
    )


def wrong_columns() -> RidelakeError:
    return RidelakeError("COPY sent rows with another number of columns: run the command again")


def wrong_width(column: SourceColumn) -> RidelakeError:
    return RidelakeError(f"COPY sent column {column.name} with another width than {column.pg_type} has")


def decode_values(rows: Sequence[bytes], columns: Sequence[SourceColumn]) -> pa.Table:
    """The rows as a table. Raises UnsupportedValue, or RidelakeError for a row that is not one of the
    table."""
    found: list[list[bytes | None]] = [[] for _ in columns]
    for row in rows:
        if INT2.unpack_from(row.ljust(2, b"\0"))[0] != len(columns):
            raise wrong_columns()
        at = 2
        try:
            for values in found:
                (size,) = INT4.unpack_from(row, at)
                at += 4
                if not -1 <= size <= len(row) - at:
                    raise torn()
                values.append(row[at : at + size] if size >= 0 else None)
                at += max(size, 0)
        except error:
            raise torn() from None
        if at != len(row):
            raise torn()
    arrays = [decode_array(column, values) for column, values in zip(columns, found, strict=True)]
    return pa.Table.from_arrays(arrays, schema=arrow_schema(columns))


def from_binary(column: SourceColumn, values: pa.Array) -> pa.Array:
    """Values of a type that has no fixed width, in the column's type. Checks that text is UTF-8."""
    return _nested(column, values.to_pylist()) if column.parts else values.cast(column.arrow_type)


def check_digits(column: SourceColumn, decimals: pa.Array) -> None:
    """Raises UnsupportedValue for a number of more digits than the column's type has."""
    try:
        decimals.validate(full=True)
    except pa.ArrowInvalid:
        raise _too_many_digits(column) from None


def check_time_of_day(column: SourceColumn, times: pa.Array) -> None:
    """Raises UnsupportedValue for 24:00, which Postgres has in addition to 00:00."""
    if (latest := pc.max(times.view(pa.int64())).as_py()) is not None and latest >= DAY_US:
        raise UnsupportedValue(column.name, "24:00:00")


def _nested(column: SourceColumn, values: Sequence[bytes | None]) -> pa.Array:
    """Arrays as lists, or composites as structs."""
    is_null = pa.array([value is None for value in values], pa.bool_())
    try:
        if pa.types.is_list(column.arrow_type):
            lists = [[] if value is None else _elements(value) for value in values]
            offsets = pa.array(accumulate(map(len, lists), initial=0), pa.int32())
            elements = decode_array(column.parts[0], list(chain.from_iterable(lists)))
            return pa.ListArray.from_arrays(offsets, elements, column.arrow_type, mask=is_null)
        nulls = (None,) * len(column.parts)
        rows = [nulls if value is None else _attributes(value, len(nulls)) for value in values]
        parts = [decode_array(part, [row[place] for row in rows]) for place, part in enumerate(column.parts)]
        return pa.StructArray.from_arrays(parts, fields=list(column.arrow_type), mask=is_null)
    except UnsupportedValue as unsupported:  # in an element or an attribute
        raise UnsupportedValue(column.name, unsupported.what) from unsupported
    except error:
        raise torn() from None


def _elements(value: bytes) -> list[bytes | None]:
    (dimensions,) = INT4.unpack_from(value)
    if dimensions == 0:
        return []
    if dimensions > 1:
        raise UnsupportedValue("", f"an array of {dimensions} dimensions")
    size, lower_bound = SIZE_AND_BOUND.unpack_from(value, 12)
    if lower_bound != 1:
        raise UnsupportedValue("", f"an array that begins at {lower_bound}")
    return _fields(value, 20, size, 0)


def _attributes(value: bytes, count: int) -> list[bytes | None]:
    if INT4.unpack_from(value)[0] != count:
        raise wrong_columns()
    return _fields(value, 4, count, 4)


def _fields(value: bytes, at: int, count: int, skipped: int) -> list[bytes | None]:
    """The bytes of each field from `at` on, which has a length after the `skipped` bytes."""
    found: list[bytes | None] = []
    for _ in range(count):
        at += skipped
        (size,) = INT4.unpack_from(value, at)
        at += 4
        if not -1 <= size <= len(value) - at:
            raise torn()
        found.append(value[at : at + size] if size >= 0 else None)
        at += max(size, 0)
    if at != len(value):
        raise torn()
    return found


def decode_array(column: SourceColumn, values: Sequence[bytes | None]) -> pa.Array:
    """The values in the column's type. Raises UnsupportedValue, or RidelakeError for bytes that are not a
    value of it."""
    _, width, shift = FIXED.get(column.pg_type, TEXTS)
    if width >= 0 and any(value is not None and len(value) != width for value in values):
        raise wrong_width(column)
    if column.pg_type not in FIXED:
        return from_binary(column, pa.array(values, pa.binary()))
    if column.pg_type == "uuid":
        return pa.array(_each(values, _uuid), pa.string())
    if column.pg_type == "numeric":
        return pa.array(_each(values, lambda value: _numeric(column, value)), column.arrow_type)
    unpack = NUMBERS[column.pg_type].unpack
    if column.pg_type == "time":
        times = pa.array(_each(values, lambda value: unpack(value)[0]), pa.int64()).view(column.arrow_type)
        check_time_of_day(column, times)
        return times
    if not shift:
        return pa.array(_each(values, lambda value: unpack(value)[0]), column.arrow_type)
    storage = pa.int32() if column.pg_type == "date" else pa.int64()
    since_1970 = _each(values, lambda value: _time(column, unpack(value)[0], shift, storage.bit_width))
    return pa.array(since_1970, storage).view(column.arrow_type)


def _each(values: Sequence[bytes | None], decode: Callable[[bytes], Any]) -> list[Any]:
    return [None if value is None else decode(value) for value in values]


def _uuid(value: bytes) -> str:
    digits = value.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _time(column: SourceColumn, since_2000: int, shift: int, bits: int) -> int:
    """Since 1970. The least number is -infinity; the greatest are outside of Arrow's range."""
    most = 2 ** (bits - 1) - 1
    if since_2000 in (-most - 1, most):
        raise UnsupportedValue(column.name, "infinity")
    if since_2000 > most - shift:
        raise UnsupportedValue(column.name, "a time outside of Arrow's range")
    return since_2000 + shift


def _numeric(column: SourceColumn, value: bytes) -> Decimal:
    """The digits are numbers of base 10,000."""
    if len(value) < NUMERIC_HEAD.size:
        raise torn()
    count, power, sign, _ = NUMERIC_HEAD.unpack_from(value)
    if sign == NAN or sign in INFINITIES:
        raise UnsupportedValue(column.name, "NaN" if sign == NAN else "infinity")
    if count < 0 or len(value) != NUMERIC_HEAD.size + 2 * count:
        raise torn()
    digits = [INT2.unpack_from(value, NUMERIC_HEAD.size + 2 * place)[0] for place in range(count)]
    whole = 0
    for digit in digits:
        if not 0 <= digit < 10_000:
            raise _too_many_digits(column)
        whole = whole * 10_000 + digit
    # The last digit's place in base 10, then in units of the column's scale.
    shift = 4 * (power - count + 1) + column.arrow_type.scale if count else 0
    if abs(shift) > 400:
        raise _too_many_digits(column)
    scaled, rest = (whole * 10**shift, 0) if shift >= 0 else divmod(whole, 10**-shift)
    if rest or scaled >= 10**column.arrow_type.precision:
        raise _too_many_digits(column)
    return Decimal(-scaled if sign == NEGATIVE else scaled).scaleb(-column.arrow_type.scale, EXACT)


def _too_many_digits(column: SourceColumn) -> UnsupportedValue:
    return UnsupportedValue(column.name, TOO_MANY_DIGITS)
