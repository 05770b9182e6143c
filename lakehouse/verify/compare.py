"""Compare Parquet files with a Postgres table, row by row, and name the rows that differ.

    each row      → its bytes → md5 → a hash of 60 bits
    each engine   → for each of some hundred buckets: the number of rows, and the sum of their hashes
    all equal     → the tables are equal
    otherwise     → key and hash of each row in the buckets that differ, then the rows of the keys that differ

Two engines compute this independently: Postgres in SQL in the caller's snapshot, DuckDB in SQL on the files
with its own reader. An error of extraction, decoding or writing affects only one of them. The bucket of a row
is part of its hash, so each row needs one md5. A changed row is in one bucket in Postgres and usually in
another one in the lake; both buckets then differ.

The bytes of a row are the binary format of a Postgres `record`: each value with its type and length; a NULL
has the length -1. Different rows have different bytes, session settings do not change them, and Postgres
computes them in one call. `row_encoding.py` defines how DuckDB computes the same bytes.
"""

import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import duckdb
import pyarrow as pa
from psycopg import Connection
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Composable, Composed, Identifier

from lakehouse.source.tables import Partition, rows_of
from lakehouse.table.columns import SourceColumn, arrow_schema
from lakehouse.table.deletes import Positions
from lakehouse.table.duckdb_files import open_rows
from lakehouse.verify.row_encoding import (
    ComparedColumns,
    Mask,
    Rows,
    Sums,
    duckdb_record,
    duckdb_type_of,
    key_shown,
    mask_for,
    postgres_record,
    query,
    shown,
    values_of,
)
from ridelake.errors import BadInput, ProofFailed, first_line
from ridelake.settings import LakeAddress

NO_DELETED_ROWS: Mapping[str, Positions] = {}

Kind = Literal["missing in the lake", "not in Postgres", "more than once in the lake", "differs"]


@dataclass(frozen=True, slots=True)
class RowDifference:
    """A key whose rows differ between the two sides. `columns`: name, value in Postgres and value in the lake
    of the columns that differ; empty if a row is only on one side, or is duplicated."""

    table: str
    key: tuple[str, ...]
    kind: Kind
    columns: tuple[tuple[str, str, str], ...] = ()


def describe_difference(
    table: str, shape: ComparedColumns, key: bytes, in_postgres: Sequence[bytes], in_lake: Sequence[bytes]
) -> RowDifference:
    """`in_postgres` and `in_lake` are the bytes of all rows with this key; they must differ."""
    key_text = key_shown(shape.key, key)
    missing = sorted((Counter(in_postgres) - Counter(in_lake)).elements())
    extra = sorted((Counter(in_lake) - Counter(in_postgres)).elements())
    if not extra:
        return RowDifference(table, key_text, "missing in the lake")
    if not in_postgres:
        return RowDifference(table, key_text, "not in Postgres")
    expected = missing[0] if missing else in_postgres[0]
    once = len(in_lake) <= len(in_postgres)
    return RowDifference(
        table,
        key_text,
        "differs" if once else "more than once in the lake",
        _columns(shape, expected, extra[0]),
    )


def _columns(shape: ComparedColumns, in_postgres: bytes, in_lake: bytes) -> tuple[tuple[str, str, str], ...]:
    return tuple(
        (column.name, shown(column, expected), shown(column, found))
        for column, expected, found in zip(
            shape.columns, values_of(in_postgres), values_of(in_lake), strict=True
        )
        if expected != found
    )


@dataclass(frozen=True, slots=True)
class TableComparison:
    """`rows`: the number of rows in Postgres. `rows_different`: the number of keys with a difference.
    `differences`: the first of them."""

    table: str
    rows: int
    rows_in_lake: int
    rows_different: int
    differences: tuple[RowDifference, ...]

    @property
    def equal(self) -> bool:
        return self.rows_different == 0


