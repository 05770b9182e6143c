"""Polars over the files of an epoch: lazy frames, by name in SQL or by hand (`frames`)."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import polars as pl
import pyarrow as pa

from lakehouse.engines import NO_PARAMETERS, has_ride_table, ride_table_query
from lakehouse.engines.parameters import Parameters, refuse_wrong_parameters, with_literals
from lakehouse.epoch import Epoch
from ridelake.errors import CannotConnect, QueryRejected
from ridelake.settings import S3, LakeAddress, Settings

FIRST_WORDS = {"SELECT", "WITH", "FROM", "VALUES", "EXPLAIN", "SHOW"}
COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)

# To Polars, read_csv('/etc/passwd') is a table, quoted or not. Looked for in strings and comments too: a
# pattern that is to find out where those end could be misled.
READS_A_FILE = re.compile(
    r"(read|scan)_(csv|parquet|ipc|ndjson|json|avro|delta|iceberg|lines|database)", re.IGNORECASE
)

# A panic of its Rust is no Exception, and no reason to leave.
FAILURES = (pl.exceptions.PolarsError, pl.exceptions.PanicException)


class Polars:
    """See the module. `frames` are the tables and RideTable, for questions in Polars' own words; `reading`
    is to be open while they are collected."""

    name = "polars"

    def __init__(
        self,
        frames: Mapping[str, pl.LazyFrame],
        reading: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.frames = frames
        self.reading = reading

    def version(self) -> str:
        return pl.__version__

    def sql(self, query: str, parameters: Parameters = NO_PARAMETERS) -> pa.Table:
        frame = self.lazy(query, parameters)
        try:
            with self.reading():
                return frame.collect().to_arrow(compat_level=pl.CompatLevel.oldest())
        except FAILURES as error:
            raise QueryRejected(f"polars: {error}") from error

    def lazy(self, query: str, parameters: Parameters = NO_PARAMETERS) -> pl.LazyFrame:
        """The query, before it is answered. Raises as `sql` does."""
        refuse_wrong_parameters(query, parameters)
        _refuse_writing(query)
        if parameters:
            query = _bound(query, parameters)
        try:
            with self.reading():
                # A new context each time: what a query names is forgotten with it.
                return pl.SQLContext(self.frames).execute(query)
        except FAILURES as error:
            raise QueryRejected(f"polars: {error}") from error

    def interrupt(self) -> None:
        """Polars cannot be stopped from another thread: its `cancel` lets the running step end first, and
        a step can be the whole query. Whoever must end in time has to end the process."""


@contextmanager
def opened(settings: Settings, epoch: Epoch) -> Iterator[Polars]:
    reading: Callable[[], AbstractContextManager[None]] = nullcontext
    options = None
    if settings.lake.remote:
        from lakehouse.s3 import polars_options  # a lake in a folder need not load it

        reading = partial(_refusals, settings.lake, epoch)
        _look_at(settings.lake, epoch, 1)
        options = polars_options(settings.lake)
    frames = {name: _scan(table.locations, options) for name, table in epoch.tables.items()}
    if has_ride_table(epoch):
        with reading():
            frames["RideTable"] = pl.SQLContext(frames).execute(ride_table_query())
    yield Polars(frames, reading)


def _scan(locations: Sequence[str], options: dict[str, Any] | None) -> pl.LazyFrame:
    """A `--fresh` table has files in the lake and files beside it; Polars wants one kind at a time."""
    remote = [location for location in locations if location.startswith(S3)]
    local = [location for location in locations if not location.startswith(S3)]
    scans = [
        pl.scan_parquet(some, glob=False, hive_partitioning=False, storage_options=options)
        for some in (remote, local)
        if some
    ]
    return scans[0] if len(scans) == 1 else pl.concat(scans)


@contextmanager
def _refusals(lake: LakeAddress, epoch: Epoch) -> Iterator[None]:
    """Polars tells of a server in many words; ours, asked for the same files, says what the matter is."""
    try:
        yield
    except (OSError, pl.exceptions.ComputeError) as error:
        _look_at(lake, epoch)
        if not isinstance(error, OSError):
            raise
        said = str(error).strip().split("\n", 1)[0]
        raise CannotConnect(
            f"polars cannot read {lake.root} ({said}): if it lacks credentials, `pip install boto3`, which "
            "it asks for profiles and roles, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ) from error


def _look_at(lake: LakeAddress, epoch: Epoch, files: int | None = None) -> None:
    """Raises as `refusing_a_bad_bucket` does, in bounded time, if the epoch's first files cannot be read."""
    from lakehouse.s3 import refusing_a_bad_bucket
    from lakehouse.storage import Storage

    storage = Storage.of(lake)
    remote = [file.location for file in epoch.files if file.location.startswith(S3)]
    with refusing_a_bad_bucket(lake):
        for location in remote[:files]:
            storage.open(location).close()


def _bound(query: str, parameters: Parameters) -> str:
    """Polars has no parameters of its own."""
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
        raise QueryRejected(f"polars: only questions are answered here, and {word} is none: use SELECT")
    if reader := READS_A_FILE.search(query):
        raise QueryRejected(
            f"polars: files outside the epoch are not read: leave {reader[0]} out, name a table"
        )
