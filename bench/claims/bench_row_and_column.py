"""Row-major and column-major storage: adding rows, and reading few of many columns.

Three tasks are measured. Add n rides, Python objects in memory, to a file; a column format cannot be appended
to, so a new file is written. Read k of 16 columns of a file into memory. Compute sums of k columns over a
table of Postgres and of DuckDB.

The four columns are not adjacent. The kernel counts the bytes that a reader requests, including bytes in the
page cache.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count, pairwise
from math import exp, log
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest
from pyarrow import ipc

from bench.claims.file_format import FileFormat, identical, rides_table
from bench.claims.formats import ARROW_IPC, AVRO, CSV, JSONL, PARQUET
from bench.env import SEED, BenchEnv
from bench.figure import Axis, Cell, Chart, Figure, Mark, Series, VariantTimes, Verdict, verdict_of
from bench.statistics import Ratio
from bench.textbook import ClaimId
from lakehouse.table.epoch import Epoch
from ridelake.queries import load_queries

QUERIES = load_queries("bench.claims")

ROWS = (CSV, JSONL, AVRO)
COLUMNS = (ARROW_IPC, PARQUET)
ADDED_ROWS = (1, 10, 100, 1_000)
READ_COLUMNS: dict[int, Sequence[str]] = {
    1: ("fare_cents",),
    4: ("requested_at", "pickup_zone_id", "distance_metres", "fare_cents"),
}
SUMMED_COLUMNS = (1, 4, 8)
GRID_ROWS = (10, 100, 1_000, 5_000, 50_000)


def bench_row_and_column(figure: Figure, env: BenchEnv, epoch: Epoch, tmp_path: Path) -> None:
    figure.title = "Which formats are faster to add rows to, and which to read a few columns of?"
    rides = rides_table(epoch, figure.scale.rides // 4)
    few = rides.slice(0, figure.scale.rides // 20).combine_chunks()
    figure.rows = few.num_rows
    adding = {n: _adding(figure, rides.slice(0, n), tmp_path) for n in ADDED_ROWS}
    reading = {k: _reading(figure, few, columns, tmp_path) for k, columns in _columns(rides).items()}
    summing = _summing(figure, env, epoch, tmp_path)
    _report_formats(figure, adding, reading)
    _draw_grid(figure, rides, tmp_path)
    figure.checked(
        "the added rows are at the end of the file; the rows read equal the rides, bit by bit; the "
        "sums of both engines are equal"
    )
    _set_verdict(figure, adding, reading, summing)


def _columns(rides: pa.Table) -> dict[int, Sequence[str]]:
    return READ_COLUMNS | {rides.num_columns: rides.column_names}


def _adding(figure: Figure, added: pa.Table, folder: Path) -> VariantTimes:
    rows, numbers = added.to_pylist(), count()

    def add(form: FileFormat) -> Path:
        stem = "added" if form.appends else f"added-{next(numbers)}"
        path = folder / f"{stem}-{len(rows)}.{form.name}"
        form.write(rows, added.schema, path)
        return path

    def compare(paths: dict[str, Path]) -> None:
        for form in (*ROWS, *COLUMNS):
            found = form.read(paths[form.name], added.schema, added.column_names)
            assert identical(found.slice(found.num_rows - len(rows)), added), form.name

    variants = {form.name: partial(add, form) for form in (*ROWS, *COLUMNS)}
    return figure.interleaved(variants, compare, label=f"add {len(rows)}", seconds=figure.scale.seconds / 2)


def _reading(figure: Figure, rides: pa.Table, columns: Sequence[str], folder: Path) -> VariantTimes:
    def compare(tables: dict[str, pa.Table]) -> None:
        for name, table in tables.items():
            assert identical(table, rides.select(columns)), name

    variants: dict[str, Callable[[], pa.Table]] = {}
    for form in (*ROWS, *COLUMNS):
        path = _written(form, rides, folder)
        variants[form.name] = partial(form.read, path, rides.schema, columns)
    label = f"read {len(columns)} of 16 columns"
    return figure.interleaved(variants, compare, label=label, seconds=figure.scale.seconds / 2)


def _written(form: FileFormat, rides: pa.Table, folder: Path) -> Path:
    path = folder / f"rides-{rides.num_rows}.{form.name}"
    if not path.exists():
        form.write(rides.to_pylist(), rides.schema, path)
    return path


def _summing(figure: Figure, env: BenchEnv, epoch: Epoch, folder: Path) -> VariantTimes:
    """Sums of 1, 4 and 8 columns over the engines' own tables; the result is a single row."""
    with env.store.connect() as postgres, duckdb.connect(folder / "rides.duckdb") as columns:
        columns.read_parquet([file.location for file in epoch.tables["rides"].files]).create("rides")
        columns.execute("CHECKPOINT")
        variants: dict[str, Callable[[], list[int]]] = {}
        for k in SUMMED_COLUMNS:
            query = QUERIES[f"sum_{k}"]
            variants[_variant("Postgres", k)] = partial(_sums, postgres, query)
            variants[_variant("DuckDB", k)] = partial(_sums, columns, query)
        return figure.interleaved(variants, _assert_sums, label="sum", seconds=figure.scale.seconds)


