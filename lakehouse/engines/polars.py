"""Polars over the files of an epoch: lazy frames, named in SQL or taken by hand.

It cannot be stopped: its own `cancel` lets the running step end first, and a step can be the whole query.
And its Rust panics here and there. So it runs in a process of its own, which can be ended.
"""

import os
import re
import tempfile
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


FrameAnswer = Callable[[Mapping[str, pl.LazyFrame]], pl.LazyFrame]
"""A question in Polars' own words: from the tables, by name, to the answer."""

STDERR = 2


class Polars:
    """See the module. `reading` is open while the frames are read."""

    name = "polars"

    def __init__(
        self,
        frames: Mapping[str, pl.LazyFrame],
        reading: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._frames = frames
        self._reading = reading

    def version(self) -> str:
        return pl.__version__

    def sql(self, query: str, parameters: Parameters = NO_PARAMETERS) -> pa.Table:
        with self._refusals():
            return _collected(self._queried(query, parameters))

    def answer(self, question: FrameAnswer) -> pa.Table:
        """The question, asked of the frames of the tables and of RideTable. Raises as `sql` does."""
        with self._refusals():
            return _collected(question(self._frames))

    def explained(self, question: FrameAnswer | str, parameters: Parameters = NO_PARAMETERS) -> pa.Table:
        """One row: the optimized `plan`, and what Polars `said` of its work while it answered."""
        with self._refusals():
            if isinstance(question, str):
                frame = self._queried(question, parameters)
            else:
                frame = question(self._frames)
            return pa.table({"plan": [frame.explain()], "said": [_overheard(frame.collect)]})

    def _queried(self, query: str, parameters: Parameters) -> pl.LazyFrame:
        refuse_wrong_parameters(query, parameters)
        _refuse_writing(query)
        if parameters:
            query = _bound(query, parameters)
        # A new context each time: what a query names is forgotten with it.
        return pl.SQLContext(self._frames).execute(query)

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            with self._reading():
                yield
        except FAILURES as error:
            raise QueryRejected(f"polars: {error}") from error

    def interrupt(self) -> None:
        """Its process is ended: see `apart.py`."""


def _collected(frame: pl.LazyFrame) -> pa.Table:
    return frame.collect().to_arrow(compat_level=pl.CompatLevel.oldest())


def _overheard(work: Callable[[], object]) -> str:
    """What Polars tells of its work: it goes to stderr, from code that is not Python's."""
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
        raise QueryRejected(f"polars: {word} is not allowed, because an epoch is read-only: use SELECT")
    if reader := READS_A_FILE.search(query):
        raise QueryRejected(
            f"polars: files outside the epoch are not read: leave {reader[0]} out, name a table"
        )
