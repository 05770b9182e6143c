"""The audit of the store: runs the conditions of `audit.sql` on one snapshot."""

from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

from psycopg import Connection, IsolationLevel
from psycopg.rows import TupleRow

from oltp.store import transaction
from ridelake.queries import load_queries

SORT_MEMORY = "64MB"  # with the default of 4 MB, half a million rides are sorted on disk
SHOWN_ROWS = 5  # rows shown per violated condition


@dataclass(frozen=True, slots=True)
class EpochTotals:
    """Row counts and sums of the newest epoch, for the condition that compares it with the store. `snapshot`:
    the pg_snapshot of the epoch."""

    number: int
    snapshot: str
    ledger_rows: int
    ledger_cents: int
    request_rows: int
    request_cents: int


@dataclass(frozen=True, slots=True)
class AuditCondition:
    """One condition: its number (F1 … F12), its name, its text, and the query for the rows that violate
    it."""

    number: str
    name: str
    rule: str
    query: str


@dataclass(frozen=True, slots=True)
class AuditFinding:
    """The result of one condition. `broken`: the number of rows that violate it; `offending`: the first
    five."""

    condition: AuditCondition
    broken: int
    offending: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class AuditReport:
    findings: tuple[AuditFinding, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        return all(finding.broken == 0 for finding in self.findings)

    @property
    def verdict(self) -> str:
        if self.passed:
            skipped = len(conditions()) - len(self.findings)  # the condition that compares with an epoch
            return f"audit: all {len(self.findings)} conditions hold" + (
                "; the twelfth needs an epoch" if skipped else ""
            )
        broken = [finding.condition.name for finding in self.findings if finding.broken]
        return f"audit: {len(broken)} of {len(self.findings)} conditions are violated: {', '.join(broken)}"

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


def conditions() -> tuple[AuditCondition, ...]:
    """The conditions of `audit.sql`, in the order of the file."""
    found = []
    for name, text in load_queries("oltp", "audit.sql").items():
        heading, query = text.split("\n", 1)  # `-- F1: the rule`
        number, rule = heading.removeprefix("-- ").split(": ", 1)
        found.append(AuditCondition(number, name, rule, query.rstrip(";")))
    return tuple(found)


def audit(connection: Connection[TupleRow], epoch: EpochTotals | None = None) -> AuditReport:
    """Evaluate every condition on the same snapshot. The condition about the lake needs `epoch`."""
    started = perf_counter()
    with transaction(connection, IsolationLevel.REPEATABLE_READ, read_only=True):
        connection.execute("SELECT set_config('work_mem', %s, true)", (SORT_MEMORY,))
        findings = tuple(
            _evaluate(connection, condition, None if epoch is None else asdict(epoch))
            for condition in conditions()
            if epoch is not None or "%(" not in condition.query
        )
    return AuditReport(findings, perf_counter() - started)


def _evaluate(
    connection: Connection[TupleRow], condition: AuditCondition, parameters: dict[str, Any] | None
) -> AuditFinding:
    bound = parameters if "%(" in condition.query else None
    cursor = connection.execute(condition.query.encode(), bound)
    columns = [column.name for column in cursor.description or ()]
    shown = [dict(zip(columns, row, strict=True)) for row in cursor.fetchmany(SHOWN_ROWS)]
    return AuditFinding(condition, cursor.rowcount, shown)
