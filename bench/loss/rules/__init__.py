"""How a poller asks for what is new. A rule is `<name>.sql` here, and where it begins.

A rule sees a cursor of its own making and hands over versions of rows, keys that are gone where it can know
them, and the next cursor.
"""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Protocol

from psycopg import Connection, IsolationLevel
from psycopg.rows import TupleRow

from oltp.store import transaction


@dataclass(frozen=True, slots=True)
class Delta:
    """What one poll hands over. Whoever applies it drops `gone` first, then takes `changed`."""

    changed: list[tuple[int, str]]  # id and payload
    gone: list[int]
    cursor: Any


class Rule(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def says(self) -> str: ...
    @property
    def loses(self) -> bool:
        """Rows get lost by this rule when writers overlap."""

    @property
    def first(self) -> Any:
        """The cursor before everything."""

    def read(self, connection: Connection[TupleRow], since: Any) -> Delta: ...


@dataclass(frozen=True, slots=True)
class ByMark:
    """One statement, and so one snapshot: what is above the mark. It cannot see what is gone."""

    name: str
    says: str
    first: int | str
    loses: bool = True

    def read(self, connection: Connection[TupleRow], since: Any) -> Delta:
        rows = connection.execute(_sql(self.name), {"since": since}).fetchall()
        marks = [mark for _, _, mark in rows]
        return Delta([(id_, payload) for id_, payload, _ in rows], [], max(marks) if marks else since)


@dataclass(frozen=True, slots=True)
class Difference:
    """Three statements on one snapshot, which is the cursor of the next poll."""

    name: str = "difference"
    says: str = "the difference of two snapshots, and tombstones"
    first: str = "1:1:"  # a snapshot that has seen nothing
    loses: bool = False

    def read(self, connection: Connection[TupleRow], since: Any) -> Delta:
        with transaction(connection, IsolationLevel.REPEATABLE_READ, read_only=True):
            token = connection.execute(_sql("difference_token")).fetchall()[0][0]
            gone = connection.execute(_sql("difference_gone"), {"since": since}).fetchall()
            changed = connection.execute(_sql("difference"), {"since": since}).fetchall()
        return Delta([(id_, payload) for id_, payload in changed], [id_ for (id_,) in gone], token)


OURS = Difference()
RULES: tuple[Rule, ...] = (
    ByMark("id", "id > the greatest seen", 0),
    ByMark("updated_now", "updated_at > the latest seen, set by now()", "-infinity"),
    ByMark("updated_clock", "updated_at > the latest seen, set by clock_timestamp()", "-infinity"),
    ByMark("xmin", "xmin > the greatest seen", 0),
    ByMark("watermark", "tx > the greatest seen, and before the oldest open one", 0, loses=False),
    OURS,
)


@cache
def _sql(name: str) -> bytes:
    return files("bench.loss.rules").joinpath(f"{name}.sql").read_bytes()
