"""Postgres on its own current rows, to compare the row store with the engines on the same question.

Each query is one statement in one REPEATABLE READ READ ONLY transaction. A superuser could still read and
write files of the server by functions, so the query runs with the role pg_read_all_data. The query could
reset the role with set_config and a function that executes text as SQL, and some functions wait, lock or
signal without writing. These functions are rejected, however they are written.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from decimal import Decimal
from itertools import chain
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import Connection, IsolationLevel, RawCursor
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.pq import Format
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Composable, Identifier

from lakehouse.engines.parameters import NO_PARAMETERS, Parameters, check_parameters, numbered, placeholders
from lakehouse.source.copy.memory import EPOCH_SHIFT_DAYS, EPOCH_SHIFT_US
from lakehouse.source.copy.values import decode_array
from lakehouse.source.snapshot import check_same_database
from lakehouse.table.columns import (
    SourceColumn,
    UnsupportedValue,
    arrow_type_of,
    conversion_of,
    parts_of,
    read_parts,
)
from lakehouse.table.epoch import DEFAULT_FORMS, Epoch, ValueForms
from oltp.store import Store, open_existing_store, transaction
from ridelake.errors import CannotConnect, NotReady, QueryRejected
from ridelake.queries import load_queries
from ridelake.settings import Settings

QUERIES = load_queries("lakehouse.engines")

BATCH_ROWS = 50_000

# Can read every table and owns nothing; exists since Postgres 14.
READER = "pg_read_all_data"

# The functions of the server that refuse a type without a binary format, such as aclitem.
NO_BINARY_OUTPUT = {"getTypeBinaryOutputInfo", "array_send", "record_send", "range_send", "multirange_send"}

EXPLAIN = "EXPLAIN (ANALYZE, BUFFERS, VERBOSE, TIMING OFF, FORMAT JSON)\n"

# Matched in strings and comments too, because a pattern that finds their end could be deceived, and a string
# may be executed as SQL.
FORBIDDEN = re.compile(
    r"""set_config | (query|cursor)_to_xml | ts_stat | ts_rewrite | pg_sleep | advisory | pg_notify | dblink
        | txid_current\b(?!_) | pg_current_xact_id\b | pg_export_snapshot
        | pg_(cancel|terminate)_backend | lo_(import|export) | pg_read_(binary_)?file | pg_ls_ | pg_stat_file
        | U&["']""",
    re.VERBOSE | re.IGNORECASE,
)


class _Days(Loader):
    """A date as days since 2000: Python dates have the years 1 to 9999 only."""

    format = Format.BINARY

    def load(self, data: Buffer) -> int:
        return int.from_bytes(data, "big", signed=True)


class _Microseconds(_Days):
    """A timestamp as microseconds since 2000."""


class _Bytes(Loader):
    """The binary format of a value."""

    format = Format.BINARY

    def load(self, data: Buffer) -> bytes:
        return bytes(data)


LOADERS = {"date": _Days, "timestamp": _Microseconds, "timestamptz": _Microseconds}


