"""Protobuf: a message a row, each behind its length. The file holds field numbers and values, no names.

The message class is made from the schema when it is needed, as `protoc` would have made it.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
from google.protobuf import descriptor_pool, message_factory, proto
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

from bench.claims.formats.file_format import FileFormat, Row

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
    """Of a message with a field for each column, numbered from 1. Fields of proto2 know whether they are
    set, so null is not 0."""
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


def _write(rows: Sequence[Row], schema: pa.Schema, path: Path) -> None:
    message_type = message_class(schema)
    with path.open("ab") as file:
        for row in rows:
            fields = {name: _field(value) for name, value in row.items() if value is not None}
            proto.serialize_length_prefixed(message_type(**fields), file)


def _field(value: object) -> object:
    """A timestamp as microseconds since 1970, on its own clock if it has no zone."""
    if not isinstance(value, datetime):
        return value
    return (value - datetime(1970, 1, 1, tzinfo=UTC if value.tzinfo else None)) // MICROSECOND


def _read(path: Path, schema: pa.Schema, columns: Sequence[str]) -> pa.Table:
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
    write=_write,
    read=_read,
)
