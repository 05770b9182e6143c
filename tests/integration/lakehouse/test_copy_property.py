"""The values of random tables of every supported type equal the text that Postgres shows."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.sql import SQL
from published_tables import columns_of

from lakehouse.source.copy import fetch
from oltp.store import Store

DAY_US = 86_400_000_000


class Kind(NamedTuple):
    """A type. `values`: its values as text that Postgres reads. `shown`: the expression that Postgres shows
    for a column. `ours`: a function that converts our value to that form."""

    declared: str
    values: st.SearchStrategy[str]
    shown: str = "{}::text"
    ours: Callable[[Any], str] = str


def whole(bits: int) -> st.SearchStrategy[str]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1).map(str)


def decimals(precision: int, scale: int) -> Kind:
    numbers = st.integers(-(10**precision) + 1, 10**precision - 1) | st.integers(-9999, 9999)
    within = numbers.filter(lambda n: abs(n) < 10**precision)
    texts = within.map(lambda n: f"{'-' * (n < 0)}{str(abs(n)).rjust(scale, '0')}e-{scale}")
    return Kind(f"numeric({precision}, {scale})", texts, ours=lambda v: f"{v:f}")


def moments(declared: str, shown: str) -> Kind:
    """Microseconds since 1970, in the common range of Postgres and Arrow."""
    since = st.integers(-210_866_803_200_000_000, 2**63 - 1 - 10_957 * DAY_US) | st.integers(-(10**6), 10**6)
    return Kind(declared, since.map(lambda n: f"{n // DAY_US} {n % DAY_US}"), shown)


def in_hex(value: bytes) -> str:
    return "\\x" + value.hex()


TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
EPOCH = "(extract(epoch FROM {}) * 1000000)::bigint::text"
KINDS = {
    "bool": Kind("boolean", st.sampled_from(["true", "false"]), ours=lambda v: str(v).lower()),
    "int2": Kind("smallint", whole(16)),
    "int4": Kind("integer", whole(32)),
    "int8": Kind("bigint", whole(64)),
    "float4": Kind("real", st.floats(width=32).map(repr), "{}::float8::text", lambda v: repr(float(v))),
    "float8": Kind("double precision", st.floats().map(repr), ours=repr),
    "n12": decimals(12, 2),
    "n38": decimals(38, 0),
    "n38s": decimals(38, 38),
    "n20": decimals(20, 7),
    "n5": decimals(5, 5),
    "text": Kind("text", TEXTS),
    "char": Kind("char(5)", st.text("abü ", max_size=5), "rpad({}, 5)"),
    "bytea": Kind("bytea", st.binary(max_size=30).map(in_hex), ours=in_hex),
    "uuid": Kind("uuid", st.uuids().map(str)),
    "mood": Kind("mood", st.sampled_from(["sad", "ok", "élan"])),
    "date": Kind("date", st.integers(-2_440_588, 2_145_031_583).map(str), "({} - date '1970-01-01')::text"),
    "at": moments("timestamptz", EPOCH),
    "local": moments("timestamp", EPOCH),
}  # fmt: skip
WRITTEN = {
    "date": "date '1970-01-01' + %s::int",
    "timestamp": "timestamp '1970-01-01' + split_part(%s, ' ', 1)::int * interval '1 day'"
    " + split_part(%s, ' ', 2)::bigint * interval '1 us'",
}
ROWS = st.lists(st.tuples(*(st.none() | kind.values for kind in KINDS.values())), max_size=8)


@pytest.fixture
def table(store: Store):
    with store.connect() as connection:
        columns = ", ".join(f'"{name}" {kind.declared}' for name, kind in KINDS.items())
        connection.execute("CREATE TYPE mood AS ENUM ('sad', 'ok', 'élan')")
        connection.execute(f"CREATE TABLE anything (n serial, {columns})")
        yield connection


def written(kind: Kind) -> tuple[str, int]:
    """The expression of a value, and the number of its parameters."""
    if kind.declared == "date":
        return WRITTEN["date"], 1
    if kind.declared.startswith("timestamp"):
        text = WRITTEN["timestamp"]
        return (f"({text}) AT TIME ZONE 'UTC'" if kind.declared == "timestamptz" else text), 2
    return f"%s::{kind.declared}", 1


@pytest.mark.timeout(200)
@pytest.mark.parametrize("is_loaded", [True, False])
def test_values_equal_those_of_postgres(table, monkeypatch, is_loaded: bool):
    monkeypatch.setattr("lakehouse.source.copy.is_loaded", lambda: is_loaded)
    columns = columns_of(table, "anything")
    expressions = [written(kind) for kind in KINDS.values()]
    insert = "INSERT INTO anything VALUES (DEFAULT, {})".format(", ".join(text for text, _ in expressions))
    shown = ", ".join(kind.shown.format(f'"{name}"') for name, kind in KINDS.items())

    @settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
    @given(ROWS)
    def check(rows: list[tuple[str | None, ...]]) -> None:
        table.execute("TRUNCATE anything")
        for row in rows:
            values = [v for v, (_, count) in zip(row, expressions, strict=True) for _ in range(count)]
            table.execute(insert, values)
        theirs = table.execute(f"SELECT {shown} FROM anything ORDER BY n").fetchall()
        found = fetch(table, SQL("SELECT * FROM anything ORDER BY n").format(), columns)
        for place, (name, kind) in enumerate(KINDS.items()):
            ours = [None if v is None else kind.ours(v) for v in plain(found[name])]
            assert [same(kind, v) for v in ours] == [same(kind, row[place]) for row in theirs], name

    check()


def plain(column: pa.ChunkedArray) -> list[Any]:
    """The values of a column. Dates and times are integers, because the types of Python are too small."""
    numbers = {"date32[day]": pa.int32(), "timestamp[us]": pa.int64(), "timestamp[us, tz=UTC]": pa.int64()}
    return column.cast(numbers.get(str(column.type), column.type)).to_pylist()


def same(kind: Kind, value: str | None) -> Any:
    """The text in the form of Python, which writes floats in another form than Postgres."""
    if value is None or kind.declared not in ("real", "double precision"):
        return value
    return repr(float(value))
