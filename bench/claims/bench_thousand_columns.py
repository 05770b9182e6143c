"""A table of 1,000 columns, of which four are read: time, place, distance and price.

The four columns are not adjacent. The kernel counts the bytes that a reader requests, including bytes in the
page cache.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest
from pyarrow import ipc

from bench.claims.formats.columnar import ARROW_IPC, PARQUET
from bench.claims.formats.fidelity import identical
from bench.claims.formats.text import CSV
from bench.claims.words import Saying
from bench.conftest import SEED
from bench.figure import Axis, Chart, Figure, Series, Verdict
from bench.sampling import Ratio

COLUMNS = 1_000
# The columns to read, by position.
WANTED = {0: "time", 333: "place", 666: "distance", 999: "price"}
# Four of 1,000 columns are 0.4 % of the values. A reader also needs the metadata of all columns.
SHARE_MAX = 0.05


def bench_thousand_columns(figure: Figure, tmp_path: Path) -> None:
    figure.title = f"How much of a table of {COLUMNS:,} columns is read for four of them?"
    figure.rows = figure.scale.rides // 20
    features = feature_table(figure.rows)
    wanted = features.select(list(WANTED.values()))
    paths = _write(features, tmp_path)
    reads = {
        form.name: partial(form.read, paths[form.name], features.schema, wanted.column_names)
        for form in (CSV, ARROW_IPC, PARQUET)
    }

    def compare(tables: dict[str, pa.Table]) -> None:
        assert all(identical(table, wanted) for table in tables.values())

    contest = figure.interleaved(reads, compare)
    figure.checked("the four columns read from each format equal those of the table, bit by bit")
    bytes_all = {name: path.stat().st_size for name, path in paths.items()}
    bytes_taken = {name: bytes_read(read) for name, read in reads.items()}
    figure.table(
        f"Four of {COLUMNS:,} columns, {figure.rows:,} rides",
        [
            {
                "format": name,
                "seconds": contest.median_seconds(name),
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
    title = f"Bytes read for four of {COLUMNS:,} columns"
    figure.chart(Chart("bars", title, Axis("format"), Axis("bytes", log=True), bars))
    shares = {name: bytes_taken[name] / bytes_all[name] for name in reads}
    _judge(
        figure, shares, {name: figure.ratio(contest.ratio("CSV", name)) for name in shares if name != "CSV"}
    )


def feature_table(rows: int) -> pa.Table:
    """The four columns, and features for a model: counts, and shares with three decimals."""
    random = np.random.default_rng(SEED)
    columns = {}
    for number in range(COLUMNS):
        name = WANTED.get(number, f"feature_{number}")
        whole = random.integers(0, 10_000, rows)
        columns[name] = whole if number % 2 or number in WANTED else whole / 1_000
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
    """The bytes that this process read from files meanwhile. Skips the benchmark if the system does not count
    them."""
    process = psutil.Process()
    if not hasattr(process, "io_counters") or not hasattr(process.io_counters(), "read_chars"):
        pytest.skip("this system does not count the bytes that a process reads")
    before = process.io_counters().read_chars
    read()
    return int(process.io_counters().read_chars - before)


def _judge(figure: Figure, shares: dict[str, float], times: dict[str, Ratio]) -> None:
    right = [shares[name] < SHARE_MAX and ratio.low > 1 for name, ratio in times.items()]
    verdict: Verdict = "holds" if all(right) else "holds in part" if any(right) else "does not hold"
    figure.state(Saying.FOUR_OF_THOUSAND, verdict)
