"""The audit of the store: `audit.sql`, run on one snapshot of live data."""

import re
from dataclasses import asdict, dataclass
from importlib.resources import files
from time import perf_counter
from typing import Any

from psycopg import Connection, IsolationLevel
from psycopg.rows import TupleRow

from oltp.store import transaction

SORT_MEMORY = "64MB"  # the server's own 4 MB sort half a million rides on disk
SHOWN_ROWS = 5  # of the rows that break a rule; the first few tell the story


@dataclass(frozen=True, slots=True)
class EpochSums:
    """What the newest epoch of the lake says of itself; for the condition that compares it with the store.
    `snapshot` is the pg_snapshot of its moment."""

    number: int
    snapshot: str
    ledger_rows: int
    ledger_cents: int
    request_rows: int
    request_cents: int


@dataclass(frozen=True, slots=True)
class Condition:
    """One rule: its number (F1 … F12), its name, what it says, and the query for the rows that break it."""

    number: str
    name: str
    rule: str
    query: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What one condition found. `offending` shows at most the first five of `broken` rows."""

    condition: Condition
    broken: int
    offending: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class AuditReport:
    findings: tuple[Finding, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        return all(finding.broken == 0 for finding in self.findings)

    @property
    def verdict(self) -> str:
        if self.passed:
            left = len(conditions()) - len(self.findings)  # those that compare the store with an epoch
            return f"audit: all {len(self.findings)} conditions hold" + (
                "; the twelfth needs an epoch" if left else ""
            )
        broken = [finding.condition.name for finding in self.findings if finding.broken]
        return f"audit: {len(broken)} of {len(self.findings)} conditions are broken: {', '.join(broken)}"

    def as_dict(self) -> dict[str, Any]:
        return {
            "passed": self.passed,
            "seconds": self.seconds,
            "conditions": {
                finding.condition.name: {
                    "number": finding.condition.number,
                    "broken": finding.broken,
                    "offending": finding.offending,
                }
                for finding in self.findings
            },
        }


def conditions() -> tuple[Condition, ...]:
    """The named queries of `audit.sql`, in its order."""
    text = files("oltp").joinpath("audit.sql").read_text()
    named = re.split(r"^-- (F\d+) (\w+): (.+)\n", text, flags=re.MULTILINE)[1:]
    return tuple(
        Condition(number, name, rule, query.strip().rstrip(";"))
        for number, name, rule, query in zip(*(named[part::4] for part in range(4)), strict=True)
    )


def audit(connection: Connection[TupleRow], epoch: EpochSums | None = None) -> AuditReport:
    """Ask every condition, all of the same snapshot. The one about the lake is asked if there is an epoch."""
    started = perf_counter()
    with transaction(connection, IsolationLevel.REPEATABLE_READ, read_only=True):
        connection.execute("SELECT set_config('work_mem', %s, true)", (SORT_MEMORY,))
        findings = tuple(
            _ask(connection, condition, None if epoch is None else asdict(epoch))
            for condition in conditions()
            if epoch is not None or "%(" not in condition.query
        )
    return AuditReport(findings, perf_counter() - started)


def _ask(
    connection: Connection[TupleRow], condition: Condition, parameters: dict[str, Any] | None
) -> Finding:
    bound = parameters if "%(" in condition.query else None
    cursor = connection.execute(condition.query.encode(), bound)
    columns = [column.name for column in cursor.description or ()]
    shown = [dict(zip(columns, row, strict=True)) for row in cursor.fetchmany(SHOWN_ROWS)]
    return Finding(condition, cursor.rowcount, shown)
