"""Every error that ridelake reports to a user.

    RidelakeError            exit 1   the command was valid and its work failed
    ├── ProofFailed          exit 1   an audit, a comparison or a check found a difference
    ├── QueryRejected        exit 1   an engine refused the SQL
    ├── BatcherClosed        exit 1   the object was closed before the call
    ├── OutOfResources       exit 1   a disk is full, or a limit of the machine or of the server is reached
    ├── NotReplicated        exit 1   the commit is on the primary and possibly not on the standby
    ├── UsageError           exit 2   an argument or an option is invalid
    │   ├── BadInput         exit 2   an input file is missing, damaged or of the wrong kind
    │   └── NotReady         exit 2   another command must run first
    ├── CannotConnect        exit 3   no server, or not one that ridelake can use
    └── TimedOut             exit 4   the time limit of the call is over

A message states what failed and what to do next. A refused booking is not an error: it is a return value
(`ridelake.ride.Outcome`).
"""

import re
from collections.abc import Iterable
from typing import ClassVar


class RidelakeError(Exception):
    """The command failed and made no lasting change."""

    exit_code: ClassVar[int] = 1


class ProofFailed(RidelakeError):
    """A check failed: an audit condition, the equality of answers, or a row count."""


class QueryRejected(RidelakeError):
    """The engine did not accept the SQL. The message is the engine's."""


class BatcherClosed(RidelakeError):
    """The object was closed before the call; the work was not accepted."""


class NotReplicated(RidelakeError):
    """The wait for the standby was cancelled. The commit is on the primary and possibly not on the standby,
    so a failover can lose it. Send the request again with the same id."""


class OutOfResources(RidelakeError):
    """A disk, memory, or a limit of the machine or of a server is exhausted; the message names it."""


class UsageError(RidelakeError):
    """An argument or an option is invalid."""

    exit_code = 2


class BadInput(UsageError):
    """An input file is missing, damaged or of the wrong kind. Nothing of it was stored."""


class NotReady(UsageError):
    """Another command must run first."""


class CannotConnect(RidelakeError):
    """Postgres, or the server of a remote lake or catalog, cannot be reached, started, or used."""

    exit_code = 3


class TimedOut(RidelakeError):
    """The time limit of the call is over, and the query was cancelled."""

    exit_code = 4


def first_line(error: BaseException) -> str:
    """The first line of the message of another library's error; the name of its class if it has none."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`did you mean a or b? `, for a message about a name that does not exist; empty if none is similar."""
    import difflib  # only a misspelt name needs it

    names = {name.lower().replace("_", "-"): name for name in known}
    nearest = difflib.get_close_matches(word.lower().replace("_", "-"), names, n=3, cutoff=0.6)
    return f"did you mean {' or '.join(names[name] for name in nearest)}? " if nearest else ""


PRIVILEGES = {
    "schema": "USAGE ON SCHEMA",
    "database": "CREATE ON DATABASE",
    "table": "SELECT ON TABLE",
    "view": "SELECT ON TABLE",
    "sequence": "USAGE ON SEQUENCE",
    "function": "EXECUTE ON FUNCTION",
    "procedure": "EXECUTE ON PROCEDURE",
}


def grant_hint(message: str) -> str:
    """A hint for Postgres' `permission denied for table orders`, or `must be owner of table orders`."""
    found = re.match(r'permission denied for (\w+) "?([^"]+)"?', message)
    if found and found[1] in PRIVILEGES:
        grant = f"GRANT {PRIVILEGES[found[1]]} {found[2]} TO this role"
        return f"as its owner run {grant}, or connect as another role"
    return "connect as the role that owns it, or as one that has this privilege"
