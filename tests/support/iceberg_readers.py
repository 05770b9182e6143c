"""Iceberg readers other than ridelake: each returns all rows of a table from its metadata file."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

DUCKDB_WHEELS = [
    "duckdb==1.5.5",
    *(f"duckdb-extension-{name}==1.5.5" for name in ("avro", "httpfs", "iceberg")),
]

# Prints the rows as Arrow IPC. chDB only opens files in its working folder.
CHDB = """
import sys, pyarrow as pa
from chdb import session
rows = session.Session().query(f"SELECT * FROM icebergLocal('{sys.argv[1]}')", "ArrowTable")
with pa.ipc.new_stream(sys.stdout.buffer, rows.schema) as stream:
    stream.write_table(rows)
"""

# Writes the rows to a Parquet file.
DUCKDB = """
import sys, duckdb
from pathlib import Path
connection = duckdb.connect()
for name in ("avro", "httpfs", "iceberg"):
    found = Path(duckdb.__file__).parents[1].rglob(f"{name}.duckdb_extension")
    connection.load_extension(str(next(found)))
connection.execute("SET TimeZone = 'UTC'")
connection.sql(f"SELECT * FROM iceberg_scan('{sys.argv[1]}')").write_parquet(sys.argv[2])
"""


@pytest.fixture(scope="session")
def duckdb_iceberg_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with DuckDB and its Iceberg extension. The extension needs another version of DuckDB than
    ridelake, so both are installed separately and used in a child process."""
    folder = tmp_path_factory.mktemp("duckdb")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
    if subprocess.run([*pip, *DUCKDB_WHEELS], check=False, capture_output=True).returncode:
        pytest.skip(f"cannot install {', '.join(DUCKDB_WHEELS)}")
    return folder


@pytest.fixture(scope="session")
def duckdb_iceberg(duckdb_iceberg_folder: Path) -> Callable[[str], pa.Table]:
    """A function that reads a table with DuckDB's Iceberg extension."""

    def read(metadata: str) -> pa.Table:
        rows = duckdb_iceberg_folder / "rows.parquet"
        environment = os.environ | {"PYTHONPATH": str(duckdb_iceberg_folder)}
        subprocess.run([sys.executable, "-c", DUCKDB, metadata, rows], check=True, env=environment)
        return pq.read_table(rows)

    return read


def with_pyiceberg(metadata: str) -> pa.Table:
    from pyiceberg.table import StaticTable

    return StaticTable.from_metadata(metadata).scan().to_arrow()


def with_polars(metadata: str) -> pa.Table:
    import polars as pl

    return pl.scan_iceberg(metadata).collect().to_arrow()


def with_daft(metadata: str) -> pa.Table:
    daft = pytest.importorskip("daft")
    from pyiceberg.table import StaticTable

    return daft.read_iceberg(StaticTable.from_metadata(metadata)).to_arrow()


def with_chdb(metadata: str) -> pa.Table:
    pytest.importorskip("chdb")
    table = Path(metadata).parents[1]
    found = subprocess.run(
        [sys.executable, "-c", CHDB, str(table)], cwd=table, check=True, stdout=subprocess.PIPE
    )
    return pa.ipc.open_stream(found.stdout).read_all()


READERS: dict[str, Callable[[str], pa.Table]] = {
    "pyiceberg": with_pyiceberg,
    "polars": with_polars,
    "daft": with_daft,
    "chdb": with_chdb,
}