class Postgres:
    """A connection that runs each query in a read-only transaction."""

    name = "postgres"

    def __init__(
        self, store: Store, connection: Connection[TupleRow], forms: ValueForms = DEFAULT_FORMS
    ) -> None:
        self._connection = connection
        self._store, self._forms = store, forms
        self._types: dict[int, tuple[str, str, str]] = {}  # by oid: see the query `type_of_oid`
        found = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
        self._superuser = found == (True,)

    def version(self) -> str:
        return f"{self._store.server_version // 10_000}.{self._store.server_version % 10_000}"

    def sql(self, query: str, parameters: Parameters = NO_PARAMETERS) -> pa.Table:
        try:
            return self._answer(query, parameters)
        except QueryRejected as error:
            cause = error.__cause__
            if not isinstance(cause, psycopg.Error) or cause.diag.source_function not in NO_BINARY_OUTPUT:
                raise
        return self._answer(query, parameters, binary=False)

    def _answer(self, query: str, parameters: Parameters, *, binary: bool = True) -> pa.Table:
        with self._executed(query, parameters, binary=binary) as cursor:
            nested = self._nested(cursor) if binary else {}
            if converted := self._converted(cursor, query, nested):
                for place, column in enumerate(cursor.description or ()):
                    if place in nested:
                        cursor.adapters.register_loader(column.type_code, _Bytes)
                self._execute(cursor, converted, parameters)
            return self._fetch(cursor, nested)

    def plan(self, query: str, parameters: Parameters = NO_PARAMETERS) -> dict[str, Any]:
        """The result of EXPLAIN ANALYZE, in a transaction as in `sql`."""
        with self._executed(EXPLAIN + query, parameters) as cursor:
            (((plan,),),) = cursor.fetchall()
            return plan  # type: ignore[no-any-return]

    @contextmanager
    def _executed(
        self, query: str, parameters: Parameters, *, binary: bool = True
    ) -> Iterator[RawCursor[TupleRow]]:
        check_parameters(query, parameters)
        if found := FORBIDDEN.search(query):
            raise QueryRejected(f"postgres: {found[0]} is not allowed: remove it")
        try:
            with transaction(self._connection, IsolationLevel.REPEATABLE_READ, read_only=True):
                if self._superuser:
                    self._connection.execute("SELECT set_config('role', %s, true)", (READER,))
                # Binary results are exact, and need the extended protocol, which allows only one statement.
                with RawCursor(self._connection) as cursor:
                    for type_, loader in LOADERS.items():
                        cursor.adapters.register_loader(type_, loader)
                    self._execute(cursor, query, parameters, binary=binary)
                    yield cursor
        except psycopg.Error as error:
            if self._connection.closed:
                raise CannotConnect(
                    f"lost the connection to Postgres: {_message(error)}; run the command again"
                ) from error
            raise QueryRejected(f"postgres: {_message(error)}") from error

    @staticmethod
    def _execute(
        cursor: RawCursor[TupleRow], query: str, parameters: Parameters, *, binary: bool = True
    ) -> None:
        values = [parameters[name] for name in placeholders(query)] if parameters else None
        cursor.execute((numbered(query) if values else query).encode(), values, binary=binary)

    def interrupt(self) -> None:
        self._connection.cancel_safe()

    def _nested(self, cursor: RawCursor[TupleRow]) -> dict[int, SourceColumn]:
        """The columns of the result that are lists or structs in the lake, by their places."""
        if self._forms.nested != "typed" or cursor.description is None or cursor.pgresult is None:
            return {}
        types = {place: column.type_code for place, column in enumerate(cursor.description)}
        others = {
            place: type_ for place, type_ in types.items() if not arrow_type_of(self._type_of(type_)[0])
        }
        parts = read_parts(self._connection, list(others.values())) if others else {}
        columns = {
            place: parts_of(parts, type_, cursor.pgresult.fmod(place), self._forms)
            for place, type_ in others.items()
        }
        return {place: column for place, column in columns.items() if column is not None and column.parts}

    def _converted(self, cursor: RawCursor[TupleRow], query: str, nested: Collection[int]) -> str | None:
        """The query with its columns in the form of the lake: text, if the type has no exact Arrow type. None
        if all have one. The types are known only after the query has run, so it then runs twice."""
        columns, names = list[Composable](), list[Identifier]()
        is_needed = False
        for number, column in enumerate(cursor.description or ()):
            name, argument, output = self._type_of(column.type_code)
            value: Composable = Identifier(f"c{number}")
            names.append(Identifier(f"c{number}"))
            if number in nested:
                is_needed = True  # to be fetched as bytes
            elif name != "numeric" and arrow_type_of(name) is None:
                is_needed = True
                value = SQL(conversion_of(name, argument, output)[0]).format(value=value)
            columns.append(SQL("{} AS {}").format(value, Identifier(column.name)))
        if not is_needed:
            return None
        wrapped = SQL("SELECT {} FROM (\n{}\n) AS found ({})").format(
            SQL(", ").join(columns), SQL(query.rstrip().rstrip(";")), SQL(", ").join(names)
        )
        return wrapped.as_string(None)

    def _type_of(self, oid: int) -> tuple[str, str, str]:
        if oid not in self._types:
            found = self._connection.execute(QUERIES["type_of_oid"], (oid,)).fetchone()
            assert found is not None
            self._types[oid] = found
        return self._types[oid]

    def _fetch(self, cursor: psycopg.Cursor[TupleRow], nested: Mapping[int, SourceColumn]) -> pa.Table:
        if cursor.description is None:
            word = cursor.statusmessage or "an empty query"
            raise QueryRejected(f"postgres: {word} returns no rows: use SELECT")
        types = [
            nested[place].arrow_type if place in nested else self._type(column)
            for place, column in enumerate(cursor.description)
        ]
        parts: list[list[Any]] = [[] for _ in types]
        while rows := cursor.fetchmany(BATCH_ROWS):
            for place, (part, values) in enumerate(zip(parts, zip(*rows, strict=True), strict=True)):
                arrow_type = types[place]
                if place in nested:
                    part.append(_decoded(nested[place], values))
                else:  # the type of a numeric without precision depends on all its values
                    part.append(values if arrow_type is None else _array(values, arrow_type))
        columns: list[pa.ChunkedArray] = []
        for part, arrow_type in zip(parts, types, strict=True):
            columns.append(_numerics(part) if arrow_type is None else pa.chunked_array(part, arrow_type))
        return pa.Table.from_arrays(columns, [column.name for column in cursor.description])

    def _type(self, column: psycopg.Column) -> pa.DataType | None:
        """The exact Arrow type; None for a numeric whose precision Arrow does not have."""
        name, *_ = self._type_of(column.type_code)
        bounds = None if column.precision is None else (column.precision << 16) | (column.scale or 0)
        return arrow_type_of(name, bounds)


