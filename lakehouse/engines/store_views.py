"""The views of an epoch of several stores: each table by its ordinary name, with the rows of all stores.

    rides:  SELECT 'berlin' AS source, ride_id, … FROM berlin_rides
            UNION ALL
            SELECT 'paris' AS source, ride_id, … FROM paris_rides

Columns are matched by name; one that a store does not have is NULL in its rows. The same SQL is used for all
engines. There is no view if its rows would not be those of all stores, or if its columns are ambiguous.
"""

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.table.epoch import Epoch, SkippedTable, TableState
from lakehouse.table.s3 import bucket_errors
from lakehouse.table.storage import Storage
from ridelake.settings import LakeAddress

SOURCE_COLUMN = "source"


def union_queries(lake: LakeAddress, epoch: Epoch) -> tuple[dict[str, str], dict[str, str]]:
    """The query of each view by its name, and why there is no view of another name."""
    storage = Storage.of(lake)
    queries, omitted = dict[str, str](), dict[str, str]()
    taken = {name.lower() for name in epoch.tables}
    for name, tables in _by_ordinary_name(epoch).items():
        schemas = {table: _schema(storage, epoch.tables[table]) for table in tables}
        if why := _why_not(epoch, name, taken, schemas):
            omitted[name] = why
        else:
            taken.add(name.lower())
            queries[name] = _query(epoch, schemas)
    for name, table in epoch.left_out.items():
        omitted.setdefault(ordinary_name(name, table), _has_not(table))
    return queries, omitted


def _by_ordinary_name(epoch: Epoch) -> dict[str, list[str]]:
    """The tables of each name in a lake of one store."""
    found: dict[str, list[str]] = {}
    for name in sorted(epoch.tables):
        found.setdefault(ordinary_name(name, epoch.tables[name]), []).append(name)
    return found


def ordinary_name(name: str, table: TableState | SkippedTable) -> str:
    """The name of a table of a store in a lake of that store alone."""
    return name.removeprefix(f"{table.store}_")


def _why_not(epoch: Epoch, name: str, taken: set[str], schemas: Mapping[str, pa.Schema]) -> str | None:
    """Why there is no view of these tables; None if there is one."""
    stores = {epoch.tables[table].store for table in schemas}
    if name.lower() in taken:
        return "the name is that of another table or view"
    sources = {epoch.tables[table].source for table in schemas}
    if len(sources) > 1:
        return f"it is not the same table in all stores, but {' and '.join(sorted(sources))}"
    for other, state in epoch.tables.items():
        if state.source in sources and other not in schemas:
            return f"the table {state.source} of {state.store} is named {other}"
    for left_out_name, left_out in epoch.left_out.items():
        if left_out.source in sources or ordinary_name(left_out_name, left_out) == name:
            return _has_not(left_out)
    columns: dict[str, tuple[str, pa.DataType]] = {}
    for table, schema in schemas.items():
        for field in schema:
            if field.name.lower() == SOURCE_COLUMN:
                return f"{table} has a column {field.name} itself"
            known, type_ = columns.setdefault(field.name.lower(), (field.name, field.type))
            if known != field.name:
                return f"column {known} is named {field.name} in {table}"
            if type_ != field.type:
                return f"column {known} has different types in {', '.join(sorted(stores))}"
    return None


def _has_not(table: SkippedTable) -> str:
    return f"{table.store} has no {table.source} in this epoch"


def _query(epoch: Epoch, schemas: Mapping[str, pa.Schema]) -> str:
    columns = dict.fromkeys(field.name for schema in schemas.values() for field in schema)

    def part(table: str, schema: pa.Schema) -> str:
        has = set(schema.names)
        listed = [_quoted(one) if one in has else f"NULL AS {_quoted(one)}" for one in columns]
        store = f"'{epoch.tables[table].store}' AS {SOURCE_COLUMN}"
        return f"SELECT {', '.join([store, *listed])} FROM {_quoted(table)}"  # noqa: S608

    return " UNION ALL ".join(part(*pair) for pair in schemas.items())


def _schema(storage: Storage, table: TableState) -> pa.Schema:
    with bucket_errors(storage.address), storage.open(table.locations[0]) as file:
        return pq.read_schema(file)


def _quoted(name: str) -> str:
    return '"{}"'.format(name.replace('"', '""'))
