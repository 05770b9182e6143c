"""Files for `bench --table`: each is measured, or refused with a reason."""

from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from psycopg.sql import Identifier
from table_figures import figures_of

from bench.custom_table.from_file import is_file_name, load_rows, read_rows
from bench.custom_table.subject import open_user_table
from oltp.store import Store
from ridelake.errors import BadInput
from ridelake.settings import LakeAddress, Settings

STAMPS = [datetime(2026, 1, 1, 12, 0, 0, 5), None, datetime(2026, 1, 2)]
# Name → columns of three rows, the loaded columns, and words of the warnings about the others.
FILES: dict[str, tuple[dict[str, Any], str, tuple[str, ...]]] = {
    "plain": ({"a": pa.array([1, 2, None]), "b": pa.array(["x", "", None])}, "a b", ()),
    "NUL in a text": (
        {"a": pa.array([1, 2, 3]), "t": pa.array(["x\0y", "z", None])},
        "a",
        ("column 't' of the file was omitted", "NUL"),
    ),
    "unsigned": (
        {"a": pa.array([2**64 - 1, 0, 1], pa.uint64()), "b": pa.array([1, 2, 3], pa.uint8())},
        "a b",
        (),
    ),
    "nanoseconds": (
        {"a": pa.array([1, 1_000, 1_700_000_000_123_456_789], pa.timestamp("ns"))},
        "a",
        ("truncated to microseconds",),
    ),
    "times": (
        {
            "s": pa.array(STAMPS, pa.timestamp("us")).cast(pa.timestamp("s"), safe=False),
            "z": pa.array(STAMPS, pa.timestamp("us", "America/New_York")),
            "d": pa.array([date(1, 1, 1), date(9999, 12, 31), None]),
        },
        "s z d",
        (),
    ),
    "far dates": (
        {"a": pa.array([1, 2, 3]), "d": pa.array([-800_000, 0, None], pa.int32()).cast(pa.date32())},
        "a",
        ("outside the years",),
    ),
    "far times": (
        {"a": pa.array([1, 2, 3]), "t": pa.array([2**62, 0, None], pa.int64()).cast(pa.timestamp("us"))},
        "a",
        ("outside the years",),
    ),
    "dictionaries": (
        {"a": pa.array(["x", "y", None]).dictionary_encode(), "b": pa.array([7, 8, 7]).dictionary_encode()},
        "a b",
        (),
    ),
    "bytes": (
        {"a": pa.array([b"\0\xff", b"", None]), "b": pa.array([b"abc", b"abd", None], pa.binary(3))},
        "a b",
        (),
    ),
    "views and large": (
        {
            "a": pa.array(["x", "y", "z"], pa.large_string()),
            "b": pa.array([b"x", b"y", None], pa.large_binary()),
        },
        "a b",
        (),
    ),
    "halves and uuids": (
        {
            "a": pa.array([1.5, float("nan"), None], pa.float16()),
            "u": pa.ExtensionArray.from_storage(
                pa.uuid(), pa.array([b"0" * 16, b"1" * 16, None], pa.binary(16))
            ),
        },
        "a u",
        (),
    ),
    "decimals": (
        {
            "a": pa.array([Decimal("1.5"), None, Decimal(2)], pa.decimal128(38, 10)),
            "b": pa.array([Decimal(1)] * 3, pa.decimal256(60, 0)),
        },
        "a",
        ("decimal256",),
    ),
    "nested and nothing": (
        {
            "a": pa.array([1, 2, 3]),
            "l": pa.array([[1], [], None]),
            "s": pa.array([{"x": 1}] * 3),
            "n": pa.nulls(3),
        },
        "a",
        ("list", "struct", "null"),
    ),
    "names": (
        {
            "row_number": pa.array([1, 2, 3]),
            "row_number1": pa.array([1, 2, 3]),
            '100 %s "': pa.array([1, 2, 3]),
        },
        'row_number row_number1 100 %s "',
        (),
    ),
    "a column without a name": (
        {"": pa.array([1, 2, 3]), "b": pa.array([1, 2, 3])},
        "b",
        ("its name is empty",),
    ),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_is_loaded_without_the_named_columns(kind: str, tmp_path: Path):
    columns, kept, words = FILES[kind]
    path = tmp_path / "city=3" / "rows.parquet"
    path.parent.mkdir()
    pq.write_table(pa.table(columns), path)
    rows, warnings = read_rows(path, tmp_path)
    assert " ".join(rows.column_names) == kept
    assert len(warnings) == len(columns) - len(rows.column_names) + (kind == "nanoseconds")
    for word in words:
        assert word in " ".join(warnings)


@pytest.mark.slow
def test_each_file_becomes_a_table_that_is_measured(store: Store, tmp_path: Path):
    for number, (kind, (columns, _, _)) in enumerate(FILES.items()):
        path = tmp_path / f"{number}.parquet"
        pq.write_table(pa.table(columns), path)
        rows, _ = read_rows(path, tmp_path)
        load_rows(store, Identifier("public", f"t{number}"), rows)
        settings = Settings(tmp_path / "home", LakeAddress.at(tmp_path / "none"), store.conninfo)
        folder = tmp_path / str(number)
        folder.mkdir()
        with open_user_table(settings, f"public.t{number}", folder) as subject:
            figures = figures_of(subject, folder)
        assert figures["size"]["rows"] == 3, kind
        assert not isinstance(figures["scan"], str), kind
        assert not isinstance(figures["insert"], str), kind


def test_invalid_utf8_is_bad_input(tmp_path: Path):
    bad = pa.array([b"\xff\xfe"]).view(pa.string())
    pq.write_table(pa.table({"a": bad}), tmp_path / "a.parquet")
    with pytest.raises(BadInput, match=r"cannot read .*a\.parquet: .*UTF"):
        read_rows(tmp_path / "a.parquet", tmp_path)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("a,b\n1,x\n", "a b"),
        ("a;b\n1;2,5\n", "a b"),
        ('"a b","c ""d"""\n1,"x\ny"\n', 'a b c "d"'),
        ("\ufeffa,b\n1,\n", "a b"),
        ("a,at\n1,2026-01-01 10:00:00\n2,\n", "a at"),
    ],
)
def test_csv_is_loaded_from_a_file_of_any_name(text: str, kept: str, tmp_path: Path):
    path = tmp_path / "a[1]*.CSV"
    path.write_text(text)
    rows, warnings = read_rows(path, tmp_path)
    assert (" ".join(rows.column_names), warnings) == (kept, ())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.csv", None, "does not exist"),
        ("empty.csv", b"", "rows"),
        ("header.csv", b"a,b\n", "has no rows"),
        ("latin.csv", "a,b\n1,\u00e9\n".encode("latin-1"), "cannot read"),
        ("cut.parquet", b"PAR1xxxx", "cannot read"),
        ("empty.parquet", b"", "cannot read"),
        ("twice.csv", b"a,A\n1,2\n", ""),
        ("rows.csv.gz", b"x", "neither .parquet nor .csv"),
        ("rows.xlsx", b"x", "neither .parquet nor .csv"),
    ],
)
def test_a_file_that_cannot_be_measured_is_bad_input(
    name: str, content: bytes | None, message: str, tmp_path: Path
):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    if not message:
        assert len(read_rows(path, tmp_path)[0].column_names) == 2  # DuckDB names the second one A_1
        return
    with pytest.raises(BadInput, match=message) as refused:
        assert is_file_name(path)
        read_rows(path, tmp_path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)
