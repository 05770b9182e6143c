"""Eight ways to write the same rides into a file: each a small file of its own, all of one contract.

    rows ─ write ─►  CSV  JSON  JSONL  Avro  Protobuf  Pickle  Arrow IPC  Parquet  ─ read ─► columns

Rows come in as an application has them, a dict each; columns go out as a question wants them, an Arrow table.
Whatever has to be turned round on the way is the format's own cost: of a row format when it is read, of a
column format when it is written. All is in memory when `read` returns.

Nothing is compressed, so that formats are compared and not codecs; `bench_text_and_binary` tells what zstd
makes of each.

Equal means: the Arrow tables are equal, to the last bit of a float. What a format has no type for is written
so that nothing is lost, and read back by a schema from outside: timestamps in JSON and CSV as ISO 8601 text,
in Protobuf as microseconds since 1970; a uuid is 36 characters everywhere, as in the lake.
"""

from bench.claims.formats.avro import AVRO
from bench.claims.formats.columnar import ARROW_IPC, PARQUET
from bench.claims.formats.file_format import FileFormat
from bench.claims.formats.pickled import PICKLE
from bench.claims.formats.protobuf import PROTOBUF
from bench.claims.formats.text import CSV, JSON, JSONL

__all__ = ["FORMATS", "FileFormat"]

FORMATS = (CSV, JSON, JSONL, AVRO, PROTOBUF, PICKLE, ARROW_IPC, PARQUET)
