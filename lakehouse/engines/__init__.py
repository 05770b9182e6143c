"""Engines: one small file each, one promise.

An engine is opened over one epoch and answers SQL. It reads the epoch's pinned files and no others
(`postgres` reads the rows, as of now), presents each table of the epoch under its name, and the view
`RideTable` (`oltp/ride_table.sql`).
"""

from typing import Protocol

import pyarrow as pa


class Engine(Protocol):
    """Something that answers SQL over an epoch. Read-only; used by one thread at a time."""

    @property
    def name(self) -> str: ...

    def version(self) -> str:
        """Of the engine's library or server, for the record."""
        ...

    def sql(self, query: str) -> pa.Table:
        """The whole answer, in memory. Raises QueryRejected with the engine's own message."""
        ...

    def interrupt(self) -> None:
        """Cancel the running `sql` call from another thread."""
        ...
