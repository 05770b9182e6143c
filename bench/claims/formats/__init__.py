"""Eight file formats for the same rides. Each has a module here and is described by a `FileFormat`.

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

from bench.claims.formats.binary import ARROW_IPC, AVRO, PARQUET, PICKLE, PROTOBUF
from bench.claims.formats.file_format import FileFormat
from bench.claims.formats.text import CSV, JSON, JSONL

__all__ = ["FORMATS", "FileFormat"]

FORMATS = (CSV, JSON, JSONL, AVRO, PROTOBUF, PICKLE, ARROW_IPC, PARQUET)
