"""Every type that a user can declare, values of each, and the text of values that were read from the lake."""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from itertools import count
from typing import Any

from hypothesis import strategies as st

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9)
NUMBERS = st.decimals(allow_nan=False, allow_infinity=False, places=5).map(lambda d: f"{d:f}")
INFINITE = st.sampled_from(["NaN", "Infinity", "-Infinity"])
TIMES = st.times().map(str)
DATES = st.dates().map(str)
# Postgres rounds to microseconds. No time zone can move these values out of the range of Python.
MOMENTS = st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1)).map(str)


def one_of(*values: str) -> st.SearchStrategy[str]:
    return st.sampled_from(values)


def integers(bits: int, *, signed: bool = True) -> st.SearchStrategy[str]:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return st.integers(low, high).map(str)


# The declared type → texts of its values. For the other types of pg_type, NULL is the only value.
VALUES: dict[str, st.SearchStrategy[str]] = {
    "boolean": one_of("true", "false"),
    "smallint": integers(16), "integer": integers(32), "bigint": integers(64),
    "real": st.floats(width=32).map(repr), "double precision": st.floats().map(repr),
    "numeric(12,3)": st.integers(-(10**11), 10**11).map(lambda n: str(Decimal(n).scaleb(-3))),
    "numeric(38,38)": one_of("0." + "9" * 38, "-0." + "0" * 37 + "1", "0"),
    "numeric": NUMBERS | INFINITE | one_of("1.0", "1.00", "1e100", "1e-100"),
    "numeric(50,10)": NUMBERS, "numeric(3,-2)": one_of("12300", "0"), "numeric(2,5)": one_of("0.00012"),
    "text": TEXTS, "character varying(9)": TEXTS, "character(9)": TEXTS, '"char"': one_of("a", "", "é"),
    "name": TEXTS, "bytea": st.binary(max_size=9).map(lambda value: f"\\x{value.hex()}"),
    "uuid": st.uuids().map(str), "date": DATES, "time without time zone": TIMES,
    "time with time zone": one_of("24:00:00-12", "00:00+15:59:59", "12:34:56.789"),
    "timestamp without time zone": MOMENTS, "timestamp with time zone": MOMENTS,
    "interval": one_of("1 mon -1 day 00:00:00.000001", "-178000000 years", "30 days", "1 mon", "infinity"),
    "money": integers(64).map(lambda cents: str(Decimal(cents).scaleb(-2))),
    "json": one_of('{"a": 1.10, "a":  2}', "null", '"\\u00e9"', "[]"),
    "jsonb": one_of('{"a": 1.10, "b": [null, "\\u00e9"]}', "null", "1.0", "1.00", '"text"'),
    "jsonpath": one_of("$.a[*] ? (@ > 1)"),
    "inet": one_of("10.0.0.1", "10.0.0.1/8", "::1"), "cidr": one_of("10.0.0.0/8", "::/0"),
    "macaddr": one_of("08:00:2b:01:02:03"), "macaddr8": one_of("08:00:2b:01:02:03:04:05"),
    "bit(3)": one_of("101", "000"), "bit varying": one_of("", "1", "0101"),
    "point": one_of("(0.1,-0)", "(NaN,Infinity)"), "line": one_of("{1,2,3}"), "lseg": one_of("[(0,0),(1,1)]"),
    "box": one_of("(1,1),(0,0)"), "path": one_of("[(0,0),(1,1)]", "((0,0),(1,1))"),
    "polygon": one_of("((0,0),(1,1),(1,0))"), "circle": one_of("<(0,0),0.3>"),
    "tsvector": one_of("'a b':1A 'c':2", ""), "tsquery": one_of("'a' & !'b c'", ""),
    "int4range": one_of("empty", "[1,5)", "(,)"), "int8range": one_of("[1,5)"),
    "numrange": one_of("[1.0,1.10]", "(,NaN)"), "daterange": one_of("[2025-01-01,infinity)"),
    "tsrange": one_of('["2025-01-01 00:00:00.5",)'), "tstzrange": one_of("[2025-01-01 00:00+05:30,)"),
    "int4multirange": one_of("{[1,5),[7,9)}", "{}"), "int8multirange": one_of("{(,)}"),
    "nummultirange": one_of("{[1.0,1.10]}"), "datemultirange": one_of("{[2025-01-01,2025-02-01)}"),
    "tsmultirange": one_of("{[2025-01-01,)}"), "tstzmultirange": one_of("{[2025-01-01 00:00+02,)}"),
    "oid": integers(32, signed=False), "xid": integers(32, signed=False), "cid": integers(32, signed=False),
    "xid8": integers(64, signed=False), "tid": one_of("(1,2)"), "pg_lsn": one_of("FF/1", "0/0"),
    "pg_snapshot": one_of("10:20:10,14"), "txid_snapshot": one_of("10:20:10,14"),
    "refcursor": TEXTS, "int2vector": one_of("1 2", ""), "oidvector": one_of("1 2", ""),
    "regclass": one_of("pg_class", "12345"), "regtype": one_of("integer"), "regproc": one_of("pg_sleep"),
    "regprocedure": one_of("abs(integer)"), "regoper": one_of("||/"), "regrole": one_of("pg_monitor"),
    "regoperator": one_of("+(integer,integer)"), "regnamespace": one_of("pg_catalog"),
    "regconfig": one_of("english"), "regdictionary": one_of("simple"), "regcollation": one_of('"C"'),
    "aclitem": one_of("pg_monitor=r/pg_monitor"),
}  # fmt: skip