def compare_table(
    connection: Connection[TupleRow],
    schema: str,
    table: str,
    columns: Sequence[SourceColumn],
    files: Sequence[str],
    *,
    limit: int = 20,
    minus_keys: pa.Table | None = None,
    plus_rows: pa.Table | None = None,
    lake: LakeAddress | None = None,
    deleted: Mapping[str, Positions] = NO_DELETED_ROWS,
    kind: str = "r",
    partitions: Sequence[Partition] = (),
) -> TableComparison:
    """Compare the rows of `files` without `minus_keys` and with `plus_rows` with the rows of `table`.
    `deleted`: row numbers by file that are not rows of the table. `kind`, `partitions`: of the table.

    `connection` must be in a REPEATABLE READ transaction, whose snapshot is compared. At most `limit`
    differences are located. `lake`: the lake of the files, needed if it is on S3. Raises ProofFailed if the
    files have other columns or types than the table, or cannot be read; BadInput if `plus_rows` or
    `minus_keys` have other columns."""
    shape = ComparedColumns(columns)
    rows_in_postgres = rows_of(schema.replace("%", "%%"), table.replace("%", "%%"), kind, partitions)
    postgres = PostgresSide(connection, rows_in_postgres, shape)
    with open_lake_side(shape, files, minus_keys, plus_rows, lake, deleted) as side:
        mask = mask_for(side.count())
        in_postgres, in_lake = postgres.sums(mask), side.sums(mask)
        rows = sum(count for count, _ in in_postgres.values())
        rows_in_lake = sum(count for count, _ in in_lake.values())
        buckets = [
            bucket
            for bucket in in_postgres.keys() | in_lake.keys()
            if in_postgres.get(bucket) != in_lake.get(bucket)
        ]
        if not buckets:
            return TableComparison(table, rows, rows_in_lake, 0, ())
        different, keys = side.differing(postgres.suspects(mask, buckets), mask, buckets, limit)
        if not different:
            raise ProofFailed(
                f"the checksums of {table} differ but no row does, so the snapshot was not stable: "
                "run the command again"
            )
        postgres_rows, lake_rows = postgres.rows(keys), side.rows(keys)
    differences = tuple(
        describe_difference(table, shape, key, postgres_rows.get(key, []), lake_rows.get(key, []))
        for key in keys
    )
    return TableComparison(table, rows, rows_in_lake, different, differences)


FETCH_ROWS = 50_000
SNAPSHOT_LEVELS = ("repeatable read", "serializable")


