"""The compiled loop and the Python loop decode bytes to the same table, or both report an error."""

import os
import struct
import subprocess
import sys
from dataclasses import replace
from decimal import Context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lakehouse.source.copy.decode import RunBuffer
from lakehouse.source.copy.memory import SLACK_BYTES, words_of
from lakehouse.source.copy.raw import decode_rows, framed
from lakehouse.source.copy.values import decode_values
from lakehouse.table.columns import ARROW_TYPES, SourceColumn, UnsupportedValue
from ridelake.errors import RidelakeError

TYPES = {**ARROW_TYPES, "numeric": pa.decimal128(12, 2)}
ELEMENT = SourceColumn("element", "int4", pa.int32())
LIST = SourceColumn("l", "_int4", pa.list_(pa.field("element", pa.int32())), parts=(ELEMENT,))
PARTS = (SourceColumn("t", "text", pa.string()), LIST)
STRUCT_TYPE = pa.struct([(part.name, part.arrow_type) for part in PARTS])
NESTED = [LIST, SourceColumn("s", "shop.pair", STRUCT_TYPE, parts=PARTS)]
ALL = [*(SourceColumn(name, name, type_) for name, type_ in TYPES.items()), *NESTED]
REFUSED = (RidelakeError, UnsupportedValue, pa.ArrowInvalid)


