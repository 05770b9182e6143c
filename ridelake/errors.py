"""Every error that a user can meet, in one place.

    RidelakeError            exit 1   the work was asked for rightly and failed
    ├── ProofFailed          exit 1   an audit, a comparison or a check found a difference
    ├── QueryRejected        exit 1   an engine refused the SQL
    ├── Closed               exit 1   it was closed before it was asked
    ├── OutOfResources       exit 1   a disk is full, or a limit of the machine or the server is reached
    ├── Unreplicated         exit 1   it is done, and may be lost with the primary
    ├── UsageError           exit 2   the words of the call are off
    │   ├── BadInput         exit 2   a file that cannot be what it was said to be
    │   └── NotReady         exit 2   something has to be done first
    ├── CannotConnect        exit 3   no server, or not one that we can use
    └── TimedOut             exit 4   the time the user gave is over

The message is one sentence that says what is wrong and what to do next. A refused booking is not
an error: it is an answer (`ridelake.ride.Outcome`).
"""

import re
from collections.abc import Iterable
from typing import ClassVar


class RidelakeError(Exception):
    """The work failed; nothing was half done."""

    exit_code: ClassVar[int] = 1


class ProofFailed(RidelakeError):
    """Something that must hold does not: the audit, the equality of answers, a count."""


class QueryRejected(RidelakeError):
    """The engine did not accept the SQL; its own words are kept."""


class Closed(RidelakeError):
    """Work for something that has been closed; it was not accepted."""


class Unreplicated(RidelakeError):
    """The wait for the standby was broken off: the commit is on the primary, and perhaps nowhere else. It is
    neither safe nor undone; ask again with the same id."""


class OutOfResources(RidelakeError):
    """A disk, memory, or a limit of the machine or of a server is used up; the message names it."""


class UsageError(RidelakeError):
    """The call's words are off."""

    exit_code = 2


class BadInput(UsageError):
    """A file is missing, broken, or not what it should be. Nothing of it was taken."""


class NotReady(UsageError):
    """The thing asked for needs another command first."""


class CannotConnect(RidelakeError):
    """Postgres, or the server of a remote lake or catalog, cannot be reached, started, or used."""

    exit_code = 3


class TimedOut(RidelakeError):
    """The time limit given with the call is over; the query was cancelled."""

    exit_code = 4


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
    """What to do about Postgres' `permission denied for table orders`, or `must be owner of table orders`."""
    found = re.match(r'permission denied for (\w+) "?([^"]+)"?', message)
    if found and found[1] in PRIVILEGES:
        grant = f"GRANT {PRIVILEGES[found[1]]} {found[2]} TO this role"
        return f"as its owner run {grant}, or connect as another role"
    return "connect as the role that owns it, or as one that has this privilege"
