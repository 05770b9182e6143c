"""The table under test. It is only read; inserts go to copies in Postgres and DuckDB."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import duckdb
import psycopg
import pyarrow as pa
from psycopg import Connection, RawCursor
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Identifier

from bench.custom_table.from_file import is_file_name, load_rows, read_rows
from lakehouse.capture.publish import publish_snapshot
from lakehouse.table.catalog import Lake
from lakehouse.table.columns import SourceColumn, read_columns
from lakehouse.table.epoch import Epoch, TableState
from oltp.store import Store, open_store
from ridelake.errors import BadInput, UsageError
from ridelake.queries import load_queries
from ridelake.settings import LakeAddress, Settings

QUERIES = load_queries("bench.custom_table")

LOADED = "public.loaded"


@dataclass(frozen=True, slots=True, eq=False)
class UserTable:
    """`name`: the name in the engines. `relation`: schema and table in Postgres. `key`: the column of a
    single-column primary key, or None. `generated`: generated columns, which cannot be inserted.
    `nondeterministic`: columns with a nondeterministic collation. `warnings`: sentences on omitted columns of
    a file."""

    settings: Settings
    store: Store
    epoch: Epoch
    name: str
    relation: tuple[str, ...]
    columns: tuple[SourceColumn, ...]
    partitioned: bool
    generated: frozenset[str]
    nondeterministic: frozenset[str]
    warnings: tuple[str, ...] = ()

    @property
    def state(self) -> TableState:
        return self.epoch.tables[self.name]

    @property
    def identifier(self) -> Identifier:
        return Identifier(*self.relation)

    @property
    def key(self) -> SourceColumn | None:
        keys = [column for column in self.columns if column.in_key]
        return keys[0] if len(keys) == 1 and not keys[0].converted else None

    @property
    def queried(self) -> list[SourceColumn]:
        """The columns with the same type in Postgres and in the lake, so that one query is for both."""
        return [column for column in self.columns if not column.converted]


@contextmanager
def open_user_table(settings: Settings, name: str, folder: Path) -> Iterator[UserTable]:
    """`name` is schema.table, or a Parquet or CSV file. `folder` is for the private lake and server. Raises
    BadInput for a file that cannot be read, UsageError for a table that does not exist or has no primary
    key."""
    settings = replace(settings, lake=LakeAddress.at(folder / "lake"))
    path = Path(name).expanduser()
    if not is_file_name(path):
        yield from _opened(settings, name)
        return
    rows, warnings = read_rows(path, folder)
    settings = Settings(folder / "home", settings.lake)
    with open_store(settings, install=False) as store:
        try:
            load_rows(store, Identifier(*LOADED.split(".")), rows)
        except psycopg.DataError as error:
            raise BadInput(f"Postgres cannot store {path}: {error}; choose another file") from error
        except psycopg.ProgrammingError as error:
            raise BadInput(
                f"Postgres cannot store {path}: {error.diag.message_primary}; choose another file"
            ) from error
    yield from _opened(settings, LOADED, warnings)


def _opened(settings: Settings, name: str, warnings: tuple[str, ...] = ()) -> Iterator[UserTable]:
    with open_store(settings, install=False) as store:
        epoch = publish_snapshot(store, Lake.create(settings.lake), tables=[name])
        with store.connect() as connection:
            query = QUERIES["relation"]
            found = connection.execute(query, {"name": name}).fetchone()
            if found is None:
                raise BadInput(f"table {name} was dropped during the run; run the command again")
            oid, schema, relation, partitioned, generated, nondeterministic = found
            columns = tuple(read_columns(connection, [oid])[oid])
        (table,) = [table for table, state in epoch.tables.items() if state.relation == oid]
        if all(column.converted for column in columns):
            raise BadInput(
                f"table {name} has no column with the same type in Postgres and in the lake; choose another"
            )
        if epoch.tables[table].rows == 0:
            raise BadInput(f"table {name} has no rows; choose another table")
        yield UserTable(
            settings,
            store,
            epoch,
            table,
            (schema, relation),
            columns,
            partitioned,
            frozenset(generated),
            frozenset(nondeterministic),
            warnings,
        )


SCHEMA = "ridelake_bench"
Row = Sequence[str | None]

# Conversion of values from Postgres to DuckDB as text, for types whose text differs: the expression in
# Postgres and the one in DuckDB. Needed for bytes and for dates before year 1.
CONVERSIONS = (
    (pa.types.is_binary, SQL("encode({}, 'hex')"), "unhex(?)"),
    (pa.types.is_date, SQL("({} - DATE '1970-01-01')::text"), "DATE '1970-01-01' + ?::INTEGER"),
    (
        lambda arrow: pa.types.is_timestamp(arrow) and arrow.tz is None,
        SQL("(extract(epoch FROM {}) * 1000000)::bigint::text"),
        "make_timestamp(?::BIGINT)",
    ),
    (
        pa.types.is_timestamp,
        SQL("(extract(epoch FROM {}) * 1000000)::bigint::text"),
        "make_timestamptz(?::BIGINT)",
    ),
    (lambda arrow: True, SQL("{}::text"), "?"),
)


def inserted_columns(subject: UserTable) -> list[SourceColumn]:
    return [column for column in subject.columns if column.name not in subject.generated]


def some_rows(subject: UserTable, count: int) -> list[tuple[Row, Row]]:
    """Rows, each in the form for Postgres and in that for DuckDB. Rows of child tables are excluded, because
    their keys may repeat; rows of partitions are included."""
    columns = inserted_columns(subject)
    names = [Identifier(column.name) for column in columns]
    values = [SQL("{}::text").format(name) for name in names]
    values += [
        _conversion(column)[0].format(column.sent(name)) for column, name in zip(columns, names, strict=True)
    ]
    only = SQL("") if subject.partitioned else SQL("ONLY ")
    query = SQL("SELECT {} FROM {}{} LIMIT {}").format(
        SQL(", ").join(values), only, subject.identifier, count
    )
    with subject.store.connect() as connection:
        rows = connection.execute(query).fetchall()
    return [(row[: len(columns)], row[len(columns) :]) for row in rows]


def _conversion(column: SourceColumn) -> tuple[SQL, str]:
    return next((ours, theirs) for fits, ours, theirs in CONVERSIONS if fits(column.arrow_type))


@contextmanager
def scratch_schema(subject: UserTable) -> Iterator[Connection[TupleRow]]:
    """A schema for copies of the table, dropped at the end."""
    schema = Identifier(SCHEMA)
    with subject.store.connect() as connection:
        found = connection.execute("SELECT FROM pg_namespace WHERE nspname = %s", (SCHEMA,)).fetchone()
        if found is not None:
            raise UsageError(f"schema {SCHEMA} already exists; drop it if an earlier benchmark left it")
        connection.execute(SQL("CREATE SCHEMA {}").format(schema))
        try:
            yield connection
        finally:
            connection.execute(SQL("DROP SCHEMA {} CASCADE").format(schema))


def create_copy(connection: Connection[TupleRow], subject: UserTable, name: str) -> None:
    """An empty table with the same columns, keys and indexes in the scratch schema."""
    like = SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)")
    connection.execute(like.format(Identifier(SCHEMA, name), subject.identifier))


@contextmanager
def postgres_copy(subject: UserTable) -> Iterator[Connection[TupleRow]]:
    """An empty table `copy` with the same columns, keys and indexes, in the scratch schema."""
    with scratch_schema(subject) as connection:
        create_copy(connection, subject, "copy")
        yield connection


@contextmanager
def smaller_copies(subject: UserTable, row_counts: Sequence[int], folder: Path) -> Iterator[list[UserTable]]:
    """The first rows of the table, as many as each of `row_counts`, as tables of the scratch schema and of a
    lake in `folder`. A count that the table itself does not have, without its child tables, is left out."""
    columns = SQL(", ").join(Identifier(column.name) for column in inserted_columns(subject))
    insert = SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {}{} LIMIT {}")
    only = SQL("" if subject.partitioned else "ONLY ")
    names = []
    with scratch_schema(subject) as connection:
        for count in row_counts:
            copy = Identifier(SCHEMA, f"rows_{count}")
            create_copy(connection, subject, f"rows_{count}")
            filled = insert.format(copy, columns, columns, only, subject.identifier, count)
            if connection.execute(filled).rowcount == count:
                connection.execute(SQL("ANALYZE {}").format(copy))
                names.append(f"rows_{count}")
        settings = replace(subject.settings, lake=LakeAddress.at(folder / "lake"))
        if not names:
            yield []
            return
        tables = [f"{SCHEMA}.{name}" for name in names]
        epoch = publish_snapshot(subject.store, Lake.create(settings.lake), tables=tables)
        yield [
            replace(subject, settings=settings, epoch=epoch, name=name, relation=(SCHEMA, name))
            for name in names
        ]


def insert_into_postgres(
    connection: Connection[TupleRow], subject: UserTable, rows: Sequence[tuple[Row, Row]]
) -> tuple[list[float], int]:
    """The seconds of each durable insert, and the number of rows afterwards."""
    columns = inserted_columns(subject)
    names = SQL(", ").join(Identifier(column.name) for column in columns)
    values = SQL(", ").join(SQL(f"${number + 1}") for number in range(len(columns)))
    copy = Identifier(SCHEMA, "copy")
    insert = SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE VALUES ({})").format(copy, names, values)
    seconds = []
    with RawCursor(connection) as cursor:  # does not interpret % in a column name as a placeholder
        for row, _ in rows:
            begin = perf_counter()
            cursor.execute(insert, row)
            seconds.append(perf_counter() - begin)
    found = connection.execute(SQL("SELECT count(*) FROM {}").format(copy)).fetchone()
    return seconds, found[0] if found else 0


def insert_into_duckdb(
    path: Path, subject: UserTable, rows: Sequence[tuple[Row, Row]]
) -> tuple[list[float], int]:
    """The same for a DuckDB file."""
    columns = inserted_columns(subject)
    with duckdb.connect(str(path)) as database:
        empty = database.read_parquet(subject.state.locations).limit(0).to_arrow_table()
        database.from_arrow(empty.select([column.name for column in columns])).create("copy")
        values = ", ".join(_conversion(column)[1] for column in columns)
        insert = f"INSERT INTO copy VALUES ({values})"  # noqa: S608
        seconds = []
        for _, row in rows:
            begin = perf_counter()
            database.execute(insert, row)
            seconds.append(perf_counter() - begin)
        found = database.execute("SELECT count(*) FROM copy").fetchone()
        return seconds, found[0] if found else 0
