"""Loads a Parquet or CSV file into Postgres. Columns that Postgres cannot store are omitted, with a
warning."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from psycopg.sql import SQL, Composed, Identifier

from lakehouse.table.epoch import DECIMAL_DIGITS_MAX
from oltp.store import Store, transaction
from ridelake.errors import BadInput
from ridelake.queries import load_queries

QUERIES = load_queries("bench.custom_table")

SUFFIXES = (".parquet", ".csv")
YEAR_MIN, YEAR_MAX = 1, 9999  # the years of Python's datetime
BATCH_ROWS = 50_000

# Arrow → Postgres.
POSTGRES_TYPES = (
    (pa.types.is_boolean, "boolean"),
    (pa.types.is_uint64, "numeric(20)"),
    (pa.types.is_integer, "bigint"),
    (pa.types.is_floating, "double precision"),
    (pa.types.is_date, "date"),
    (lambda arrow: pa.types.is_timestamp(arrow) and arrow.tz is None, "timestamp"),
    (pa.types.is_timestamp, "timestamptz"),
    (pa.types.is_string, "text"),
    (pa.types.is_binary, "bytea"),
)


def is_file_name(path: Path) -> bool:
    """Whether `--table` names a file. Raises BadInput for a file of another kind."""
    if path.suffix.lower() in SUFFIXES:
        return True
    if path.exists() or "/" in str(path):
        raise BadInput(
            f"cannot read {path}: it is neither .parquet nor .csv; convert it, or name a table as "
            "schema.table"
        )
    return False


def read_rows(path: Path, folder: Path) -> tuple[pa.Table, tuple[str, ...]]:
    """The columns of a file that Postgres can store, and warnings about the others. `folder` is for a
    temporary link. Raises BadInput if the file cannot be read or has nothing to load."""
    if not path.is_file():
        raise BadInput(
            f'{path} does not exist: correct the path, or quote the name of a table, as in shop."csv"'
        )
    with _file_errors(path):
        rows = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path, folder)
    _refuse_repeated_names(path, rows.column_names)
    if rows.num_rows == 0:
        raise BadInput(f"{path} has no rows; choose another file")
    kept: dict[str, pa.ChunkedArray] = {}
    warnings = []
    for name, column in zip(rows.column_names, rows.columns, strict=True):
        with _file_errors(path):
            plain, why = _as_postgres_stores_it(name, column)
        if why:
            warnings.append(why)
        if plain is not None:
            kept[name] = plain
    if not kept:
        raise BadInput(f"{path} has no column that Postgres can store: {'; '.join(warnings)}")
    return pa.table(kept), tuple(warnings)


@contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException, duckdb.Error, UnicodeDecodeError) as error:
        message = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BadInput(f"cannot read {path}: {message}") from error


def _read_parquet(path: Path) -> pa.Table:
    with pq.ParquetFile(path) as source:  # read_table adds a column for a folder named like city=3
        return source.read()


def _read_csv(path: Path, folder: Path) -> pa.Table:
    query = QUERIES["read_csv"]
    link = folder / "file.csv"  # DuckDB interprets * and [ in a path as a pattern
    link.symlink_to(path.resolve())
    with duckdb.connect() as connection:
        return connection.sql(query, params={"path": str(link)}).to_arrow_table()


def _refuse_repeated_names(path: Path, names: list[str]) -> None:
    lower = [name.lower() for name in names]
    if twice := [name for name in names if lower.count(name.lower()) > 1]:
        raise BadInput(f"{path} has columns that differ only in case: {' and '.join(twice[:2])}; rename one")


def _as_postgres_stores_it(name: str, column: pa.ChunkedArray) -> tuple[pa.ChunkedArray | None, str | None]:
    """The column with the type to load, or None if it is omitted; and a warning, or None."""
    column = _simple(column)
    why = None
    if not name or "\0" in name:
        why = "its name is empty or contains NUL"
    elif postgres_type(column.type) is None:
        why = f"its type {column.type} has no equivalent in Postgres"
    elif pa.types.is_string(column.type) and pc.any(pc.match_substring(column, "\0")).as_py():
        why = "it has text with the character NUL, which Postgres cannot store"
    elif _has_far_years(column):
        why = f"it has a date outside the years {YEAR_MIN} to {YEAR_MAX}"
    if why:
        return None, f"column {name!r} of the file was omitted: {why}"
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        plain = column.cast(pa.timestamp("us", column.type.tz), safe=False)
        if not plain.cast(column.type).equals(column):
            return (
                plain,
                f"timestamps of column {name!r} were truncated to microseconds, the resolution of Postgres",
            )
        return plain, None
    return column, None


def _simple(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column without dictionary encoding, and with the plain type of text or bytes."""
    arrow = column.type
    if isinstance(arrow, pa.BaseExtensionType):
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], arrow.storage_type)
        arrow = column.type
    if pa.types.is_dictionary(arrow):
        return _simple(column.cast(arrow.value_type))
    if pa.types.is_large_string(arrow) or pa.types.is_string_view(arrow):
        column = column.cast(pa.string())
    if pa.types.is_large_binary(arrow) or pa.types.is_binary_view(arrow):
        return column.cast(pa.binary())
    if pa.types.is_fixed_size_binary(arrow):
        return column.cast(pa.binary())
    if pa.types.is_string(column.type):
        for chunk in column.chunks:
            chunk.validate(full=True)  # invalid UTF-8 would otherwise raise only during the load
    return column


def _has_far_years(column: pa.ChunkedArray) -> bool:
    if not (pa.types.is_timestamp(column.type) or pa.types.is_date(column.type)):
        return False
    local = column.cast(pa.timestamp(column.type.unit)) if pa.types.is_timestamp(column.type) else column
    years = pc.min_max(pc.year(local)).as_py()
    return years["min"] is not None and not YEAR_MIN <= years["min"] <= years["max"] <= YEAR_MAX


def load_rows(store: Store, table: Identifier, rows: pa.Table) -> None:
    """Load the rows into a new table with a generated key."""
    taken = {name.lower() for name in rows.column_names}
    key = next(name for number in range(len(taken) + 1) if (name := f"row_number{number or ''}") not in taken)
    names = SQL(", ").join(map(Identifier, rows.column_names))
    with store.connect() as connection:
        connection.execute(_create(table, key, rows.schema))
        copy = SQL("COPY {} ({}) FROM STDIN").format(table, names)
        with transaction(connection), connection.cursor().copy(copy) as into:
            for batch in rows.to_batches(max_chunksize=BATCH_ROWS):
                for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    into.write_row(row)
        connection.execute(SQL("VACUUM (ANALYZE) {}").format(table))


def _create(table: Identifier, key: str, schema: pa.Schema) -> Composed:
    begin = SQL("CREATE TABLE {} ({} bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY")
    columns = [
        SQL(", {} {}").format(Identifier(field.name), SQL(postgres_type(field.type) or ""))
        for field in schema
    ]
    return begin.format(table, Identifier(key)) + Composed(columns) + SQL(")")


def postgres_type(arrow: pa.DataType) -> str | None:
    """The type in Postgres; None if it has no equivalent."""
    if pa.types.is_decimal(arrow):
        fits = arrow.precision <= DECIMAL_DIGITS_MAX and 0 <= arrow.scale <= arrow.precision
        return f"numeric({arrow.precision}, {arrow.scale})" if fits else None
    return next((found for fits, found in POSTGRES_TYPES if fits(arrow)), None)
