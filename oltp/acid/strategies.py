"""Nine ways to book a driver, from none to the store's. Their statements stand in the .sql files here."""

import re
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files

from psycopg import IsolationLevel


class Anomaly(StrEnum):
    """What must never be found afterwards; the names of the counts in `anomalies.sql`."""

    TWICE = "drivers_booked_twice"  # at the same time
    CHARGED = "charges_without_ride"
    FREE = "rides_without_charge"
    LOST = "lost_debits"  # balance ≠ start − charges


@dataclass(frozen=True, slots=True)
class Strategy:
    """One way. `statements`: the file it takes them from; None for the store, which has its own.
    `isolation` None: no transaction, every statement is on its own. `breaks`: what it lets through."""

    name: str
    why: str
    statements: str | None
    isolation: IsolationLevel | None = IsolationLevel.READ_COMMITTED
    attempts_max: int = 1
    added: str | None = None  # a file of more schema
    breaks: frozenset[Anomaly] = frozenset()


@dataclass(frozen=True, slots=True)
class Statements:
    """A strategy's statements, by what they are for."""

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
        "Each statement is kept as soon as it is done. A client that dies in the middle has paid for "
        "nothing, or rides for nothing: neither order is safe. And nothing stops two who looked at once.",
        "check_then_act",
        isolation=None,
        breaks=frozenset(Anomaly),
    ),
    Strategy(
        "check_then_act, read committed",
        "Now each booking is whole. But all look before anybody has written: two who see a driver free both "
        "take him, and the second balance written wipes out the first.",
        "check_then_act",
        breaks=frozenset({Anomaly.TWICE, Anomaly.LOST}),
    ),
    Strategy(
        "check_then_act, repeatable read",
        "The second to write the same balance is refused (40001). But two rides for one driver are two new "
        "rows: nobody overwrites anybody, so snapshots alone see no conflict. This is write skew.",
        "check_then_act",
        IsolationLevel.REPEATABLE_READ,
        breaks=frozenset({Anomaly.TWICE}),
    ),
    Strategy(
        "check_then_act, serializable",
        "Postgres remembers what was looked at, and refuses (40001) whoever decided on a look that no longer "
        "holds. Right; but the refused go home without a ride, though drivers are free.",
        "check_then_act",
        IsolationLevel.SERIALIZABLE,
    ),
    Strategy(
        "for_update",
        "Whoever looks takes hold of rider and driver until the end. Right; but all want the first free "
        "driver, and stand in one queue.",
        "for_update",
    ),
    Strategy(
        "skip_locked",
        "A driver whom somebody is taking is passed over instead of waited for. Right, and rivals do not "
        "stand in each other's way.",
        "skip_locked",
    ),
    Strategy(
        "constraint_only",
        "A unique index lets no driver have two active rides (23505). What it does not say it does not "
        "guard: the balances are still overwritten.",
        "check_then_act",
        added="constraint_only",
        breaks=frozenset({Anomaly.LOST}),
    ),
    Strategy(
        "serializable_with_retry",
        "As serializable, and whoever is refused tries again after a short wait of random length, at most "
        "20 times. Right, and no statement had to change; the price is the work done in vain.",
        "check_then_act",
        IsolationLevel.SERIALIZABLE,
        attempts_max=20,
    ),
    Strategy(
        "store",
        "What `ridelake simulate` books with: the account's lock is the rider's queue, SKIP LOCKED finds the "
        "driver, and behind both stands a unique index. Look and write are one round trip, so it thinks as "
        "long before its commit instead, with its locks held. Nothing to retry.",
        None,
    ),
)
