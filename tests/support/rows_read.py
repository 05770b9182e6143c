"""The rows of a table as DuckDB reads them from the lake, and as psycopg reads them from Postgres."""

from own_tables import asked

from lakehouse.table.catalog import Lake
from lakehouse.table.published import newest_epoch
from oltp.store import Store


def assert_equal(store: Store, lake: Lake, table: str) -> None:
    """Check that the lake has the rows of Postgres. `table`: its name in the lake."""
    source = newest_epoch(lake.address).tables[table].source
    with store.connect() as connection:
        cursor = connection.execute(f"SELECT * FROM {source}".encode())
        names = [column.name for column in cursor.description or ()]
        expected = sorted(map(repr, cursor.fetchall()))
    quoted = table.replace('"', '""')
    rows = asked(lake, f'SELECT * FROM "{quoted}"')
    assert sorted(repr(tuple(row[name] for name in names)) for row in rows) == expected
