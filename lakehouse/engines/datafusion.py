"""DataFusion on the files of an epoch: a view for each table, the union of its files.

Its options disable DDL, DML and statements such as SET, and a path in a query is an unknown table. A query
cannot be cancelled, and an invalid one can crash the process, so it runs in a child process.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from urllib.parse import quote

import datafusion
import psutil
import pyarrow as pa
from datafusion import DataFrame, Expr, RuntimeEnvBuilder, SessionConfig, SessionContext, SQLOptions, column
from datafusion.object_store import AmazonS3
from sqlglot import exp

from lakehouse.engines import view_queries
from lakehouse.engines.parameters import Parameters
from lakehouse.engines.sql_check import CheckedEngine, exact_average
from lakehouse.table.deletes import deleted_keys, deleted_rows
from lakehouse.table.epoch import Epoch, TableState
from lakehouse.table.s3 import credentials, s3_filesystem
from ridelake.errors import QueryRejected
from ridelake.settings import S3, LakeAddress, Settings

# The share of the machine's memory before it spills to disk, as in DuckDB.
MEMORY_SHARE = 0.8
READ_ONLY = SQLOptions().with_allow_ddl(False).with_allow_dml(False).with_allow_statements(False)


def dollar_name(node: exp.Expr) -> exp.Expr:
    """Write a placeholder as $name, DataFusion's syntax."""
    return exp.Parameter(this=exp.var(node.name)) if isinstance(node, exp.Placeholder) else node


class DataFusion(CheckedEngine):
    """A DataFusion context on the files of one epoch."""

    name = "datafusion"
    dialect = "postgres"
    rules = (exact_average, dollar_name)

    def __init__(self, context: SessionContext, tables: list[str]) -> None:
        super().__init__(tables)
        self._context = context

    def version(self) -> str:
        return datafusion.__version__

    def is_harmless(self, function: str) -> bool:
        return True

    def run(self, text: str, parameters: Parameters, *, explain: bool) -> pa.Table:
        try:
            text = f"EXPLAIN {text}" if explain else text
            frame = self._context.sql_with_options(text, READ_ONLY, param_values=dict(parameters))
            return frame.to_arrow_table()
        except Exception as error:  # DataFusion raises plain Exception
            raise QueryRejected(f"datafusion: {str(error).removeprefix('DataFusion error: ')}") from error


@contextmanager
def opened(settings: Settings, epoch: Epoch) -> Iterator[DataFusion]:
    # Otherwise a filter is applied after all columns of a row group have been decoded.
    config = SessionConfig().set("datafusion.execution.parquet.pushdown_filters", "true")
    config = config.set("datafusion.execution.time_zone", "UTC")
    # Without a pool it has no memory limit, and the kernel kills it instead of it spilling to disk.
    memory = int(psutil.virtual_memory().total * MEMORY_SHARE)
    context = SessionContext(config, RuntimeEnvBuilder().with_disk_manager_os().with_fair_spill_pool(memory))
    if settings.lake.remote:
        context.register_object_store(S3, _object_store(settings.lake), settings.lake.bucket)
    for name, table in epoch.tables.items():
        scans = _scans(context, table, deleted_keys(settings.lake, table, deleted_rows(settings.lake, table)))
        context.register_view(
            exp.to_identifier(name, quoted=True).sql("postgres"),
            reduce(lambda left, right: left.union(right), scans),
        )
    views = view_queries(settings, epoch)
    for name, query in views.items():
        known = name if epoch.stores else name.lower()  # a query writes RideTable without quotes
        context.register_view(exp.to_identifier(known, quoted=True).sql("postgres"), context.sql(query))
    yield DataFusion(context, [*epoch.tables, *views])


def _object_store(lake: LakeAddress) -> AmazonS3:
    """The bucket. DataFusion reads the environment and roles, but not profiles."""
    key, secret, token = credentials() or (None, None, None)
    return AmazonS3(
        bucket_name=lake.bucket,
        region=s3_filesystem(lake).region,
        access_key_id=key,
        secret_access_key=secret,
        session_token=token,
        endpoint=lake.s3_endpoint,
        allow_http=lake.s3_endpoint is not None and lake.s3_endpoint.startswith("http://"),
    )


def _url(location: str) -> str:
    """A URL, because in a path [ and * are glob patterns."""
    if location.startswith(S3):
        return f"{S3}{quote(location.removeprefix(S3))}"
    return Path(location).as_uri()


def _column(name: str) -> Expr:
    return column(exp.to_identifier(name, quoted=True).sql("postgres"))


def _scans(context: SessionContext, table: TableState, deleted: Mapping[str, pa.Table]) -> list[DataFrame]:
    """The rows of each file. Its Python API has no row numbers, so deleted rows are removed by their keys."""
    scans = []
    for location in table.locations:
        rows = context.read_parquet(_url(location))
        if (keys := deleted.get(location)) is not None:
            names = [f"key {number}" for number in range(len(table.key))]
            right = context.from_arrow(keys.select(table.key).rename_columns(names))
            same = [_column(left) == _column(name) for left, name in zip(table.key, names, strict=True)]
            rows = rows.join_on(right, *same, how="anti")
        scans.append(rows)
    return scans
