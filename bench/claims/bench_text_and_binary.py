"""The same rides in eight formats: size, speed and preserved values; the unload of all rides to text or
Parquet.

Postgres writes CSV itself; `lakehouse.source.copy` converts its binary COPY to Parquet. DuckDB writes both
formats from a separate table. Parquet is compressed with zstd, as in the lake. No variant flushes its file
to disk.
"""

import io
import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import duckdb
import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
from psycopg import Connection
from psycopg.rows import TupleRow

from bench.claims.file_format import FileFormat, Row, identical, is_readable, lost, rides_table
from bench.claims.formats import CSV, FORMATS, message_class, runs_code
from bench.env import BenchEnv, heap_source
from bench.figure import Axis, Cell, Chart, Figure, Series, VariantTimes, Verdict
from bench.textbook import ClaimId
from lakehouse.source.copy import export
from lakehouse.source.tables import TableSource
from lakehouse.table.columns import arrow_schema
from lakehouse.table.epoch import Epoch
from oltp.store import Store
from ridelake.queries import load_queries

QUERIES = load_queries("bench.claims")

RIDES_MAX = 5_000  # some formats make Python objects, at 0.1 ms per row
NUMBERS = (7, -5, 1_000_000, 2**31 - 1)
COLUMN_ROWS = 100_000


