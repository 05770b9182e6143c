"""Export of a table from Postgres to Parquet, by ridelake and by other tools.

`receive_only` is the upper limit. It receives the bytes of COPY BINARY over one connection, with the faster
of two clients, and writes nothing.
"""

import asyncio
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from subprocess import PIPE, CalledProcessError, Popen, run
from sys import executable
from time import perf_counter
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier

from bench.env import BenchEnv, heap_source
from bench.figure import Cell, Figure
from lakehouse.source.copy import export
from lakehouse.source.copy.query import copy_table
from lakehouse.source.copy.raw import socket_of
from lakehouse.source.copy.receive import send_copy
from lakehouse.source.tables import TableSource
from lakehouse.table.columns import arrow_schema
from lakehouse.table.layout import write_run
from lakehouse.table.storage import Storage
from oltp.store import Store
from ridelake.queries import load_queries
from ridelake.settings import LakeAddress

QUERIES = load_queries("bench")

pytestmark = pytest.mark.scale("full")

ROUNDS = 5
COPIES = 10
CORES = 2
FETCHED_ROWS = 10_000

Export = Callable[[Path], float]  # into a folder; returns its seconds


@pytest.fixture(scope="module")
def source(env: BenchEnv) -> Iterator[TableSource]:
    with env.store.connect() as connection:
        connection.execute(QUERIES["exported_rides"].replace("%(copies)s", str(COPIES)))
        connection.execute("VACUUM (ANALYZE, FREEZE) exported_rides")
        try:
            yield heap_source(connection, "exported_rides", ("city_id", "requested_at"))
        finally:
            connection.execute("DROP TABLE exported_rides")


@pytest.fixture(scope="module")
def duckdb_scanner(env: BenchEnv, tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Scanner]":
    with scanner(env.store, tmp_path_factory.mktemp("scanner"), CORES) as ready:
        yield ready


@pytest.mark.timeout(900)
def bench_export(
    figure: Figure, env: BenchEnv, source: TableSource, duckdb_scanner: "Scanner", tmp_path: Path
) -> None:
    figure.title = "How long does an export of a table from Postgres to Parquet take?"
    store = env.store
    with store.connect() as connection:
        counted = connection.execute(
            "SELECT count(*), sum(fare_cents)::bigint FROM exported_rides"
        ).fetchone()
    assert counted is not None

    def checked(name: str, variant: Export) -> float:
        folder = tmp_path / name
        folder.mkdir()
        seconds = variant(folder)
        rides = pq.read_table(folder, columns=["fare_cents"])
        assert (len(rides), pc.sum(rides["fare_cents"]).as_py()) == counted, name
        shutil.rmtree(folder)
        return seconds

    def timed(exports: dict[str, Export]) -> dict[str, Callable[[], float]]:
        return {name: partial(checked, name, variant) for name, variant in exports.items()}

    exports: dict[str, Export] = {
        "ridelake, 1 worker": partial(by_ridelake, store, source, 1),
        f"ridelake, {CORES} workers": partial(by_ridelake, store, source, CORES),
        "DuckDB's scanner": partial(duckdb_scanner, source),
    }
    slow: dict[str, Export] = {
        "ADBC": partial(by_adbc, store, source),
        "ConnectorX": partial(by_connectorx, store, source),
        "psycopg rows": partial(by_psycopg_rows, store, source),
    }
    receive_variant = {"COPY without an export": partial(receive_only, store, source)}
    times = figure.self_timed(receive_variant | timed(exports), ROUNDS)
    others = figure.self_timed(timed(slow), 1, label="slow tools")
    figure.rows = counted[0]
    figure.checked("each export has all rows and the same sum of cents, in every round")
    figure.ratio(times.ratio("ridelake, 1 worker", "COPY without an export"))
    figure.ratio(times.ratio(f"ridelake, {CORES} workers", "DuckDB's scanner"))
    rows: list[dict[str, Cell]] = [
        {"export": name, "seconds": measured.median_seconds(name)}
        for measured in (times, others)
        for name in measured.samples
    ]
    figure.table(f"{figure.rows:,} rides", rows)


def by_ridelake(store: Store, source: TableSource, workers: int, folder: Path) -> float:
    schema = arrow_schema(source.columns)
    storage = Storage.of(LakeAddress.at(folder))

    def write(pieces: Iterable[pa.Table]) -> None:
        stem = storage.address.join("run")
        file = write_run(storage, stem, source.columns, schema, source.order_by, pieces, sealed=True)
        storage.settle([file.location])

    started = perf_counter()
    export(store, None, source, write, workers=workers, on_rows=lambda rows: None)
    return perf_counter() - started


def receive_only(store: Store, source: TableSource) -> float:
    return min(_bytes_by_socket(store, source), _bytes_by_asyncpg(store, source))


