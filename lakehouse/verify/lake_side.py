"""The lake's side: SQL in DuckDB on the files, without the replaced rows and with the changed rows."""

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from psycopg.sql import SQL, Composable, Identifier

from lakehouse.table.columns import SourceColumn, arrow_schema
from lakehouse.verify.row_encoding import ComparedColumns, Mask, Rows, Sums, duckdb_record, encoding_of, query
from ridelake.errors import BadInput, ProofFailed
from ridelake.settings import LakeAddress


class LakeSide:
    """See the module; created by `open_lake_side`."""

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
            _view_files(connection, shape, files)
            _view_lake(connection, shape, minus_keys, plus_rows)
            yield LakeSide(connection, shape)
    except duckdb.Error as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise ProofFailed(f"cannot compare the files: DuckDB cannot read them ({reason})") from error
    finally:
        connection.close()


def _reading(
    connection: duckdb.DuckDBPyConnection, lake: LakeAddress | None, files: Sequence[str]
) -> AbstractContextManager[None]:
    if lake is None or not lake.remote:
        return nullcontext()
    from lakehouse.table.s3 import register_files  # here, because a local lake does not need it

    return register_files(connection, lake, files).refusals()


def _view_files(connection: duckdb.DuckDBPyConnection, shape: ComparedColumns, files: Sequence[str]) -> None:
    if not files:
        connection.register("lake_files", arrow_schema(list(shape.columns)).empty_table())
        return
    for path in files:
        _refuse_other_columns(connection, shape, path)
    paths = [str(path) for path in files]
    connection.read_parquet(paths, hive_partitioning=False).create_view("lake_files")


def _refuse_other_columns(connection: duckdb.DuckDBPyConnection, shape: ComparedColumns, path: str) -> None:
    """Raises ProofFailed if a file has other columns. Each file is checked separately: read together, they
    would be cast to the types of the first one."""
    relation = connection.read_parquet([str(path)], hive_partitioning=False)
    found = dict(zip(relation.columns, map(str, relation.types), strict=True))
    expected = {column.name: encoding_of(column).duckdb_type for column in shape.columns}
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