def bench_text_and_binary(figure: Figure, epoch: Epoch, tmp_path: Path) -> None:
    figure.title = "The same rides in eight formats: how large are they, and how long do they take?"
    rides = rides_table(epoch, min(figure.scale.rides // 20, RIDES_MAX))
    figure.rows = rides.num_rows
    paths = {form.name: tmp_path / f"rides.{form.name}" for form in FORMATS}
    rows = rides.to_pylist()
    writing = figure.interleaved(
        {form.name: partial(_write, form, rows, rides.schema, paths[form.name]) for form in FORMATS},
        lambda answers: _assert_kept(rides, paths),
        label="write",
    )
    reading = figure.interleaved(
        {
            form.name: partial(form.read, paths[form.name], rides.schema, rides.column_names)
            for form in FORMATS
        },
        lambda tables: _assert_identical(rides, tables),
        label="read",
    )
    figure.checked("the rides, written in each format and read back, are equal, bit by bit")
    figure.table(
        f"{figure.rows:,} rides of 16 columns",
        [_properties(form, paths[form.name], rides.num_rows, writing, reading) for form in FORMATS],
    )
    figure.table(
        "Values that a format does not preserve",
        [{"format": form.name, "lost": ", ".join(lost(form, tmp_path)) or "nothing"} for form in FORMATS],
    )
    figure.table("Bytes of one number", [number_bytes(number) for number in NUMBERS])
    figure.table(f"Bytes per number in a column of {COLUMN_ROWS:,}", column_bytes(tmp_path))
    if runs_code(tmp_path):
        figure.warn("Pickle executes code: reading a file called a function named in it")
    sizes = {form: paths[form.name].stat().st_size / rides.num_rows for form in FORMATS}
    zstd = {form: zstd_bytes(paths[form.name]) / rides.num_rows for form in FORMATS}
    _draw(figure, sizes, zstd)
    _set_verdict(figure, sizes)


def _write(form: FileFormat, rows: list[Row], schema: pa.Schema, path: Path) -> None:
    path.unlink(missing_ok=True)
    form.write(rows, schema, path)


def _assert_kept(rides: pa.Table, paths: dict[str, Path]) -> None:
    read = {form.name: form.read(paths[form.name], rides.schema, rides.column_names) for form in FORMATS}
    _assert_identical(rides, read)


def _assert_identical(rides: pa.Table, tables: dict[str, pa.Table]) -> None:
    for name, table in tables.items():
        assert identical(table, rides), name


def _properties(
    form: FileFormat, path: Path, rows: int, writing: VariantTimes, reading: VariantTimes
) -> dict[str, Cell]:
    """The properties of the format and of the file."""
    with path.open("rb") as file:
        has_magic = bool(form.magic) and file.read(len(form.magic)) == form.magic
    return {
        "format": form.name,
        "library": form.library,
        "layout": form.layout,
        "bytes_per_ride": path.stat().st_size / rows,
        "bytes_per_ride_zstd": zstd_bytes(path) / rows,
        "write_seconds": writing.median_seconds(form.name),
        "read_seconds": reading.median_seconds(form.name),
        "readable_by_a_human": _yes(is_readable(path)),
        "describes_its_columns": form.describes,
        "splits": _yes(form.splits),
        "appends": _yes(form.appends),
        "magic": repr(form.magic)[2:-1] if has_magic else "none",
    }


def _yes(is_so: bool) -> str:
    return "yes" if is_so else "no"


def number_bytes(number: int) -> dict[str, Cell]:
    """The bytes of a number as text (without a separator) and in the binary formats as an int32."""
    avro = io.BytesIO()
    fastavro.schemaless_writer(avro, {"type": "int"}, number)
    message = message_class(pa.schema([("number", pa.int32())]))(number=number)
    return {
        "number": number,
        "text": len(str(number)),
        "int32": np.int32(number).nbytes,
        "avro": len(avro.getvalue()),
        "protobuf_with_its_tag": message.ByteSize(),
        "pickle": len(pickle.dumps(number)),
    }


def column_bytes(folder: Path) -> list[dict[str, Cell]]:
    """The bytes per number in a whole column: Parquet stores repeated values once."""
    random = np.random.default_rng(COLUMN_ROWS)
    begin = 1_000_000
    columns: dict[str, np.ndarray] = {
        "1000000, constant": np.full(COLUMN_ROWS, begin, np.int32),
        "1000000, increasing by 1": np.arange(begin, begin + COLUMN_ROWS, dtype=np.int32),
        "one of a hundred numbers": begin + random.integers(0, 100, COLUMN_ROWS, np.int32),
        "one of nine million numbers": begin + random.integers(0, 9_000_000, COLUMN_ROWS, np.int32),
    }
    return [_bytes_a_number(name, values, folder) for name, values in columns.items()]


def _bytes_a_number(name: str, values: np.ndarray, folder: Path) -> dict[str, Cell]:
    table, path = pa.table({"number": values}), folder / "numbers"
    writes: dict[str, Callable[[], None]] = {
        "csv": lambda: pc.write_csv(table, path),
        "parquet": lambda: pq.write_table(table, path, compression="none"),
        "parquet_delta": lambda: pq.write_table(
            table,
            path,
            compression="none",
            use_dictionary=False,
            column_encoding={"number": "DELTA_BINARY_PACKED"},
        ),
    }
    cells: dict[str, Cell] = {"column": name, "int32": float(values.itemsize)}
    for encoding, write in writes.items():
        write()
        cells[encoding] = path.stat().st_size / len(values)
    return cells


def zstd_bytes(path: Path) -> int:
    return len(pa.compress(path.read_bytes(), codec="zstd"))


def _draw(figure: Figure, ride_bytes: dict[FileFormat, float], zstd: dict[FileFormat, float]) -> None:
    names: list[Cell] = [form.name for form in ride_bytes]
    series = [
        Series("uncompressed", names, list(ride_bytes.values())),
        Series("with zstd", names, list(zstd.values())),
    ]
    title = f"Bytes per ride, {figure.rows:,} rides"
    figure.chart(Chart("bars", title, Axis("format"), Axis("bytes"), series))


def _set_verdict(figure: Figure, ride_bytes: dict[FileFormat, float]) -> None:
    texts = sorted((form for form in FORMATS if form.is_text), key=ride_bytes.__getitem__)
    binaries = sorted((form for form in FORMATS if not form.is_text), key=ride_bytes.__getitem__)
    million = number_bytes(1_000_000)
    as_claimed = (million["text"], million["int32"]) == (7, 4)
    smallest, largest = binaries[0], binaries[-1]
    verdict: Verdict = "does not hold"
    if as_claimed and ride_bytes[texts[-1]] > ride_bytes[smallest]:
        verdict = "holds" if ride_bytes[texts[0]] > ride_bytes[largest] else "holds in part"
    figure.set_verdict(ClaimId.TEXT_AND_BINARY, verdict)


ENGINES = ("Postgres", "DuckDB")
# The maximum ratios in the textbook, for Amazon Redshift.
FASTER_RATIO_MAX = 2
SMALLER_RATIO_MAX = 6

Unload = Callable[[], Path]


def bench_unload(figure: Figure, env: BenchEnv, epoch: Epoch, tmp_path: Path) -> None:
    figure.title = "How much faster and smaller is an unload to Parquet than to text?"
    figure.rows = epoch.tables["rides"].rows
    rides = rides_table(epoch, figure.rows).sort_by("ride_id")
    paths: dict[str, Path] = {}

    def compare(found: dict[str, Path]) -> None:
        _assert_all_are(rides, found)
        paths.update(found)

    with _unloads(env, rides, tmp_path) as variants:
        times = figure.interleaved(variants, compare)
    figure.checked("the rides in each file, sorted by id, equal those of the epoch")
    sizes = {name: path.stat().st_size for name, path in paths.items()}
    zstd = {name: len(pa.compress(path.read_bytes(), codec="zstd")) for name, path in paths.items()}
    figure.table(
        f"{figure.rows:,} rides unloaded",
        [
            {"unload": name, "seconds": times.median_seconds(name), "bytes": size, "bytes_zstd": zstd[name]}
            for name, size in sizes.items()
        ],
    )
    bars = [Series("bytes", list(sizes), list(sizes.values()))]
    figure.chart(Chart("bars", f"Bytes of {figure.rows:,} rides", Axis("unload"), Axis("bytes"), bars))
    _judge_unload(figure, times, sizes)


def _variant(form: str, engine: str) -> str:
    return f"{form} from {engine}"


@contextmanager
def _unloads(env: BenchEnv, rides: pa.Table, folder: Path) -> Iterator[dict[str, Unload]]:
    with env.store.connect() as postgres, duckdb.connect(folder / "unload.duckdb") as columns:
        columns.from_arrow(rides).create("rides")
        columns.execute("CHECKPOINT")
        source = heap_source(postgres, "rides", ("ride_id",))
        yield {
            _variant("CSV", "Postgres"): partial(_csv_of_postgres, postgres, folder / "postgres.csv"),
            _variant("Parquet", "Postgres"): partial(
                _parquet_of_postgres, env.store, source, folder / "postgres.parquet"
            ),
            _variant("CSV", "DuckDB"): partial(_csv_of_duckdb, columns, folder / "duckdb.csv"),
            _variant("Parquet", "DuckDB"): partial(_parquet_of_duckdb, columns, folder / "duckdb.parquet"),
        }


def _csv_of_postgres(connection: Connection[TupleRow], path: Path) -> Path:
    query = QUERIES["unload_rides"]
    with path.open("wb") as file, connection.cursor() as cursor, cursor.copy(query) as copy:
        file.writelines(copy)
    return path


def _parquet_of_postgres(store: Store, source: TableSource, path: Path) -> Path:
    schema = arrow_schema(source.columns)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:

        def write(pieces: Iterable[pa.Table]) -> None:
            writer.write_table(pa.concat_tables(pieces))

        export(store, None, source, write, workers=1, on_rows=lambda rows: None)
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


def _judge_unload(figure: Figure, times: VariantTimes, sizes: dict[str, int]) -> None:
    faster = [figure.ratio(times.ratio(_variant("CSV", e), _variant("Parquet", e))) for e in ENGINES]
    smaller = [sizes[_variant("CSV", e)] / sizes[_variant("Parquet", e)] for e in ENGINES]
    reached = max(ratio.high for ratio in faster) >= FASTER_RATIO_MAX and max(smaller) >= SMALLER_RATIO_MAX
    verdict: Verdict = "does not hold"
    if any(ratio.low > 1 for ratio in faster) or min(smaller) > 1:
        verdict = "holds" if reached and all(ratio.low > 1 for ratio in faster) else "holds in part"
    figure.set_verdict(ClaimId.PARQUET, verdict)
