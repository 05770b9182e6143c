"""The comparison finds all differences between a table and its files, and reports no others."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from psycopg import IsolationLevel
from psycopg.sql import SQL, Identifier
from published_tables import columns_of, rows_of
from published_tables import exported as exported_from

from lakehouse.table.layout import STORE_TABLES
from lakehouse.verify.compare import RowDifference, TableComparison, compare_table
from oltp.store import Store, transaction
from ridelake.errors import BadInput, ProofFailed

SNAPSHOT = IsolationLevel.REPEATABLE_READ


def run(store: Store, statements: str) -> None:
    with store.connect() as connection:
        connection.execute(statements)


def exported(store: Store, table: str, folder: Path) -> Path:
    with store.connect() as connection:
        return exported_from(connection, table, folder)


def compared(
    store: Store,
    table: str,
    files: Sequence[Path],
    settings: str = "SELECT",
    schema: str = "ridelake",
    **tail,
) -> TableComparison:
    with store.connect() as connection, transaction(connection, SNAPSHOT, read_only=True):
        connection.execute(settings)
        return compare_table(connection, schema, table, columns_of(connection, table), files, **tail)


def rewritten(path: Path, change: Callable[[pa.Table], pa.Table]) -> Path:
    table = pq.ParquetFile(path).read()
    damaged = path.with_name(f"{path.stem}-damaged.parquet")
    pq.write_table(change(table), damaged)
    return damaged


# ── Equal ───────────────────────────────────────────────────────────────────────────────────────


def test_an_epoch_equals_the_store_it_was_taken_from(published_once):
    for table in STORE_TABLES:
        state = published_once.epoch.tables[table]
        found = compared(published_once.store, table, state.locations)
        assert found == TableComparison(table, state.rows, state.rows, 0, ()), table
        assert found.equal


EXTREMES = r"""
CREATE TYPE colour AS ENUM ('red', 'green "g"', 'größer');
CREATE DOMAIN fare AS numeric(10, 2);
CREATE DOMAIN paint AS colour;
CREATE DOMAIN plate AS char(6);
CREATE TABLE every (
    key bigint PRIMARY KEY, flag boolean, small smallint, whole integer, big bigint, half real, full_ float8,
    words text, few varchar(9), padded char(4), called name, id uuid, raw bytea, day date,
    at timestamptz, wall timestamp, paint colour, price fare, precise numeric(38, 12), share numeric(4, 4),
    widest numeric(38, 38), count_ numeric(38, 0), painted paint, plate plate
);
INSERT INTO every VALUES
    (-9223372036854775808, true, -32768, -2147483648, -9223372036854775808, '-0', 'NaN', '', '', '', '',
     '00000000-0000-0000-0000-000000000000', '', '0001-01-01', '0001-01-01 00:00:00+00',
     '0001-01-01 00:00:00', 'red', 0.00, 0.000000000001, 0, -0.00000000000000000000000000000000000001,
     99999999999999999999999999999999999999, 'red', ''),
    (9223372036854775807, false, 32767, 2147483647, 9223372036854775807, 'Infinity', 5e-324,
     E'a "quote", it''s\r\n\t\\N🚕', 'NULL', 'ab', 'größer',
     'ffffffff-ffff-ffff-ffff-ffffffffffff', '\x00ff0a', '9999-12-31', '9999-12-31 23:59:59.999999+00',
     '9999-12-31 23:59:59.999999', 'green "g"', -99999999.99, -12345678901234567890123456.123456789012, -0.5,
     0.99999999999999999999999999999999999999, -1, 'größer', 'ab'),
    (0, NULL, 0, 0, 0, '-Infinity', '-0', '0', ' ', '    ', 'a',
     'a0000000-0000-0000-0000-00000000000a', '\x00',
     '1969-12-31', '1969-12-31 23:59:59.999999+00', '1969-12-31 23:59:59.999999', 'größer', 0.01, 0, 0.9999,
     0.5, 0, NULL, 'abcdef'),
    (1, NULL, 1, 1, 1, 1e-45, 1.7976931348623157e308, E'\u0301', 'ß', 'ß', 'b', NULL, '\xff', '4713-01-01 BC',
     '4713-01-01 00:00:00+00 BC', '4713-01-01 00:00:00 BC', 'red', 0.1, 1, 0.0001, 0, 1, 'red', 'ß'),
    (2, NULL, 1, 1, 1, 3.4028235e38, -1.7976931348623157e308, E'\U0010FFFF', 'ß', 'ß', 'b', NULL, '\xff',
     '290000-12-31', '290000-12-31 00:00:00.000001+00', '290000-12-31 00:00:00.999999', NULL, -0.01, -1,
     -0.0001, NULL, NULL, NULL, NULL);
