"""A schema next to the store's for tables of a claim, dropped afterwards, and the counters of EXPLAIN."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import LiteralString

from psycopg import Connection
from psycopg.rows import TupleRow

from oltp.store import Store


@contextmanager
def scratch_schema(store: Store) -> Iterator[Connection[TupleRow]]:
    """A connection that creates tables in the scratch schema and also sees the tables of the store."""
    with store.connect() as connection:
        connection.execute("DROP SCHEMA IF EXISTS workshop CASCADE")  # left by a killed run
        connection.execute("CREATE SCHEMA workshop")
        connection.execute("SET search_path = workshop, ridelake")
        try:
            yield connection
        finally:
            if not connection.closed:
                connection.execute("DROP SCHEMA workshop CASCADE")


@dataclass(frozen=True, slots=True)
class StatementCounts:
    """`pages`: pages of 8 KiB accessed by the whole statement. `log_bytes`: bytes written to the WAL."""

    rows: int
    pages: int
    log_bytes: int


def statement_counts(
    connection: Connection[TupleRow], statement: LiteralString, values: Mapping[str, object]
) -> StatementCounts:
    """Execute the statement once and return its counts."""
    explained = "EXPLAIN (ANALYZE, BUFFERS, WAL, FORMAT JSON) " + statement
    row = connection.execute(explained, values).fetchone()
    assert row is not None
    plan = row[0][0]["Plan"]
    changes = plan["Node Type"] == "ModifyTable"
    touched = plan["Plans"][0] if changes else plan
    pages = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    return StatementCounts(int(touched["Actual Rows"]), pages, plan["WAL Bytes"])
