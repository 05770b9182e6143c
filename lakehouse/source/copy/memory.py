"""The memory that the rows of a run are decoded into, column by column, before they are sorted.

    kind       stored as                                     types
    INTEGER    int32                                         boolean, int2, int4, float4, date
    LONG       int64                                         int8, float8, time, timestamp, timestamptz
    PAIR       two int64                                     uuid
    NUMERIC    two int64, of which the first is lower        numeric
    TEXT       int64: position among the texts, length       text, varchar, enum, bytea …

It has no Arrow array, because an array cannot be reused for the next run.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakehouse.table.columns import SourceColumn

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]

# The memory of a run: RUN_ROWS rides. A run of wider rows has fewer.
RUN_BUFFER_BYTES = 36 << 20

INTEGER, LONG, PAIR, NUMERIC, TEXT = range(5)
STORED_BYTES = (4, 8, 16, 16, 8)

# Postgres counts from 2000-01-01, Arrow from 1970-01-01.
EPOCH_SHIFT_DAYS = 10_957
EPOCH_SHIFT_US = EPOCH_SHIFT_DAYS * 86_400_000_000

# Type → kind, width, what is added to a time. Any other type is TEXT.
FIXED = {
    "bool": (INTEGER, 1, 0),
    "int2": (INTEGER, 2, 0),
    "int4": (INTEGER, 4, 0),
    "int8": (LONG, 8, 0),
    "float4": (INTEGER, 4, 0),
    "float8": (LONG, 8, 0),
    "date": (INTEGER, 4, EPOCH_SHIFT_DAYS),
    "time": (LONG, 8, 0),
    "timestamp": (LONG, 8, EPOCH_SHIFT_US),
    "timestamptz": (LONG, 8, EPOCH_SHIFT_US),
    "uuid": (PAIR, 16, 0),
    "numeric": (NUMERIC, -1, 0),
}
TEXTS = (TEXT, -1, 0)

# Eight bytes are read and written at a time, also the last ones.
SLACK_BYTES = 8


class Plan(NamedTuple):
    """For each column: its kind, the width of its values in COPY (-1: varies), what is added to a time (0: no
    time), the scale of a numeric, and the place of the first value (in values of its size)."""

    kinds: Longs
    widths: Longs
    shifts: Longs
    scales: Longs
    places: Longs


class Memory(NamedTuple):
    """`ints` and `longs` are views of the same bytes. `nulls`: by column and row. `texts`: the eight bytes
    from each position of the texts."""

    ints: Ints
    longs: Longs
    nulls: Bytes
    texts: Longs


def words_of(buffer: Bytes) -> Longs:
    """The eight bytes from each position, little-endian."""
    return np.ndarray((len(buffer) - SLACK_BYTES + 1,), "<i8", buffer, 0, (1,))


def row_bytes(columns: Sequence[SourceColumn]) -> int:
    """The memory of a row without its texts."""
    return sum(STORED_BYTES[FIXED.get(c.pg_type, TEXTS)[0]] for c in columns)


def plan_of(columns: Sequence[SourceColumn], rows: int) -> Plan:
    """The plan for a memory of this many rows."""
    kinds, widths, shifts = zip(*(FIXED.get(c.pg_type, TEXTS) for c in columns), strict=True)
    scales = [c.arrow_type.scale if pa.types.is_decimal(c.arrow_type) else 0 for c in columns]
    sizes = np.array([STORED_BYTES[kind] for kind in kinds])
    begins = np.concatenate([[0], np.cumsum(sizes * (rows + rows % 2))[:-1]])
    return Plan(
        *(np.array(v, np.int64) for v in (kinds, widths, shifts, scales, begins // np.minimum(sizes, 8)))
    )
