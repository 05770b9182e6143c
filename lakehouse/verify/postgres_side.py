"""The Postgres side: SQL in the caller's snapshot."""

from collections.abc import Iterator, Sequence

import pyarrow as pa
from psycopg import Connection
from psycopg.rows import TupleRow
from psycopg.sql import Composed, Identifier

from lakehouse.verify.row_encoding import ComparedColumns, Mask, Rows, Sums, postgres_record, query

FETCH_ROWS = 50_000
SNAPSHOT_LEVELS = ("repeatable read", "serializable")


class PostgresSide:
    """One table in the transaction of `connection`. Raises ValueError if the transaction does not have a
    single snapshot."""

    def __init__(
        self, connection: Connection[TupleRow], schema: str, table: str, shape: ComparedColumns
    ) -> None:
        level = connection.execute("SELECT current_setting('transaction_isolation')").fetchone()
        if (
            connection.info.transaction_status.name != "INTRANS"
            or not level
            or level[0] not in SNAPSHOT_LEVELS
        ):
            raise ValueError("compare() must be called in a REPEATABLE READ transaction")
        # Text is sent in the client's encoding; the lake's is UTF-8.
        connection.execute("SELECT set_config('client_encoding', 'UTF8', true)")
        self._connection = connection
        self._parts = {
            "table": Identifier(schema.replace("%", "%%"), table.replace("%", "%%")),
            "key": postgres_record(shape.key),
            "record": postgres_record(shape.columns),
        }

    def sums(self, mask: Mask) -> Sums:
        found = self._connection.execute(self._query("postgres_sums"), {"mask": mask})
        return {bucket: (rows, int(total)) for bucket, rows, total in found}

    def suspects(self, mask: Mask, buckets: Sequence[int]) -> Iterator[pa.Table]:
        """Key and hash of each row in these buckets, in tables of FETCH_ROWS rows."""
        with self._connection.cursor("suspects", binary=True) as cursor:
            cursor.execute(self._query("postgres_suspects"), {"mask": mask, "buckets": list(buckets)})
            while found := cursor.fetchmany(FETCH_ROWS):
                keys, hashes = zip(*found, strict=True)
                yield pa.table({"key": pa.array(keys, pa.binary()), "hash": pa.array(hashes, pa.int64())})

    def rows(self, keys: Sequence[bytes]) -> Rows:
        rows: Rows = {}
        with self._connection.cursor(binary=True) as cursor:
            for key, record in cursor.execute(self._query("postgres_rows"), {"keys": list(keys)}):
                rows.setdefault(key, []).append(record)
        return rows

    def _query(self, name: str) -> Composed:
        return query(name).format(**self._parts)
