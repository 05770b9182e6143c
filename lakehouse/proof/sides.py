"""Types that both sides of a comparison use."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import NewType

from psycopg.sql import SQL

from lakehouse.columns import Column

# Bucket → number of rows, and sum of their hashes.
Sums = dict[int, tuple[int, int]]

# Key → the bytes of each row with that key.
Rows = dict[bytes, list[bytes]]

# A power of two minus one: the bits of a row's hash that are its bucket.
Mask = NewType("Mask", int)

ROWS_PER_BUCKET = 1024
BUCKETS_MIN, BUCKETS_MAX = 256, 4096


@dataclass(frozen=True, slots=True)
class Shape:
    """The columns of a table. `key`: the columns of the primary key; all columns if there is none."""

    columns: Sequence[Column]

    @property
    def key(self) -> Sequence[Column]:
        return [column for column in self.columns if column.in_key] or self.columns


def mask_for(rows: int) -> Mask:
    wanted = 1 << (rows // ROWS_PER_BUCKET).bit_length()
    return Mask(min(max(wanted, BUCKETS_MIN), BUCKETS_MAX) - 1)


def query(name: str) -> SQL:
    return SQL(files("lakehouse").joinpath("proof", name).read_text())