# Types that cannot be in a primary key, because they have no order.
WITHOUT_ORDER = {
    "json", "jsonpath", "xml", "point", "line", "lseg", "box", "path", "polygon", "circle", "xid", "cid",
    "pg_snapshot", "txid_snapshot", "refcursor", "aclitem", "int2vector",
}  # fmt: skip

# The types with an Arrow type. Arrays and composites of these can be lists and structs.
EXACT = [
    "boolean", "smallint", "integer", "bigint", "real", "double precision", "numeric(12,3)", "numeric(38,38)",
    "text", "character varying(9)", "character(9)", "name", "bytea", "uuid", "date", "time without time zone",
    "timestamp without time zone", "timestamp with time zone",
]  # fmt: skip

# The types that are converted before they are written as text; see docs/types.md. Readers return a real as a
# double.
SHOWN = {"money": "{}::numeric", "real": "{}::float8"} | {
    name: "{}::oid" for name in VALUES if name.startswith("reg")
}


def as_real(number: float) -> float:
    """The number rounded to a real. Postgres writes only the digits that identify the real."""
    try:
        return float(struct.unpack("f", struct.pack("f", number))[0])
    except OverflowError:
        return number


def _seconds(text: str) -> str:
    """A time as Postgres writes it, without trailing zeros of the fraction."""
    return text.rstrip("0").rstrip(".") if "." in text else text


def text_of(value: Any) -> str | None:
    """The text that Postgres writes for a value that a reader returned."""
    match value:
        case None:
            return None
        case bool():
            return "t" if value else "f"
        case Decimal():
            return f"{value:f}"
        case bytes():
            return f"\\x{value.hex()}"
        case datetime():
            zone = "+00" if value.tzinfo else ""
            return _seconds(value.replace(tzinfo=None).isoformat(" ")) + zone
        case time():
            return _seconds(value.isoformat())
        case date():
            return value.isoformat()
    return str(value)


def parts(text: str) -> list[str | None]:
    """Split the text of an array or a composite into the texts of its elements or attributes."""
    is_array, inner = text[0] == "{", text[1:-1]
    if is_array and not inner:
        return []
    found: list[str | None] = []
    part, is_quoted, was_quoted = "", False, False
    characters = iter(f"{inner},")
    for one in characters:
        if one == "\\":
            part += next(characters)
        elif one == '"':
            # A doubled quote in a quoted attribute is one quote.
            part += '"' if not is_quoted and was_quoted else ""
            is_quoted, was_quoted = not is_quoted, True
        elif one == "," and not is_quoted:
            is_null = part.upper() == "NULL" if is_array else part == ""
            found.append(None if is_null and not was_quoted else part)
            part, was_quoted = "", False
        else:
            part += one
    return found


