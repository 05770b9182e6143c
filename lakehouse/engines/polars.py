"""Polars on the files of an epoch: lazy frames, for SQL or for the Polars API.

A query cannot be cancelled reliably: `cancel` waits for the current step, which can be the whole query. Some
queries cause a panic in Rust. So Polars runs in a child process, which can be killed.
"""

import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import polars as pl
import pyarrow as pa

from lakehouse.engines import view_queries
from lakehouse.engines.parameters import NO_PARAMETERS, Parameters, check_parameters, with_literals
from lakehouse.table.deletes import ROW_NUMBER, Positions, deleted_rows
from lakehouse.table.epoch import Epoch, TableState
from ridelake.errors import CannotConnect, QueryRejected, first_line
from ridelake.settings import S3, LakeAddress, Settings

FIRST_WORDS = {"SELECT", "WITH", "FROM", "VALUES", "EXPLAIN", "SHOW"}
COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)

# In Polars, read_csv('/etc/passwd') is a table, quoted or not. Matched in strings and comments too, because a
# regular expression cannot find their end reliably.
READS_A_FILE = re.compile(
    r"(read|scan)_(csv|parquet|ipc|ndjson|json|avro|delta|iceberg|lines|database)", re.IGNORECASE
)

# A panic in Rust is not an Exception, and Polars works after it.
FAILURES = (pl.exceptions.PolarsError, pl.exceptions.PanicException)


FrameQuestion = Callable[[Mapping[str, pl.LazyFrame]], pl.LazyFrame]
"""A question as Polars expressions: from the tables, by name, to the answer."""

STDERR = 2


class Polars:
    """Lazy frames on the files of one epoch, which are in the lake."""

    name = "polars"

    def __init__(self, frames: Mapping[str, pl.LazyFrame], lake: LakeAddress) -> None:
        self._frames = frames
        self._lake = lake

    def version(self) -> str:
        return pl.__version__

    def sql(self, query: str, parameters: Parameters = NO_PARAMETERS) -> pa.Table:
        with _polars_errors(self._lake):
            return _collected(self._queried(query, parameters))

    def answer(self, question: FrameQuestion) -> pa.Table:
        """Apply the question to the frames of the tables and RideTable. Raises as `sql` does."""
        with _polars_errors(self._lake):
            return _collected(question(self._frames))

    def explained(self, question: FrameQuestion | str, parameters: Parameters = NO_PARAMETERS) -> pa.Table:
        """One row: the optimized `plan`, and Polars' verbose output (`said`) while it executed the query."""
        with _polars_errors(self._lake):
            if isinstance(question, str):
                frame = self._queried(question, parameters)
            else:
                frame = question(self._frames)
            return pa.table({"plan": [frame.explain()], "said": [_verbose_output(frame.collect)]})

    def _queried(self, query: str, parameters: Parameters) -> pl.LazyFrame:
        check_parameters(query, parameters)
        _refuse_writing(query)
        if parameters:
            query = _bound(query, parameters)
        # A new context each time, because a query can register tables in it.
        return pl.SQLContext(self._frames).execute(query)

    def interrupt(self) -> None:
        """Not used: `subprocess_engine.py` kills the process."""


def _collected(frame: pl.LazyFrame) -> pa.Table:
    return frame.collect().to_arrow(compat_level=pl.CompatLevel.oldest())


def _verbose_output(work: Callable[[], object]) -> str:
    """The verbose output of Polars, which native code writes to stderr."""
    with tempfile.TemporaryFile() as kept:
        stderr = os.dup(STDERR)
        os.dup2(kept.fileno(), STDERR)
        try:
            with pl.Config(verbose=True):
                work()
        finally:
            os.dup2(stderr, STDERR)
            os.close(stderr)
        kept.seek(0)
        return kept.read().decode(errors="replace")


@contextmanager
def opened(settings: Settings, epoch: Epoch) -> Iterator[Polars]:
    with _polars_errors(settings.lake):
        frames = {name: scan_table(settings.lake, table) for name, table in epoch.tables.items()}
        for name, query in view_queries(settings, epoch).items():
            frames[name] = pl.SQLContext(frames).execute(query)
    yield Polars(frames, settings.lake)


@contextmanager
def _polars_errors(lake: LakeAddress) -> Iterator[None]:
    try:
        yield
    except FAILURES as error:
        raise QueryRejected(f"polars: {error}") from error
    except OSError as error:
        if not lake.remote:
            raise
        raise CannotConnect(
            f"polars cannot read {lake.root} ({first_line(error)}): if credentials are missing, run "
            "`pip install botocore`, which it needs for profiles, or set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY"
        ) from error


def scan_table(lake: LakeAddress, table: TableState) -> pl.LazyFrame:
    """The rows of the table."""
    options: dict[str, Any] = {}
    if lake.remote:
        # Imported here, because a local lake does not need it.
        from lakehouse.table.s3 import credentials, polars_credentials, polars_options

        options["storage_options"] = polars_options(lake)
        if credentials() is not None:
            options["credential_provider"] = polars_credentials
    return _scan(table.locations, options, deleted_rows(lake, table))


def _scan(
    locations: Sequence[str], options: Mapping[str, Any], deleted: Mapping[str, Positions]
) -> pl.LazyFrame:
    """The rows of the files that are not deleted. A `--fresh` table has files in the lake and local files;
    Polars needs a separate scan for each."""
    whole = [location for location in locations if location not in deleted]
    remote = [location for location in whole if location.startswith(S3)]
    local = [location for location in whole if not location.startswith(S3)]

    def read(source: str | list[str], **more: Any) -> pl.LazyFrame:
        return pl.scan_parquet(source, glob=False, hive_partitioning=False, **options, **more)

    scans = [read(some) for some in (remote, local) if some]
    for location, positions in deleted.items():
        rows = pl.LazyFrame({ROW_NUMBER: positions}, {ROW_NUMBER: pl.get_index_type()})
        scan = read(location, row_index_name=ROW_NUMBER)
        scans.append(scan.join(rows, on=ROW_NUMBER, how="anti").drop(ROW_NUMBER))
    return scans[0] if len(scans) == 1 else pl.concat(scans)


def _bound(query: str, parameters: Parameters) -> str:
    """The query with literals instead of parameters, which Polars does not support."""
    import sqlglot

    try:
        tree = sqlglot.parse_one(query, dialect="duckdb")
    except sqlglot.errors.SqlglotError as error:
        raise QueryRejected(f"polars: {error}") from error
    return with_literals(tree, parameters).sql(dialect="duckdb")


def _refuse_writing(query: str) -> None:
    found = re.match(r"[\s(]*(\w+)", COMMENT.sub(" ", query))
    word = found[1].upper() if found else "an empty query"
    if word not in FIRST_WORDS:
        raise QueryRejected(f"polars: {word} is not allowed, because an epoch is read-only: use SELECT")
    if reader := READS_A_FILE.search(query):
        raise QueryRejected(
            f"polars: {reader[0]} is not allowed, because only files of the epoch are read: use a table name"
        )
