"""Eight file formats for the same rides. Each is described by a `FileFormat`.

    rows ─ write ─►  CSV  JSON  JSONL  Avro  Protobuf  Pickle  Arrow IPC  Parquet  ─ read ─► columns

`write` takes rows as dicts, as an application has them. `read` returns columns as an Arrow table, as a query
needs them. The conversion is part of the cost of the format: a row format converts when it is read, a column
format when it is written. All data is in memory when `read` returns.

Files are not compressed, so formats are compared and not codecs. `bench_text_and_binary` reports the size
with zstd.

Two tables are equal if their Arrow tables are equal, including all bits of a float. A value without a type in
the format is written without loss and read back by a schema: timestamps as ISO 8601 text in JSON and CSV, and
as microseconds since 1970 in Protobuf. A uuid is text of 36 characters, as in the lake.
"""

import csv
import json
import pickle
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.json as pj
import pyarrow.parquet as pq
from google.protobuf import descriptor_pool, message_factory, proto
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from pyarrow import ipc

from bench.claims.file_format import FileFormat, Row, rows_to_table, subset

LINE_BYTES_MAX = 16 * 1024 * 1024  # the reader processes blocks, and a line must fit into a block
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


def _write_avro(rows: Sequence[Row], schema: pa.Schema, path: Path) -> None:
    with path.open("a+b") as file:
        fastavro.writer(file, avro_schema(schema), rows, codec="null")


def _read_avro(path: Path, schema: pa.Schema, columns: Sequence[str]) -> pa.Table:
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
    write=_write_avro,
    read=_read_avro,
)


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


def _write_pickle(rows: Sequence[Row], schema: pa.Schema, path: Path) -> None:
    with path.open("ab") as file:
        pickle.dump(list(rows), file, protocol=pickle.HIGHEST_PROTOCOL)


def _read_pickle(path: Path, schema: pa.Schema, columns: Sequence[str]) -> pa.Table:
    return rows_to_table(_rows(path), schema, columns)


def _rows(path: Path) -> Iterator[Row]:
    """The rows of all pickles in the file, in the order in which they were appended."""
    with path.open("rb") as file:
        end = path.stat().st_size
        while file.tell() < end:
            yield from pickle.load(file)


class _Command:
    """An object whose pickle calls a function: here `Path.touch`, which is harmless."""

    def __init__(self, witness: Path) -> None:
        self._witness = witness

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self._witness,)


def runs_code(folder: Path) -> bool:
    """Whether reading a pickle calls the function named in it."""
    witness = folder / "witness"
    letter = pickle.dumps(_Command(witness))
    assert not witness.exists()
    pickle.loads(letter)
    return witness.exists()


PICKLE = FileFormat(
    "Pickle",
    "pickle",
    layout="rows",
    is_text=False,
    describes="names and types",
    splits=False,
    appends=True,
    magic=b"\x80",
    write=_write_pickle,
    read=_read_pickle,
)


FIELD_TYPES = {
    pa.int32(): FieldDescriptorProto.TYPE_INT32,
    pa.int64(): FieldDescriptorProto.TYPE_INT64,
    pa.float64(): FieldDescriptorProto.TYPE_DOUBLE,
    pa.string(): FieldDescriptorProto.TYPE_STRING,
    pa.timestamp("us"): FieldDescriptorProto.TYPE_INT64,
    pa.timestamp("us", tz="UTC"): FieldDescriptorProto.TYPE_INT64,
}
MICROSECOND = timedelta(microseconds=1)


@cache
def message_class(schema: pa.Schema) -> Any:
    """The class of a message with a field for each column, numbered from 1. In proto2 a field that is not set
    differs from 0, so null is preserved."""
    file = FileDescriptorProto(name="ride.proto", package="ridelake", syntax="proto2")
    message = file.message_type.add(name="Ride")
    for number, field in enumerate(schema, start=1):
        message.field.add(
            name=field.name,
            number=number,
            type=FIELD_TYPES[field.type],
            label=FieldDescriptorProto.LABEL_OPTIONAL,
        )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("ridelake.Ride"))


def _write_protobuf(rows: Sequence[Row], schema: pa.Schema, path: Path) -> None:
    message_type = message_class(schema)
    with path.open("ab") as file:
        for row in rows:
            fields = {name: _field(value) for name, value in row.items() if value is not None}
            proto.serialize_length_prefixed(message_type(**fields), file)


def _field(value: object) -> object:
    """A timestamp as microseconds since 1970; in local time if it has no time zone."""
    if not isinstance(value, datetime):
        return value
    return (value - datetime(1970, 1, 1, tzinfo=UTC if value.tzinfo else None)) // MICROSECOND


def _read_protobuf(path: Path, schema: pa.Schema, columns: Sequence[str]) -> pa.Table:
    message_type = message_class(schema)
    file = BytesIO(path.read_bytes())
    messages = []
    while (message := proto.parse_length_prefixed(message_type, file)) is not None:
        messages.append(message)
    arrays = [
        pa.array([getattr(m, name) if m.HasField(name) else None for m in messages], schema.field(name).type)
        for name in columns
    ]
    return pa.table(arrays, names=list(columns))


PROTOBUF = FileFormat(
    "Protobuf",
    "protobuf",
    layout="rows",
    is_text=False,
    describes="nothing",
    splits=False,
    appends=True,
    magic=b"",
    write=_write_protobuf,
    read=_read_protobuf,
)


FORMATS = (CSV, JSON, JSONL, AVRO, PROTOBUF, PICKLE, ARROW_IPC, PARQUET)
