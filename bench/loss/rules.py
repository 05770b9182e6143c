"""The polling rules. A rule is a file `<name>.sql` and an initial cursor.

A rule takes its last cursor. It returns new versions of rows, deleted keys if it can detect them, and the
next cursor.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from psycopg import Connection, IsolationLevel
from psycopg.rows import TupleRow

from oltp.store import transaction
from ridelake.queries import load_queries

QUERIES = load_queries("bench.loss")


@dataclass(frozen=True, slots=True)
class Delta:
    """The result of a poll. Apply `deleted` first, then `changed`."""

    changed: list[tuple[int, str]]  # id and payload
    deleted: list[int]
    cursor: Any


class Rule(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def condition(self) -> str: ...
    @property
    def loses(self) -> bool:
        """Whether this rule loses rows if transactions overlap."""

    @property
    def first(self) -> Any:
        """The initial cursor."""

    def read(self, connection: Connection[TupleRow], since: Any) -> Delta: ...


@dataclass(frozen=True, slots=True)
class ByMark:
    """Rows above the last mark, by one statement and so in one snapshot. It cannot see deletes."""

    name: str
    condition: str
    first: int | str
    loses: bool = True

    def read(self, connection: Connection[TupleRow], since: Any) -> Delta:
        rows = connection.execute(QUERIES[self.name], {"since": since}).fetchall()
        marks = [mark for _, _, mark in rows]
        return Delta([(id_, payload) for id_, payload, _ in rows], [], max(marks) if marks else since)


@dataclass(frozen=True, slots=True)
class SnapshotDifference:
    """Three statements in one snapshot, which is the cursor of the next poll."""

    name: str = "difference"
    condition: str = "the difference of two snapshots, and tombstones"
    first: str = "1:1:"  # a snapshot that sees no transaction
    loses: bool = False

    def read(self, connection: Connection[TupleRow], since: Any) -> Delta:
        with transaction(connection, IsolationLevel.REPEATABLE_READ, read_only=True):
            token = connection.execute(QUERIES["difference_token"]).fetchall()[0][0]
            deleted = connection.execute(QUERIES["difference_deleted"], {"since": since}).fetchall()
            changed = connection.execute(QUERIES["difference"], {"since": since}).fetchall()
        return Delta([(id_, payload) for id_, payload in changed], [id_ for (id_,) in deleted], token)


OURS = SnapshotDifference()
RULES: tuple[Rule, ...] = (
    ByMark("id", "id > last id", 0),
    ByMark("updated_now", "updated_at > last updated_at, set by now()", "-infinity"),
    ByMark("updated_clock", "updated_at > last updated_at, set by clock_timestamp()", "-infinity"),
    ByMark("xmin", "xmin > last xmin", 0),
    ByMark("watermark", "tx > last tx, and older than all open transactions", 0, loses=False),
    OURS,
)
