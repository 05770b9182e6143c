"""An epoch: one published, immutable, numbered state of the whole lake.

The words only. `published.py` reads what is published, `catalog.py` publishes.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from ridelake.settings import LakeAddress

Kind = Literal["full", "changes", "maintenance"]


@dataclass(frozen=True, slots=True)
class Token:
    """The state of Postgres that an epoch equals. `snapshot` is pg_current_snapshot(): which transactions
    had committed; `taken_at` the server's clock then. The rest says of which server, and how far its log
    was; None where the server keeps it from us."""

    snapshot: str
    taken_at: str
    lsn: str
    system_identifier: str | None
    timeline: int | None
    database: int | None = None  # its oid; epochs of before did not keep it

    @property
    def xmax(self) -> int:
        """Transactions from this one on had not begun."""
        return int(self.snapshot.split(":")[1])

    @property
    def xip(self) -> tuple[int, ...]:
        """Of those before, the ones that were still running."""
        return tuple(int(number) for number in self.snapshot.split(":")[2].split(",") if number)

    @property
    def xmin(self) -> int:
        """All before this one had ended."""
        return int(self.snapshot.split(":")[0])

    def has_seen(self, tx: int) -> bool:
        return tx < self.xmax and tx not in self.xip


@dataclass(frozen=True, slots=True)
class DataFile:
    """A finished Parquet file: an absolute path, or s3://…. `sealed`: no row of it is expected to change
    soon; every table has at most one file that is open, which the next epoch writes anew."""

    location: str
    rows: int
    bytes: int
    sha256: str
    sealed: bool = True

    @property
    def name(self) -> str:
        return self.location.rsplit("/", 1)[1]


@dataclass(frozen=True, slots=True)
class TableState:
    """One table of an epoch: the files that are its rows, and the Iceberg metadata that says the same.

    `source` is its schema-qualified name in Postgres and `relation` its oid there; `shape` stands for its
    columns and their types. `changed` and `gone` count rows and keys since the epoch before."""

    source: str
    relation: int
    shape: str
    files: tuple[DataFile, ...]
    snapshot_id: int
    metadata: str
    changed: int = 0
    gone: int = 0

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    @property
    def locations(self) -> list[str]:
        return [file.location for file in self.files]


@dataclass(frozen=True, slots=True)
class Epoch:
    """See the module. `verified`: it was compared with Postgres at its token, and equal; None: nobody has."""

    number: int
    kind: Kind
    published_at: datetime
    token: Token
    tables: Mapping[str, TableState]
    seconds: float
    verified: bool | None = None

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables.values())

    @property
    def bytes(self) -> int:
        return sum(table.bytes for table in self.tables.values())

    @property
    def files(self) -> tuple[DataFile, ...]:
        return tuple(file for table in self.tables.values() for file in table.files)

    @property
    def changed(self) -> int:
        return sum(table.changed for table in self.tables.values())

    @property
    def gone(self) -> int:
        return sum(table.gone for table in self.tables.values())

    def report(self) -> dict[str, Any]:
        """For `--json`, and what the manifest says."""
        return {
            "epoch": self.number,
            "kind": self.kind,
            "published_at": self.published_at.isoformat(),
            "rows": self.rows,
            "files": len(self.files),
            "bytes": self.bytes,
            "rows_changed": self.changed,
            "rows_gone": self.gone,
            "seconds": round(self.seconds, 3),
            "verified": self.verified,
            "token": asdict(self.token),
            "tables": {
                name: {"rows": table.rows, "bytes": table.bytes} | asdict(table)
                for name, table in self.tables.items()
            },
        }


def tables_to_json(address: LakeAddress, tables: Mapping[str, TableState]) -> dict[str, Any]:
    """Locations are kept relative to the lake, so that it can be moved or mounted elsewhere."""
    report = {name: asdict(table) for name, table in tables.items()}
    for table in report.values():
        table["metadata"] = address.relative(table["metadata"])
        for file in table["files"]:
            file["location"] = address.relative(file["location"])
    return report


def tables_from_json(address: LakeAddress, report: Mapping[str, Any]) -> dict[str, TableState]:
    """The reverse."""
    return {name: _table(address, dict(table)) for name, table in report.items()}


def _table(address: LakeAddress, table: dict[str, Any]) -> TableState:
    files = tuple(DataFile(**file | {"location": address.join(file["location"])}) for file in table["files"])
    return TableState(**table | {"files": files, "metadata": address.join(table["metadata"])})