def numeric(value: int, scale: int) -> bytes:
    """The form that Postgres sends: base 10,000, without leading and trailing zero digits."""
    whole, digits = abs(value) * 10 ** (-scale % 4), []
    power = -((scale + 3) // 4)
    while whole:
        whole, digit = divmod(whole, 10_000)
        if digit or digits:
            digits.insert(0, digit)
        power += not digits
    sign = 0x4000 if value < 0 else 0
    return struct.pack(">hhHh", len(digits), power + len(digits) - 1, sign, scale) + struct.pack(
        f">{len(digits)}H", *digits
    )


def packed(code: str, values: st.SearchStrategy) -> st.SearchStrategy[bytes]:
    return values.map(lambda value: struct.pack(f">{code}", value))


TIMES = st.integers(-(2**63) + 1, 2**63 - 1 - 10_957 * 86_400_000_000)
OF_TYPE = {
    "bool": packed("?", st.booleans()),
    "int2": packed("h", st.integers(-(2**15), 2**15 - 1)),
    "int4": packed("i", st.integers(-(2**31), 2**31 - 1)),
    "int8": packed("q", st.integers(-(2**63), 2**63 - 1)),
    "float4": packed("f", st.floats(width=32)),
    "float8": packed("d", st.floats()),
    "date": packed("i", st.integers(-(2**31) + 1, 2**31 - 1 - 10_957)),
    "time": packed("q", st.integers(0, 86_400_000_000 - 1)),
    "timestamp": packed("q", TIMES),
    "timestamptz": packed("q", TIMES),
    "uuid": st.binary(min_size=16, max_size=16),
    "bytea": st.binary(max_size=40),
    "numeric": st.integers(-(10**12) + 1, 10**12 - 1).map(lambda value: numeric(value, 2)),
}
CONTEXT = Context(prec=100)


def fields(values: list[bytes | None]) -> list[bytes]:
    return [struct.pack(">i", -1) if v is None else struct.pack(">i", len(v)) + v for v in values]


def array(values: list[bytes | None]) -> bytes:
    head = struct.pack(">iii", int(bool(values)), int(None in values), 23)
    return head + (struct.pack(">ii", len(values), 1) + b"".join(fields(values)) if values else b"")


def composite(values: list[bytes | None]) -> bytes:
    return struct.pack(">i", len(values)) + b"".join(b"\0\0\0\x19" + field for field in fields(values))


ARRAYS = st.lists(st.none() | OF_TYPE["int4"], max_size=5).map(array)
TEXT = st.text(max_size=20).map(str.encode)


def row(values: list[bytes | None]) -> bytes:
    return struct.pack(">h", len(values)) + b"".join(fields(values))


OF_TYPE |= {
    "_int4": ARRAYS,
    "shop.pair": st.tuples(st.none() | TEXT, st.none() | ARRAYS).map(lambda found: composite(list(found))),
}


def rows_of(columns: list[SourceColumn]) -> st.SearchStrategy[list[bytes]]:
    values = [st.none() | OF_TYPE.get(column.pg_type, TEXT) for column in columns]
    return st.lists(st.tuples(*values).map(list).map(row), max_size=40)


def bits(table: pa.Table) -> pa.Table:
    """The table with the bits of its floats. A NaN does not equal itself; its bits do."""
    whole = {pa.float32(): pa.int32(), pa.float64(): pa.int64()}
    columns = [column.combine_chunks() for column in table.columns]
    return pa.table([c.view(whole.get(c.type, c.type)) for c in columns], names=table.column_names)


def compiled(rows: list[bytes], columns: list[SourceColumn]) -> pa.Table:
    return pa.concat_tables([decode_values([], columns), *decode_rows(rows, columns)])


@pytest.mark.slow
@settings(deadline=None, max_examples=50)
@given(rows_of(ALL))
@example([row([None] * len(ALL))] * 3)
def test_both_loops_give_the_same_table(rows: list[bytes]):
    assert bits(compiled(rows, ALL)).equals(bits(decode_values(rows, ALL)))


@settings(deadline=None)
@given(st.lists(st.integers(-(10**38) + 1, 10**38 - 1), min_size=1, max_size=9), st.integers(0, 38))
@example([10**38 - 1, 1 - 10**38, 0, 1, -1, 10_000, 10**37], 38)
@example([10**38 - 1, 1 - 10**38, 0, 1, -1, 10_000, 10**37], 0)
def test_every_number_of_38_digits_is_exact(numbers: list[int], scale: int):
    columns = [SourceColumn("v", "numeric", pa.decimal128(38, scale))]
    rows = [row([numeric(number, scale)]) for number in numbers]
    found = compiled(rows, columns)
    assert [int(v.as_py().scaleb(scale, CONTEXT)) for v in found["v"]] == numbers
    assert found.equals(decode_values(rows, columns))


@settings(deadline=None, max_examples=120)
@given(rows_of(ALL).filter(len), st.data())
def test_no_bytes_of_a_row_are_read_wrongly(rows: list[bytes], data: st.DataObject):
    """A row that was changed or truncated is refused, or both loops decode the same values."""
    hostile = bytearray(rows[0])
    for _ in range(data.draw(st.integers(1, 4))):
        hostile[data.draw(st.integers(0, len(hostile) - 1))] = data.draw(st.sampled_from([0, 1, 127, 255]))
    rows[0] = bytes(hostile[: data.draw(st.integers(0, len(hostile)))])
    outcomes = []
    for decode in (compiled, decode_values):
        try:
            outcomes.append(decode(rows, ALL))
        except REFUSED as error:
            outcomes.append(type(error))
    tables = [outcome for outcome in outcomes if isinstance(outcome, pa.Table)]
    assert len(tables) != 2 or bits(tables[0]).equals(bits(tables[1]))


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=300), st.booleans())
def test_no_messages_are_read_beyond_their_end(data: bytes, like_rows: bool):
    """The buffer is followed by guard bytes. If they were read, the result would change."""
    if like_rows:
        data = b"d" + struct.pack(">i", len(data) + 4) + data
    found = []
    for guard in (b"\0", b"\xff"):
        run = RunBuffer(ALL, 10, 1 << 20)
        buffer = np.frombuffer(data + guard * SLACK_BYTES, np.uint8)
        try:
            found.append((run.feed(words_of(buffer), 0, len(data)), run.rows))
        except REFUSED as error:
            found.append(str(error))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("pg_type", "value", "what"),
    [
        ("timestamp", struct.pack(">q", 2**63 - 1), "infinity"),
        ("timestamp", struct.pack(">q", -(2**63)), "infinity"),
        ("timestamptz", struct.pack(">q", 2**63 - 2), "a time outside of Arrow's range"),
        ("date", struct.pack(">i", 2**31 - 1), "infinity"),
        ("time", struct.pack(">q", 86_400_000_000), "24:00:00"),
        ("date", struct.pack(">i", 2**31 - 2), "a time outside of Arrow's range"),
        ("numeric", struct.pack(">hhHh", 0, 0, 0xC000, 0), "NaN"),
        ("numeric", struct.pack(">hhHh", 0, 0, 0xD000, 0), "infinity"),
        ("numeric", numeric(10**12, 2), "more digits than its type has"),
        ("numeric", numeric(1, 3), "more digits than its type has"),
        ("numeric", struct.pack(">hhHhh", 1, 9_999, 0, 0, 1), "more digits than its type has"),
        ("_int4", struct.pack(">iii", 2, 0, 23), "an array of 2 dimensions"),
        ("_int4", struct.pack(">iiiii", 1, 0, 23, 0, 0), "an array that begins at 0"),
    ],
)
def test_a_value_that_the_lake_cannot_store_is_named(pg_type: str, value: bytes, what: str):
    columns = [replace(LIST, name="v") if pg_type == "_int4" else SourceColumn("v", pg_type, TYPES[pg_type])]
    for decode in (compiled, decode_values):
        with pytest.raises(UnsupportedValue, match=f"column v contains {what}"):
            decode([row([value])], columns)


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (b"", "another number of columns"), (b"\0\2", "another number of columns"),
        (b"\0\1", "longer or shorter"), (b"\0\1\0\0\0\4abc", "longer or shorter"),
        (row([b"abcd"]) + b"x", "longer or shorter"), (b"\0\1\xff\xff\xff\xfe", "longer or shorter"),
        (row([b"abc"]), "column v with another width than int4 has"),
    ],
)  # fmt: skip
def test_a_row_that_does_not_match_the_columns_is_refused(sent: bytes, error: str):
    columns = [SourceColumn("v", "int4", pa.int32())]
    for decode in (compiled, decode_values):
        with pytest.raises(RidelakeError, match=f"COPY sent .*{error}.*: run the command again|{error}"):
            decode([sent], columns)


def test_the_columns_of_a_run_are_reused(monkeypatch):
    columns = [SourceColumn("a", "int4", pa.int32()), SourceColumn("t", "text", pa.string())]
    run = RunBuffer(columns, 5, 1 << 20)
    for values in ([b"\0\0\0\1", None], [None, b"abc"], [b"\0\0\0\2", b""]):
        buffer = framed([row(values)])
        run.feed(words_of(buffer), 0, len(buffer) - SLACK_BYTES)
        (piece,) = run.pieces(["a"])
        assert piece.equals(decode_values([row(values)], columns))
        run.clear()


@pytest.mark.child
def test_the_loop_is_compiled_if_no_cache_can_be_written(tmp_path: Path):
    program = (
        "import numba.core.caching as caching\n"
        "caching.CacheImpl._locator_classes = []\n"
        "from lakehouse.source.copy import loop\n"
        "import numpy as np\n"
        "print(loop.swapped(np.int64(1)))\n"
    )
    root = Path(__file__).parents[3]
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=root, capture_output=True, text=True, check=True, env=os.environ | {"HOME": str(tmp_path)},
    )  # fmt: skip
    assert int(ran.stdout) == 1 << 56