def _variant(engine: str, columns: int) -> str:
    return f"the sum of {columns} column{'s' if columns > 1 else ''} in {engine}"


def _sums(connection: Any, query: str) -> list[int]:
    return [int(number) for number in connection.execute(query).fetchone()]


def _assert_sums(sums: dict[str, list[int]]) -> None:
    for k in SUMMED_COLUMNS:
        assert sums[_variant("Postgres", k)] == sums[_variant("DuckDB", k)]
        assert len(sums[_variant("DuckDB", k)]) == k


def _report_formats(
    figure: Figure, adding: dict[int, VariantTimes], reading: dict[int, VariantTimes]
) -> None:
    table: list[dict[str, Cell]] = [{"format": f.name, "layout": f.layout} for f in (*ROWS, *COLUMNS)]
    for row in table:
        name = str(row["format"])
        row |= {f"add_{n}_rows_seconds": c.median_seconds(name) for n, c in adding.items()}
        row |= {f"read_{k}_columns_seconds": c.median_seconds(name) for k, c in reading.items()}
    figure.table(f"Adding rows, and reading columns of {figure.rows:,} rows", table)
    for title, x, all_times in (
        ("Seconds to add rows", Axis("rows added per call", log=True), adding),
        (f"Seconds to read columns of {figure.rows:,} rows", Axis("columns read of 16"), reading),
    ):
        series = [
            Series(form.name, list(all_times), [c.median_seconds(form.name) for c in all_times.values()])
            for form in (*ROWS, *COLUMNS)
        ]
        figure.chart(Chart("lines", title, x, Axis("seconds", log=True), series))


def _draw_grid(figure: Figure, rides: pa.Table, folder: Path) -> None:
    """Which of the two formats is faster, by the number of rows and of columns read."""
    rows: list[Cell] = []
    read: list[Cell] = []
    times: list[Cell] = []
    marks: list[Mark] = []
    for k, columns in _columns(rides).items():
        ratios: dict[int, float] = {}
        for n in (n for n in GRID_ROWS if n <= rides.num_rows):
            ratios[n] = _csv_over_parquet(figure, rides.slice(0, n).combine_chunks(), columns, folder).median
        rows += ratios
        read += [k] * len(ratios)
        times += ratios.values()
        marks += [Mark(f"equal at {x:,.0f} rows", x, k) for x in crossings(ratios)]
    series = Series("CSV / Parquet", rows, read, colour=times)
    title = "Time to read CSV divided by the time to read Parquet"
    axes = Axis("rows in the file", log=True), Axis("columns read of 16")
    figure.chart(Chart("points", title, *axes, [series], marks, colour="CSV / Parquet"))
    figure.facts["csv_and_parquet_equal_at_rows"] = ", ".join(f"{m.y}: {m.x:,.0f}" for m in marks) or None


def _csv_over_parquet(figure: Figure, rides: pa.Table, columns: Sequence[str], folder: Path) -> Ratio:
    def compare(tables: dict[str, pa.Table]) -> None:
        assert identical(tables["CSV"], tables["Parquet"])

    variants = {
        f.name: partial(f.read, _written(f, rides, folder), rides.schema, columns) for f in (CSV, PARQUET)
    }
    label = f"grid: {len(columns)} columns of {rides.num_rows:,} rows"
    times = figure.interleaved(variants, compare, label=label, seconds=figure.scale.seconds / 20)
    return times.ratio("CSV", "Parquet")


def crossings(ratios: dict[int, float]) -> Iterator[float]:
    """The numbers of rows at which a ratio passes 1, interpolated on logarithmic axes."""
    points = sorted(ratios.items())
    for (x, y), (next_x, next_y) in pairwise(points):
        if (y < 1) != (next_y < 1):
            share = -log(y) / (log(next_y) - log(y))
            yield exp(log(x) + share * (log(next_x) - log(x)))


