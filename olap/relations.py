"""Which tables there are to ask about, and their columns, as an engine sees them."""

import re
from typing import TYPE_CHECKING

from lakehouse.engines import has_ride_table

if TYPE_CHECKING:
    import pyarrow as pa

    from lakehouse.engines import Engine
    from lakehouse.epoch import Epoch

_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")
RIDE_TABLE = "RideTable"

# Of Postgres alone, before the first epoch.
_TABLES_QUERY = (
    "SELECT CAST(table_name AS text) AS name FROM information_schema.tables"
    " WHERE table_schema = ANY(current_schemas(false)) ORDER BY 1"
)


def relations(engine: "Engine", epoch: "Epoch | None") -> "dict[str, pa.Schema]":
    """The columns of each table by its name. Raises QueryRejected."""
    return {name: engine.sql(_no_row_of(name)).schema for name in names(engine, epoch)}


def names(engine: "Engine", epoch: "Epoch | None") -> list[str]:
    """Of the tables, and of the lecture's view."""
    if epoch is not None:
        return [*sorted(epoch.tables), *([RIDE_TABLE] if has_ride_table(epoch) else [])]
    found = engine.sql(_TABLES_QUERY).column(0).to_pylist()
    return [RIDE_TABLE if name == RIDE_TABLE.lower() else name for name in found]


def _no_row_of(name: str) -> str:
    """No parameter can stand for a name; this one comes from the catalog, in quotes if it needs them."""
    quoted = name if _PLAIN.fullmatch(name) or name == RIDE_TABLE else '"' + name.replace('"', '""') + '"'
    return f"SELECT * FROM {quoted} LIMIT 0"  # noqa: S608