INSERT INTO every (key) VALUES (3);
"""
HOSTILE = """
SET LOCAL TimeZone = 'Asia/Kathmandu'; SET LOCAL DateStyle = 'German'; SET LOCAL extra_float_digits = -15;
SET LOCAL bytea_output = 'escape'; SET LOCAL client_encoding = 'LATIN1'; SET LOCAL search_path = ridelake
"""


@pytest.mark.parametrize("settings", ["SELECT", HOSTILE], ids=["plain", "hostile"])
def test_every_type_is_equal_at_its_extremes(store: Store, tmp_path: Path, settings: str):
    run(store, EXTREMES)
    path = exported(store, "every", tmp_path)
    assert compared(store, "every", [path], settings) == TableComparison("every", 6, 6, 0, ())
    run(store, "UPDATE every SET words = words || 'é' WHERE key = 0")
    (found,) = compared(store, "every", [path], settings).differences
    assert found == RowDifference("every", ("0",), "differs", (("words", "'0é'", "'0'"),))


def test_special_characters_in_names_are_quoted(store: Store, tmp_path: Path):
    odd = '100%s "{x}" $mask \'é'
    table, name = Identifier(odd), Identifier(odd)
    with store.connect() as connection:
        connection.execute(SQL("CREATE TABLE {} ({} text PRIMARY KEY)").format(table, name))
        connection.execute(SQL("INSERT INTO {} VALUES ('%s')").format(table))
    path = exported(store, odd, tmp_path)
    assert compared(store, odd, [path]).equal
    with store.connect() as connection:
        connection.execute(SQL("UPDATE {} SET {} = 'b'").format(table, name))
    assert [d.key for d in compared(store, odd, [path]).differences] == [("b",), ("%s",)]


def test_the_named_schema_is_compared(store: Store, tmp_path: Path):
    run(store, "CREATE SCHEMA other; CREATE TABLE other.t AS SELECT 1 AS a; CREATE TABLE t AS SELECT 2 AS a")
    path = exported(store, "t", tmp_path)
    assert compared(store, "t", [path]).equal
    assert not compared(store, "t", [path], schema="other").equal


def test_no_rows_and_no_files_are_equal_and_each_missing_or_extra_row_is_found(store: Store, tmp_path: Path):
    run(store, "CREATE TABLE t (key int PRIMARY KEY, x text)")
    empty = exported(store, "t", tmp_path)
    for files in ([], [empty], [empty, empty]):
        assert compared(store, "t", files) == TableComparison("t", 0, 0, 0, ())
    run(store, "INSERT INTO t VALUES (1, 'a')")
    for files in ([], [empty]):
        missing = RowDifference("t", ("1",), "missing in the lake")
        assert compared(store, "t", files) == TableComparison("t", 1, 0, 1, (missing,))
    full = exported(store, "t", _folder(tmp_path))
    assert compared(store, "t", [full]).equal
    run(store, "TRUNCATE t")
    extra = RowDifference("t", ("1",), "not in Postgres")
    assert compared(store, "t", [full]) == TableComparison("t", 0, 1, 1, (extra,))


def _folder(tmp_path: Path) -> Path:
    """A folder with a name that is a glob pattern and a Hive partition."""
    folder = tmp_path / "x=1 la[k]e *?"
    folder.mkdir()
    return folder


# ── One value ───────────────────────────────────────────────────────────────────────────────────

UUID = "a0000000-0000-0000-0000-00000000000"
VALUES = [
    ("boolean", "true", "false", "true", "false"),
    ("boolean", "NULL", "false", "NULL", "false"),
    ("smallint", "'-1'", "1", "-1", "1"),
    ("integer", "0", "NULL", "0", "NULL"),
    ("bigint", str(2**63 - 1), str(2**63 - 2), str(2**63 - 1), str(2**63 - 2)),
    ("real", "'0'", "'-0'", "0.0 (0x00000000)", "-0.0 (0x80000000)"),
    ("float8", "'0'", "'-0'", "0.0 (0x0000000000000000)", "-0.0 (0x8000000000000000)"),
    ("float8", "0.1", "0.10000000000000002",
     "0.1 (0x3fb999999999999a)", "0.10000000000000002 (0x3fb999999999999b)"),
    ("float8", "'NaN'", "'5e-324'", "nan (0x7ff8000000000000)", "5e-324 (0x0000000000000001)"),
    ("numeric(10, 2)", "10.00", "10.01", "10.00", "10.01"),
    ("numeric(38, 38)", "0", "1e-38", f"0.{'0' * 38}", f"0.{'0' * 37}1"),
    ("numeric(10, 2)", "'NaN'", "NULL", "NaN", "NULL"),
    ("text", "''", "NULL", "''", "NULL"),
    ("text", "'NULL'", "NULL", "'NULL'", "NULL"),
    ("text", "'a'", "'a '", "'a'", "'a '"),
    ("text", "E'\\u00e9'", "E'e\\u0301'", "'é'", "'e\u0301'"),
    ("varchar(3)", "'ab'", "'abc'", "'ab'", "'abc'"),
    ("name", "'a'", "'A'", "'a'", "'A'"),
    ("char(4)", "'a'", "'b'", "'a   '", "'b   '"),
    ("account_kind", "'rider'", "'driver'", "'rider'", "'driver'"),
    ("bytea", "'\\x00ff'", "'\\x00fe'", "\\x00ff", "\\x00fe"),
    ("bytea", "''", "NULL", "\\x", "NULL"),
    ("uuid", f"'{UUID}1'", f"'{UUID}2'", f"{UUID}1", f"{UUID}2"),
    ("date", "'1969-12-31'", "'1970-01-01'", "1969-12-31", "1970-01-01"),
    ("date", "'infinity'", "NULL", "infinity", "NULL"),
    ("date", "'4713-01-01 BC'", "NULL", "-2451507 days since 2000", "NULL"),
    ("timestamp", "'0001-01-01'", "'0001-01-01 00:00:00.000001'",
     "0001-01-01 00:00:00.000000", "0001-01-01 00:00:00.000001"),
    ("timestamptz", "'9999-12-31 23:59:59.999999+00'", "'9999-12-31 23:59:59.999998+00'",
     "9999-12-31 23:59:59.999999+00", "9999-12-31 23:59:59.999998+00"),
    ("timestamptz", "'-infinity'", "'1999-12-31 23:59:59.999999+00'",
     "-infinity", "1999-12-31 23:59:59.999999+00"),
    ("timestamptz", "'10000-01-01 00:00:00+00'", "NULL", "252455616000000000 µs since 2000", "NULL"),
]  # fmt: skip


@pytest.mark.slow
def test_one_value_is_found(store: Store, tmp_path: Path):
    statements = []
    for number, (declared, rows_have, lake_has, _, _) in enumerate(VALUES):
        for table, value in ((f"rows{number}", rows_have), (f"lake{number}", lake_has)):
            statements += [
                f"CREATE TABLE {table} (key int PRIMARY KEY, a text, x {declared}, b text)",
                f"INSERT INTO {table} SELECT i, 'a', NULL, 'b' FROM generate_series(1, 99) i",
                f"UPDATE {table} SET x = {value} WHERE key = 77",
            ]
    run(store, ";".join(statements))
    for number, (declared, _, _, shown, shown_in_lake) in enumerate(VALUES):
        found = compared(store, f"rows{number}", [exported(store, f"lake{number}", tmp_path)])
        expected = RowDifference(f"rows{number}", ("77",), "differs", (("x", shown, shown_in_lake),))
        assert found == TableComparison(f"rows{number}", 99, 99, 1, (expected,)), declared


@pytest.mark.parametrize("kind", [pa.timestamp("us"), pa.timestamp("us", "UTC"), pa.date32()], ids=str)
def test_a_time_outside_of_postgres_range_is_a_difference(store: Store, tmp_path: Path, kind: pa.DataType):
    integers = pa.int32() if kind == pa.date32() else pa.int64()
    limit = 1 << (integers.bit_width - 1)
    declared = {"timestamp[us]": "timestamp", "date32[day]": "date"}.get(str(kind), "timestamptz")
    run(store, f"CREATE TABLE t (key int PRIMARY KEY, x {declared})")
    run(
        store,
        "INSERT INTO t VALUES (1, NULL), (2, '-infinity'), (3, 'infinity'), (4, '1970-01-01'), (5, NULL)",
    )
    moments = [limit - 1, 1 - limit, -limit, 2 - limit, None]
    columns = {"key": pa.array(range(1, 6), pa.int32()), "x": pa.array(moments, integers).view(kind)}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    found = compared(store, "t", [tmp_path / "t.parquet"])
    assert [d.key for d in found.differences] == [("1",), ("2",), ("3",), ("4",)]


def test_a_nan_is_compared_by_its_bits(store: Store, tmp_path: Path):
    run(store, "CREATE TABLE t (key int PRIMARY KEY, a float8, b real)")
    run(store, "INSERT INTO t SELECT i, 'NaN', 'NaN' FROM generate_series(1, 3) i")
    doubles = np.array([0x7FF8000000000000, 0xFFF8000000000000, 0x7FF8000000000001], np.uint64).view(
        np.float64
    )
    reals = np.array([0x7FC00000, 0x7FC00001, 0x7FC00000], np.uint32).view(np.float32)
    table = pa.table({"key": pa.array([1, 2, 3], pa.int32()), "a": doubles, "b": reals})
    pq.write_table(table, tmp_path / "t.parquet")
    found = compared(store, "t", [tmp_path / "t.parquet"]).differences
    assert [(d.key, [name for name, _, _ in d.columns]) for d in found] == [
        (("2",), ["a", "b"]),
        (("3",), ["a"]),
    ]


def test_values_that_only_a_damaged_file_can_contain_are_found(store: Store, tmp_path: Path):
    """Text that is not a uuid, another spelling of a uuid, and an embedded NUL."""
    run(
        store,
        "CREATE TABLE t AS SELECT i AS key, 'ab' AS x, gen_random_uuid() AS id FROM generate_series(1, 4) i",
    )
    run(
        store, "ALTER TABLE t ADD PRIMARY KEY (key); UPDATE t SET id = 'abcdef00-0000-0000-0000-000000000000'"
    )

    def change(table: pa.Table) -> pa.Table:
        rows = table.to_pylist()
        rows[0]["id"] = rows[0]["id"].upper()
        rows[1]["id"] = "none"
        rows[2]["x"] = "a\0b"
        return pa.Table.from_pylist(rows, table.schema)

    found = compared(store, "t", [rewritten(exported(store, "t", tmp_path), change)])
    assert [(d.key, [name for name, _, _ in d.columns]) for d in found.differences] == [
        (("1",), ["id"]),
        (("2",), ["id"]),
        (("3",), ["x"]),
    ]


# ── Rows ────────────────────────────────────────────────────────────────────────────────────────

PAIRS = """
CREATE TABLE t (key int PRIMARY KEY, a text, b text);
INSERT INTO t SELECT i, 'ab', 'c' || i FROM generate_series(1, 1000) i;
INSERT INTO t VALUES (2001, 'x', 'y'), (2002, 'y', 'x'), (2003, 'n', NULL)
"""


def with_value(table: pa.Table, key: int, **values: str | None) -> pa.Table:
    rows = [row | (values if row["key"] == key else {}) for row in table.to_pylist()]
    return pa.Table.from_pylist(rows, table.schema)


def only(table: pa.Table, key: int) -> pa.Table:
    return pa.Table.from_pylist([row for row in table.to_pylist() if row["key"] == key], table.schema)


DAMAGES: dict[
    str, tuple[Callable[[pa.Table], pa.Table], list[tuple[str, str, tuple[tuple[str, str, str], ...]]]]
] = {
    "dropped": (lambda t: pa.concat_tables([t.slice(0, 5), t.slice(6)]), [("6", "missing in the lake", ())]),
    "doubled": (lambda t: pa.concat_tables([t, t.slice(5, 1)]), [("6", "more than once in the lake", ())]),
    "thrice": (
        lambda t: pa.concat_tables([t, t.slice(5, 1), t.slice(5, 1)]),
        [("6", "more than once in the lake", ())],
    ),
    "an old version too": (
        lambda t: pa.concat_tables([t, with_value(only(t, 6), 6, a="old")]),
        [("6", "more than once in the lake", (("a", "'ab'", "'old'"),))],
    ),
    "one more": (
        lambda t: pa.concat_tables([t, pa.Table.from_pylist([{"key": 5000, "a": "q"}], t.schema)]),
        [("5000", "not in Postgres", ())],
    ),
    "across a border": (
        lambda t: with_value(t, 7, a="a", b="bc7"),
        [("7", "differs", (("a", "'ab'", "'a'"), ("b", "'c7'", "'bc7'")))],
    ),
    "swapped columns": (
        lambda t: with_value(t, 2001, a="y", b="x"),
        [("2001", "differs", (("a", "'x'", "'y'"), ("b", "'y'", "'x'")))],
    ),
    "swapped rows": (
        lambda t: with_value(with_value(t, 2001, a="y", b="x"), 2002, a="x", b="y"),
        [
            ("2001", "differs", (("a", "'x'", "'y'"), ("b", "'y'", "'x'"))),
            ("2002", "differs", (("a", "'y'", "'x'"), ("b", "'x'", "'y'"))),
        ],
    ),
    "null elsewhere": (
        lambda t: with_value(t, 2003, a=None, b="n"),
        [("2003", "differs", (("a", "'n'", "NULL"), ("b", "NULL", "'n'")))],
    ),
    "one for another": (
        lambda t: pa.concat_tables([t.slice(0, 5), t.slice(6), t.slice(8, 1)]),
        [("6", "missing in the lake", ()), ("9", "more than once in the lake", ())],
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_each_kind_of_damage_is_found(store: Store, tmp_path: Path, damage: str):
    change, expected = DAMAGES[damage]
    run(store, PAIRS)
    found = compared(store, "t", [rewritten(exported(store, "t", tmp_path), change)])
    assert found.rows == 1003
    assert found.rows_different == len(expected)
    assert not found.equal
    assert [(d.key[0], d.kind, d.columns) for d in found.differences] == expected


def test_the_order_of_rows_and_columns_and_the_number_of_files_are_ignored(store: Store, tmp_path: Path):
    run(store, PAIRS)
    path = exported(store, "t", tmp_path)
    table = pq.ParquetFile(path).read().select(["b", "key", "a"])
    paths = []
    for number in range(4):
        paths.append(tmp_path / f"{number}.parquet")
        pq.write_table(table.take(list(range(number, len(table), 4))), paths[-1])
    assert compared(store, "t", paths[::-1]).equal
    assert compared(store, "t", [*paths, paths[0]]).rows_different == 251


def test_all_differences_are_counted_and_a_limited_number_is_listed(published):
    files = published.epoch.tables["rides"].locations
    run(published.store, "UPDATE rides SET fare_cents = fare_cents + 1, assigned_at = assigned_at")
    found = compared(published.store, "rides", files, limit=3)
    assert (found.rows, found.rows_different, len(found.differences)) == (2000, 2000, 3)
    assert {d.columns[0][0] for d in found.differences} == {"fare_cents"}
    assert compared(published.store, "rides", files, limit=0).rows_different == 2000


KEYS = {
    "several": (
        "(a int, b text, c bool, x text, PRIMARY KEY (c, a, b))",
        "(1, 'x', true",
        ("1", "x", "true"),
    ),
    "text": ("(key text PRIMARY KEY, x text)", "(E'it''s\\n\"é\"'", ('it\'s\n"é"',)),
    "uuid": (
        "(x text, key uuid PRIMARY KEY)",
        "(NULL, 'a0000000-0000-0000-0000-000000000001'",
        ("a0000000-0000-0000-0000-000000000001",),
    ),
    "bpchar": ("(key char(3) PRIMARY KEY, x text)", "('a'", ("a  ",)),
    "day": ("(key date PRIMARY KEY, x text)", "('2024-02-29'", ("2024-02-29",)),
}


@pytest.mark.parametrize("key", KEYS)
def test_a_key_of_any_type_is_shown(store: Store, tmp_path: Path, key: str):
    columns, row, shown = KEYS[key]
    run(store, f"CREATE TABLE t {columns}; INSERT INTO t VALUES {row})")
    path = exported(store, "t", tmp_path)
    assert compared(store, "t", [path]).equal
    run(store, "UPDATE t SET x = 'changed'")
    changed = RowDifference("t", shown, "differs", (("x", "'changed'", "NULL"),))
    assert compared(store, "t", [path]).differences == (changed,)


def test_without_a_key_the_complete_row_is_the_key(store: Store, tmp_path: Path):
    run(store, "CREATE TABLE t (a int, b text); INSERT INTO t VALUES (1, 'x'), (1, 'x'), (2, NULL)")
    path = exported(store, "t", tmp_path)
    assert compared(store, "t", [path]).equal
    run(store, "DELETE FROM t WHERE ctid = '(0,1)'; INSERT INTO t VALUES (2, NULL), (3, '')")
    assert compared(store, "t", [path]).differences == (
        RowDifference("t", ("1", "x"), "more than once in the lake"),
        RowDifference("t", ("2", "NULL"), "missing in the lake"),
        RowDifference("t", ("3", ""), "missing in the lake"),
    )


# ── Changed rows ──────────────────────────────────────────────────────────────────────────────────────


def test_replaced_rows_are_compared(published):
    files = published.epoch.tables["payments"].locations
    run(
        published.store,
        "UPDATE payments SET tip_cents = tip_cents + 1 WHERE ride_id IN"
        " (SELECT ride_id FROM payments WHERE status = 'captured' ORDER BY ride_id LIMIT 10)",
    )
    assert compared(published.store, "payments", files).rows_different == 10
    old = pa.concat_tables([pq.ParquetFile(file).read() for file in files])
    with published.store.connect() as connection:
        new = rows_of(connection, "payments")
    before = {tuple(row.values()) for row in old.to_pylist()}
    changed = [row for row in new.to_pylist() if tuple(row.values()) not in before]
    plus = pa.Table.from_pylist(changed, new.schema)
    minus = plus.select(["ride_id"])
    store = published.store
    assert compared(store, "payments", files, minus_keys=minus, plus_rows=plus).equal
    assert compared(
        store, "payments", files, minus_keys=minus.slice(0, 0), plus_rows=plus.slice(0, 0)
    ).rows_different
    assert compared(store, "payments", [], plus_rows=new).equal
    without = compared(store, "payments", files, minus_keys=minus)
    assert {d.kind for d in without.differences} == {"missing in the lake"}
    doubled = compared(store, "payments", files, plus_rows=plus)
    assert {d.kind for d in doubled.differences} == {"more than once in the lake"}


def test_changed_rows_with_a_composite_key_and_dictionaries(store: Store, tmp_path: Path):
    run(store, "CREATE TABLE t (a int, b text, x text, PRIMARY KEY (a, b))")
    run(store, "INSERT INTO t SELECT i, j, 'x' FROM generate_series(1, 3) i, generate_series(1, 3) j")
    path = exported(store, "t", tmp_path)
    run(store, "DELETE FROM t WHERE a = 2 AND b = '3'; UPDATE t SET x = 'y' WHERE a = 3 AND b = '2'")
    minus = pa.table({"b": pa.array(["3", "2"]).dictionary_encode(), "a": [2, 3]})
    plus = pa.table({"x": ["y"], "b": ["2"], "a": pa.array([3], pa.int64())})
    assert compared(store, "t", [path], minus_keys=minus, plus_rows=plus).equal


def test_changed_rows_with_other_columns_are_refused(store: Store, tmp_path: Path):
    run(store, "CREATE TABLE t (key int PRIMARY KEY, x text); CREATE TABLE free (x text)")
    path = exported(store, "t", tmp_path)
    for tail in ({"plus_rows": pa.table({"key": [1]})}, {"minus_keys": pa.table({"key": [1 << 40]})}):
        with pytest.raises(BadInput, match="the changed rows have other columns than the table"):
            compared(store, "t", [path], **tail)
    with pytest.raises(BadInput, match="cannot remove rows by key from a table without a key"):
        compared(store, "free", [], minus_keys=pa.table({"x": ["a"]}))


# ── What cannot be compared ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop_columns(["a"]), "column a is missing in"),
        (lambda t: t.append_column("c", t["a"]), "column c is VARCHAR in .* expected none"),
        (
            lambda t: t.set_column(0, "key", t["key"].cast(pa.int64())),
            "column key is BIGINT in .* expected INTEGER",
        ),
        (lambda t: t.set_column(1, "a", t["a"].cast(pa.binary())), "column a is BLOB"),
    ],
)
def test_files_with_other_columns_are_an_error(store: Store, tmp_path: Path, change, message: str):
    run(store, PAIRS)
    path = exported(store, "t", tmp_path)
    for files in ([rewritten(path, change)], [path, rewritten(path, change)]):
        with pytest.raises(ProofFailed, match=message):
            compared(store, "t", files)


def test_an_unreadable_file_is_an_error(store: Store, tmp_path: Path):
    run(store, PAIRS)
    path = exported(store, "t", tmp_path)
    content = bytearray(path.read_bytes())
    (tmp_path / "short.parquet").write_bytes(content[:100])
    content[4:200] = bytes(196)
    (tmp_path / "zeros.parquet").write_bytes(content)
    for name in ("nowhere", "short", "zeros"):
        with pytest.raises(ProofFailed, match="DuckDB cannot read them"):
            compared(store, "t", [tmp_path / f"{name}.parquet"])


def test_a_connection_without_a_single_snapshot_is_refused(store: Store):
    with store.connect() as connection:
        columns = columns_of(connection, "rides")
        with pytest.raises(ValueError, match="REPEATABLE READ"):
            compare_table(connection, "ridelake", "rides", columns, [])
        with transaction(connection), pytest.raises(ValueError, match="REPEATABLE READ"):
            compare_table(connection, "ridelake", "rides", columns, [])
