"""A difference between a table and its files: the row, and its columns that differ."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lakehouse.proof.record import key_shown, shown, values_of
from lakehouse.proof.sides import Shape

Kind = Literal["missing in the lake", "not in Postgres", "more than once in the lake", "differs"]


@dataclass(frozen=True, slots=True)
class Difference:
    """A key whose rows differ between the two sides. `columns`: name, value in Postgres and value in the lake
    of the columns that differ; empty if a row is only on one side, or is duplicated."""

    table: str
    key: tuple[str, ...]
    kind: Kind
    columns: tuple[tuple[str, str, str], ...] = ()


def describe(
    table: str, shape: Shape, key: bytes, in_postgres: Sequence[bytes], in_lake: Sequence[bytes]
) -> Difference:
    """`in_postgres` and `in_lake` are the bytes of all rows with this key; they must differ."""
    key_text = key_shown(shape.key, key)
    missing = sorted((Counter(in_postgres) - Counter(in_lake)).elements())
    extra = sorted((Counter(in_lake) - Counter(in_postgres)).elements())
    if not extra:
        return Difference(table, key_text, "missing in the lake")
    if not in_postgres:
        return Difference(table, key_text, "not in Postgres")
    expected = missing[0] if missing else in_postgres[0]
    once = len(in_lake) <= len(in_postgres)
    return Difference(
        table,
        key_text,
        "differs" if once else "more than once in the lake",
        _columns(shape, expected, extra[0]),
    )


def _columns(shape: Shape, in_postgres: bytes, in_lake: bytes) -> tuple[tuple[str, str, str], ...]:
    return tuple(
        (column.name, shown(column, expected), shown(column, found))
        for column, expected, found in zip(
            shape.columns, values_of(in_postgres), values_of(in_lake), strict=True
        )
        if expected != found
    )
