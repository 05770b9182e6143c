"""Probes of a Postgres server for `ridelake doctor`: what booking, tracking and epochs need.

Each condition is tested, not derived from a version number, because other servers also implement the protocol
of Postgres. Probes that write run in a transaction that is rolled back, so nothing remains, even if the
process is killed.

    server.py     the server, the connection and the session, including a pooler
    features.py   snapshots, page ranges, WAL, triggers
    rights.py     what the role may do with the tables
"""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
from psycopg import errors
from psycopg.conninfo import make_conninfo

from lakehouse.source.doctor.features import FEATURE_PROBES
from lakehouse.source.doctor.probe import PlainSession, ProbeResult, ProbeSessions, ok, refused
from lakehouse.source.doctor.rights import RIGHTS_PROBES
from lakehouse.source.doctor.server import BLOCKING, SERVER_PROBES
from oltp.store import open_database, parse_dsn
from ridelake.errors import RidelakeError, first_line

SESSION_PROBES = {**FEATURE_PROBES, **RIGHTS_PROBES}

Sessions = TypeVar("Sessions")


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The results by the name of the probe. `connected`: the server has accepted a connection."""

    results: Mapping[str, ProbeResult]
    connected: bool = True

    @property
    def passed(self) -> bool:
        return all(one.status != "refused" for one in self.results.values())

    def report(self) -> dict[str, Any]:
        checks = [
            {"probe": name, "status": one.status, "text": one.text} for name, one in self.results.items()
        ]
        return {"passed": self.passed, "probes": checks}


def diagnose(dsn: str) -> Diagnosis:
    """Probe the server of a DSN. Raises CannotConnect if the DSN is invalid."""
    conninfo = make_conninfo("", **parse_dsn(dsn))
    try:
        plain = psycopg.connect(conninfo, autocommit=True, prepare_threshold=None)
    except psycopg.OperationalError as error:
        result = refused("no connection", first_line(error), "start the server or correct the DSN")
        return Diagnosis(
            {"connection": result} | _not_probed({**SERVER_PROBES, **SESSION_PROBES}), connected=False
        )
    with closing(plain):
        results = {"connection": ok(f"role {plain.info.user}, database {plain.info.dbname}")}
        session, left = PlainSession(plain, conninfo), {**SERVER_PROBES, **SESSION_PROBES}
        for name, probe in SERVER_PROBES.items():
            results[name] = _tried(probe, session)
            del left[name]
            if results[name].status == "refused" and name in BLOCKING:
                return Diagnosis(results | _not_probed(left))
    store = open_database(dsn, install=False)
    with store.connect() as first, store.connect() as second:
        sessions = ProbeSessions(store, first, second)
        results |= {name: _tried(probe, sessions) for name, probe in SESSION_PROBES.items()}
    return Diagnosis(results)


def _not_probed(probes: Mapping[str, object]) -> dict[str, ProbeResult]:
    return {name: ProbeResult("not probed", "it needs what is refused above") for name in probes}


def _tried(probe: Callable[[Sessions], ProbeResult], sessions: Sessions) -> ProbeResult:
    """The result of a probe; an error is one, too."""
    try:
        return probe(sessions)
    except errors.LockNotAvailable:
        return ProbeResult("not probed", "another session holds a lock; run the command again")
    except errors.InsufficientPrivilege as error:
        return ProbeResult("not probed", f"{error.diag.message_primary}; use a role that may")
    except (psycopg.Error, RidelakeError) as error:
        text = error.diag.message_primary if isinstance(error, psycopg.Error) else None
        return refused("not usable", text or first_line(error), "use another server or role")
