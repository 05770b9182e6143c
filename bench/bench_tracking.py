"""What `ridelake track` costs a writer: statements on two equal tables, one of them tracked.

Each statement is a transaction of its own. Its time does not include the wait for the disk, which tracking
does not change.
"""

from collections.abc import Callable
from functools import partial
from itertools import count
from statistics import median
from time import perf_counter

import pytest
from psycopg import Connection
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Identifier

from bench.env import BenchEnv, scratch_schema
from bench.figure import Cell, Figure
from lakehouse.source.snapshot import wal_position
from lakehouse.source.tracking import track
from ridelake.queries import load_queries

QUERIES = load_queries("bench")

ROWS = 200_000
BATCHES = (1, 1_000)
ROUNDS = {1: 300, 1_000: 40}
TABLES = ("untracked", "tracked")
STATEMENTS = ("insert", "update", "delete")


class TimedWriter:
    """Executes statements on both tables and records the WAL that they write."""

    def __init__(self, connection: Connection[TupleRow]) -> None:
        self.connection = connection
        self.wal: dict[tuple[str, str, int], list[int]] = {}
        self._new = {table: count(ROWS + 1) for table in TABLES}
        self._old = {table: count(1) for table in TABLES}

    def run(self, table: str, statement: str, rows: int) -> float:
        """The seconds of one statement. Deleted and updated rows are existing ones."""
        keys = (self._old if statement == "delete" else self._new)[table]
        (first, *_) = [next(keys) for _ in range(rows)]
        query = SQL(QUERIES[f"writer_{statement}"]).format(table=Identifier(table))
        before = self._wal_position()
        begin = perf_counter()
        done = self.connection.execute(query, {"first": first, "rows": rows, "of": ROWS})
        seconds = perf_counter() - begin
        self.wal.setdefault((table, statement, rows), []).append(self._wal_position() - before)
        assert done.rowcount == rows, (statement, done.rowcount)
        return seconds

    def _wal_position(self) -> int:
        row = self.connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
        assert row is not None
        return wal_position(row[0])


@pytest.mark.scale("full")
@pytest.mark.timeout(1800)
def bench_tracking(figure: Figure, env: BenchEnv) -> None:
    figure.title = "What does tracking cost a writer?"
    with scratch_schema(env.store) as connection:
        for table in TABLES:
            written = SQL(QUERIES["written_table"])
            connection.execute(written.format(table=Identifier(table), rows=ROWS))
        track(env.store, "bench_scratch.tracked")
        connection.execute("VACUUM ANALYZE untracked, tracked")
        connection.execute("SET synchronous_commit = off")
        _measure(figure, connection)


def _measure(figure: Figure, connection: Connection[TupleRow]) -> None:
    writer, rows = TimedWriter(connection), list[dict[str, Cell]]()
    for statement in STATEMENTS:
        for batch in BATCHES:
            label = f"{statement} of {batch:,} row{'' if batch == 1 else 's'}"
            variants: dict[str, Callable[[], float]] = {
                table: partial(writer.run, table, statement, batch) for table in TABLES
            }
            times = figure.self_timed(variants, ROUNDS[batch], label=label)
            ratio = figure.ratio(times.ratio("tracked", "untracked"))
            wal = {table: median(writer.wal[table, statement, batch]) for table in TABLES}
            rows.append(
                {
                    "statement": label,
                    **{f"{table}_ms": round(times.median_seconds(table) * 1e3, 2) for table in TABLES},
                    "ratio": round(ratio.median, 2),
                    **{f"{table}_wal_bytes": round(size) for table, size in wal.items()},
                }
            )
    figure.checked("each statement changed as many rows in both tables")
    figure.rows = ROWS
    figure.table("Medians of the time and of the WAL of a statement", rows)
