"""The description of a file format, and the values that a format does not preserve."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.table.epoch import Epoch

Row = dict[str, Any]
Write = Callable[[Sequence[Row], pa.Schema, Path], None]
Read = Callable[[Path, pa.Schema, Sequence[str]], pa.Table]


@dataclass(frozen=True, slots=True)
class FileFormat:
    """`write(rows, schema, path)` appends the rows to the file if `appends` is true, and writes a new file
    otherwise. `read(path, schema, columns)` returns these columns of the whole file; `schema` is the schema
    of all columns.

    `describes`: what the file contains about its columns. `splits`: whether a reader can start in the middle.
    `magic`: the first bytes of each file; empty if the format has none."""

    name: str
    library: str
    layout: Literal["rows", "columns"]
    is_text: bool
    describes: Literal["nothing", "names", "names and types"]
    splits: bool
    appends: bool
    magic: bytes
    write: Write
    read: Read

    def round_trip(self, table: pa.Table, path: Path) -> pa.Table:
        """Write the table as rows to `path`, a new file, and read it back."""
        self.write(table.to_pylist(), table.schema, path)
        return self.read(path, table.schema, table.column_names)


def rows_to_table(rows: Iterable[Row], schema: pa.Schema, columns: Sequence[str]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=subset(schema, columns))


def subset(schema: pa.Schema, columns: Sequence[str]) -> pa.Schema:
    return pa.schema([schema.field(name) for name in columns])


def is_readable(path: Path) -> bool:
    """Whether the file is text: valid UTF-8 that contains printable characters only."""
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError:
        return False
    return all(letter.isprintable() or letter in "\r\n\t" for letter in text)


def rides_table(epoch: Epoch, rows: int) -> pa.Table:
    """The first `rows` rides of an epoch: 16 columns with the types of the lake, without field ids and
    without the column `tx`."""
    table = pa.concat_tables(pq.read_table(file.location) for file in epoch.tables["rides"].files)
    table = table.drop_columns("tx").slice(0, rows)
    schema = pa.schema([pa.field(field.name, field.type) for field in table.schema])
    return pa.Table.from_arrays(table.columns, schema=schema).combine_chunks()


# Kinds of values that some formats or libraries do not preserve.
HARD_VALUES: dict[str, pa.Array] = {
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
    """The kinds of HARD_VALUES values that the format does not preserve."""
    name = form.name.replace(" ", "_")
    kinds = enumerate(HARD_VALUES.items())
    return [kind for number, (kind, values) in kinds if not kept(form, values, folder / f"{name}-{number}")]
