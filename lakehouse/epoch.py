"""An epoch: one published, immutable, numbered state of the whole lake.

Reading one must not cost more than answering a question over it, so this module needs nothing but the
standard library: pyiceberg takes a second to import, SQLAlchemy almost half of one. Writing is in
`catalog.py`.
"""

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ridelake.errors import NotReady, UsageError

CATALOG_FILE = "catalog.sqlite"

# A publisher holds the catalog for some milliseconds; who waits longer than this has met a stopped one.
BUSY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Token:
    """The state of Postgres that an epoch equals. `snapshot` is pg_current_snapshot(): which transactions
    had committed. The rest says of which server, and how far its log was; None where the server keeps
    it from us."""

    snapshot: str
    lsn: str
    system_identifier: str | None
    timeline: int | None


@dataclass(frozen=True, slots=True)
class TableState:
    """One table of an epoch: the files that are its rows, and the Iceberg metadata that says the same."""

    files: tuple[Path, ...]
    rows: int
    bytes: int
    snapshot_id: int
    metadata: Path


@dataclass(frozen=True, slots=True)
class Epoch:
    """See the module."""

    number: int
    published_at: datetime
    token: Token
    tables: Mapping[str, TableState]
    seconds: float

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables.values())

    @property
    def bytes(self) -> int:
        return sum(table.bytes for table in self.tables.values())

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(path for table in self.tables.values() for path in table.files)

    def report(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "epoch": self.number,
            "published_at": self.published_at.isoformat(),
            "rows": self.rows,
            "files": len(self.files),
            "bytes": self.bytes,
            "seconds": round(self.seconds, 3),
            "token": asdict(self.token),
            "tables": {
                name: {
                    "rows": table.rows,
                    "files": [str(path) for path in table.files],
                    "bytes": table.bytes,
                    "snapshot_id": table.snapshot_id,
                    "metadata": str(table.metadata),
                }
                for name, table in self.tables.items()
            },
        }


def tables_to_json(folder: Path, tables: Mapping[str, TableState]) -> dict[str, Any]:
    """Paths are kept relative to the lake, so that the folder can be moved or mounted elsewhere."""
    return {
        name: {
            "files": [str(path.relative_to(folder)) for path in table.files],
            "rows": table.rows,
            "bytes": table.bytes,
            "snapshot_id": table.snapshot_id,
            "metadata": str(table.metadata.relative_to(folder)),
        }
        for name, table in tables.items()
    }


def read_epochs(folder: Path, number: int | None = None, limit: int = -1) -> list[Epoch]:
    """The published epochs of the lake in `folder`, newest first; one of them if `number` is given. Empty
    if there is none yet. Raises UsageError for a catalog that is none."""
    catalog = folder / CATALOG_FILE
    if not catalog.is_file():
        return []
    query = (
        "SELECT number, published_at, token, tables, seconds FROM epochs"
        " WHERE number = coalesce(?, number) ORDER BY number DESC LIMIT ?"
    )
    try:
        with closing(
            sqlite3.connect(f"{catalog.absolute().as_uri()}?mode=ro", BUSY_SECONDS, uri=True)
        ) as connection:
            return [_epoch(folder, row) for row in connection.execute(query, (number, limit))]
    except sqlite3.Error as error:
        if "no such table" in str(error):
            return []  # a catalog whose first epoch is being made
        raise UsageError(
            f"{catalog} cannot be read as a catalog ({error}): choose another folder with --lake"
        ) from error


def newest_epoch(folder: Path) -> Epoch:
    """Raises NotReady if there is none yet."""
    for epoch in read_epochs(folder, limit=1):
        return epoch
    raise NotReady(f"no epoch yet in {folder}: run `ridelake snapshot`")


def numbered_epoch(folder: Path, number: int) -> Epoch:
    """Raises NotReady if there is no epoch at all, UsageError if not that one."""
    for epoch in read_epochs(folder, number):
        return epoch
    raise UsageError(
        f"there is no epoch {number}, the newest is {newest_epoch(folder).number}: see `ridelake epochs`"
    )


def _epoch(folder: Path, row: tuple[int, str, str, str, float]) -> Epoch:
    number, published_at, token, tables, seconds = row
    return Epoch(
        number=number,
        published_at=datetime.fromisoformat(published_at),
        token=Token(**json.loads(token)),
        tables={
            name: TableState(
                files=tuple(folder / path for path in table["files"]),
                rows=table["rows"],
                bytes=table["bytes"],
                snapshot_id=table["snapshot_id"],
                metadata=folder / table["metadata"],
            )
            for name, table in json.loads(tables).items()
        },
        seconds=seconds,
    )
