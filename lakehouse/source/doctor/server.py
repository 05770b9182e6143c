"""Probes of the server and the connection, on a session without the settings of ridelake."""

import os
from collections.abc import Callable
from contextlib import closing

import psycopg

from lakehouse.source.doctor.probe import PlainSession, ProbeResult, execute, ok, refused, row, without
from oltp.connection import SESSION_SETTINGS, refuse_a_changing_session, value_in_time
from oltp.store import SERVER_VERSION_MIN, open_database
from ridelake.errors import CannotConnect
from ridelake.text import listed

BRIN_KEEPS_HOT_UPDATES = 160000
# One for the snapshot, one for each worker, and one in reserve.
CONNECTIONS_WANTED = min(os.cpu_count() or 1, 4) + 2
SECOND_SESSION_SECONDS_MAX = 2.0


def probe_version(plain: PlainSession) -> ProbeResult:
    number, text = row(plain.connection, "version")
    version = f"{number // 10_000}.{number % 10_000}" if str(text).startswith("PostgreSQL") else str(text)
    if number < SERVER_VERSION_MIN:
        return refused(
            version, f"versions before {SERVER_VERSION_MIN // 10_000} are not tested", "upgrade it"
        )
    if number < BRIN_KEEPS_HOT_UPDATES:
        return without(
            f"an index on tx on Postgres {version}",
            "before 16 it would prevent HOT updates; each epoch reads the whole heap of a tracked table",
        )
    return ok(f"Postgres {version}")


def probe_encryption(plain: PlainSession) -> ProbeResult:
    parameters = plain.connection.info.get_parameters()
    if plain.connection.info.host.startswith("/") or not plain.connection.info.host:
        return ok("not needed on a Unix socket")
    if not plain.connection.pgconn.ssl_in_use:
        return without(
            "TLS", "the connection is not encrypted; add sslmode=verify-full and sslrootcert to the DSN"
        )
    if parameters.get("sslmode") not in ("verify-full", "verify-ca"):
        return without(
            "proof of the server's identity",
            "TLS is used, but the certificate is not verified; add sslmode=verify-full and sslrootcert",
        )
    return ok(f"TLS, certificate verified (sslmode={parameters['sslmode']})")


def probe_encoding(plain: PlainSession) -> ProbeResult:
    (encoding,) = row(plain.connection, "encoding")
    if encoding == "SQL_ASCII":
        return refused(
            "SQL_ASCII",
            "text of this encoding cannot be decoded reliably",
            "copy the database into a UTF-8 one with pg_dump --encoding",
        )
    return ok(encoding if encoding == "UTF8" else f"{encoding}, which the server converts to UTF8")


def probe_primary(plain: PlainSession) -> ProbeResult:
    if row(plain.connection, "is_standby") == (True,):
        return refused(
            "a standby",
            "its snapshots do not include the transactions that run on the primary",
            "connect to the primary",
        )
    return ok("the server accepts writes")


def probe_pooler(plain: PlainSession) -> ProbeResult:
    try:
        refuse_a_changing_session(plain.connection, plain.conninfo)
    except CannotConnect:
        return refused(
            "a connection pooler in transaction mode",
            "it changes the server session between transactions, which loses settings, locks and snapshots",
            "connect to the server directly, or use the pooler's session mode",
        )
    pooled = plain.connection.pgconn.backend_pid != row(plain.connection, "backend")[0]
    return ok("session mode" if pooled else "none")


def probe_connections(plain: PlainSession) -> ProbeResult:
    with closing(psycopg.connect(plain.conninfo, autocommit=True)) as other:
        if value_in_time(other, b"SELECT 1", SECOND_SESSION_SECONDS_MAX) is None:
            return refused(
                "one session only",
                "a second one does not answer within 2 s, and a snapshot needs two",
                "increase the pool size",
            )
        free = row(plain.connection, "free_connections")[0] + 2  # these two
    wanted = f"a snapshot uses up to {CONNECTIONS_WANTED}"
    if free < CONNECTIONS_WANTED:
        return without(
            f"connections to spare: {free} are free",
            f"{wanted}; increase max_connections or the CONNECTION LIMIT of the role",
        )
    return ok(f"{free:,} are free; {wanted}")


def probe_session(plain: PlainSession) -> ProbeResult:
    try:
        open_database(plain.conninfo, install=False)
    except CannotConnect as error:
        return ProbeResult("refused", str(error))
    names = [name for name in SESSION_SETTINGS if name.endswith("_timeout")]
    found = [text for (text,) in execute(plain.connection, "timeouts", names=names).fetchall()]
    return ok(f"ridelake switches off in its sessions: {listed(found)}" if found else "no timeouts")


SERVER_PROBES: dict[str, Callable[[PlainSession], ProbeResult]] = {
    "version": probe_version,
    "encryption": probe_encryption,
    "encoding": probe_encoding,
    "primary": probe_primary,
    "pooler": probe_pooler,
    "connections": probe_connections,
    "session settings": probe_session,
}
# Without these the other probes would fail, or would disturb other clients of a pooler.
BLOCKING = ("version", "primary", "pooler", "connections", "session settings")
