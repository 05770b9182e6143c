"""Claims about engines: the average price over rows and over columns, and several engines over the same
files."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from math import isclose
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from psycopg import Connection
from psycopg.rows import TupleRow

from bench.env import BenchEnv, scratch_schema
from bench.figure import Axis, Cell, Chart, Figure, Series, VariantTimes, Verdict
from bench.statistics import Ratio, quartiles
from bench.textbook import ClaimId
from lakehouse.engines import ENGINES, omitted_from_all, open_engine, open_engines, ride_table_view
from lakehouse.engines.duckdb import DuckDB
from lakehouse.table.epoch import Epoch
from lakehouse.table.storage import Storage
from olap.answer import compare_answers
from olap.ask import answer_of
from olap.question import find_question
from oltp.ingest.bulk import copy_into
from ridelake.queries import load_queries
from ridelake.settings import LakeAddress

QUERIES = load_queries("bench.claims")

POSTGRES, POSTGRES_INDEXED, DUCKDB = "Postgres", "Postgres with a covering index", "DuckDB over Parquet"
AVERAGE = "SELECT AVG(Price) FROM RideTable WHERE City = 'Stanford' AND Month = 'July'"
AVERAGE_INDEXED = "SELECT AVG(Price) FROM IndexedRideTable WHERE City = 'Stanford' AND Month = 'July'"
OWN_COPY = "duckdb with its own copy"
PARQUET = "rides.parquet"
QUESTIONS = ("average_price", "revenue_by_city_and_month", "busiest_pickup_zones")

Average = Callable[[], float]


def bench_average_price(figure: Figure, env: BenchEnv, epoch: Epoch, tmp_path: Path) -> None:
    figure.title = (
        "From how many rows on is a column store faster at the average price of a city and a month?"
    )
    with open_engine("duckdb", env.settings, epoch) as engine:
        rides = engine.sql("SELECT * FROM RideTable ORDER BY RideID")
    # In random order, because an order by city would make the query faster.
    rides = rides.take(np.random.default_rng(1).permutation(len(rides)))
    all_times: dict[int, VariantTimes] = {}
    for part in (rides.slice(0, len(rides) // 10), rides, pa.concat_tables([rides] * 10)):
        with scratch_schema(env.store) as connection, _averages(connection, part, tmp_path) as variants:
            all_times[len(part)] = figure.interleaved(variants, _equal, label=f"{len(part):,} rows")
            sizes = _sizes(connection, tmp_path / PARQUET)
    figure.rows = max(all_times)
    figure.checked(
        "the averages over rows, index and columns are equal at each size, to a relative error of 1e-9"
    )
    figure.chart(_lines(all_times))
    figure.table(
        "Milliseconds per query",
        [
            {
                "rows": rows,
                **{name: times.median_seconds(name) * 1000 for name in (POSTGRES, POSTGRES_INDEXED, DUCKDB)},
            }
            for rows, times in all_times.items()
        ],
    )
    figure.table(f"Bytes of {figure.rows:,} rows", [sizes])
    plain = {rows: figure.ratio(times.ratio(POSTGRES, DUCKDB)) for rows, times in all_times.items()}
    indexed = {rows: figure.ratio(times.ratio(POSTGRES_INDEXED, DUCKDB)) for rows, times in all_times.items()}
    figure.set_verdict(ClaimId.AVERAGE_PRICE, judge_columns(plain, indexed[figure.rows]))


@contextmanager
def _averages(
    connection: Connection[TupleRow], rides: pa.Table, folder: Path
) -> Iterator[dict[str, Average]]:
    """The same rides with the columns of RideTable: as rows, as rows with an index, and in a Parquet file."""
    frame = pl.DataFrame(rides).rename(str.lower)
    connection.execute(QUERIES["ride_table"])
    copy_into(connection, "ridetable", frame)
    connection.execute(QUERIES["ride_table_index"])
    connection.execute("VACUUM (ANALYZE) RideTable, IndexedRideTable")
    file = folder / PARQUET
    pq.write_table(rides, file, compression="zstd")
    with duckdb.connect(":memory:") as columns:
        columns.read_parquet(str(file)).create_view("RideTable")
        yield {
            POSTGRES: lambda: float(connection.execute(AVERAGE).fetchall()[0][0]),
            POSTGRES_INDEXED: lambda: float(connection.execute(AVERAGE_INDEXED).fetchall()[0][0]),
            DUCKDB: lambda: float(columns.execute(AVERAGE).fetchall()[0][0]),
        }


def _sizes(connection: Connection[TupleRow], file: Path) -> dict[str, Cell]:
    row = connection.execute(
        "SELECT pg_table_size('IndexedRideTable'), pg_indexes_size('IndexedRideTable')"
    ).fetchone()
    assert row is not None
    return {"the rows in Postgres": row[0], "the covering index": row[1], "Parquet": file.stat().st_size}


def _equal(answers: dict[str, float]) -> None:
    first, *others = answers.values()
    assert all(isclose(first, other, rel_tol=1e-9) for other in others), answers


def _lines(all_times: dict[int, VariantTimes]) -> Chart:
    lines = []
    for name in (POSTGRES, POSTGRES_INDEXED, DUCKDB):
        ms = [np.array(times.samples[name].seconds) * 1000 for times in all_times.values()]
        lines.append(Series(name, list(all_times), *quartiles(ms)))
    axes = Axis("rows", log=True), Axis("ms per query (median, quartiles)", log=True)
    return Chart("lines", "AVG(Price) of Stanford in July", *axes, lines)


def judge_columns(plain: dict[int, Ratio], indexed: Ratio) -> Verdict:
    """`plain`: the time over rows divided by the time over columns, by the number of rows. `indexed`: the
    same with a covering index, at the largest number of rows."""
    largest = plain[max(plain)]
    if not (largest.distinguishable and largest.median > 1):
        return "does not hold"
    return "holds" if indexed.distinguishable and indexed.median > 1 else "holds in part"


def bench_one_storage(figure: Figure, env: BenchEnv, epoch: Epoch, tmp_path: Path) -> None:
    figure.title = "How many engines answer from the same files?"
    left_out = omitted_from_all(env.settings)
    names = [name for name in ENGINES if name not in left_out and name != "postgres"]
    before = _stored(env.settings.lake)
    all_times: dict[str, VariantTimes] = {}
    with (
        open_engines(names, env.settings, epoch) as engines,
        _own_copy(epoch, tmp_path / "own.duckdb") as copy,
    ):
        for question in map(find_question, QUESTIONS):
            variants = {engine.name: partial(answer_of, engine, question) for engine in engines}
            all_times[question.name] = figure.interleaved(
                variants | {OWN_COPY: partial(answer_of, copy, question)},
                partial(compare_answers, question),
                label=question.name,
                seconds=figure.scale.seconds / 2,
            )
        copy_bytes = (tmp_path / "own.duckdb").stat().st_size
    assert _stored(env.settings.lake) == before, "an engine changed the lake"
    figure.rows = epoch.rows
    figure.checked(
        f"all engines return the same answer to each of {len(QUESTIONS)} questions; no file of the lake was "
        "added, changed or removed"
    )
    figure.table(
        f"{len(epoch.files)} files, {epoch.bytes:,} bytes, read by each engine; last, a copy in DuckDB's own "
        f"format, {copy_bytes:,} bytes",
        [
            {"engine": name, **{f"{q}, ms": c.median_seconds(name) * 1000 for q, c in all_times.items()}}
            for name in (*names, OWN_COPY)
        ],
    )
    bars = [
        Series(asked, [*names, OWN_COPY], [c.median_seconds(name) * 1000 for name in (*names, OWN_COPY)])
        for asked, c in all_times.items()
    ]
    figure.chart(Chart("bars", "One copy of the data", Axis("engine"), Axis("ms per query"), bars))
    for times in all_times.values():
        figure.ratio(times.ratio("duckdb", OWN_COPY))
    figure.set_verdict(ClaimId.DECOUPLED, "holds" if len(names) > 1 else "does not hold")


@contextmanager
def _own_copy(epoch: Epoch, file: Path) -> Iterator[DuckDB]:
    """Coupled storage: a copy of the tables in the engine's own format."""
    with duckdb.connect(str(file)) as database:
        for name, table in epoch.tables.items():
            database.read_parquet(table.locations).create(name)
        database.execute(ride_table_view())
        database.execute("SET TimeZone = 'UTC'")
        database.execute("CHECKPOINT")
        yield DuckDB(database)


def _stored(lake: LakeAddress) -> dict[str, float]:
    """The files of the lake and the time of their last change."""
    return {file.location: file.modified_at.timestamp() for file in Storage.of(lake).files_under()}
