"""Convert the values of a column to Python objects and to text."""

import json
from decimal import Decimal
from typing import Any

import pyarrow as pa


def values(column: pa.ChunkedArray) -> list[Any]:
    """Python objects; a map becomes a dict, and a time that Python cannot represent becomes text."""
    try:
        found: list[Any] = column.to_pylist()
    except (ValueError, OverflowError):  # nanoseconds, or a year outside the range of Python's datetime
        found = column.cast(_with_text_times(column.type)).to_pylist()
    return [_with_dicts(value, column.type) for value in found] if _is_nested(column.type) else found


def _is_nested(type_: pa.DataType) -> bool:
    return bool(pa.types.is_nested(type_))


def _with_text_times(type_: pa.DataType) -> pa.DataType:
    """The type with each temporal type in it replaced by text."""
    if pa.types.is_map(type_):
        return pa.map_(_with_text_times(type_.key_type), _with_text_times(type_.item_type))
    if pa.types.is_struct(type_):
        return pa.struct([field.with_type(_with_text_times(field.type)) for field in type_])
    if _is_nested(type_):
        return pa.list_(_with_text_times(type_.value_type))
    return pa.string() if pa.types.is_temporal(type_) else type_


def _with_dicts(value: Any, type_: pa.DataType) -> Any:
    """Arrow returns a map as a list of pairs; convert it to a dict, at any depth."""
    if value is None or not _is_nested(type_):
        return value
    if pa.types.is_map(type_):
        return {plain(key): _with_dicts(inner, type_.item_type) for key, inner in value}
    if pa.types.is_struct(type_):
        return {field.name: _with_dicts(value[field.name], field.type) for field in type_}
    return [_with_dicts(inner, type_.value_type) for inner in value] if isinstance(value, list) else value


def plain(value: Any) -> str:
    """A value as text."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | list):
        return _nested(value)
    return value.hex() if isinstance(value, bytes) else str(value)


def _nested(value: Any) -> str:
    """A list, struct or map as JSON text, with all digits of its decimals."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_nested(name)}: {_nested(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_nested, value))}]"
    is_unquoted = value is None or isinstance(value, bool | int | float | Decimal)
    return plain(value) if is_unquoted else json.dumps(plain(value), ensure_ascii=False)
