"""The description of a file format: its properties, its writer and its reader."""

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
