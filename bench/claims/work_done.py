"""What a statement did besides taking its time: rows, pages and log. Postgres' own count, not ours."""

from collections.abc import Mapping
from dataclasses import dataclass

from psycopg import Connection
from psycopg.rows import TupleRow


@dataclass(frozen=True, slots=True)
class Work:
    """`pages`: of 8 KiB, looked at by the whole statement. `log_bytes`: written to the write-ahead log."""

    rows: int
    pages: int
    log_bytes: int


def work_of(connection: Connection[TupleRow], statement: bytes, values: Mapping[str, object]) -> Work:
    """Of one execution, which happens."""
    explained = b"EXPLAIN (ANALYZE, BUFFERS, WAL, FORMAT JSON) " + statement
    row = connection.execute(explained, values).fetchone()
    assert row is not None
    plan = row[0][0]["Plan"]
    changes = plan["Node Type"] == "ModifyTable"
    touched = plan["Plans"][0] if changes else plan
    pages = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    return Work(int(touched["Actual Rows"]), pages, plan["WAL Bytes"])
