"""Whether a server's history contains an epoch, after a standby was promoted or a backup restored.

    timeline 1  ──────────●─────────────X            ● the WAL position of the newest epoch
                                └── timeline 2 ──>   the fork; if it is before ●, the epoch may have rows that
                                                     this server never had

A promotion starts a new timeline. Its history file has the position at which each earlier timeline was left.
All rows of an epoch are in the WAL before the position in its token. The epoch therefore belongs to the new
history if and only if that position is not after the fork. Transaction numbers continue from there, so
incremental epochs continue too.
"""

import re
from collections.abc import Mapping

from psycopg import Connection
from psycopg.rows import TupleRow

# "1\t0/3000148\tno recovery target specified": the timeline that was left, and the position.
LEFT = re.compile(r"^\s*(\d+)\s+([0-9A-F]+/[0-9A-F]+)", re.MULTILINE)

# Checked in a separate query, because Postgres checks the privilege before it executes a CASE. The variant
# with four arguments exists in Postgres 15 too. Its last argument: return null for a missing file.
MAY_READ = b"SELECT has_function_privilege('pg_read_file(text, bigint, bigint, boolean)', 'execute')"
READ = b"SELECT pg_read_file(%s, 0, 1048576, true)"

PAGE_BYTES = 8192
PAGE_HEADER_BYTES_MAX = 40  # of the first page of a segment; 24 otherwise


def read_forks(connection: Connection[TupleRow], timeline: int) -> dict[int, str] | None:
    """The position at which the history left each timeline before `timeline`; None if this role may not read
    it."""
    if connection.execute(MAY_READ).fetchone() != (True,):
        return None
    row = connection.execute(READ, (f"pg_wal/{timeline:08X}.history",)).fetchone()
    if row is None or row[0] is None:
        return None
    return {int(number): at for number, at in LEFT.findall(row[0])}


def keeps(forks: Mapping[int, str], timeline: int, lsn: str) -> bool:
    """Whether the WAL up to `lsn` of `timeline` is in the history that left other timelines at `forks`."""
    fork = forks.get(timeline)
    if fork is None:
        return False
    past = position(lsn) - position(fork)
    # At the end of a page a token's position is after the header of the next page, which has no record.
    return past <= 0 or (position(fork) % PAGE_BYTES == 0 and past <= PAGE_HEADER_BYTES_MAX)


def position(lsn: str) -> int:
    """`1/A0` as a number of bytes."""
    high, low = lsn.split("/")
    return int(high, 16) << 32 | int(low, 16)
