"""Claims on schema on write, schema on read, ETL and ELT. All variants use DuckDB.

The data is transformed once when it is stored, or again by each query. The benchmarks determine from how many
queries on the first is cheaper.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb
import numpy as np
import polars as pl

from bench.claims.rides import generated_rides
from bench.figure import Axis, Chart, Figure, Mark, Series, Verdict, assert_equal, verdict_of
from bench.statistics import Ratio
from bench.textbook import ClaimId
from oltp.ingest.seed import draw_shape, draw_tips, draw_zones
from oltp.ingest.tlc import check_files
from oltp.places import NEW_YORK, TLC_UNKNOWN_ZONES, TLC_ZONE_OFFSET, cities
from ridelake.queries import load_queries

QUERIES = load_queries("bench.claims")

PICKUP_FIRST = datetime(2025, 7, 1)  # two months without a change of daylight saving time
PICKUP_SECONDS = 62 * 24 * 3600
METRES_PER_MILE = 1609.344
CENTS_MIN = 400
ROWS_PER_BAD_ROW = 100
COLUMNS = (
    *("VendorID", "tpep_pickup_datetime", "tpep_dropoff_datetime", "trip_distance"),
    *("PULocationID", "DOLocationID", "tip_amount", "total_amount"),
)
# The fields that are overwritten in a bad row; None: the row is a copy of the previous one.
BAD_VALUES = (
    {"total_amount": "-12.50", "tip_amount": "0.00"},
    {"total_amount": "twelve"},
    {"tpep_pickup_datetime": ""},
    {"trip_distance": "0.00"},
    {"tpep_dropoff_datetime": "2025-06-30 12:00:00"},
    {"PULocationID": str(TLC_UNKNOWN_ZONES[0])},
    None,
)


def write_dirty_trips(path: Path, rows: int, seed: int) -> None:
    """Write a header and `rows` lines, with the columns of the TLC's files of yellow taxis."""
    random = np.random.default_rng(seed)
    shape = draw_shape(random, rows)
    city = next(city for city in cities() if city.city_id == NEW_YORK)
    tips = draw_tips(random, rows)
    pickup = pl.Series([PICKUP_FIRST]).dt.epoch("s").item() + random.integers(0, PICKUP_SECONDS, rows)
    trips = pl.DataFrame(
        {
            "VendorID": np.where(random.random(rows) < 0.3, 1, 2),
            "tpep_pickup_datetime": pickup,
            "tpep_dropoff_datetime": pickup + shape.duration_seconds,
            "trip_distance": np.round(shape.distance_metres / METRES_PER_MILE, 2),
            "PULocationID": draw_zones(random, city, rows) - TLC_ZONE_OFFSET,
            "DOLocationID": draw_zones(random, city, rows) - TLC_ZONE_OFFSET,
            "tip_amount": tips / 100,
            "total_amount": (np.maximum(shape.fare_cents, CENTS_MIN) + tips) / 100,
        }
    )
    moments = pl.from_epoch(pl.col("tpep_pickup_datetime", "tpep_dropoff_datetime"))
    texts = trips.with_columns(moments.dt.strftime("%Y-%m-%d %H:%M:%S")).cast(pl.String)
    _with_bad_rows(texts).select(COLUMNS).write_csv(path)


def _with_bad_rows(texts: pl.DataFrame) -> pl.DataFrame:
    dirty = np.arange(ROWS_PER_BAD_ROW, len(texts), ROWS_PER_BAD_ROW)
    columns = {name: texts[name].to_list() for name in texts.columns}
    for number, row in enumerate(dirty.tolist()):
        overwritten = BAD_VALUES[number % len(BAD_VALUES)]
        if overwritten is None:
            overwritten = {name: values[row - 1] for name, values in columns.items()}
        for name, value in overwritten.items():
            columns[name][row] = value
    return pl.DataFrame(columns)


Answer = list[tuple[object, ...]]

QUERIES_MAX = 1_000  # more queries per load are not considered


@dataclass(frozen=True, slots=True)
class StoreAndQuery:
    """Stores data and answers queries. A repeated `store` replaces the stored data."""

    store: Callable[[], None]
    ask: Callable[[], Answer]

    def first(self) -> Answer:
        self.store()
        return self.ask()


@dataclass(frozen=True, slots=True)
class DeferralCosts:
    """`first_seconds`: from the arrival of the data to the first answer. `further_seconds`: each further
    answer."""

    first_seconds: float
    further_seconds: float

    def sum_seconds(self, questions: int) -> float:
        return self.first_seconds + (questions - 1) * self.further_seconds


