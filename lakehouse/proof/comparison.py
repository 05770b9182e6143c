"""Compute the sums of both sides, compare them, and locate the differences."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
from psycopg import Connection
from psycopg.rows import TupleRow

from lakehouse.columns import Column
from lakehouse.proof.difference import Difference, describe
from lakehouse.proof.lake import LakeSide, opened
from lakehouse.proof.postgres import PostgresSide
from lakehouse.proof.sides import Shape, mask_for
from ridelake.errors import ProofFailed
from ridelake.settings import LakeAddress


@dataclass(frozen=True, slots=True)
class Comparison:
    """`rows`: the number of rows in Postgres. `rows_different`: the number of keys with a difference.
    `differences`: the first of them."""

    table: str
    rows: int
    rows_in_lake: int
    rows_different: int
    differences: tuple[Difference, ...]

    @property
    def equal(self) -> bool:
        return self.rows_different == 0


def compare(
    connection: Connection[TupleRow],
    schema: str,
    table: str,
    columns: Sequence[Column],
    files: Sequence[str],
    *,
    limit: int = 20,
    minus_keys: pa.Table | None = None,
    plus_rows: pa.Table | None = None,
    lake: LakeAddress | None = None,
) -> Comparison:
    """Compare the rows of `files` without `minus_keys` and with `plus_rows` with the rows of `table`.

    `connection` must be in a REPEATABLE READ transaction, whose snapshot is compared. At most `limit`
    differences are located. `lake`: the lake of the files, needed if it is on S3. Raises ProofFailed if the
    files have other columns or types than the table, or cannot be read; BadInput if `plus_rows` or
    `minus_keys` have other columns."""
    shape = Shape(columns)
    postgres = PostgresSide(connection, schema, table, shape)
    with opened(shape, files, minus_keys, plus_rows, lake) as side:
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
            return Comparison(table, rows, rows_in_lake, 0, ())
        different, keys = side.differing(postgres.suspects(mask, buckets), mask, buckets, limit)
        if not different:
            raise ProofFailed(
                f"the checksums of {table} differ but no row does, so the snapshot was not stable: "
                "run the command again"
            )
        differences = _locate(table, shape, postgres, side, keys)
    return Comparison(table, rows, rows_in_lake, different, differences)


def _locate(
    table: str, shape: Shape, postgres: PostgresSide, lake: LakeSide, keys: Sequence[bytes]
) -> tuple[Difference, ...]:
    in_postgres, in_lake = postgres.rows(keys), lake.rows(keys)
    return tuple(describe(table, shape, key, in_postgres.get(key, []), in_lake.get(key, [])) for key in keys)