class PostgresSide:
    """SQL on one table in the transaction of `connection`. `table`: as in a FROM clause. Raises ValueError if
    the transaction does not have a single snapshot."""

    def __init__(self, connection: Connection[TupleRow], table: Composed, shape: ComparedColumns) -> None:
        level = connection.execute("SELECT current_setting('transaction_isolation')").fetchone()
        if (
            connection.info.transaction_status.name != "INTRANS"
            or not level
            or level[0] not in SNAPSHOT_LEVELS
        ):
            raise ValueError("compare_table() must be called in a REPEATABLE READ transaction")
        # Text is sent in the client's encoding; the lake's is UTF-8.
        connection.execute("SELECT set_config('client_encoding', 'UTF8', true)")
        self._connection = connection
        self._parts = {
            "table": table,
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


class LakeSide:
    """SQL in DuckDB on the files, without the replaced rows and with the changed rows; created by
    `open_lake_side`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, shape: ComparedColumns) -> None:
        self._connection = connection
        self._parts = {"key": duckdb_record(shape.key), "record": duckdb_record(shape.columns)}

    def count(self) -> int:
        (found,) = self._ask(SQL("SELECT count(*) FROM lake"))
        return int(found[0])

    def sums(self, mask: Mask) -> Sums:
        found = self._ask(query("lake_sums"), mask=mask)
        return {bucket: (rows, int(total)) for bucket, rows, total in found}

    def differing(
        self, suspects: Iterable[pa.Table], mask: Mask, buckets: Sequence[int], limit: int
    ) -> tuple[int, list[bytes]]:
        """The number of keys that differ, and the first of them. `suspects`: the rows of these buckets in
        Postgres."""
        self._ask(SQL("CREATE OR REPLACE TABLE in_postgres (key BLOB, hash BIGINT)"))
        for piece in suspects:
            self._connection.register("piece", piece)
            self._ask(SQL("INSERT INTO in_postgres SELECT key, hash FROM piece"))
            self._connection.unregister("piece")
        self._ask(query("lake_suspects"), mask=mask, buckets=list(buckets))
        self._ask(query("lake_differing"))
        (counted,) = self._ask(SQL("SELECT count(*) FROM differing"))
        first = self._ask(SQL("SELECT key FROM differing ORDER BY key LIMIT $limit"), limit=limit)
        return int(counted[0]), [key for (key,) in first]

    def rows(self, keys: Sequence[bytes]) -> Rows:
        rows: Rows = {}
        for key, record in self._ask(query("lake_rows"), keys=list(keys)):
            rows.setdefault(key, []).append(record)
        return rows

    def _ask(self, template: SQL, **values: object) -> list[tuple[Any, ...]]:
        text = template.format(**self._parts).as_string(None)
        found: list[tuple[Any, ...]] = self._connection.execute(text, values or None).fetchall()
        return found


@contextmanager
def open_lake_side(
    shape: ComparedColumns,
    files: Sequence[str],
    minus_keys: pa.Table | None,
    plus_rows: pa.Table | None,
    lake: LakeAddress | None = None,
    deleted: Mapping[str, Positions] = NO_DELETED_ROWS,
) -> Iterator[LakeSide]:
    """`lake`: the lake of the files, needed if it is on S3. Raises ProofFailed if the files have other
    columns or cannot be read; BadInput if `minus_keys` or `plus_rows` have other columns."""
    connection = duckdb.connect(":memory:")
    try:
        connection.execute("SET python_enable_replacements = false")
        connection.execute("SET preserve_insertion_order = false")
        spill = Path(tempfile.gettempdir()) / f"ridelake-duckdb-{os.getpid()}"
        connection.execute("SET temp_directory = ?", [str(spill)])
        with _reading(connection, lake, files):
            _view_files(connection, shape, files, deleted)
            _view_lake(connection, shape, minus_keys, plus_rows)
            yield LakeSide(connection, shape)
    except duckdb.Error as error:
        raise ProofFailed(
            f"cannot compare the files: DuckDB cannot read them ({first_line(error)})"
        ) from error
    finally:
        connection.close()


def _reading(
    connection: duckdb.DuckDBPyConnection, lake: LakeAddress | None, files: Sequence[str]
) -> AbstractContextManager[None]:
    if lake is None or not lake.remote:
        return nullcontext()
    from lakehouse.table.s3 import register_files  # imported here, because a local lake does not need it

    return register_files(connection, lake, files).refusals()


def _view_files(
    connection: duckdb.DuckDBPyConnection,
    shape: ComparedColumns,
    files: Sequence[str],
    deleted: Mapping[str, Positions],
) -> None:
    if not files:
        connection.register("lake_files", arrow_schema(list(shape.columns)).empty_table())
        return
    for path in files:
        _refuse_other_columns(connection, shape, path)
    paths = [str(path) for path in files]
    open_rows(connection, paths, deleted).create_view("lake_files")


def _refuse_other_columns(connection: duckdb.DuckDBPyConnection, shape: ComparedColumns, path: str) -> None:
    """Check the columns of each file. Raises ProofFailed if a file has other columns. Each file is checked
    separately: read together, they would be cast to the types of the first one."""
    relation = connection.read_parquet([str(path)], hive_partitioning=False)
    found = dict(zip(relation.columns, map(str, relation.types), strict=True))
    expected = {column.name: str(connection.dtype(duckdb_type_of(column))) for column in shape.columns}
    if wrong := [name for name in {**expected, **found} if found.get(name) != expected.get(name)]:
        name = wrong[0]
        raise ProofFailed(
            f"the files have other columns than the table: column {name} is {found.get(name, 'missing')} in "
            f"{path}, expected {expected.get(name, 'none')}"
        )


def _view_lake(
    connection: duckdb.DuckDBPyConnection,
    shape: ComparedColumns,
    minus_keys: pa.Table | None,
    plus_rows: pa.Table | None,
) -> None:
    names = _names(shape.columns)
    lake: Composable = SQL("SELECT {} FROM lake_files").format(names)
    if minus_keys is not None:
        if not any(column.in_key for column in shape.columns):
            raise BadInput("cannot remove rows by key from a table without a key")
        connection.register("minus_keys", _in_shape(shape.key, minus_keys))
        lake = SQL("{} ANTI JOIN minus_keys USING ({})").format(lake, _names(shape.key))
    if plus_rows is not None:
        connection.register("plus_rows", _in_shape(shape.columns, plus_rows))
        lake = SQL("{} UNION ALL SELECT {} FROM plus_rows").format(lake, names)
    connection.execute(SQL("CREATE VIEW lake AS {}").format(lake).as_string(None))


def _in_shape(columns: Sequence[SourceColumn], rows: pa.Table) -> pa.Table:
    """These columns, in the lake's types. Arrow's cast fails if a value would change."""
    try:
        return rows.select([column.name for column in columns]).cast(arrow_schema(list(columns)))
    except (KeyError, ValueError) as error:  # pa.ArrowInvalid is a ValueError
        raise BadInput(f"the changed rows have other columns than the table ({error})") from error


def _names(columns: Sequence[SourceColumn]) -> Composable:
    return SQL(", ").join(Identifier(column.name) for column in columns)
