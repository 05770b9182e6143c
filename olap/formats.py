"""An answer as text: an aligned table, CSV, JSON, JSON lines or Markdown."""

import json
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, TextIO

import pyarrow as pa

from olap.options import Expanded
from ridelake.text import cells, fitted, padded, wrapped


def values(column: pa.ChunkedArray) -> list[Any]:
    """Python objects; a map becomes a dict, and a time that Python cannot represent becomes text."""
    try:
        found: list[Any] = column.to_pylist()
    except (ValueError, OverflowError):  # nanoseconds, or a year outside the range of Python's datetime
        if _has_date(column.type):
            return _times_as_text(column)
        found = column.cast(_with_text_times(column.type)).to_pylist()
    return [_with_dicts(value, column.type) for value in found] if _is_nested(column.type) else found


def _has_date(type_: pa.DataType) -> bool:
    return bool(pa.types.is_date(type_) or pa.types.is_timestamp(type_))


def _times_as_text(column: pa.ChunkedArray) -> list[str | None]:
    """Dates or timestamps as text. Arrow's own text has 16 bits for the year, so 294000 would be 31856."""
    import numpy as np

    zone = "Z" if pa.types.is_timestamp(column.type) and column.type.tz is not None else ""
    times = column.to_numpy()
    texts = np.datetime_as_string(times)
    return [
        None if missing else text.replace("T", " ") + zone
        for text, missing in zip(texts.tolist(), np.isnat(times).tolist(), strict=True)
    ]


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


def table_lines(answer: "pa.Table", columns: int, expanded: Expanded = "auto") -> list[str]:
    """Lines for a terminal of that many columns. Text may be truncated and then ends in …; numbers and times
    are not truncated. `auto`: expand the rows if they are still too wide."""
    if expanded != "on":
        lines = list(aligned(answer, columns))
        if expanded == "off" or not answer.num_rows or max(map(cells, lines)) <= columns:
            return lines
    return list(_expanded(answer, columns))


def _expanded(answer: "pa.Table", columns: int) -> Iterator[str]:
    names = list(map(_printable, answer.schema.names))
    width = max(map(cells, names), default=0)
    for number, row in enumerate(text_rows(answer), 1):
        head = f"─[ row {number:,} ]"
        yield head + "─" * (min(columns, 60) - len(head))
        for name, text in zip(names, row, strict=True):
            first, *more = wrapped(text, max(columns - width - 2, 16)).split("\n")
            yield f"{name}{' ' * (width - cells(name))}  {first}".rstrip()
            yield from (" " * (width + 2) + line for line in more)


FORMATS = ("table", "csv", "json", "jsonl", "markdown")

COLUMN_WIDTH_MIN = 12  # a text column is not truncated below this width to fit the terminal
NEVER_TRUNCATED = ("bool", "date", "duration", "interval", "time")  # a truncated time would be a wrong time
YEARS_SECONDS = (-62_135_596_800, 253_402_300_800)  # from year 1 up to year 10000, since 1970
BATCH_ROWS = 10_000  # rows converted to Python objects at a time, to bound the memory

_TYPE_NAMES = {
    "int16": "smallint", "int32": "integer", "int64": "bigint", "float": "real", "double": "double",
    "bool": "boolean", "string": "text", "large_string": "text", "string_view": "text", "date32[day]": "date",
    "binary": "bytes", "large_binary": "bytes", "timestamp[us]": "timestamp", "null": "null",
}  # fmt: skip


def write(answer: pa.Table, format_: str, out: TextIO, *, width: int | None = None) -> None:
    """Write the answer in one of `FORMATS`. `width`: columns of the terminal, or None for no limit."""
    match format_:
        case "csv":
            _write_csv(answer, out)
        case "json":
            _write_json(answer, out)
        case "jsonl":
            out.writelines(f"{line}\n" for line in _json_rows(answer))
        case "markdown":
            out.writelines(f"{line}\n" for line in _markdown(answer))
        case _:
            out.writelines(f"{line}\n" for line in aligned(answer, width))


def aligned(answer: pa.Table, width: int | None = None) -> Iterator[str]:
    """Lines of a table: names, types, a rule, the rows."""
    types = answer.schema.types
    heads = [list(map(_printable, answer.schema.names)), list(map(type_name, types))]
    rows = list(text_rows(answer))
    widths = [max(map(cells, texts)) for texts in zip(*heads, *rows, strict=True)]
    if width is not None:
        whole = [_is_number(type_) or type_name(type_).startswith(NEVER_TRUNCATED) for type_ in types]
        minima = [w if kept else min(w, COLUMN_WIDTH_MIN) for w, kept in zip(widths, whole, strict=True)]
        widths = fitted(widths, minima, width - 2 * (len(widths) - 1))

    def line(texts: Sequence[str]) -> str:
        shape = zip(texts, widths, types, strict=True)
        return "  ".join(padded(text, w, to_right=_is_number(type_)) for text, w, type_ in shape).rstrip()

    yield from map(line, heads)
    yield "  ".join("─" * w for w in widths)
    yield from map(line, rows)


