"""All rides unloaded into one file of text or one of Parquet, by the row store and by a column store.

Postgres writes CSV itself; Parquet is made of its binary COPY by `lakehouse.extract`. DuckDB writes both
itself, from a table of its own. Parquet is compressed with zstd, as in the lake; nobody waits for the disk.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.resources import files
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from psycopg import Connection
from psycopg.rows import TupleRow

from bench.claims.formats.fidelity import identical
from bench.claims.formats.rides import rides_table
from bench.claims.formats.text import CSV
from bench.claims.words import Saying
from bench.conftest import Ground
from bench.exporters import heap_source
from bench.figure import Axis, Chart, Contest, Figure, Series, Verdict
from lakehouse.columns import arrow_schema
from lakehouse.epoch import Epoch
from lakehouse.extract import export
from lakehouse.source import TableSource
from oltp.store import Store

ENGINES = ("Postgres", "DuckDB")
# Said of Amazon Redshift: up to.
TIMES_FASTER = 2
TIMES_SMALLER = 6

Unload = Callable[[], Path]


def bench_unload(figure: Figure, ground: Ground, epoch: Epoch, tmp_path: Path) -> None:
    figure.title = (
        "How much faster are rides unloaded to Parquet than to text, and how much smaller are they?"
    )
    figure.rows = epoch.tables["rides"].rows
    rides = rides_table(epoch, figure.rows).sort_by("ride_id")
    paths: dict[str, Path] = {}

    def compare(found: dict[str, Path]) -> None:
        _assert_all_are(rides, found)
        paths.update(found)

    with _unloads(ground, rides, tmp_path) as variants:
        contest = figure.interleaved(variants, compare)
    figure.checked("the rides in each file, sorted by their number, equal those of the epoch")
    sizes = {name: path.stat().st_size for name, path in paths.items()}
    zstd = {name: len(pa.compress(path.read_bytes(), codec="zstd")) for name, path in paths.items()}
    figure.table(
        f"{figure.rows:,} rides unloaded",
        [
            {"unload": name, "seconds": contest.median_seconds(name), "bytes": size, "bytes_zstd": zstd[name]}
            for name, size in sizes.items()
        ],
    )
    bars = [Series("bytes", list(sizes), list(sizes.values()))]
    figure.chart(Chart("bars", f"Bytes of {figure.rows:,} rides", Axis("unload"), Axis("bytes"), bars))
    _judge(figure, contest, sizes, zstd)


def _variant(form: str, engine: str) -> str:
    return f"{form} from {engine}"


@contextmanager
def _unloads(ground: Ground, rides: pa.Table, folder: Path) -> Iterator[dict[str, Unload]]:
    with ground.store.connect() as postgres, duckdb.connect(folder / "unload.duckdb") as columns:
        columns.from_arrow(rides).create("rides")
        columns.execute("CHECKPOINT")
        source = heap_source(postgres, "rides", ("ride_id",))
        yield {
            _variant("CSV", "Postgres"): partial(_csv_of_postgres, postgres, folder / "postgres.csv"),
            _variant("Parquet", "Postgres"): partial(
                _parquet_of_postgres, ground.store, source, folder / "postgres.parquet"
            ),
            _variant("CSV", "DuckDB"): partial(_csv_of_duckdb, columns, folder / "duckdb.csv"),
            _variant("Parquet", "DuckDB"): partial(_parquet_of_duckdb, columns, folder / "duckdb.parquet"),
        }


def _csv_of_postgres(connection: Connection[TupleRow], path: Path) -> Path:
    query = files("bench.claims").joinpath("unload_rides.sql").read_bytes()
    with path.open("wb") as file, connection.cursor() as cursor, cursor.copy(query) as copy:
        file.writelines(copy)
    return path


def _parquet_of_postgres(store: Store, source: TableSource, path: Path) -> Path:
    schema = arrow_schema(source.columns)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        export(store, None, source, writer.write_table, workers=1, on_rows=lambda rows: None)
    return path


def _csv_of_duckdb(connection: duckdb.DuckDBPyConnection, path: Path) -> Path:
    connection.table("rides").write_csv(str(path), header=True)
    return path


def _parquet_of_duckdb(connection: duckdb.DuckDBPyConnection, path: Path) -> Path:
    connection.table("rides").write_parquet(str(path), compression="zstd")
    return path


def _assert_all_are(rides: pa.Table, paths: dict[str, Path]) -> None:
    for variant, path in paths.items():
        if path.suffix == ".csv":
            found = CSV.read(path, rides.schema, rides.column_names)
        else:
            found = pq.read_table(path).select(rides.column_names).cast(rides.schema)
        assert identical(found.sort_by("ride_id"), rides), variant


def _judge(figure: Figure, contest: Contest, sizes: dict[str, int], zstd: dict[str, int]) -> None:
    faster = [figure.ratio(contest.ratio(_variant("CSV", e), _variant("Parquet", e))) for e in ENGINES]
    smaller = [sizes[_variant("CSV", e)] / sizes[_variant("Parquet", e)] for e in ENGINES]
    behind_zstd = [zstd[_variant("CSV", e)] / sizes[_variant("Parquet", e)] for e in ENGINES]
    reached = max(ratio.high for ratio in faster) >= TIMES_FASTER and max(smaller) >= TIMES_SMALLER
    verdict: Verdict = "does not hold"
    if any(ratio.low > 1 for ratio in faster) or min(smaller) > 1:
        verdict = "holds" if reached and all(ratio.low > 1 for ratio in faster) else "holds in part"
    figure.state(
        Saying.PARQUET,
        verdict,
        f"Over {figure.rows:,} rides, {faster[0].words()}, and {faster[1].words()}, where up to "
        f"{TIMES_FASTER} is said. CSV has {smaller[0]:.1f} and {smaller[1]:.1f} times the bytes of Parquet, "
        f"where up to {TIMES_SMALLER} is said; compressed with zstd, as Parquet is, {behind_zstd[0]:.1f} and "
        f"{behind_zstd[1]:.1f} times.",
    )
