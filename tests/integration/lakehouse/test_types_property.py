"""Property test: the values that DuckDB, Polars and pyiceberg read equal the text that Postgres writes.

The tables have random types: every type of Postgres that a user can declare, and arrays, domains and
composites of these. The readers do not use ridelake.
"""

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from time import monotonic

import duckdb
import pyarrow as pa
import pytest
from bare_database import rows_of, run
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from iceberg_readers import with_polars, with_pyiceberg
from type_table import type_table
from type_values import EXACT, KINDS, VALUES, WITHOUT_ORDER, TypeSpec, base_type, same, types

from lakehouse.capture.publish import publish_changes, publish_snapshot
from lakehouse.source.tracking import track
from lakehouse.table.catalog import Lake
from lakehouse.table.epoch import Epoch, Nested
from oltp.store import Store
from ridelake.settings import LakeAddress

# The types of pg_type that a column can have, without arrays and row types.
DECLARABLE = """
SELECT format_type(oid, NULL) FROM pg_type
WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype IN ('b', 'r', 'm') AND typisdefined
  AND typsubscript <> 'array_subscript_handler'::regproc ORDER BY 1
"""
ROOT = Path(__file__).parents[3]
ORDERED = [name for name in VALUES if name not in WITHOUT_ORDER]

# A column of a table: its type, and its values before and after the changes, one for each row.
Column = tuple[TypeSpec, list[str], list[str]]
ROWS = 6
LONG_SECONDS = int(os.environ.get("RIDELAKE_TEST_SECONDS", "180"))  # of the slow test


@st.composite
def columns(draw: st.DrawFn, names: Sequence[str], kinds: Sequence[str] = KINDS) -> list[Column]:
    """Random columns. The first one is in the key. `kinds`: the kinds of types."""
    found: list[Column] = []
    for place in range(draw(st.integers(2, 6))):
        spec = (
            base_type(draw(st.sampled_from(ORDERED))) if not place else draw(types(list(names), kinds=kinds))
        )
        values = st.lists(spec.values, min_size=ROWS, max_size=ROWS)
        found.append((spec, draw(values), draw(values)))
    return found


def readers(epoch: Epoch) -> dict[str, pa.Table]:
    state = epoch.tables["t"]
    query = "SELECT * EXCLUDE (filename, file_row_number)"
    query += " FROM read_parquet($files, filename = true, file_row_number = true)"
    values = {"files": state.locations}
    if state.deletes:
        query += " ANTI JOIN (SELECT file_path, pos FROM read_parquet($deletes))"
        query += " ON file_path = filename AND pos = file_row_number"
        values["deletes"] = [file.location for file in state.deletes]
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return {
            "duckdb": connection.sql(query, params=values).to_arrow_table(),
            "polars": with_polars(state.metadata),
            "pyiceberg": with_pyiceberg(state.metadata),
        }


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def check(store: Store, epoch: Epoch, shown: Sequence[str]) -> None:
    """Compare each value of each reader with the text that Postgres writes."""
    with store.connect() as connection:
        values = ", ".join(one.format(f"c{n}") for n, one in enumerate(shown))
        cursor = connection.execute(f"SELECT id, {values} FROM shop.t ORDER BY id".encode())
        result = cursor.pgresult
        assert result is not None
        expected = [
            [_text(result.get_value(row, column)) for column in range(result.nfields)]
            for row in range(result.ntuples)
        ]
    for reader, table in readers(epoch).items():
        names = ["id", *(f"c{n}" for n in range(len(shown)))]
        found = sorted(table.select(names).to_pylist(), key=lambda row: row["id"])
        assert [str(row["id"]) for row in found] == [row[0] for row in expected], reader
        for texts, row in zip(expected, found, strict=True):
            for text, name in zip(texts, names, strict=True):
                # pyiceberg 0.12, which Polars may use, returns an empty list for a NULL list of structs.
                is_same = same(text, row[name], null_is_empty=reader != "duckdb")
                assert is_same, (reader, name, text, row[name])


