"""The tables that a query can use, and their columns, as an engine sees them."""

import re
from typing import TYPE_CHECKING

from lakehouse.engines import has_ride_table

if TYPE_CHECKING:
    import pyarrow as pa

    from lakehouse.engines import Engine
    from lakehouse.table.epoch import Epoch

_NAME = r'(?:"(?:[^"]|"")+"|[A-Za-z_]\w*)'
# Comments, strings and dollar quotes contain no names.
_QUALIFIED = re.compile(
    rf"""--[^\n]* | /\*.*?\*/ | '(?:[^']|'')*' | \$(?P<tag>(?:[A-Za-z_]\w*)?)\$.*?\$(?P=tag)\$
        | (?<![\w."])(?P<schema>{_NAME})\s*\.\s*(?P<table>{_NAME})""",
    re.VERBOSE | re.DOTALL,
)
_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")
RIDE_TABLE = "RideTable"

# For Postgres, before the first epoch.
_TABLES_QUERY = (
    "SELECT CAST(table_name AS text) AS name FROM information_schema.tables"
    " WHERE table_schema = ANY(current_schemas(false)) ORDER BY 1"
)


def relations(engine: "Engine", epoch: "Epoch | None") -> "dict[str, pa.Schema]":
    """The columns of each table by its name. Raises QueryRejected."""
    return {name: engine.sql(_schema_query(name)).schema for name in names(engine, epoch)}


def names(engine: "Engine", epoch: "Epoch | None") -> list[str]:
    """Names of the tables and of the view RideTable."""
    if epoch is not None:
        return [*sorted(epoch.tables), *([RIDE_TABLE] if has_ride_table(epoch) else [])]
    found = engine.sql(_TABLES_QUERY).column(0).to_pylist()
    return [RIDE_TABLE if name == RIDE_TABLE.lower() else name for name in found]


def without_schemas(query: str, epoch: "Epoch") -> str:
    """The query with `orders` for `shop.orders`, for engines over files. In an epoch, tables have no schema
    and unique names."""
    sources = {_folded(*table.source.split(".", 1)) for table in epoch.tables.values() if "." in table.source}
    if has_ride_table(epoch):
        sources.add(("ridelake", RIDE_TABLE.lower()))

    def unqualified(found: re.Match[str]) -> str:
        schema, table = found["schema"], found["table"]
        if not schema or (name := _folded(schema, table)) not in sources:
            return found[0]
        return RIDE_TABLE if name[1] == RIDE_TABLE.lower() else table  # some engines are case-sensitive

    return _QUALIFIED.sub(unqualified, query) if "." in query else query


def _folded(*names: str) -> tuple[str, ...]:
    """Names as Postgres folds them: lower case unless quoted."""
    return tuple(name[1:-1].replace('""', '"') if name.startswith('"') else name.lower() for name in names)


def _schema_query(name: str) -> str:
    """A query for the schema of a table. A name cannot be a parameter; it is from the catalog, and quoted
    here."""
    quoted = name if _PLAIN.fullmatch(name) or name == RIDE_TABLE else '"' + name.replace('"', '""') + '"'
    return f"SELECT * FROM {quoted} LIMIT 0"  # noqa: S608
