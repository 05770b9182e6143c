"""Reports an exhausted resource of the Postgres server, from its error message or from its log."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

from ridelake.errors import CannotConnect, OutOfResources, UsageError
from ridelake.resources import describe_shortage, describe_shortage_in_log

LOG_BYTES = 64_000


@contextmanager
def shortage_errors(folder: Path | None) -> Iterator[None]:
    """Raises OutOfResources for a server error that a shortage causes. `folder`: of the embedded server,
    whose log is read if the server ended without an error message."""
    log = folder / "server.log" if folder is not None else None
    before = _size(log)
    place = folder if folder is not None else "the files of the Postgres server"
    option = "--home" if folder is not None else ""
    try:
        yield
    except (psycopg.Error, CannotConnect, UsageError) as error:
        if isinstance(error, UsageError) and not isinstance(error.__cause__, OSError):
            raise
        message = describe_shortage(error, place, option)
        if message is None and log is not None and not isinstance(error, UsageError):
            message = describe_shortage_in_log(_end_of(log, before), place, option)
        if message is None:
            raise
        raise OutOfResources(message) from error


def _size(log: Path | None) -> int:
    with suppress(OSError):
        return log.stat().st_size if log is not None else 0
    return 0


def _end_of(log: Path, before: int) -> str:
    """What was written to the log since it had the size `before`."""
    try:
        with log.open("rb") as lines:
            lines.seek(max(before, log.stat().st_size - LOG_BYTES))
            return lines.read().decode(errors="replace")
    except OSError:
        return ""