def follow(store: Store, lake: Lake, table: Sequence[Column], nested: Nested = "text") -> None:
    """Publish the table, change half of its rows, and publish the changes."""
    specs = [spec for spec, _, _ in table]
    definitions = ", ".join(f"c{n} {spec.name}" for n, spec in enumerate(specs))
    run(store, "DROP SCHEMA IF EXISTS shop CASCADE", "CREATE SCHEMA shop")
    with store.connect() as connection:
        connection.execute("SET search_path = shop")
        for statement in dict.fromkeys(one for spec in specs for one in spec.created):
            connection.execute(statement.encode())
        connection.execute(f"CREATE TABLE t (id int, {definitions}, PRIMARY KEY (id, c0))".encode())
        track(store, "shop.t")
        for row, values in enumerate(zip(*(before for _, before, _ in table), strict=True)):
            if not values[0].startswith("NULL"):
                connection.execute(f"INSERT INTO t VALUES ({row}, {', '.join(values)})".encode())
        shown = [spec.shown for spec in specs]
        check(store, publish_snapshot(store, lake, tables=["shop.t"], nested=nested, verify=True), shown)
        for row, values in enumerate(zip(*(after for _, _, after in table), strict=True)):
            new = ", ".join(f"c{n} = {value}" for n, value in enumerate(values) if n or "NULL" not in value)
            change = f"UPDATE t SET {new}" if row % 3 else "DELETE FROM t"
            if row % 2 and new:
                connection.execute(f"{change} WHERE id = {row}".encode())
    check(store, publish_changes(store, lake, verify=True).epoch, shown)


@pytest.fixture(autouse=True)
def sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use sealed files, so that rows are deleted by the key index."""
    monkeypatch.setattr("lakehouse.capture.writer.SEAL_ROWS", 2)
    monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")  # the default needs another package


numbers = itertools.count()


def lake_in(folder: Path) -> Lake:
    return Lake.create(LakeAddress.at(folder / f"lake_{next(numbers)}"))


# No shrinking, because it takes minutes. The traceback of a failure has the statements.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
UNCHECKED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@settings(deadline=None, suppress_health_check=UNCHECKED, phases=PHASES, max_examples=5)
@given(table=columns(list(VALUES)))
def test_a_table_of_random_types_is_read_by_others_as_postgres_writes_it(
    bare: Store, tmp_path: Path, table: list[Column]
):
    follow(bare, lake_in(tmp_path), table)


@pytest.mark.slow
@settings(deadline=None, suppress_health_check=UNCHECKED, phases=PHASES, max_examples=80)
@given(table=columns(list(VALUES)))
def test_many_tables_of_random_types_are_read_by_others_as_postgres_writes_them(
    bare: Store, tmp_path: Path, table: list[Column]
):
    follow(bare, lake_in(tmp_path), table)


# Some of these types are stored as text, not as lists or structs.
NESTED = columns(
    [*EXACT, *EXACT, "numeric", "jsonb", "interval", "date"], ["array", "composite", "domain", "base"]
)


@settings(deadline=None, suppress_health_check=UNCHECKED, phases=PHASES, max_examples=5)
@given(table=NESTED)
def test_a_table_of_random_lists_and_structs_is_read_by_others_as_postgres_writes_it(
    bare: Store, tmp_path: Path, table: list[Column]
):
    follow(bare, lake_in(tmp_path), table, nested="typed")


@pytest.mark.slow
@pytest.mark.timeout(LONG_SECONDS + 1800)
def test_many_tables_of_random_lists_and_structs_are_read_by_others_as_postgres_writes_them(
    bare: Store, tmp_path: Path
):
    until = monotonic() + LONG_SECONDS

    @settings(deadline=None, suppress_health_check=UNCHECKED, phases=PHASES, max_examples=5 * LONG_SECONDS)
    @given(table=NESTED)
    def follow_until_the_end(table: list[Column]) -> None:
        if monotonic() < until:
            follow(bare, lake_in(tmp_path), table, nested="typed")

    follow_until_the_end()


@settings(deadline=None, suppress_health_check=UNCHECKED, phases=PHASES, max_examples=3)
@given(data=st.data())
def test_a_table_of_every_type_is_read_by_others_as_postgres_writes_it(
    bare: Store, tmp_path: Path, data: st.DataObject
):
    names = [name for (name,) in rows_of(bare, DECLARABLE)]
    known = {name.split("(")[0] for name in VALUES}
    only_null = {name for name in names if name not in known}
    assert only_null == {
        "gtsvector", "pg_brin_bloom_summary", "pg_brin_minmax_multi_summary", "pg_dependencies",
        "pg_mcv_list", "pg_ndistinct", "pg_node_tree",  # types without input
        "xml",  # the embedded server is compiled without libxml
    }  # fmt: skip
    specs = [base_type(name) for name in ("integer", *VALUES, *sorted(only_null))]
    values = [st.lists(spec.values, min_size=ROWS, max_size=ROWS) for spec in specs]
    follow(
        bare,
        lake_in(tmp_path),
        [(spec, data.draw(v), data.draw(v)) for spec, v in zip(specs, values, strict=True)],
    )


def test_the_documented_table_equals_the_generated_one(bare: Store):
    names = [name for (name,) in rows_of(bare, DECLARABLE)]
    with bare.connect() as connection:
        table = type_table(connection, names)
    assert table in (ROOT / "docs/types.md").read_text("utf-8"), f"docs/types.md must contain:\n\n{table}"
