"""Compare a table of Postgres with its files, and name the rows that differ."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
from psycopg import Connection
from psycopg.rows import TupleRow

from lakehouse.table.columns import SourceColumn
from lakehouse.verify.lake_side import LakeSide, open_lake_side
from lakehouse.verify.postgres_side import PostgresSide
from lakehouse.verify.row_encoding import ComparedColumns, key_shown, mask_for, shown, values_of
from ridelake.errors import ProofFailed
from ridelake.settings import LakeAddress

Kind = Literal["missing in the lake", "not in Postgres", "more than once in the lake", "differs"]


@dataclass(frozen=True, slots=True)
class RowDifference:
    """A key whose rows differ between the two sides. `columns`: name, value in Postgres and value in the lake
    of the columns that differ; empty if a row is only on one side, or is duplicated."""

    table: str
    key: tuple[str, ...]
    kind: Kind
    columns: tuple[tuple[str, str, str], ...] = ()


def describe_difference(
    table: str, shape: ComparedColumns, key: bytes, in_postgres: Sequence[bytes], in_lake: Sequence[bytes]
) -> RowDifference:
    """`in_postgres` and `in_lake` are the bytes of all rows with this key; they must differ."""
    key_text = key_shown(shape.key, key)
    missing = sorted((Counter(in_postgres) - Counter(in_lake)).elements())
    extra = sorted((Counter(in_lake) - Counter(in_postgres)).elements())
    if not extra:
        return RowDifference(table, key_text, "missing in the lake")
    if not in_postgres:
        return RowDifference(table, key_text, "not in Postgres")
    expected = missing[0] if missing else in_postgres[0]
    once = len(in_lake) <= len(in_postgres)
    return RowDifference(
        table,
        key_text,
        "differs" if once else "more than once in the lake",
        _columns(shape, expected, extra[0]),
    )


def _columns(shape: ComparedColumns, in_postgres: bytes, in_lake: bytes) -> tuple[tuple[str, str, str], ...]:
    return tuple(
        (column.name, shown(column, expected), shown(column, found))
        for column, expected, found in zip(
            shape.columns, values_of(in_postgres), values_of(in_lake), strict=True
        )
        if expected != found
    )


@dataclass(frozen=True, slots=True)
class TableComparison:
    """`rows`: the number of rows in Postgres. `rows_different`: the number of keys with a difference.
    `differences`: the first of them."""

    table: str
    rows: int
    rows_in_lake: int
    rows_different: int
    differences: tuple[RowDifference, ...]

    @property
    def equal(self) -> bool:
        return self.rows_different == 0


def compare_table(
    connection: Connection[TupleRow],
    schema: str,
    table: str,
    columns: Sequence[SourceColumn],
    files: Sequence[str],
    *,
    limit: int = 20,
    minus_keys: pa.Table | None = None,
    plus_rows: pa.Table | None = None,
    lake: LakeAddress | None = None,
) -> TableComparison:
    """Compare the rows of `files` without `minus_keys` and with `plus_rows` with the rows of `table`.

    `connection` must be in a REPEATABLE READ transaction, whose snapshot is compared. At most `limit`
    differences are located. `lake`: the lake of the files, needed if it is on S3. Raises ProofFailed if the
    files have other columns or types than the table, or cannot be read; BadInput if `plus_rows` or
    `minus_keys` have other columns."""
    shape = ComparedColumns(columns)
    postgres = PostgresSide(connection, schema, table, shape)
    with open_lake_side(shape, files, minus_keys, plus_rows, lake) as side:
        mask = mask_for(side.count())
        in_postgres, in_lake = postgres.sums(mask), side.sums(mask)
        rows = sum(count for count, _ in in_postgres.values())
        rows_in_lake = sum(count for count, _ in in_lake.values())
        buckets = [
            bucket
            for bucket in in_postgres.keys() | in_lake.keys()
            if in_postgres.get(bucket) != in_lake.get(bucket)
        ]
        if not buckets:
            return TableComparison(table, rows, rows_in_lake, 0, ())
        different, keys = side.differing(postgres.suspects(mask, buckets), mask, buckets, limit)
        if not different:
            raise ProofFailed(
                f"the checksums of {table} differ but no row does, so the snapshot was not stable: "
                "run the command again"
            )
        differences = _locate(table, shape, postgres, side, keys)
    return TableComparison(table, rows, rows_in_lake, different, differences)


def _locate(
    table: str, shape: ComparedColumns, postgres: PostgresSide, lake: LakeSide, keys: Sequence[bytes]
) -> tuple[RowDifference, ...]:
    in_postgres, in_lake = postgres.rows(keys), lake.rows(keys)
    return tuple(
        describe_difference(table, shape, key, in_postgres.get(key, []), in_lake.get(key, [])) for key in keys
    )
