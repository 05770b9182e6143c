"""Whether what an epoch has is in a server's history, after a standby was promoted or a backup restored.

    timeline 1  ──────────●─────────────X            ● the newest epoch's position in the log
                                └── timeline 2 ──>   the fork: past ● and nothing is lost; before it, and the
                                                     epoch has rows that this server never had

A promotion begins a new timeline, and its history file names where each earlier one was left. Everything
that an epoch shows lies in the log before the position in its token; so the epoch belongs to the new history
if and only if that position is not past the fork. The numbers of transactions go on from there, and changes
can be taken as if nothing had happened.
"""

import re
from collections.abc import Mapping

from psycopg import Connection
from psycopg.rows import TupleRow

# "1\t0/3000148\tno recovery target specified": the timeline that was left, and where.
LEFT = re.compile(r"^\s*(\d+)\s+([0-9A-F]+/[0-9A-F]+)", re.MULTILINE)

# Asked beforehand, since Postgres refuses before it runs anything. The call with four arguments is the one
# that Postgres 15 has as well; the last: a file that is not there is null.
MAY_READ = b"SELECT has_function_privilege('pg_read_file(text, bigint, bigint, boolean)', 'execute')"
READ = b"SELECT pg_read_file(%s, 0, 1048576, true)"

PAGE_BYTES = 8192
PAGE_HEADER_BYTES_MAX = 40  # of the first page of a segment; 24 else


def read_forks(connection: Connection[TupleRow], timeline: int) -> dict[int, str] | None:
    """Where the server's history left each timeline before `timeline`; None if this role may not know."""
    if connection.execute(MAY_READ).fetchone() != (True,):
        return None
    row = connection.execute(READ, (f"pg_wal/{timeline:08X}.history",)).fetchone()
    if row is None or row[0] is None:
        return None
    return {int(number): at for number, at in LEFT.findall(row[0])}


def keeps(forks: Mapping[int, str], timeline: int, lsn: str) -> bool:
    """Whether the log up to `lsn` of `timeline` is in the history that left other timelines at `forks`."""
    fork = forks.get(timeline)
    if fork is None:
        return False
    past = position(lsn) - position(fork)
    # At the end of a page a token's position is past the header of the next one, where no record is.
    return past <= 0 or (position(fork) % PAGE_BYTES == 0 and past <= PAGE_HEADER_BYTES_MAX)


def position(lsn: str) -> int:
    """`1/A0` as the number of bytes that it is."""
    high, low = lsn.split("/")
    return int(high, 16) << 32 | int(low, 16)
