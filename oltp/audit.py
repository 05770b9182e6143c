"""The audit of the store: `audit.sql`, run on one snapshot of live data."""

import re
from dataclasses import dataclass
from importlib.resources import files
from time import perf_counter
from typing import Any

from psycopg import Connection, IsolationLevel
from psycopg.rows import TupleRow

from oltp.store import transaction

SHOWN_ROWS = 5  # of the rows that break a rule; the first few tell the story


@dataclass(frozen=True, slots=True)
class Condition:
    """One rule: its name, what it says, and the query for the rows that break it."""

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
            return f"audit: all {len(self.findings)} conditions hold"
        broken = [finding.condition.name for finding in self.findings if finding.broken]
        return f"audit: {len(broken)} of {len(self.findings)} conditions are broken: {', '.join(broken)}"

    def as_dict(self) -> dict[str, Any]:
        return {
            "passed": self.passed,
            "seconds": self.seconds,
            "conditions": {
                finding.condition.name: {"broken": finding.broken, "offending": finding.offending}
                for finding in self.findings
            },
        }


def conditions() -> tuple[Condition, ...]:
    """The named queries of `audit.sql`, in its order."""
    text = files("oltp").joinpath("audit.sql").read_text()
    named = re.split(r"^-- (\w+): (.+)\n", text, flags=re.MULTILINE)[1:]
    return tuple(
        Condition(name, rule, query.strip().rstrip(";"))
        for name, rule, query in zip(named[0::3], named[1::3], named[2::3], strict=True)
    )


def audit(connection: Connection[TupleRow]) -> AuditReport:
    """Ask every condition, all of the same snapshot."""
    started = perf_counter()
    with transaction(connection, IsolationLevel.REPEATABLE_READ, read_only=True):
        findings = tuple(_ask(connection, condition) for condition in conditions())
    return AuditReport(findings, perf_counter() - started)


def _ask(connection: Connection[TupleRow], condition: Condition) -> Finding:
    cursor = connection.execute(condition.query.encode())
    columns = [column.name for column in cursor.description or ()]
    shown = [dict(zip(columns, row, strict=True)) for row in cursor.fetchmany(SHOWN_ROWS)]
    return Finding(condition, cursor.rowcount, shown)
