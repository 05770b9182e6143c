"""CSV, JSON and JSON lines: rows as text. Only the reader knows the types."""

import csv
import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.json as pj

from bench.claims.formats.file_format import FileFormat, Row, rows_to_table, subset

LINE_BYTES_MAX = 16 * 1024 * 1024  # the reader processes blocks; a line must fit into one
# By default Python writes NaN and Infinity, which is not JSON; other readers reject it.
ENCODER = json.JSONEncoder(default=datetime.isoformat, ensure_ascii=False, allow_nan=False)


def _write_csv(rows: Sequence[Row], schema: pa.Schema, path: Path) -> None:
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if not file.tell():
            writer.writerow(schema.names)
        writer.writerows([_csv_cell(value) for value in row.values()] for row in rows)


def _csv_cell(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value


def _read_csv(path: Path, schema: pa.Schema, columns: Sequence[str]) -> pa.Table:
    return pc.read_csv(
        path,
        parse_options=pc.ParseOptions(newlines_in_values=True),
        convert_options=pc.ConvertOptions(
            column_types=subset(schema, columns),
            include_columns=columns,
            strings_can_be_null=True,
            null_values=[""],
        ),
    )


def _write_json(rows: Sequence[Row], schema: pa.Schema, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(ENCODER.encode(rows))


def _read_json(path: Path, schema: pa.Schema, columns: Sequence[str]) -> pa.Table:
    times = [name for name in columns if pa.types.is_timestamp(schema.field(name).type)]
    rows = json.loads(path.read_text(encoding="utf-8"))
    for row in rows:
        for name in times:
            if row[name] is not None:
                row[name] = datetime.fromisoformat(row[name])
    return rows_to_table(rows, schema, columns)


def _write_jsonl(rows: Sequence[Row], schema: pa.Schema, path: Path) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.writelines(ENCODER.encode(row) + "\n" for row in rows)


def _read_jsonl(path: Path, schema: pa.Schema, columns: Sequence[str]) -> pa.Table:
    return pj.read_json(
        path,
        read_options=pj.ReadOptions(block_size=LINE_BYTES_MAX),
        parse_options=pj.ParseOptions(
            explicit_schema=subset(schema, columns), unexpected_field_behavior="ignore"
        ),
    ).select(columns)


CSV = FileFormat(
    "CSV",
    "csv, pyarrow",
    layout="rows",
    is_text=True,
    describes="names",
    splits=True,  # unless a line break is part of a value
    appends=True,
    magic=b"",
    write=_write_csv,
    read=_read_csv,
)
JSON = FileFormat(
    "JSON",
    "json",
    layout="rows",
    is_text=True,
    describes="names",
    splits=False,
    appends=False,
    magic=b"",
    write=_write_json,
    read=_read_json,
)
JSONL = FileFormat(
    "JSONL",
    "json, pyarrow",
    layout="rows",
    is_text=True,
    describes="names",
    splits=True,
    appends=True,
    magic=b"",
    write=_write_jsonl,
    read=_read_jsonl,
)
