"""The baseline: each engine library without ridelake, used as its documentation shows, over the same files.

If ridelake runs an engine in a subprocess, the baseline does too and measures the time there. The baseline is
therefore the library alone, without communication between processes.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import cache
from time import perf_counter
from typing import Any

import pyarrow as pa

from lakehouse.engines import ENGINES

SPAWN = multiprocessing.get_context("spawn")  # a fork would inherit threads and connections
TABLE = "rides"

Answer = Any
"""A pyarrow.Table; for psycopg a list of rows."""

Ask = Callable[[str], Answer]


@contextmanager
def baseline_engine(name: str, source: Sequence[str]) -> Iterator[Callable[[str], tuple[float, Answer]]]:
    """A function that queries the engine and returns the seconds and the answer. `source`: the files of a
    table, or the conninfo of the store."""
    if not ENGINES[name].in_subprocess:
        yield lambda query: _timed(name, tuple(source), query)
        return
    with ProcessPoolExecutor(1, SPAWN) as pool:
        try:
            yield lambda query: pool.submit(_timed, name, tuple(source), query).result()
        finally:
            pool.submit(_exit_child)  # threads of some libraries block the exit of Python


def _timed(name: str, source: tuple[str, ...], query: str) -> tuple[float, Answer]:
    ask = _open_once(name, source)
    started = perf_counter()
    answer = ask(query)
    return perf_counter() - started, answer


def as_table(answer: Answer, schema: pa.Schema) -> pa.Table:
    """The answer as a table with the columns of `schema`, for the comparison; not timed."""
    if isinstance(answer, pa.Table):
        return answer
    texts = [pa.types.is_string(field.type) for field in schema]
    columns = [
        [value if value is None or not is_text else str(value) for value in values]
        for values, is_text in zip(zip(*answer, strict=True), texts, strict=True)
    ]
    return pa.Table.from_arrays(
        [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)], schema=schema
    )


def _exit_child() -> None:
    os._exit(0)


@cache
def _open_once(name: str, source: tuple[str, ...]) -> Ask:
    ask: Ask = globals()[f"_{name}"](list(source))
    return ask


def _postgres(source: list[str]) -> Ask:
    import psycopg

    connection = psycopg.connect(source[0], autocommit=True)

    return lambda query: connection.execute(query.encode()).fetchall()


def _duckdb(files: list[str]) -> Ask:
    import duckdb

    connection = duckdb.connect()
    connection.read_parquet(files).create_view(TABLE)
    return lambda query: connection.sql(query).to_arrow_table()


def _pyarrow(files: list[str]) -> Ask:
    """PyArrow reads and DuckDB computes, as in ridelake, because PyArrow has no SQL."""
    import duckdb
    import pyarrow.dataset as ds

    connection = duckdb.connect()
    connection.register(TABLE, ds.dataset(files, format="parquet"))
    return lambda query: connection.sql(query).to_arrow_table()


def _polars(files: list[str]) -> Ask:
    import polars as pl

    context = pl.SQLContext({TABLE: pl.scan_parquet(files)})
    return lambda query: context.execute(query).collect().to_arrow(compat_level=pl.CompatLevel.oldest())


def _datafusion(files: list[str]) -> Ask:
    from functools import reduce

    from datafusion import SessionContext

    context = SessionContext()
    scans = [context.read_parquet(file) for file in files]
    context.register_view(TABLE, reduce(lambda left, right: left.union(right), scans))
    return lambda query: context.sql(query).to_arrow_table()


def _chdb(files: list[str]) -> Ask:
    from chdb import session as chdb_session

    session: Any = chdb_session.Session()  # type: ignore[no-untyped-call]
    parts = " UNION ALL ".join(f"SELECT * FROM file('{file}', Parquet)" for file in files)  # noqa: S608
    session.query(f"CREATE VIEW {TABLE} AS {parts}")
    return lambda query: session.query(query, "ArrowTable")


def _daft(files: list[str]) -> Ask:
    import daft

    frame = daft.read_parquet(files)
    return lambda query: daft.sql(query, register_globals=False, **{TABLE: frame}).to_arrow()


def _spark(files: list[str]) -> Ask:
    from pyspark.sql import SparkSession

    session = SparkSession.builder.master("local[*]").getOrCreate()
    session.read.parquet(*files).createOrReplaceTempView(TABLE)
    return lambda query: session.sql(query).toArrow()
