"""A hot standby of a server that runs: a copy that follows it and answers questions.

Commits do not wait for it: it is as far behind as its replay. It may be asked anything that only reads, and
what it is asked may stand against what it replays: rows that a question still needs and the primary has
vacuumed away, or a lock.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.resources import files

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from oltp.drill.folder import kept_folder, wait_until
from oltp.drill.node import Node, follows
from oltp.store import Store

# No question is broken off. Of rows: the primary is told which ones questions here still see, and leaves them
# to them, so that its tables may grow meanwhile. Of locks: the replay waits, and the answers get older.
SETTINGS = {
    "hot_standby_feedback": "on",
    "max_standby_streaming_delay": "-1",
    "wal_retrieve_retry_interval": "100ms",
}


@contextmanager
def open_standby(store: Store) -> Iterator[str]:
    """A standby of the store's server, for as long as the block: a connection string to the same database
    there. The primary's slot for it is gone afterwards, too.

    Raises CannotConnect if it cannot be made, or does not follow."""
    theirs = conninfo_to_dict(store.conninfo)
    kept = {name: theirs[name] for name in ("host", "port", "user", "password") if name in theirs}
    primary = make_conninfo("", dbname="postgres", **kept)
    with kept_folder() as folder:
        # Slots have no hyphens; the folder's name is nobody else's.
        node = Node(folder.name.replace("-", "_"), folder / "standby")
        try:
            node.copy(primary)
            node.start(primary, SETTINGS)
            with psycopg.connect(primary, autocommit=True) as connection:
                wait_until(
                    lambda: follows(connection, node.name, "state", "streaming"),
                    "the standby does not follow its primary",
                )
            yield node.cluster.conninfo(str(theirs["dbname"]))
        finally:
            node.end()
            _drop_slot(primary, node.name)


def catch_up(primary: Store, standby: Store) -> None:
    """Return when the standby has replayed all that is committed so far. Raises CannotConnect."""
    with primary.connect() as connection:
        written = connection.execute("SELECT pg_current_wal_flush_lsn()").fetchone()
    with standby.connect() as connection:
        wait_until(
            lambda: (
                connection.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", written).fetchone()
                == (True,)
            ),
            "the standby does not catch up",
        )


def _drop_slot(primary: str, name: str) -> None:
    """It would keep the primary's log for ever. One that is in use is not dropped: its sender takes note of
    the end a moment later."""
    query = files("oltp.drill").joinpath("slot.sql").read_bytes()
    with suppress(psycopg.OperationalError), psycopg.connect(primary, autocommit=True) as connection:
        wait_until(lambda: not connection.execute(query, {"name": name}).fetchall(), "the slot stays in use")
