"""The rows, pages and WAL bytes of a statement, as counted by EXPLAIN ANALYZE."""

from collections.abc import Mapping
from dataclasses import dataclass

from psycopg import Connection
from psycopg.rows import TupleRow


@dataclass(frozen=True, slots=True)
class Work:
    """`pages`: pages of 8 KiB accessed by the whole statement. `log_bytes`: bytes written to the WAL."""

    rows: int
    pages: int
    log_bytes: int


def work_of(connection: Connection[TupleRow], statement: bytes, values: Mapping[str, object]) -> Work:
    """Execute the statement once and return its counts."""
    explained = b"EXPLAIN (ANALYZE, BUFFERS, WAL, FORMAT JSON) " + statement
    row = connection.execute(explained, values).fetchone()
    assert row is not None
    plan = row[0][0]["Plan"]
    changes = plan["Node Type"] == "ModifyTable"
    touched = plan["Plans"][0] if changes else plan
    pages = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    return Work(int(touched["Actual Rows"]), pages, plan["WAL Bytes"])
