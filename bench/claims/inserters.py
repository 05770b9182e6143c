"""Three stores for new rides. After a commit, readers see the rides.

Durability differs: Postgres and DuckDB flush their log at each commit. pyiceberg flushes the catalog only,
and leaves its files to the operating system.
"""

from pathlib import Path
from typing import Protocol

import duckdb
import pyarrow as pa
from psycopg import Connection
from psycopg.rows import TupleRow
from pyiceberg.catalog.sql import SqlCatalog

from bench.claims.rides import RIDE_TABLE, Batch
from bench.claims.workshop import read_sql

INSERT_RIDE = "INSERT INTO RideTable VALUES (%s, %s, %s, %s, %s, %s)"


class Inserter(Protocol):
    def insert(self, rides: Batch) -> None:
        """Insert and commit the rides."""
        ...

    def rides(self) -> pa.Table:
        """All rides, ordered by id."""
        ...


class PostgresInserter:
    """One row by a plain INSERT, several by one INSERT of arrays; one connection in autocommit."""

    def __init__(self, connection: Connection[TupleRow]) -> None:
        self._connection = connection
        self._insert_rides = read_sql("insert_rides")
        connection.execute(read_sql("ride_table"))

    def insert(self, rides: Batch) -> None:
        if len(rides) == 1:
            self._connection.execute(INSERT_RIDE, rides.row)
        else:
            self._connection.execute(self._insert_rides, rides.columns)

    def rides(self) -> pa.Table:
        rows = self._connection.execute("SELECT * FROM RideTable ORDER BY RideID").fetchall()
        columns = zip(*rows, strict=True)
        return pa.table([pa.array(v, f.type) for v, f in zip(columns, RIDE_TABLE, strict=True)], RIDE_TABLE)


class DuckDBInserter:
    """One row by a plain INSERT, several from an Arrow table; into a file, in autocommit."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        connection.execute(
            "CREATE TABLE RideTable (RideID BIGINT, Username VARCHAR, DriverID BIGINT, City VARCHAR,"
            " Month VARCHAR, Price DECIMAL(12, 2))"
        )

    def insert(self, rides: Batch) -> None:
        if len(rides) == 1:
            self._connection.execute("INSERT INTO RideTable VALUES (?, ?, ?, ?, ?, ?)", rides.row)
        else:
            self._connection.register("batch", rides.table)
            self._connection.execute("INSERT INTO RideTable SELECT * FROM batch")

    def rides(self) -> pa.Table:
        found = self._connection.sql("SELECT * FROM RideTable ORDER BY RideID").to_arrow_table()
        return found.cast(RIDE_TABLE)


class LakeInserter:
    """Each batch is a Parquet file and a commit of an Iceberg table, whose catalog is an SQLite file."""

    def __init__(self, folder: Path) -> None:
        catalog = SqlCatalog(
            "claims", uri=f"sqlite:///{folder / 'catalog.sqlite'}", warehouse=folder.as_uri()
        )
        catalog.create_namespace("claims")
        self._catalog = catalog
        self._table = catalog.create_table("claims.RideTable", RIDE_TABLE)

    def insert(self, rides: Batch) -> None:
        self._table.append(rides.table)

    def rides(self) -> pa.Table:
        table = self._catalog.load_table("claims.RideTable")
        return table.scan().to_arrow().sort_by("RideID").cast(RIDE_TABLE)

    def files(self) -> int:
        return len(self._table.inspect.files())

    def close(self) -> None:
        self._catalog.engine.dispose()