def check_store(settings: Settings, epoch: Epoch) -> None:
    """Check that `settings` name the database of the epoch. Raises UsageError."""
    with open_existing_store(settings, rides=False) as store, closing(store.connect()) as connection:
        check_same_database(connection, epoch.token)


@contextmanager
def opened(settings: Settings, epoch: Epoch | None) -> Iterator[Postgres]:
    has_rides = epoch is None or any(table.source.startswith("ridelake.") for table in epoch.tables.values())
    # `closing`, because psycopg's context would commit, and a cancelled query may still be in a transaction.
    with open_existing_store(settings, rides=has_rides) as store, closing(store.connect()) as connection:
        if epoch is not None:  # the tables have the same names as in the lake
            relations = [t.relation for name, t in epoch.tables.items() if name == t.identifier[1]]
            connection.execute(QUERIES["search_path"], (relations,))
            _find_by_bare_name(connection, relations)
        pa.array([])  # imports pandas if it is installed; here, so that it is not part of a query's time
        yield Postgres(store, connection, epoch.forms if epoch else DEFAULT_FORMS)


def _find_by_bare_name(connection: Connection[TupleRow], relations: Sequence[int]) -> None:
    """Make each table accessible by its unqualified name. Raises NotReady if another table has the same name
    and a temporary view cannot be created."""
    for name, statement in connection.execute(QUERIES["shadowed"], (relations,)).fetchall():
        try:
            connection.execute(statement)
        except psycopg.Error as error:
            raise NotReady(
                f"postgres: another schema also has a table {name}, and a temporary view cannot be created "
                f"({error.diag.message_primary}): grant TEMPORARY on the database, or use another engine"
            ) from error


def _array(values: Sequence[Any], arrow_type: pa.DataType) -> pa.Array:
    if arrow_type == pa.string():
        # A uuid has its own class; the binary format of an enum is its label, which psycopg returns as bytes.
        values = [value.decode() if isinstance(value, bytes) else value and str(value) for value in values]
    if pa.types.is_date(arrow_type) or pa.types.is_timestamp(arrow_type):
        return _times(values, arrow_type)
    try:
        return pa.array(values, arrow_type)
    except pa.ArrowInvalid as error:
        raise QueryRejected(
            f"postgres: a value has no exact Arrow representation ({error}): cast it to text"
        ) from error


def _decoded(column: SourceColumn, values: Sequence[bytes | None]) -> pa.Array:
    try:
        return decode_array(column, values)
    except UnsupportedValue as error:
        raise QueryRejected(
            f"postgres: {error.what} has no exact Arrow representation: cast the array or composite to text"
        ) from error


def _times(values: Sequence[int | None], arrow_type: pa.DataType) -> pa.Array:
    is_date = pa.types.is_date(arrow_type)
    numbers = pa.array(values, pa.int32() if is_date else pa.int64())
    shift = pa.scalar(EPOCH_SHIFT_DAYS if is_date else EPOCH_SHIFT_US, numbers.type)
    try:
        if pc.min(numbers).as_py() == -(1 << (numbers.type.bit_width - 1)):
            raise pa.ArrowInvalid("-infinity")
        return pc.add_checked(numbers, shift).view(arrow_type)
    except pa.ArrowInvalid as error:
        raise QueryRejected(
            "postgres: a time is infinite or outside of Arrow's range: cast it to text"
        ) from error


def _numerics(parts: Iterable[Sequence[Decimal | None]]) -> pa.ChunkedArray:
    """Decimals of the narrowest type that fits all values: 38 digits, or 76."""
    values = list(chain.from_iterable(parts))
    scale = whole = 0
    for value in values:
        if value is None:
            continue
        _, digits, exponent = value.as_tuple()
        if not isinstance(exponent, int):
            raise QueryRejected("postgres: a numeric is NaN or infinite: cast it to double precision")
        scale, whole = max(scale, -exponent), max(whole, len(digits) + exponent)
    if whole + scale > 76:
        raise QueryRejected("postgres: a numeric has more than 76 digits: round() it")
    arrow_type = pa.decimal128(38, scale) if whole + scale <= 38 else pa.decimal256(76, scale)
    return pa.chunked_array([pa.array(values, arrow_type)], arrow_type)


def _message(error: psycopg.Error) -> str:
    """The server's message, with its line and caret."""
    return str(error).strip() or type(error).__name__