def _bytes_by_socket(store: Store, source: TableSource) -> float:
    with store.connect() as connection, socket_of(connection) as server:
        server.setblocking(True)
        view = memoryview(bytearray(4 * 1024 * 1024))
        used = 0
        started = perf_counter()
        send_copy(connection, copy_table(source, None))
        while view[used - 6 : used - 1].tobytes() != b"Z\0\0\0\5":
            used = used if used < len(view) // 2 else 0
            used += server.recv_into(view[used:])
        connection.close()
        return perf_counter() - started


def _bytes_by_asyncpg(store: Store, source: TableSource) -> float:
    asyncpg, uvloop = pytest.importorskip("asyncpg"), pytest.importorskip("uvloop")

    async def copy() -> float:
        connection = await asyncpg.connect(**_address(store))
        query = f'SELECT * FROM "{source.schema}"."{source.name}"'  # noqa: S608

        async def take(data: bytes) -> None:
            pass

        started = perf_counter()
        await connection.copy_from_query(query, output=take, format="binary")
        seconds = perf_counter() - started
        await connection.close()
        return seconds

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(copy())


def by_adbc(store: Store, source: TableSource, folder: Path) -> float:
    adbc = pytest.importorskip("adbc_driver_postgresql.dbapi")
    started = perf_counter()
    with adbc.connect(_url(store)) as connection, connection.cursor() as cursor:
        cursor.execute(f'SELECT * FROM "{source.schema}"."{source.name}"')  # noqa: S608
        reader = cursor.fetch_record_batch()
        with pq.ParquetWriter(folder / "0.parquet", reader.schema, compression="zstd") as writer:
            for batch in reader:
                writer.write_batch(batch)
    return perf_counter() - started


def by_connectorx(store: Store, source: TableSource, folder: Path) -> float:
    connectorx = pytest.importorskip("connectorx")
    query = f'SELECT * FROM "{source.schema}"."{source.name}"'  # noqa: S608
    started = perf_counter()
    table = connectorx.read_sql(_url(store), query, return_type="arrow")
    pq.write_table(table, folder / "0.parquet", compression="zstd")
    return perf_counter() - started


def by_psycopg_rows(store: Store, source: TableSource, folder: Path) -> float:
    schema = arrow_schema(source.columns)
    query = SQL("SELECT * FROM {}").format(Identifier(source.schema, source.name))
    started = perf_counter()
    with (
        store.connect() as connection,
        connection.cursor() as cursor,
        pq.ParquetWriter(folder / "0.parquet", schema, compression="zstd") as writer,
    ):
        rows: list[list[object]] = []
        for row in cursor.stream(query, size=1_000):
            rows.append([str(v) if type(v).__name__ == "UUID" else v for v in row])
            if len(rows) == FETCHED_ROWS:
                writer.write_batch(_batch(rows, schema))
                rows = []
        if rows:
            writer.write_batch(_batch(rows, schema))
    return perf_counter() - started


def _batch(rows: list[list[object]], schema: pa.Schema) -> pa.RecordBatch:
    columns = zip(zip(*rows, strict=True), schema, strict=True)
    arrays = [pa.array(values, field.type) for values, field in columns]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


class Scanner:
    """DuckDB's Postgres scanner in a process that keeps running, so that its start is not measured."""

    def __init__(self, process: "Popen[str]") -> None:
        self._process = process

    def __call__(self, source: TableSource, folder: Path) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{source.schema}.{source.name}\t{folder / '0.parquet'}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())


@contextmanager
def scanner(store: Store, folder: Path, threads: int) -> Iterator[Scanner]:
    """Skips the benchmark if its packages cannot be installed."""
    wanted = Path(__file__).with_name("scanner.txt")
    python = folder / "bin" / "python"
    try:
        run([executable, "-m", "venv", folder], check=True)
        run([python, "-m", "pip", "install", "--quiet", "-r", wanted], check=True, capture_output=True)
    except CalledProcessError:
        pytest.skip(f"cannot install {' and '.join(wanted.read_text().split())}")
    program = [str(python), str(wanted.with_suffix(".py")), store.conninfo, str(folder), str(threads)]
    with Popen(program, stdin=PIPE, stdout=PIPE, text=True) as process:
        yield Scanner(process)
        assert process.stdin is not None
        process.stdin.close()


def _address(store: Store) -> dict[str, object]:
    fields = conninfo_to_dict(store.conninfo)
    return {"host": fields["host"], "user": fields["user"], "database": fields["dbname"]}


def _url(store: Store) -> str:
    fields = conninfo_to_dict(store.conninfo)
    return f"postgresql://{fields['user']}@{quote(str(fields['host']), safe='')}/{fields['dbname']}"
