"""Which values a format does not preserve, tested by a round trip."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from bench.claims.formats.file_format import FileFormat

# Kinds of values that some formats or libraries do not preserve.
HARD: dict[str, pa.Array] = {
    "null": pa.array([None, "completed", None], pa.string()),
    "empty text": pa.array(["", "completed", ""], pa.string()),
    "unicode": pa.array(["Zoë 🚕", "e\u0301", "名古屋"], pa.string()),
    "separators": pa.array(['a,"b"', "two\nlines", "tab\tand ' quote"], pa.string()),
    "negative": pa.array([-1, -(2**31), 0], pa.int32()),
    "int64": pa.array([2**63 - 1, -(2**63), 2**53 + 1], pa.int64()),
    "microseconds": pa.array(
        [datetime(2025, 7, 1, 8, 30, 0, 1, UTC), datetime(2025, 7, 1, tzinfo=UTC), None],
        pa.timestamp("us", tz="UTC"),
    ),
    "before 1970": pa.array([datetime(1969, 12, 31, 23, 59, 59, 999_999)] * 3, pa.timestamp("us")),
    "float64": pa.array([0.1, -0.0, 5e-324], pa.float64()),
    "infinity": pa.array([float("inf"), float("-inf"), float("nan")], pa.float64()),
}


def identical(one: pa.Table, other: pa.Table) -> bool:
    """Equal names, types, nulls and values. Floats are compared by their bits: NaN equals NaN, -0.0 differs
    from 0.0."""
    return bool(one.schema.equals(other.schema) and _bits(one).equals(_bits(other)))


def _bits(table: pa.Table) -> pa.Table:
    columns = {name: table[name].combine_chunks() for name in table.column_names}
    return pa.table({n: c.view(pa.int64()) if c.type == pa.float64() else c for n, c in columns.items()})


def kept(form: FileFormat, values: pa.Array, path: Path) -> bool:
    """Whether a column of these values survives a round trip. An error of the writer or reader counts as a
    loss."""
    table = pa.table({"number": pa.array(range(len(values)), pa.int64()), "value": values})
    try:
        return identical(form.round_trip(table, path), table)
    except (ValueError, OverflowError):
        return False


def lost(form: FileFormat, folder: Path) -> list[str]:
    """The kinds of HARD values that the format does not preserve."""
    name = form.name.replace(" ", "_")
    kinds = enumerate(HARD.items())
    return [kind for number, (kind, values) in kinds if not kept(form, values, folder / f"{name}-{number}")]