def same(pg_text: str | None, value: Any, *, null_is_empty: bool = False) -> bool:
    """Whether `value`, from a reader, is the value that Postgres writes as `pg_text`. `null_is_empty`: the
    reader may return an empty list instead of NULL."""
    if isinstance(value, list | dict):
        if pg_text is None:
            return null_is_empty and value == []
        values = list(value.values()) if isinstance(value, dict) else value
        pairs = zip(parts(pg_text), values, strict=True)
        return all(same(text, part, null_is_empty=null_is_empty) for text, part in pairs)
    if isinstance(value, float) and pg_text is not None:
        found = float(pg_text)
        return (math.isnan(found) and math.isnan(value)) or (
            value in (found, as_real(found)) and math.copysign(1, found) == math.copysign(1, value)
        )
    return text_of(value) == pg_text


@dataclass(frozen=True)
class TypeSpec:
    """A type. `name`: as in a column definition. `created`: the statements that create it. `values`: SQL
    expressions of its values. `shown`: the expression that Postgres writes as text, for a column `{}`."""

    name: str
    created: tuple[str, ...]
    values: st.SearchStrategy[str]
    shown: str = "{}"
    is_array: bool = False


def quoted(text: str) -> str:
    return "'{}'".format(text.replace("'", "''"))


def base_type(name: str) -> TypeSpec:
    values = VALUES.get(name, st.nothing()).map(lambda text: f"{quoted(text)}::{name}")
    return TypeSpec(name, (), values | st.just(f"NULL::{name}"), SHOWN.get(name, "{}"))


def array_of(element: TypeSpec) -> TypeSpec:
    lists = st.lists(element.values, max_size=3)
    values = lists.map(lambda found: f"ARRAY[{', '.join(found)}]::{element.name}[]")
    values |= st.just(f"NULL::{element.name}[]")
    shown = f"{element.shown}[]" if element.shown.endswith("::oid") and not element.created else "{}"
    return TypeSpec(f"{element.name}[]", element.created, values, shown, is_array=True)


def domain_of(base: TypeSpec, name: str) -> TypeSpec:
    created = (*base.created, f"CREATE DOMAIN {name} AS {base.name}")
    return TypeSpec(
        name, created, base.values.map(lambda value: f"{value}::{name}"), base.shown, base.is_array
    )


def composite_of(parts: list[TypeSpec], name: str) -> TypeSpec:
    attributes = ", ".join(f"a{number} {part.name}" for number, part in enumerate(parts))
    created = (*(one for part in parts for one in part.created), f"CREATE TYPE {name} AS ({attributes})")
    values = st.tuples(*(part.values for part in parts))
    rows = values.map(lambda found: f"ROW({', '.join(found)})::{name}")
    return TypeSpec(name, created, rows | st.just(f"NULL::{name}"))


KINDS = ("base", "base", "array", "domain", "composite")


@st.composite
def types(draw: st.DrawFn, names: list[str], depth: int = 2, kinds: Sequence[str] = KINDS) -> TypeSpec:
    """A type of Postgres, or a type made of such types. The names of created types are unique."""
    kind = draw(st.sampled_from(kinds)) if depth else "base"
    if kind == "base":
        return base_type(draw(st.sampled_from(names)))
    new = f"made_{next(_NUMBERS)}"
    if kind == "composite":
        return composite_of(draw(st.lists(types(names, depth - 1, kinds), min_size=1, max_size=3)), new)
    inner = draw(types(names, depth - 1, kinds))
    if kind == "array" and not inner.is_array:
        return array_of(inner)
    return domain_of(inner, new)


_NUMBERS = count()
