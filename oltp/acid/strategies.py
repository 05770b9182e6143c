"""Nine strategies to book a driver, from no protection to that of the store. Their statements are in the .sql
files of this package."""

import re
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files

from psycopg import IsolationLevel


class Anomaly(StrEnum):
    """The anomalies that are counted afterwards; the names of the columns of `anomalies.sql`."""

    TWICE = "drivers_booked_twice"  # at the same time
    CHARGED = "charges_without_ride"
    FREE = "rides_without_charge"
    LOST = "lost_debits"  # balance ≠ start − charges


@dataclass(frozen=True, slots=True)
class Strategy:
    """One way to book. `statements`: the name of its file; None for the store, which has its own.
    `isolation` None: no transaction, each statement commits by itself. `breaks`: the anomalies that it
    allows."""

    name: str
    why: str
    statements: str | None
    isolation: IsolationLevel | None = IsolationLevel.READ_COMMITTED
    attempts_max: int = 1
    added: str | None = None  # a file with additional schema
    breaks: frozenset[Anomaly] = frozenset()


@dataclass(frozen=True, slots=True)
class Statements:
    """A strategy's statements, by purpose."""

    check: tuple[str, ...]
    charge: tuple[str, ...]
    assign: tuple[str, ...]


def read_sql(name: str) -> bytes:
    """A .sql file of this package."""
    return files("oltp").joinpath("acid", f"{name}.sql").read_bytes()


def read_statements(name: str) -> Statements:
    """The three parts of a strategy's file, each as single statements."""
    parts = re.split(r"^-- (check|charge|assign)\n", read_sql(name).decode(), flags=re.MULTILINE)[1:]
    named = {
        part: tuple(statement.strip() for statement in text.split(";\n") if statement.strip())
        for part, text in zip(parts[0::2], parts[1::2], strict=True)
    }
    return Statements(**named)


STRATEGIES = (
    Strategy(
        "no_transaction",
        "Each statement commits by itself. A client that dies between two writes has paid without a ride, or "
        "has a ride without paying; no order of the writes is safe. Two clients that check at the same time "
        "book the same driver.",
        "check_then_act",
        isolation=None,
        breaks=frozenset(Anomaly),
    ),
    Strategy(
        "check_then_act, read committed",
        "Each booking is atomic. But all clients check before the first one has written: two clients that "
        "see "
        "the same available driver both book it, and the second UPDATE of a balance overwrites the first.",
        "check_then_act",
        breaks=frozenset({Anomaly.TWICE, Anomaly.LOST}),
    ),
    Strategy(
        "check_then_act, repeatable read",
        "The second UPDATE of the same balance fails (40001). But two rides of one driver are two new rows. "
        "Neither transaction overwrites the other, so snapshot isolation detects no conflict. This is write "
        "skew.",
        "check_then_act",
        IsolationLevel.REPEATABLE_READ,
        breaks=frozenset({Anomaly.TWICE}),
    ),
    Strategy(
        "check_then_act, serializable",
        "Postgres tracks what each transaction has read, and aborts (40001) a transaction whose reads are no "
        "longer valid. Correct, but an aborted client gets no ride, although drivers are available.",
        "check_then_act",
        IsolationLevel.SERIALIZABLE,
    ),
    Strategy(
        "for_update",
        "The check locks the rider and the driver until the commit. Correct, but all clients wait for a lock "
        "on "
        "the first available driver.",
        "for_update",
    ),
    Strategy(
        "skip_locked",
        "A driver that another client has locked is skipped. Correct, and clients do not wait for each "
        "other's "
        "drivers.",
        "skip_locked",
    ),
    Strategy(
        "constraint_only",
        "A unique index rejects a second active ride of a driver (23505). It does not cover the balances, "
        "which "
        "are still overwritten.",
        "check_then_act",
        added="constraint_only",
        breaks=frozenset({Anomaly.LOST}),
    ),
    Strategy(
        "serializable_with_retry",
        "As serializable, and an aborted client retries after a short random wait, at most 20 times. "
        "Correct, "
        "and no statement had to change; the cost is the aborted work.",
        "check_then_act",
        IsolationLevel.SERIALIZABLE,
        attempts_max=20,
    ),
    Strategy(
        "store",
        "The functions that `ridelake simulate` calls. A lock on the account serializes the requests of a "
        "rider, SKIP LOCKED selects a driver, and unique indexes enforce both again. Check and write are one "
        "round trip; the client waits before the commit instead, with its locks held. No retries are needed.",
        None,
    ),
)
