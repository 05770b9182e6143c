"""Avro: binary rows in blocks, with the schema as JSON in the header."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa

from bench.claims.formats.file_format import FileFormat, Row, rows_to_table, subset

AVRO_TYPES: dict[pa.DataType, Any] = {
    pa.int32(): "int",
    pa.int64(): "long",
    pa.float64(): "double",
    pa.string(): "string",
    pa.timestamp("us"): {"type": "long", "logicalType": "local-timestamp-micros"},
    pa.timestamp("us", tz="UTC"): {"type": "long", "logicalType": "timestamp-micros"},
}


def avro_schema(schema: pa.Schema) -> dict[str, Any]:
    """All fields are nullable, as in Arrow."""
    fields = [{"name": field.name, "type": ["null", AVRO_TYPES[field.type]]} for field in schema]
    return {"type": "record", "name": "Ride", "fields": fields}


def _write(rows: Sequence[Row], schema: pa.Schema, path: Path) -> None:
    with path.open("a+b") as file:
        fastavro.writer(file, avro_schema(schema), rows, codec="null")


def _read(path: Path, schema: pa.Schema, columns: Sequence[str]) -> pa.Table:
    """Read with a schema of the wanted columns. The reader still has to parse the other fields."""
    with path.open("rb") as file:
        rows = fastavro.reader(file, avro_schema(subset(schema, columns)))
        return rows_to_table(rows, schema, columns)  # type: ignore[arg-type]  # it yields what was written


AVRO = FileFormat(
    "Avro",
    "fastavro",
    layout="rows",
    is_text=False,
    describes="names and types",
    splits=True,  # at the sync marker behind each block
    appends=True,
    magic=b"Obj\x01",
    write=_write,
    read=_read,
)
