"""All rides unloaded into one CSV file or one Parquet file, by Postgres and by DuckDB.

Postgres writes CSV itself; `lakehouse.extract` converts its binary COPY to Parquet. DuckDB writes both
formats from a table of its own. Parquet is compressed with zstd, as in the lake. No variant flushes its file
to disk.
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
# The textbook's figures, for Amazon Redshift: up to.
TIMES_FASTER = 2
TIMES_SMALLER = 6

Unload = Callable[[], Path]


def bench_unload(figure: Figure, ground: Ground, epoch: Epoch, tmp_path: Path) -> None:
    figure.title = "How much faster and smaller is an unload to Parquet than to text?"
    figure.rows = epoch.tables["rides"].rows
    rides = rides_table(epoch, figure.rows).sort_by("ride_id")
    paths: dict[str, Path] = {}

    def compare(found: dict[str, Path]) -> None:
        _assert_all_are(rides, found)
        paths.update(found)

    with _unloads(ground, rides, tmp_path) as variants:
        contest = figure.interleaved(variants, compare)
    figure.checked("the rides in each file, sorted by id, equal those of the epoch")
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
    _judge(figure, contest, sizes)


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


def _judge(figure: Figure, contest: Contest, sizes: dict[str, int]) -> None:
    faster = [figure.ratio(contest.ratio(_variant("CSV", e), _variant("Parquet", e))) for e in ENGINES]
    smaller = [sizes[_variant("CSV", e)] / sizes[_variant("Parquet", e)] for e in ENGINES]
    reached = max(ratio.high for ratio in faster) >= TIMES_FASTER and max(smaller) >= TIMES_SMALLER
    verdict: Verdict = "does not hold"
    if any(ratio.low > 1 for ratio in faster) or min(smaller) > 1:
        verdict = "holds" if reached and all(ratio.low > 1 for ratio in faster) else "holds in part"
    figure.state(Saying.PARQUET, verdict)
