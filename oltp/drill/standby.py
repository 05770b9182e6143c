"""A hot standby of a running server, for read-only queries.

Commits do not wait for it; its lag is that of its replay. A query can conflict with the replay: it needs rows
that the primary has vacuumed, or holds a lock.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from oltp.cluster.node import ServerNode, follows, server_folder, wait_until
from oltp.cluster.process import end_all_in
from oltp.store import Store
from ridelake.queries import load_queries

QUERIES = load_queries("oltp.drill")

SHUTDOWN_SECONDS_MAX = 20.0

# No query is cancelled. With feedback the primary keeps the rows that queries here can see, so its tables may
# grow. For locks the replay waits, and the standby falls behind.
SETTINGS = {
    "hot_standby_feedback": "on",
    "max_standby_streaming_delay": "-1",
    "wal_retrieve_retry_interval": "100ms",
}


@contextmanager
def open_standby(store: Store) -> Iterator[str]:
    """Run a standby of the store's server during the block; yields a connection string to the same database
    on it. At the end the standby and its replication slot are removed.

    Raises CannotConnect if it cannot be created, or does not follow."""
    given = conninfo_to_dict(store.conninfo)
    kept = {name: given[name] for name in ("host", "port", "user", "password") if name in given}
    primary = make_conninfo("", dbname="postgres", **kept)
    with server_folder() as folder:
        # The folder's name is unique; names of slots have no hyphens.
        node = ServerNode(folder.name.replace("-", "_"), folder / "standby")
        try:
            node.copy(primary)
            node.start(primary, SETTINGS)
            with psycopg.connect(primary, autocommit=True) as connection:
                wait_until(
                    lambda: follows(connection, node.name, "state", "streaming"),
                    "the standby did not start streaming",
                )
            yield node.cluster.conninfo(str(given["dbname"]))
        finally:
            end_all_in(node.folder, SHUTDOWN_SECONDS_MAX)
            _drop_slot(primary, node.name)


def catch_up(primary: Store, standby: Store) -> None:
    """Wait until the standby has replayed everything committed so far. Raises CannotConnect."""
    with primary.connect() as connection:
        written = connection.execute("SELECT pg_current_wal_flush_lsn()").fetchone()
    with standby.connect() as connection:
        wait_until(
            lambda: (
                connection.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", written).fetchone()
                == (True,)
            ),
            "the standby did not catch up",
        )


def _drop_slot(primary: str, name: str) -> None:
    """Drop the slot, which would retain WAL for ever. Wait while it is in use: the WAL sender notices the end
    of the standby a moment later."""
    query = QUERIES["slot"]
    with suppress(psycopg.OperationalError), psycopg.connect(primary, autocommit=True) as connection:
        wait_until(lambda: not connection.execute(query, {"name": name}).fetchall(), "the slot stays in use")
