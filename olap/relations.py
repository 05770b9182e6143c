"""Which tables there are to ask about, and their columns, as an engine sees them."""

import re
from typing import TYPE_CHECKING

from lakehouse.engines import has_ride_table

if TYPE_CHECKING:
    import pyarrow as pa

    from lakehouse.engines import Engine
    from lakehouse.epoch import Epoch

_NAME = r'(?:"(?:[^"]|"")+"|[A-Za-z_]\w*)'
# Comments, strings and dollar quotes hold no names.
_QUALIFIED = re.compile(
    rf"""--[^\n]* | /\*.*?\*/ | '(?:[^']|'')*' | \$(?P<tag>(?:[A-Za-z_]\w*)?)\$.*?\$(?P=tag)\$
        | (?<![\w."])(?P<schema>{_NAME})\s*\.\s*(?P<table>{_NAME})""",
    re.VERBOSE | re.DOTALL,
)
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


def without_schemas(query: str, epoch: "Epoch") -> str:
    """The query with `shop.orders` written as `orders`, for engines over files: an epoch has each table under
    its bare name, and no two of one name."""
    sources = {_folded(*table.source.split(".", 1)) for table in epoch.tables.values() if "." in table.source}
    if has_ride_table(epoch):
        sources.add(("ridelake", RIDE_TABLE.lower()))

    def bare(found: re.Match[str]) -> str:
        schema, table = found["schema"], found["table"]
        if not schema or (name := _folded(schema, table)) not in sources:
            return found[0]
        return RIDE_TABLE if name[1] == RIDE_TABLE.lower() else table  # some engines tell letters apart

    return _QUALIFIED.sub(bare, query) if "." in query else query


def _folded(*names: str) -> tuple[str, ...]:
    """As Postgres reads names: in small letters unless they are quoted."""
    return tuple(name[1:-1].replace('""', '"') if name.startswith('"') else name.lower() for name in names)


def _no_row_of(name: str) -> str:
    """No parameter can stand for a name; this one comes from the catalog, in quotes if it needs them."""
    quoted = name if _PLAIN.fullmatch(name) or name == RIDE_TABLE else '"' + name.replace('"', '""') + '"'
    return f"SELECT * FROM {quoted} LIMIT 0"  # noqa: S608
