"""Polars over the files of an epoch: lazy frames, by name in SQL or by hand (`frames`)."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import polars as pl
import pyarrow as pa

from lakehouse.engines import ride_table_query
from lakehouse.epoch import Epoch
from ridelake.errors import QueryRejected
from ridelake.settings import Settings

FIRST_WORDS = {"SELECT", "WITH", "FROM", "VALUES", "EXPLAIN", "SHOW"}
COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)

# To Polars, read_csv('/etc/passwd') is a table, quoted or not. Looked for in strings and comments too: a
# pattern that is to find out where those end could be misled.
READS_A_FILE = re.compile(
    r"(read|scan)_(csv|parquet|ipc|ndjson|json|avro|delta|iceberg|lines|database)", re.IGNORECASE
)


class Polars:
    """See the module. `frames` are the tables and RideTable, for questions in Polars' own words."""

    name = "polars"

    def __init__(self, frames: Mapping[str, pl.LazyFrame]) -> None:
        self.frames = frames

    def version(self) -> str:
        return pl.__version__

    def sql(self, query: str) -> pa.Table:
        _refuse_writing(query)
        try:
            # A new context each time: what a query names is forgotten with it.
            answer = pl.SQLContext(self.frames).execute(query).collect()
        except pl.exceptions.PolarsError as error:
            raise QueryRejected(f"polars: {error}") from error
        return answer.to_arrow(compat_level=pl.CompatLevel.oldest())

    def interrupt(self) -> None:
        """Polars cannot be stopped from another thread: its `cancel` lets the running step end first, and
        a step can be the whole query. Whoever must end in time has to end the process."""


@contextmanager
def opened(settings: Settings, epoch: Epoch) -> Iterator[Polars]:
    frames = {name: pl.scan_parquet(list(table.files), glob=False) for name, table in epoch.tables.items()}
    frames["RideTable"] = pl.SQLContext(frames).execute(ride_table_query())
    yield Polars(frames)


def _refuse_writing(query: str) -> None:
    found = re.match(r"[\s(]*(\w+)", COMMENT.sub(" ", query))
    word = found[1].upper() if found else "an empty query"
    if word not in FIRST_WORDS:
        raise QueryRejected(f"polars: only questions are answered here, and {word} is none: use SELECT")
    if reader := READS_A_FILE.search(query):
        raise QueryRejected(
            f"polars: files outside the epoch are not read: leave {reader[0]} out, name a table"
        )
