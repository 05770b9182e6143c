"""What is known of a file format, and how one is written and read."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

Row = dict[str, Any]
Write = Callable[[Sequence[Row], pa.Schema, Path], None]
Read = Callable[[Path, pa.Schema, Sequence[str]], pa.Table]


@dataclass(frozen=True, slots=True)
class FileFormat:
    """`write(rows, schema, path)` adds the rows to the file if the format `appends`, and makes a new one if
    not; `read(path, schema, columns)` gives those columns of the whole file, `schema` being that of all.

    `describes`: what the file itself says of its columns. `splits`: whether a reader can begin in the middle.
    `magic`: what every file begins with; nothing where the format has no sign of its own."""

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
        """The table, written as rows to `path`, which is not there yet, and read back."""
        self.write(table.to_pylist(), table.schema, path)
        return self.read(path, table.schema, table.column_names)


def rows_to_table(rows: Iterable[Row], schema: pa.Schema, columns: Sequence[str]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=subset(schema, columns))


def subset(schema: pa.Schema, columns: Sequence[str]) -> pa.Schema:
    return pa.schema([schema.field(name) for name in columns])


def is_readable(path: Path) -> bool:
    """Whether a human can read the file as it is: it is UTF-8, and nothing in it would not be printed."""
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError:
        return False
    return all(letter.isprintable() or letter in "\r\n\t" for letter in text)