def type_name(type_: pa.DataType) -> str:
    """The name of the type in SQL."""
    if pa.types.is_dictionary(type_):
        return type_name(type_.value_type)
    if pa.types.is_decimal(type_):
        return f"decimal({type_.precision},{type_.scale})"
    if pa.types.is_timestamp(type_) and type_.tz is not None:
        return "timestamptz"
    return _TYPE_NAMES.get(str(type_), str(type_))


def _write_csv(answer: pa.Table, out: TextIO) -> None:
    """Null is an empty field, empty text is a pair of quotes; other values are quoted only if necessary.
    Arrow itself can only quote all text or none."""
    import pyarrow.csv as csv

    # By position, because two columns may have the same name.
    columns = [
        _as_text(column) if not _csv_supports(column.type) or _has_far_years(column) else column
        for column in answer.columns
    ]
    quotes = any(_needs_quotes(column) for column in columns)
    header_quotes = any(_has_special(name) for name in answer.schema.names)
    flat = pa.Table.from_arrays(columns, names=answer.schema.names)
    for start in range(0, max(flat.num_rows, 1), BATCH_ROWS):
        sink = pa.BufferOutputStream()
        options = csv.WriteOptions(
            include_header=start == 0,
            quoting_style="needed" if quotes else "none",
            quoting_header="needed" if header_quotes else "none",
        )
        csv.write_csv(flat.slice(start, BATCH_ROWS), sink, options)
        out.write(sink.getvalue().to_pybytes().decode())


def _csv_supports(type_: pa.DataType) -> bool:
    is_ = pa.types
    hidden = (
        is_.is_nested(type_) or is_.is_interval(type_) or is_.is_duration(type_) or is_.is_dictionary(type_)
    )
    return not (hidden or "binary" in str(type_) or "view" in str(type_) or "extension" in str(type_))


def _has_far_years(column: pa.ChunkedArray) -> bool:
    """Whether a date or timestamp is outside of years that Arrow prints correctly."""
    if not _has_date(column.type):
        return False
    if len(column) <= BATCH_ROWS:  # faster than importing pyarrow.compute
        try:
            column.to_pylist()
        except (ValueError, OverflowError):
            return True
        return False
    import pyarrow.compute as pc

    seconds = pc.min_max(column.cast(pa.timestamp("s"), safe=False).cast(pa.int64()))
    bounds = (bound.as_py() for bound in seconds.values())
    return any(bound is not None and not YEARS_SECONDS[0] <= bound < YEARS_SECONDS[1] for bound in bounds)


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    texts = [None if value is None else plain(value) for value in values(column)]
    return pa.chunked_array([pa.array(texts, pa.large_string())])


def _needs_quotes(column: pa.ChunkedArray) -> bool:
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return False
    if len(column) <= BATCH_ROWS:  # faster than importing pyarrow.compute
        return any(value is not None and _has_special(value) for value in column.to_pylist())
    import pyarrow.compute as pc

    return bool(pc.any(pc.match_substring_regex(column, '^$|[",\r\n]')).as_py())


def _has_special(text: str) -> bool:
    return text == "" or any(mark in text for mark in '",\r\n')


def _write_json(answer: pa.Table, out: TextIO) -> None:
    out.write("[")
    for number, line in enumerate(_json_rows(answer)):
        out.write(f"{',' if number else ''}\n  {line}")
    out.write("\n]\n" if answer.num_rows else "]\n")


def _json_rows(answer: pa.Table) -> Iterator[str]:
    names = unique(answer.schema.names)
    for row in _rows(answer):
        yield json.dumps(dict(zip(names, map(_json_value, row), strict=True)), ensure_ascii=False)


def unique(names: Sequence[str]) -> list[str]:
    """Unique member names for a JSON object: the second `n` becomes `n_2`."""
    found: list[str] = []
    for name in names:
        candidate, number = name, 1
        while candidate in found:
            number += 1
            candidate = f"{name}_{number}"
        found.append(candidate)
    return found


def _json_value(value: Any) -> Any:
    """JSON has no decimals, NaN or dates: decimals become numbers, NaN becomes null, dates ISO 8601 text."""
    if isinstance(value, Decimal):
        value = int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, float):
        return value if value - value == 0 else None  # null for infinity and NaN
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, dict):
        return {str(name): _json_value(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_json_value(inner) for inner in value]
    return value.isoformat() if isinstance(value, datetime | date | time) else plain(value)


def _markdown(answer: pa.Table) -> Iterator[str]:
    def line(texts: Sequence[str]) -> str:
        return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"

    yield line(list(map(_printable, answer.schema.names)))
    yield line(["--:" if _is_number(type_) else "---" for type_ in answer.schema.types])
    yield from map(line, text_rows(answer))


def text_rows(answer: pa.Table) -> Iterator[list[str]]:
    for row in _rows(answer):
        yield [_printable(plain(value)) for value in row]


def _rows(answer: pa.Table) -> Iterator[tuple[Any, ...]]:
    for start in range(0, answer.num_rows, BATCH_ROWS):
        part = answer.slice(start, BATCH_ROWS)
        yield from zip(*map(values, part.columns), strict=True)


def _printable(text: str) -> str:
    """The text with control characters escaped; they would break the table or control the terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _is_number(type_: pa.DataType) -> bool:
    return bool(pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_decimal(type_))
