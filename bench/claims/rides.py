"""Generated rows of RideTable, the table of the textbook's example."""

from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import pyarrow as pa

RIDE_TABLE = pa.schema(
    {
        "RideID": pa.int64(),
        "Username": pa.string(),
        "DriverID": pa.int64(),
        "City": pa.string(),
        "Month": pa.string(),
        "Price": pa.decimal128(12, 2),
    }
)


@dataclass(frozen=True, slots=True)
class RideBatch:
    """Rides as an Arrow table and as columns of Python objects, the two forms that the database drivers
    accept. Both are made before the timing starts."""

    table: pa.Table
    columns: list[list[object]]

    @classmethod
    def of(cls, table: pa.Table) -> "RideBatch":
        return cls(table, [column.to_pylist() for column in table.columns])

    @property
    def row(self) -> list[object]:
        """The first ride."""
        return [column[0] for column in self.columns]

    def __len__(self) -> int:
        return len(self.table)


def generated_rides(first: int, rides: int) -> pa.Table:
    """Rides with the ids from `first` on. The same id always gives the same ride."""
    ids = np.arange(first, first + rides)
    cities = np.array(["Stanford", "San Francisco", "New York", "Chicago"])
    columns = [
        pa.array(ids),
        pa.array([f"rider{number % 9973}" for number in ids]),
        pa.array(3_932_839 + ids % 499),
        pa.array(cities[ids % 4].tolist()),
        pa.array(np.where(ids % 12 == 0, "July", "August").tolist()),
        pa.array([Decimal(int(cents)).scaleb(-2) for cents in 400 + ids * 7919 % 6_000]),
    ]
    return pa.table(columns, RIDE_TABLE.names).cast(RIDE_TABLE)