def crossover(early: DeferralCosts, late: DeferralCosts) -> int | None:
    """The number of queries from which on early transformation is cheaper; None if it never is."""
    paid = (n for n in range(1, QUERIES_MAX + 1) if early.sum_seconds(n) <= late.sum_seconds(n))
    first = next(paid, None)
    lasting = first is not None and early.sum_seconds(QUERIES_MAX) <= late.sum_seconds(QUERIES_MAX)
    return first if lasting else None


def sums_chart(title: str, costs: dict[str, DeferralCosts], crossover_queries: int | None) -> Chart:
    """The total seconds after each number of queries."""
    numbers: Sequence[int] = range(1, 2 * (crossover_queries or 5) + 1)
    lines = [
        Series(name, [*numbers], [cost.sum_seconds(number) for number in numbers])
        for name, cost in costs.items()
    ]
    marks = [Mark(f"from {crossover_queries} queries on", crossover_queries)] if crossover_queries else []
    return Chart("lines", title, Axis("queries"), Axis("total seconds"), lines, marks)


ON_WRITE, ON_READ = "schema on write", "schema on read"
ETL, ELT = "ETL", "ELT"
RIDE_TYPES = {
    "RideID": "BIGINT",
    "Username": "VARCHAR",
    "DriverID": "BIGINT",
    "City": "VARCHAR",
    "Month": "VARCHAR",
    "Price": "DECIMAL(12, 2)",
}
TEXT_TYPES = dict.fromkeys(COLUMNS, "VARCHAR")  # declared, so that DuckDB does not detect them at each query


def bench_schema(figure: Figure, tmp_path: Path) -> None:
    figure.title = "What does a schema on write cost, and what a schema on read?"
    figure.rows = figure.scale.rides
    good, bad = tmp_path / "rides.jsonl", tmp_path / "bad.jsonl"
    pl.DataFrame(generated_rides(0, figure.rows)).with_columns(pl.col("Price").cast(pl.Float64)).write_ndjson(
        good
    )
    bad.write_bytes(_with_a_bad_row(good.read_bytes()))
    with _schemas(good, tmp_path / "good") as variants:
        storing = figure.interleaved(
            {name: variant.store for name, variant in variants.items()}, _no_comparison, label="storing"
        )
        asking = figure.interleaved(
            {name: variant.ask for name, variant in variants.items()}, assert_equal, label="asking"
        )
    with _schemas(bad, tmp_path / "bad") as variants:
        found = {name: bad_row_error_time(variant) for name, variant in variants.items()}
    figure.checked("both return the same answer; both were also run on the same file with one bad price")
    costs = {
        name: DeferralCosts(
            storing.median_seconds(name) + asking.median_seconds(name), asking.median_seconds(name)
        )
        for name in variants
    }
    crossover_queries = crossover(costs[ON_WRITE], costs[ON_READ])
    figure.table(
        f"{figure.rows:,} rides",
        [
            {
                "schema": name,
                "storing, ms": storing.median_seconds(name) * 1000,
                "a query, ms": asking.median_seconds(name) * 1000,
                "a bad row is": found[name],
            }
            for name in variants
        ],
    )
    figure.chart(sums_chart("Stored once, queried often", costs, crossover_queries))
    figure.facts["queries until the schema on write pays off"] = crossover_queries
    write, read = (
        figure.ratio(storing.ratio(ON_WRITE, ON_READ)),
        figure.ratio(asking.ratio(ON_READ, ON_WRITE)),
    )
    figure.set_verdict(ClaimId.SCHEMA, judge(write, read))


def bench_etl_and_elt(figure: Figure, tmp_path: Path) -> None:
    figure.title = "Transform before loading, or at each query?"
    figure.rows = figure.scale.rides
    raw = tmp_path / "yellow_tripdata_2025.csv"
    write_dirty_trips(raw, figure.rows, seed=1)
    (checked,) = check_files([raw])
    good = int((checked.verdicts == 0).sum())
    with _transformations(raw, tmp_path) as variants:
        stored = figure.interleaved(
            {name: variant.store for name, variant in variants.items()}, _no_comparison, label="stored"
        )
        first = figure.interleaved(
            {name: variant.first for name, variant in variants.items()}, assert_equal, label="first answer"
        )
        further = figure.interleaved(
            {name: variant.ask for name, variant in variants.items()}, assert_equal, label="each further"
        )
        for name, variant in variants.items():
            counted = sum(int(str(row[1])) for row in variant.ask())
            assert counted == good, f"{name} finds {counted} trips, the loader of the store finds {good}"
    figure.checked(
        f"both return the same answer over {good:,} trips; the loader of the store accepts as many "
        f"of the {figure.rows:,} rows"
    )
    costs = {
        name: DeferralCosts(first.median_seconds(name), further.median_seconds(name)) for name in variants
    }
    crossover_queries = crossover(costs[ETL], costs[ELT])
    figure.table(
        f"{figure.rows:,} rows, {figure.rows - good:,} of them bad",
        [
            {
                "variant": name,
                "stored, ms": stored.median_seconds(name) * 1000,
                "first answer, ms": cost.first_seconds * 1000,
                "each further, ms": cost.further_seconds * 1000,
            }
            for name, cost in costs.items()
        ],
    )
    figure.chart(sums_chart("Loaded once, queried often", costs, crossover_queries))
    figure.facts["queries until ETL pays off"] = crossover_queries
    figure.ratio(stored.ratio(ETL, ELT))
    earlier, slower = figure.ratio(first.ratio(ETL, ELT)), figure.ratio(further.ratio(ELT, ETL))
    figure.set_verdict(ClaimId.ETL_AND_ELT, judge(earlier, slower))


