"""Whether the store has changed since the token of an epoch."""

from psycopg import Connection
from psycopg.errors import InsufficientPrivilege, UndefinedColumn, UndefinedTable
from psycopg.rows import TupleRow

from lakehouse.source.tables import store_tables
from lakehouse.table.epoch import Epoch
from ridelake.queries import load_queries

QUERIES = load_queries("bench.live")


def has_moved_on(connection: Connection[TupleRow], epoch: Epoch) -> bool:
    """Whether rows may have changed since the epoch. A different snapshot is not sufficient: VACUUM, ANALYZE
    and other databases of the server also use transaction ids. Therefore the rows are checked, if the tables
    are those of the ride store."""
    snapshot = {"snapshot": epoch.token.snapshot}
    if connection.execute(QUERIES["is_at_snapshot"], snapshot).fetchone() == (True,):
        return False
    if not set(epoch.sources) <= set(store_tables()):
        return True
    since = {"xmax": epoch.token.xmax, "xip": list(epoch.token.xip)}
    try:
        return connection.execute(QUERIES["changed_since"], since).fetchone() != (False,)
    except (UndefinedTable, UndefinedColumn, InsufficientPrivilege):  # not tracked, or not readable
        return True