def _set_verdict(
    figure: Figure, adding: dict[int, VariantTimes], reading: dict[int, VariantTimes], summing: VariantTimes
) -> None:
    pairs = [(row.name, column.name) for row in ROWS for column in COLUMNS]
    adds = {n: [c.ratio(column, row).low > 1 for row, column in pairs] for n, c in adding.items()}
    reads = [reading[4].ratio(row, column).low > 1 for row, column in pairs]
    verdict: Verdict = "does not hold"
    if any(adds[1]) or any(reads):
        verdict = "holds" if all(reads) and all(map(all, adds.values())) else "holds in part"
    for rows in (1, max(adding)):
        figure.ratio(adding[rows].ratio("Parquet", "CSV"))
    figure.ratio(reading[4].ratio("CSV", "Parquet"))
    for engine in ("Postgres", "DuckDB"):
        figure.ratio(summing.ratio(_variant(engine, SUMMED_COLUMNS[-1]), _variant(engine, SUMMED_COLUMNS[0])))
    figure.set_verdict(ClaimId.ROW_AND_COLUMN, verdict)


FEATURE_COLUMNS = 1_000
# The columns to read, by position.
READ_FEATURES = {0: "time", 333: "place", 666: "distance", 999: "price"}
# Four of 1,000 columns are 0.4 % of the values. A reader also needs the metadata of all columns.
READ_SHARE_MAX = 0.05


def bench_thousand_columns(figure: Figure, tmp_path: Path) -> None:
    figure.title = f"How much of a table of {FEATURE_COLUMNS:,} columns is read for four of them?"
    figure.rows = figure.scale.rides // 20
    features = feature_table(figure.rows)
    wanted = features.select(list(READ_FEATURES.values()))
    paths = _write(features, tmp_path)
    reads = {
        form.name: partial(form.read, paths[form.name], features.schema, wanted.column_names)
        for form in (CSV, ARROW_IPC, PARQUET)
    }

    def compare(tables: dict[str, pa.Table]) -> None:
        assert all(identical(table, wanted) for table in tables.values())

    times = figure.interleaved(reads, compare)
    figure.checked("the four columns read from each format equal those of the table, bit by bit")
    bytes_all = {name: path.stat().st_size for name, path in paths.items()}
    bytes_taken = {name: bytes_read(read) for name, read in reads.items()}
    figure.table(
        f"Four of {FEATURE_COLUMNS:,} columns, {figure.rows:,} rides",
        [
            {
                "format": name,
                "seconds": times.median_seconds(name),
                "bytes_read": bytes_taken[name],
                "bytes": bytes_all[name],
                "share_read": bytes_taken[name] / bytes_all[name],
            }
            for name in reads
        ],
    )
    bars = [
        Series("file", list(bytes_all), list(bytes_all.values())),
        Series("read", list(bytes_taken), list(bytes_taken.values())),
    ]
    title = f"Bytes read for four of {FEATURE_COLUMNS:,} columns"
    figure.chart(Chart("bars", title, Axis("format"), Axis("bytes", log=True), bars))
    shares = {name: bytes_taken[name] / bytes_all[name] for name in reads}
    _judge_thousand_columns(
        figure, shares, {name: figure.ratio(times.ratio("CSV", name)) for name in shares if name != "CSV"}
    )


def feature_table(rows: int) -> pa.Table:
    """The four columns, and features for a model: counts, and shares with three decimals."""
    random = np.random.default_rng(SEED)
    columns = {}
    for number in range(FEATURE_COLUMNS):
        name = READ_FEATURES.get(number, f"feature_{number}")
        whole = random.integers(0, 10_000, rows)
        columns[name] = whole if number % 2 or number in READ_FEATURES else whole / 1_000
    begin = 1_750_000_000_000_000  # July 2025, in microseconds
    columns["time"] = pa.array(begin + columns["time"] * 60_000_000, pa.timestamp("us", tz="UTC"))
    return pa.table(columns)


def _write(features: pa.Table, folder: Path) -> dict[str, Path]:
    """Write the files from columns; only reading is timed."""
    paths = {form.name: folder / f"features.{form.name}" for form in (CSV, ARROW_IPC, PARQUET)}
    pc.write_csv(features, paths[CSV.name])
    with ipc.new_file(paths[ARROW_IPC.name], features.schema) as writer:
        writer.write_table(features)
    pq.write_table(features, paths[PARQUET.name], compression="none")
    return paths


def bytes_read(read: Callable[[], object]) -> int:
    """The bytes that this process reads from files while `read` runs. Skips the benchmark if the system does
    not count them."""
    process = psutil.Process()
    if not hasattr(process, "io_counters") or not hasattr(process.io_counters(), "read_chars"):
        pytest.skip("this system does not count the bytes that a process reads")
    before = process.io_counters().read_chars
    read()
    return int(process.io_counters().read_chars - before)


def _judge_thousand_columns(figure: Figure, shares: dict[str, float], times: dict[str, Ratio]) -> None:
    right = [shares[name] < READ_SHARE_MAX and ratio.low > 1 for name, ratio in times.items()]
    figure.set_verdict(ClaimId.FOUR_OF_THOUSAND, verdict_of(*right))