def judge(early: Ratio, late: Ratio) -> Verdict:
    """The claim has two parts: early transformation delays the first answer, late transformation each
    answer."""
    return verdict_of(early.low > 1, late.low > 1)


@contextmanager
def _schemas(arrived: Path, folder: Path) -> Iterator[dict[str, StoreAndQuery]]:
    """JSON lines: converted to a typed Parquet file when they are stored, or copied unchanged."""
    folder.mkdir()
    typed, raw = folder / "rides.parquet", folder / "rides.jsonl"
    question = QUERIES["ask_schema"]
    with duckdb.connect(":memory:") as database:

        def write_typed() -> None:
            _json(database, arrived).write_parquet(str(typed), compression="zstd")
            _fsync(typed)

        def copy_raw() -> None:
            shutil.copyfile(arrived, raw)
            _fsync(raw)

        def ask(rides: duckdb.DuckDBPyRelation) -> Answer:
            rides.create_view("rides")
            return database.execute(question).fetchall()

        yield {
            ON_WRITE: StoreAndQuery(write_typed, lambda: ask(database.read_parquet(str(typed)))),
            ON_READ: StoreAndQuery(copy_raw, lambda: ask(_json(database, raw))),
        }


def _json(database: duckdb.DuckDBPyConnection, file: Path) -> duckdb.DuckDBPyRelation:
    return database.read_json(str(file), columns=RIDE_TYPES, format="newline_delimited")


@contextmanager
def _transformations(arrived: Path, folder: Path) -> Iterator[dict[str, StoreAndQuery]]:
    """The same SELECT cleans the trips: once into a Parquet file, or in each query from raw text."""
    clean, raw = folder / "trips.parquet", folder / "trips.csv"
    transform, question = QUERIES["clean_trips"], QUERIES["ask_trips"]
    with duckdb.connect(":memory:") as database:

        def trips(file: Path) -> duckdb.DuckDBPyRelation:
            lines = database.read_csv(
                str(file), header=True, auto_detect=False, delimiter=",", columns=TEXT_TYPES
            )
            lines.create_view("raw_trips")
            return database.sql(transform)

        def write_clean() -> None:
            trips(arrived).write_parquet(str(clean), compression="zstd")
            _fsync(clean)

        def copy_raw() -> None:
            shutil.copyfile(arrived, raw)
            _fsync(raw)

        def ask(cleaned: duckdb.DuckDBPyRelation) -> Answer:
            cleaned.create_view("trips")
            return database.execute(question).fetchall()

        yield {
            ETL: StoreAndQuery(write_clean, lambda: ask(database.read_parquet(str(clean)))),
            ELT: StoreAndQuery(copy_raw, lambda: ask(trips(raw))),
        }


def bad_row_error_time(variant: StoreAndQuery) -> str:
    """When a pipeline reports a bad row."""
    try:
        variant.store()
    except duckdb.Error:
        return "refused when written"
    try:
        variant.ask()
    except duckdb.Error:
        return "found by the first query"
    return "not found"


def _with_a_bad_row(lines: bytes) -> bytes:
    """The price of a row in the middle is not a number."""
    middle = lines.index(b'"Price":', len(lines) // 2) + len(b'"Price":')
    return lines[:middle] + b'"twenty"' + lines[lines.index(b"}", middle) :]


def _fsync(file: Path) -> None:
    """Flush the file to disk, as a durable store does."""
    with file.open("rb") as written:
        os.fsync(written.fileno())


def _no_comparison(results: dict[str, None]) -> None:
    """Storing returns nothing to compare; the queries over the stored data are compared."""
