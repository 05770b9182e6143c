"""Claims about when data is converted: when it is written, or each time it is read. DuckDB does the work on
both sides, so only the time of the conversion differs."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import polars as pl

from bench.claims.deferral import Answer, Costs, Pipeline, crossover, sums_chart
from bench.claims.dirty_trips import COLUMNS, write_dirty_trips
from bench.claims.rides import made_up
from bench.claims.words import Saying
from bench.claims.workshop import read_text
from bench.figure import Figure, Verdict
from bench.sampling import Ratio
from oltp.load import check_files

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
TEXTS = dict.fromkeys(COLUMNS, "VARCHAR")  # declared, so that DuckDB does not detect them at each query


def bench_schema(figure: Figure, tmp_path: Path) -> None:
    figure.title = "What does a schema on write cost, and what a schema on read?"
    figure.rows = figure.scale.rides
    good, bad = tmp_path / "rides.jsonl", tmp_path / "bad.jsonl"
    pl.DataFrame(made_up(0, figure.rows)).with_columns(pl.col("Price").cast(pl.Float64)).write_ndjson(good)
    bad.write_bytes(_with_a_bad_row(good.read_bytes()))
    with _schemas(good, tmp_path / "good") as variants:
        storing = figure.interleaved(
            {name: variant.store for name, variant in variants.items()}, _stored, label="storing"
        )
        asking = figure.interleaved(
            {name: variant.ask for name, variant in variants.items()}, _equal, label="asking"
        )
    with _schemas(bad, tmp_path / "bad") as variants:
        found = {name: found_bad_row(variant) for name, variant in variants.items()}
    figure.checked("both return the same answer; both were also run on the same file with one bad price")
    costs = {
        name: Costs(storing.median_seconds(name) + asking.median_seconds(name), asking.median_seconds(name))
        for name in variants
    }
    met = crossover(costs[ON_WRITE], costs[ON_READ])
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
    figure.chart(sums_chart("Stored once, queried often", costs, met))
    figure.facts["queries until the schema on write pays off"] = met
    write, read = (
        figure.ratio(storing.ratio(ON_WRITE, ON_READ)),
        figure.ratio(asking.ratio(ON_READ, ON_WRITE)),
    )
    figure.state(Saying.SCHEMA, judge(write, read))


def bench_etl_and_elt(figure: Figure, tmp_path: Path) -> None:
    figure.title = "Transform before loading, or at each query?"
    figure.rows = figure.scale.rides
    raw = tmp_path / "yellow_tripdata_2025.csv"
    write_dirty_trips(raw, figure.rows, seed=1)
    (checked,) = check_files([raw])
    good = int((checked.verdicts == 0).sum())
    with _transformations(raw, tmp_path) as variants:
        stored = figure.interleaved(
            {name: variant.store for name, variant in variants.items()}, _stored, label="stored"
        )
        first = figure.interleaved(
            {name: variant.first for name, variant in variants.items()}, _equal, label="first answer"
        )
        further = figure.interleaved(
            {name: variant.ask for name, variant in variants.items()}, _equal, label="each further"
        )
        for name, variant in variants.items():
            counted = sum(int(str(row[1])) for row in variant.ask())
            assert counted == good, f"{name} finds {counted} trips, the loader of the store finds {good}"
    figure.checked(
        f"both return the same answer over {good:,} trips; the loader of the store accepts as many "
        f"of the {figure.rows:,} rows"
    )
    costs = {name: Costs(first.median_seconds(name), further.median_seconds(name)) for name in variants}
    met = crossover(costs[ETL], costs[ELT])
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
    figure.chart(sums_chart("Loaded once, queried often", costs, met))
    figure.facts["queries until ETL pays off"] = met
    figure.ratio(stored.ratio(ETL, ELT))
    earlier, slower = figure.ratio(first.ratio(ETL, ELT)), figure.ratio(further.ratio(ELT, ETL))
    figure.state(Saying.ETL_AND_ELT, judge(earlier, slower))


def judge(early: Ratio, late: Ratio) -> Verdict:
    """The claim has two parts: early work takes time at the start, late work takes time at each query."""
    longer = [ratio.distinguishable and ratio.median > 1 for ratio in (early, late)]
    return "holds" if all(longer) else "holds in part" if any(longer) else "does not hold"


@contextmanager
def _schemas(arrived: Path, folder: Path) -> Iterator[dict[str, Pipeline]]:
    """JSON lines: converted to a typed Parquet file when they are stored, or copied unchanged."""
    folder.mkdir()
    typed, raw = folder / "rides.parquet", folder / "rides.jsonl"
    question = read_text("ask_schema.sql")
    with duckdb.connect(":memory:") as database:

        def write_typed() -> None:
            _json(database, arrived).write_parquet(str(typed), compression="zstd")
            _settle(typed)

        def copy_raw() -> None:
            shutil.copyfile(arrived, raw)
            _settle(raw)

        def ask(rides: duckdb.DuckDBPyRelation) -> Answer:
            rides.create_view("rides")
            return database.execute(question).fetchall()

        yield {
            ON_WRITE: Pipeline(write_typed, lambda: ask(database.read_parquet(str(typed)))),
            ON_READ: Pipeline(copy_raw, lambda: ask(_json(database, raw))),
        }


def _json(database: duckdb.DuckDBPyConnection, file: Path) -> duckdb.DuckDBPyRelation:
    return database.read_json(str(file), columns=RIDE_TYPES, format="newline_delimited")


@contextmanager
def _transformations(arrived: Path, folder: Path) -> Iterator[dict[str, Pipeline]]:
    """The same SELECT cleans the trips: once into a Parquet file, or in each query from raw text."""
    clean, raw = folder / "trips.parquet", folder / "trips.csv"
    transform, question = read_text("clean_trips.sql"), read_text("ask_trips.sql")
    with duckdb.connect(":memory:") as database:

        def trips(file: Path) -> duckdb.DuckDBPyRelation:
            lines = database.read_csv(str(file), header=True, auto_detect=False, delimiter=",", columns=TEXTS)
            lines.create_view("raw_trips")
            return database.sql(transform)

        def write_clean() -> None:
            trips(arrived).write_parquet(str(clean), compression="zstd")
            _settle(clean)

        def copy_raw() -> None:
            shutil.copyfile(arrived, raw)
            _settle(raw)

        def ask(cleaned: duckdb.DuckDBPyRelation) -> Answer:
            cleaned.create_view("trips")
            return database.execute(question).fetchall()

        yield {
            ETL: Pipeline(write_clean, lambda: ask(database.read_parquet(str(clean)))),
            ELT: Pipeline(copy_raw, lambda: ask(trips(raw))),
        }


def found_bad_row(variant: Pipeline) -> str:
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


def _settle(file: Path) -> None:
    """Flush the file to disk, as a durable store does."""
    with file.open("rb") as written:
        os.fsync(written.fileno())


def _stored(results: dict[str, None]) -> None:
    """Nothing to compare: the query over the stored data is compared instead."""


def _equal(answers: dict[str, Answer]) -> None:
    first, *others = answers.values()
    assert first, "no answer"
    assert all(other == first for other in others), answers
