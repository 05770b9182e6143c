"""Arrow IPC and Parquet: each column is contiguous, and a footer contains its position.

Neither can be appended to: later rows need a new file.
"""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import ipc

from bench.claims.formats.file_format import FileFormat, Row


def _write_arrow(rows: Sequence[Row], schema: pa.Schema, path: Path) -> None:
    with ipc.new_file(path, schema) as writer:
        writer.write_table(pa.Table.from_pylist(list(rows), schema=schema))


def read_arrow(path: Path, schema: pa.Schema, columns: Sequence[str]) -> pa.Table:
    """Read without memory mapping, which would delay the reading until the first access."""
    options = ipc.IpcReadOptions(included_fields=[schema.names.index(name) for name in columns])
    with pa.OSFile(str(path)) as file, ipc.open_file(file, options=options) as reader:
        return reader.read_all().select(columns)


def _write_parquet(rows: Sequence[Row], schema: pa.Schema, path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), path, compression="none")


def read_parquet(path: Path, schema: pa.Schema, columns: Sequence[str]) -> pa.Table:
    with pq.ParquetFile(path) as file:
        return file.read(columns=list(columns)).select(columns)


ARROW_IPC = FileFormat(
    "Arrow IPC",
    "pyarrow",
    layout="columns",
    is_text=False,
    describes="names and types",
    splits=True,  # at its record batches
    appends=False,
    magic=b"ARROW1",
    write=_write_arrow,
    read=read_arrow,
)
PARQUET = FileFormat(
    "Parquet",
    "pyarrow",
    layout="columns",
    is_text=False,
    describes="names and types",
    splits=True,  # at its row groups
    appends=False,
    magic=b"PAR1",
    write=_write_parquet,
    read=read_parquet,
)
