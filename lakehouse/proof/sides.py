"""What the two sides of a proof say of themselves, in the same words."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import NewType

from psycopg.sql import SQL

from lakehouse.columns import Column

# By bucket: rows, and the sum of their numbers.
Sums = dict[int, tuple[int, int]]

# By key: the bytes of each row that has it.
Rows = dict[bytes, list[bytes]]

# A power of two less one: the bits of a row's number that are its bucket.
Mask = NewType("Mask", int)

ROWS_PER_BUCKET = 1024
BUCKETS_MIN, BUCKETS_MAX = 256, 4096


@dataclass(frozen=True, slots=True)
class Shape:
    """The columns of a table, and those that tell its rows apart: all of them, if it has no key."""

    columns: Sequence[Column]

    @property
    def key(self) -> Sequence[Column]:
        return [column for column in self.columns if column.in_key] or self.columns


def mask_for(rows: int) -> Mask:
    wanted = 1 << (rows // ROWS_PER_BUCKET).bit_length()
    return Mask(min(max(wanted, BUCKETS_MIN), BUCKETS_MAX) - 1)


def query(name: str) -> SQL:
    return SQL(files("lakehouse").joinpath("proof", name).read_text())
