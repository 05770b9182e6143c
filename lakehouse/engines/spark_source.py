"""A table in a bucket as a Python data source of Spark, so that Spark needs no Hadoop library for S3.

The executors read the pinned files with pyarrow. The classes are sent to them by value, so their machines
need pyarrow, but not ridelake: this part imports only the standard library, pyarrow and pyspark. The columns
of a query are an option of the source. Its filters select row groups by their statistics; Spark applies them
again to the rows. Deleted rows are removed by their row numbers.
"""

import json
import operator
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyarrow import fs
from pyspark.sql.datasource import (
    DataSource,
    DataSourceReader,
    EqualTo,
    Filter,
    GreaterThan,
    GreaterThanOrEqual,
    In,
    InputPartition,
    IsNotNull,
    LessThan,
    LessThanOrEqual,
)
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

# A larger file is read by several tasks, each with a part of its row groups.
TASK_BYTES = 32 << 20
BATCH_ROWS = 65_536
UNREADABLE = "ridelake cannot read"
COMPARISONS: Mapping[type[Filter], Callable[[Any, Any], pc.Expression]] = {
    EqualTo: operator.eq,
    LessThan: operator.lt,
    LessThanOrEqual: operator.le,
    GreaterThan: operator.gt,
    GreaterThanOrEqual: operator.ge,
}


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A Parquet file. `path`: bucket/key. `deleted`: sorted row numbers, int64; None if there are none."""

    path: str
    size_bytes: int
    deleted: pa.Array | None


class RowGroups(InputPartition):
    """Part `number` of `parts` of the row groups of a file."""

    def __init__(self, file: RemoteFile, number: int, parts: int) -> None:
        self.file, self.number, self.parts = file, number, parts


def source_class(
    name: str, schema: StructType, files: Sequence[RemoteFile], server: Mapping[str, Any]
) -> type[DataSource]:
    """The data source `name`. Its options are `columns`, a JSON list, and `filters`, whether it uses the
    filters of the query. `server`: the arguments of pyarrow's S3FileSystem, which may have credentials. They
    are part of the class, because options are shown in plans."""

    class BucketSource(DataSource):
        @classmethod
        def name(cls) -> str:
            return name

        def schema(self) -> StructType:
            return StructType([schema[column] for column in json.loads(self.options["columns"])])

        def reader(self, schema: StructType) -> DataSourceReader:
            return BucketReader(files, schema, server, uses_filters=self.options["filters"] == "true")

    return BucketSource


class BucketReader(DataSourceReader):
    """Reads the columns of `schema` from the files."""

    def __init__(
        self,
        files: Sequence[RemoteFile],
        schema: StructType,
        server: Mapping[str, Any],
        *,
        uses_filters: bool,
    ) -> None:
        self._uses_filters = uses_filters
        self._files = files
        self._schema = schema
        self._server = server
        self._filters: list[pc.Expression] = []

    def pushFilters(self, filters: list[Filter]) -> Iterable[Filter]:
        if self._uses_filters:
            types = to_arrow_schema(self._schema, timezone="UTC")
            found = (_expression(one, types) for one in filters)
            self._filters = [one for one in found if one is not None]
        return filters  # Spark applies all of them again

    def partitions(self) -> Sequence[InputPartition]:
        return [
            RowGroups(file, number, parts)
            for file in self._files
            for parts in [max(1, -(-file.size_bytes // TASK_BYTES))]
            for number in range(parts)
        ]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        assert isinstance(partition, RowGroups)
        try:
            yield from self._read(partition)
        except OSError as error:
            reason = str(error).splitlines()[0]
            where = f"s3://{partition.file.path} on {socket.gethostname()}"
            raise RuntimeError(f"{UNREADABLE} {where}: {reason}") from error

    def _read(self, part: RowGroups) -> Iterator[pa.RecordBatch]:
        schema = to_arrow_schema(self._schema, timezone="UTC")
        columns = {name: ds.field(name) for name in schema.names}
        fragment = ds.ParquetFileFormat().make_fragment(part.file.path, self._filesystem())
        groups = fragment.row_groups
        begin, end = (len(groups) * number // part.parts for number in (part.number, part.number + 1))
        first_rows = [0]
        for group in groups:
            first_rows.append(first_rows[-1] + group.num_rows)
        wanted = fragment.subset(row_group_ids=[group.id for group in groups[begin:end]])
        for one in self._filters:
            wanted = wanted.subset(one)
        for group in wanted.row_groups:
            rows = fragment.subset(row_group_ids=[group.id]).to_table(columns=columns).cast(schema)
            if part.file.deleted is not None:
                rows = _without(rows, first_rows[group.id], part.file.deleted)
            for one in self._filters:
                rows = rows.filter(one)
            yield from rows.combine_chunks().to_batches(BATCH_ROWS)

    def _filesystem(self) -> fs.S3FileSystem:
        server = dict(self._server)
        attempts = server.pop("max_attempts")
        return fs.S3FileSystem(retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=attempts), **server)


def _without(rows: pa.Table, first_row: int, deleted: pa.Array) -> pa.Table:
    """The rows without the deleted ones. `first_row`: the number of the first one in its file."""
    numbers = pc.cumulative_sum(pa.repeat(pa.scalar(1, pa.int64()), rows.num_rows), start=first_row - 1)
    return rows.filter(pc.invert(pc.is_in(numbers, value_set=deleted)))


def _expression(condition: Filter, types: pa.Schema) -> pc.Expression | None:
    """The condition for pyarrow; None if it could select other rows than in Spark, as for NaN."""
    (name, *inside) = getattr(condition, "attribute", ("", ""))
    if inside or name not in types.names or pa.types.is_floating(types.field(name).type):
        return None
    field, type_ = ds.field(name), types.field(name).type
    if isinstance(condition, IsNotNull):
        return field.is_valid()
    try:
        if isinstance(condition, In):
            return field.isin(pa.array(list(condition.value), type_))
        if (compare := COMPARISONS.get(type(condition))) is not None:
            value = condition.value  # type: ignore[attr-defined]
            zoned = isinstance(value, datetime) and value.tzinfo is not None
            if zoned == (pa.types.is_timestamp(type_) and type_.tz is not None):
                return compare(field, pa.scalar(value, type_))
    except (pa.ArrowException, TypeError, OverflowError):  # a literal of another type
        pass
    return None
